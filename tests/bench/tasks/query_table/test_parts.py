"""Pairs to learn from, and the end-to-end clock, by hand."""

import time

import numpy as np
import pytest
import scipy

from bench.engines.dummy import Dummy
from bench.tasks.query_table.end_to_end import end_to_end
from bench.tasks.query_table.pairs import Pairs, open_pairs
from bench.tasks.timing import Timing, timed_order
from bench.vectors.encoder import Encoder
from models.errors import InputError
from models.query_table.learn import LearnConfig

WORDS = np.float32([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0]])
VECTORS = np.float32([[0.6, 0, 0.8, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
OWNERS = np.array([2, 0, 0, 2])  # captions are not in the order of the images, and image 1 has none


def pairs_of(owners=OWNERS) -> Pairs:
    return Pairs(scipy.sparse.csr_array(WORDS), scipy.sparse.csr_array(VECTORS), owners)


def test_a_batch_has_distinct_images_with_a_caption_of_theirs():
    pairs, seen = pairs_of(), set()
    for step in range(50):
        batch = pairs.batch(step, LearnConfig(batch=5))
        assert batch.words_BU.shape == batch.images_BU.shape == (2, len(batch.lexicons_U))
        assert (batch.words_BU.sum(axis=0) > 0).all(), "every column is a lexicon of some caption"
        rows = []
        for words_U, image_U in zip(batch.words_BU, batch.images_BU, strict=True):
            (caption,) = np.flatnonzero(
                (WORDS[:, batch.lexicons_U] == words_U).all(1) & (WORDS.sum(1) == words_U.sum())
            )
            rows.append(OWNERS[caption])
            assert np.array_equal(VECTORS[OWNERS[caption]][batch.lexicons_U], image_U)
            seen.add(int(caption))
        assert sorted(rows) == [0, 2]
    assert seen == {0, 1, 2, 3}, "all captions are drawn"


def test_batches_depend_on_seed_and_step_alone():
    pairs = pairs_of()
    runs = [list(pairs.batches(LearnConfig(steps=8, batch=1, seed=seed), "")) for seed in (0, 0, 1)]
    values = [[[part.tolist() for part in batch] for batch in run] for run in runs]
    assert values[0] == values[1] != values[2] and len(values[0]) == 8


def test_one_image_is_nothing_to_learn_from():
    with pytest.raises(InputError, match="1 images with captions"):
        pairs_of(np.zeros(4, np.int64))


def test_pairs_of_a_corpus(tiny_models, scenes, tmp_path):
    encoder = Encoder(tiny_models["lexicon"])
    pairs = open_pairs(tmp_path, encoder, encoder.model.tokenizer, scenes, 5, top_k=3)
    assert pairs.images.shape[0] == 5 and np.diff(pairs.images.indptr).max() <= 3
    captions = list(scenes.captions("train", 0, 5))
    assert pairs.words.shape[0] == len(captions) and (pairs.words.data == 1).all()
    expected = encoder.model.encode_words([text for _, text, _ in captions]).numpy() > 0
    assert np.array_equal(pairs.words.toarray() > 0, expected)
    before = [file.stat().st_mtime_ns for file in sorted(tmp_path.rglob("*.npy"))]
    open_pairs(tmp_path, encoder, encoder.model.tokenizer, scenes, 5, top_k=3)
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.rglob("*.npy"))] == before, "images are encoded once"


class Slow(Dummy):
    """A dummy that takes 2 ms and notes its queries."""

    def __init__(self):
        self.count, self.asked = 5, []

    def prepare(self, queries, **knobs):
        return [queries, knobs]

    def search(self, queries, k, threads=1, **knobs):
        self.asked.append((queries, k, threads, knobs))
        time.sleep(0.002)
        return super().search(np.zeros((1, 1)), k)


def slow_query(text: str) -> str:
    time.sleep(0.004)
    return text.upper()


def test_the_clock_runs_from_text_to_ids():
    engine = Slow()
    found = end_to_end(slow_query, engine, ["a", "b", "c"], Timing(depth=3, repeats=2), knob=7)
    in_order = ["ABC"[place] for place in timed_order(3)]
    assert [asked[0][0] for asked in engine.asked] == in_order * 3, "warm-up and two passes"
    assert found.which.tolist() == timed_order(3).tolist()
    assert {(k, threads, knobs["knob"], query[1]["knob"]) for query, k, threads, knobs in engine.asked} == {
        (3, 1, 7, 7)
    }
    assert found.queries == 3 and found.ids.shape == (3, 3)
    for name, least in (("encode_text_latency", 4000), ("latency", 2000), ("end_to_end", 6000)):
        assert all(found.values[f"{name}_p{share}_us"] >= least for share in (50, 95, 99))
    assert (found.latency_us >= 6000).all() and "2 passes" in found.note


def test_a_slow_encoder_answers_fewer_queries():
    found = end_to_end(slow_query, Slow(), ["a", "b", "c", "d"], Timing(depth=3, repeats=2, seconds=0.01))
    assert found.queries == len(found.ids) == len(found.latency_us) < 4
