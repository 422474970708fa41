"""COCO's folds and extra positives, against the package's own metrics and trec_eval."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from eccv_caption import Metrics

from bench.corpora.readers.karpathy import Coco
from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks import recall
from bench.tasks.retrieval import coco, positives
from bench.tasks.retrieval.direction import Direction
from bench.vectors.read import DenseVectors
from models.errors import InputError

DEPTH = 200
T2I, I2T = "text_to_image", "image_to_text"


@pytest.fixture(scope="module")
def theirs():
    return Metrics()


@pytest.fixture(scope="module")
def encoded(theirs):
    """The 5,000 images and 25,000 captions in Karpathy's order, by their true ids; the vectors do not matter."""
    captions = theirs.coco_ids.tolist()
    of_caption = [theirs.coco_gts["t2i"][caption][0] for caption in captions]
    images = list(dict.fromkeys(of_caption))
    groups = vectors(captions, of_caption)
    return SimpleNamespace(images=vectors(images), captions=groups)


def vectors(ids, groups=None):
    return DenseVectors.of(
        np.zeros((len(ids), 1), np.float32), list(map(str, ids)), None if groups is None else list(map(str, groups))
    )


def rankings(queries: int, items: int, own: np.ndarray, seed: int) -> np.ndarray:
    """(Q, DEPTH) distinct items: per query an arithmetic sequence with its own item (row number) at a random rank."""
    random = np.random.default_rng(seed)
    steps = random.choice([s for s in range(1, 500) if np.gcd(s, items) == 1], queries)
    at = np.minimum(random.geometric(0.05, queries) - 1, DEPTH + 50)  # some beyond the depth
    return (own[:, None] + steps[:, None] * (np.arange(DEPTH) - at[:, None])) % items


@pytest.fixture(scope="module")
def ranked(encoded):
    """direction -> (gallery, queries, ids (Q, DEPTH) of a made-up ranking)."""
    rows = {image: row for row, image in enumerate(encoded.images.ids)}
    owner = np.array([rows[group] for group in encoded.captions.groups])
    return {
        T2I: (encoded.images, encoded.captions, rankings(25_000, 5_000, owner, seed=0)),
        I2T: (encoded.captions, encoded.images, rankings(5_000, 25_000, 5 * np.arange(5_000) + 2, seed=1)),
    }


@pytest.fixture(scope="module")
def reference(ranked, theirs):
    """Values of the package's own `Metrics` for the same rankings: name -> direction -> value."""
    retrieved = {}
    for direction, (gallery, queries, ids) in ranked.items():
        items = np.array(gallery.ids, np.int64)
        retrieved[direction] = {int(query): row for query, row in zip(queries.ids, items[ids].tolist(), strict=True)}
    targets = ["coco_1k_recalls", "cxc_recalls", "eccv_map_at_r", "eccv_rprecision", "eccv_r1"]
    found = theirs.compute_all_metrics(retrieved[I2T], retrieved[T2I], target_metrics=targets)
    return {name: {T2I: of["t2i"], I2T: of["i2t"]} for name, of in found.items()}


@pytest.mark.parametrize("direction", [T2I, I2T])
def test_folds_and_positives_agree_with_the_package(direction, ranked, encoded, reference):
    gallery, queries, ids = ranked[direction]
    found = {}
    for protocol in (
        coco.Folds(encoded.images.ids),
        *(coco.Positives(name, encoded) for name in positives.SETS),
    ):
        result = protocol.evaluate(direction, gallery, queries, ids)
        found |= result.values
        assert len(result.sidecar(queries)) == {
            "folds": queries.count,
            "cxc": {T2I: 24_972, I2T: 5_000}[direction],
        }.get(protocol.task, {T2I: 1_332, I2T: 1_261}[direction])
    expected = {
        **{f"fold_recall@{k}": reference[f"coco_1k_r{k}"][direction] for k in (1, 5, 10)},
        **{f"cxc_recall@{k}": reference[f"cxc_r{k}"][direction] for k in (1, 5, 10)},
        "eccv_recall@1": reference["eccv_r1"][direction],
        "eccv_r_precision": reference["eccv_rprecision"][direction],
        "eccv_map@r": reference["eccv_map_at_r"][direction],
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert (
        0.05 < found["fold_recall@1"] < found["fold_recall@10"] < 1
        and 0 < found["eccv_map@r"] < found["eccv_r_precision"]
    )


def test_per_query_results_give_the_values(ranked, encoded):
    result = coco.Positives("eccv", encoded).evaluate(I2T, *ranked[I2T])
    rows = result.sidecar(ranked[I2T][1])
    assert np.mean([bool(len(row["ranks"])) and row["ranks"][0] == 1 for row in rows]) == pytest.approx(
        result.values["eccv_recall@1"]
    )
    assert {row["query_id"] for row in rows} == set(positives.read_qrels("eccv")[0][I2T])


def small(images=10, captions_of_each=1):
    names = [f"i{n}" for n in range(images)]
    owners = np.repeat(names, captions_of_each).tolist()
    return vectors(names), vectors([f"c{n}" for n in range(len(owners))], owners)


def test_the_ranking_within_a_fold_keeps_the_order():
    """Ten images, two per fold: a caption of image 1 that retrieves 9, 0, 5, 1 has its own at rank 2 of its fold."""
    gallery, queries = small()
    ids = np.tile(np.arange(10), (10, 1))
    ids[1, :4] = [9, 0, 5, 1]
    result = coco.Folds(gallery.ids).evaluate(T2I, gallery, queries, ids)
    assert result.ranks[1].tolist() == [2] and result.ranks[8].tolist() == [1] and result.ranks[7].tolist() == [2]
    assert result.values == {"fold_recall@1": 0.5, "fold_recall@5": 1.0, "fold_recall@10": 1.0}
    # lexicon engines return only items that share a lexicon: here none of the fold
    ids[1, :] = [9, 5, *[-1] * 8]
    result = coco.Folds(gallery.ids).evaluate(T2I, gallery, queries, ids)
    assert result.ranks[1].tolist() == [] and result.values["fold_recall@10"] == pytest.approx((0.5 + 4) / 5)


def test_folds_have_equal_weight():
    gallery = vectors([f"i{n}" for n in range(5)])
    queries = vectors(["c0", "c1", "c2", "c3", "c4", "c5"], ["i0", "i0", "i1", "i2", "i3", "i4"])
    ids = np.full((6, 5), -1)
    ids[:2, 0] = 0  # both captions of the first fold find their image, and no other caption does
    assert coco.Folds(gallery.ids).evaluate(T2I, gallery, queries, ids).values["fold_recall@1"] == pytest.approx(1 / 5)


def test_too_few_results_are_refused(encoded):
    gallery, queries = small(images=100)
    ids = np.tile(np.arange(50, 100), (100, 1))
    with pytest.raises(InputError, match="50 results per query are too few for the top 10 of a fold"):
        coco.Folds(gallery.ids).evaluate(T2I, gallery, queries, ids)
    with pytest.raises(InputError, match="10 results per query are too few: eccv has queries with 19 relevant items"):
        coco.Positives("eccv", encoded).evaluate(T2I, encoded.images, encoded.captions, np.zeros((25_000, 10), int))


class Whole(Coco):
    """COCO without files."""

    def __init__(self):
        pass


def test_protocols_apply_to_the_whole_test_split_of_coco(encoded, caplog):
    assert [protocol.task for protocol in coco.protocols(Whole(), "test", encoded)] == ["folds", "cxc", "eccv"]
    for corpus, split, count in ((Whole(), "val", 5_000), (object(), "test", 5_000), (Whole(), "test", 4_999)):
        part = SimpleNamespace(images=encoded.images.prefix(count), captions=encoded.captions)
        assert coco.protocols(corpus, split, part) == []
    assert not caplog.records


@pytest.mark.parametrize("case", ["package", "table", "image"])
def test_unavailable_positives_are_one_line(case, encoded, caplog, monkeypatch):
    images, captions = encoded.images, encoded.captions
    if case == "package":
        monkeypatch.setattr(positives.importlib.util, "find_spec", lambda name: None)
        said = "cxc and eccv are not measured: the package 'eccv-caption' is not installed; pip install"
    elif case == "table":  # captions numbered per image, as in the tables of the official code
        captions = vectors([f"{group}#{n % 5}" for n, group in enumerate(captions.groups)], captions.groups)
        first = next(iter(positives.read_qrels("cxc")[0][T2I]))
        said = f"cxc is not measured: its query text {first} is not in the corpus"
    else:
        images = vectors(["0", *images.ids[1:]])
        said = f"cxc is not measured: its query image {encoded.images.ids[0]} is not in the corpus"
    with caplog.at_level(logging.WARNING):
        found = coco.protocols(Whole(), "test", SimpleNamespace(images=images, captions=captions))
    assert [protocol.task for protocol in found] == ["folds"]
    (line,) = caplog.messages
    assert line.startswith(said)


def test_the_command_measures_and_prints_them(words, word_corpus, monkeypatch, tmp_path, capsys):
    """20 images of words as COCO's test split: each protocol has points, and a second run measures nothing."""

    class WordsOfCoco(type(word_corpus), Whole):
        hard_negatives = property()  # it has none

    monkeypatch.setattr("bench.corpora.open_corpus", lambda spec: WordsOfCoco())
    monkeypatch.setattr(Coco, "counts", {"test": 20})
    right = {T2I: {"test-3#1": frozenset({"test-3", "test-4"})}, I2T: {"test-3": frozenset({"test-3#1", "absent"})}}
    monkeypatch.setattr(coco, "read_qrels", lambda name: (right, f"of-{name}"))
    flags = ["--home", str(tmp_path), "--checkpoint", str(tmp_path / "dense"), "--images", "20", "--no-timing"]
    assert cli.run(recall.main, recall.parser(), flags) == 0
    printed = capsys.readouterr().out
    assert "fold_recall@1" in printed and "eccv_map@r" in printed

    store = RecordStore(tmp_path)
    rows = store.read()
    for task in ("retrieval", "folds", "cxc", "eccv"):
        of = rows[(rows.task == task) & rows.metric.str.endswith("recall@1") & ~rows.metric.str.startswith("trec")]
        assert set(of.direction) == {T2I, I2T} and len(of) == 2, task
    assert rows[rows.metric == "cxc_r_precision"].value.between(0, 1).all()
    assert set(rows[rows.task == "eccv"].data_id) == {"words-0-of-eccv"}
    for point_id in rows[rows.metric == "fold_recall@10"].point_id:
        row = rows[(rows.point_id == point_id) & (rows.metric == "fold_recall@10")].iloc[0]
        found = store.queries(point_id)
        fold = found.group.str.removeprefix("test-").astype(int) // 4
        hits = found.ranks.map(lambda ranks: len(ranks) > 0 and ranks[0] <= 10)
        assert row.value == pytest.approx(hits.groupby(fold).mean().mean())

    monkeypatch.setattr(Direction, "ranking", None)  # nothing is searched again
    assert cli.run(recall.main, recall.parser(), flags) == 0
    assert capsys.readouterr().out == printed
