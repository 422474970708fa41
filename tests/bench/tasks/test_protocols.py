"""COCO's folds and extra positives, against the package's own metrics and trec_eval."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import pytrec_eval
from eccv_caption import Metrics
from hypothesis import given
from hypothesis import strategies as st

from bench.corpora.readers.karpathy import Coco
from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks import recall
from bench.tasks.protocols import positives, protocols
from bench.tasks.protocols.precision import map_at_r, r_precision
from bench.vectors.read import DenseVectors
from models.errors import InputError

DEPTH = 200
T2I, I2T = "text_to_image", "image_to_text"


@pytest.fixture(scope="module")
def theirs():
    return Metrics()


@pytest.fixture(scope="module")
def encoded(theirs):
    """The 5,000 pictures and 25,000 captions in Karpathy's order, by their true ids; the vectors do not matter."""
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
    """(Q, DEPTH) distinct items: an arithmetic sequence for each query that has its own item (row number) at a drawn rank."""
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
    """What the package's own `Metrics` says of the same rankings: name -> direction -> value."""
    retrieved = {}
    for direction, (gallery, queries, ids) in ranked.items():
        items = np.array(gallery.ids, np.int64)
        retrieved[direction] = {int(query): row for query, row in zip(queries.ids, items[ids].tolist(), strict=True)}
    targets = ["coco_1k_recalls", "cxc_recalls", "eccv_map_at_r", "eccv_rprecision", "eccv_r1"]
    found = theirs.compute_all_metrics(retrieved[I2T], retrieved[T2I], target_metrics=targets)
    return {name: {T2I: of["t2i"], I2T: of["i2t"]} for name, of in found.items()}


@pytest.mark.parametrize("direction", [T2I, I2T])
def test_folds_and_positives_are_those_of_the_package(direction, ranked, encoded, reference):
    gallery, queries, ids = ranked[direction]
    found = {}
    for judge in (
        protocols.Folds(encoded.images.ids),
        *(protocols.Positives(name, encoded) for name in positives.SETS),
    ):
        judged = judge.judge(direction, gallery, queries, ids)
        found |= judged.values
        assert len(judged.sidecar(queries)) == {
            "folds": queries.count,
            "cxc": {T2I: 24_972, I2T: 5_000}[direction],
        }.get(judge.task, {T2I: 1_332, I2T: 1_261}[direction])
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


def test_the_rows_of_a_point_give_its_values(ranked, encoded):
    judged = protocols.Positives("eccv", encoded).judge(I2T, *ranked[I2T])
    rows = judged.sidecar(ranked[I2T][1])
    assert np.mean([bool(len(row["ranks"])) and row["ranks"][0] == 1 for row in rows]) == pytest.approx(
        judged.values["eccv_recall@1"]
    )
    assert {row["query_id"] for row in rows} == set(positives.judgements("eccv")[0][I2T])


@given(st.lists(st.tuples(st.permutations(range(8)), st.sets(st.integers(0, 11), min_size=1)), min_size=1, max_size=4))
def test_precision_as_deep_as_there_are_right_items_is_that_of_trec_eval(cases):
    """Rprec is trec_eval's; mAP@R is its AP of the top R alone. Items from 8 on are right but not retrieved."""
    ranks = [[rank for rank, item in enumerate(order, start=1) if item in right] for order, right in cases]
    relevant = [len(right) for _, right in cases]
    judged = {f"{q}": {f"{item}": 1 for item in right} for q, (_, right) in enumerate(cases)}
    run = {
        f"{q}": {f"{item}": float(-rank) for rank, item in enumerate(order[: len(right)])}
        for q, (order, right) in enumerate(cases)
    }
    values = pytrec_eval.RelevanceEvaluator(judged, {"Rprec", "map"}).evaluate(run).values()
    assert r_precision(ranks, relevant) == pytest.approx(np.mean([value["Rprec"] for value in values]))
    assert map_at_r(ranks, relevant) == pytest.approx(np.mean([value["map"] for value in values]))


def test_precision_by_hand():
    # 3 right items at ranks 1, 3 and 4: the top 3 holds two, at precisions 1 and 2/3; of the second query's 2, none is in its top 2
    assert r_precision([[1, 3, 4], [3]], [3, 2]) == pytest.approx((2 / 3 + 0) / 2)
    assert map_at_r([[1, 3, 4], [3]], [3, 2]) == pytest.approx(((1 + 2 / 3) / 3 + 0) / 2)


def small(images=10, captions_of_each=1):
    names = [f"i{n}" for n in range(images)]
    owners = np.repeat(names, captions_of_each).tolist()
    return vectors(names), vectors([f"c{n}" for n in range(len(owners))], owners)


def test_a_fold_leaves_the_rest_out_and_keeps_the_order():
    """Ten pictures, two to a fold: a caption of picture 1 that finds 9, 0, 5, 1 has its own at rank 2 of its fold, 0 before it."""
    gallery, queries = small()
    ids = np.tile(np.arange(10), (10, 1))
    ids[1, :4] = [9, 0, 5, 1]
    judged = protocols.Folds(gallery.ids).judge(T2I, gallery, queries, ids)
    assert judged.ranks[1].tolist() == [2] and judged.ranks[8].tolist() == [1] and judged.ranks[7].tolist() == [2]
    assert judged.values == {"fold_recall@1": 0.5, "fold_recall@5": 1.0, "fold_recall@10": 1.0}
    # lexicon engines return only what shares a lexicon: nothing of the fold, and not its own
    ids[1, :] = [9, 5, *[-1] * 8]
    judged = protocols.Folds(gallery.ids).judge(T2I, gallery, queries, ids)
    assert judged.ranks[1].tolist() == [] and judged.values["fold_recall@10"] == pytest.approx((0.5 + 4) / 5)


def test_every_fold_weighs_the_same_whatever_its_captions():
    gallery = vectors([f"i{n}" for n in range(5)])
    queries = vectors(["c0", "c1", "c2", "c3", "c4", "c5"], ["i0", "i0", "i1", "i2", "i3", "i4"])
    ids = np.full((6, 5), -1)
    ids[:2, 0] = 0  # both captions of the first fold find their picture, and no other caption does
    assert protocols.Folds(gallery.ids).judge(T2I, gallery, queries, ids).values["fold_recall@1"] == pytest.approx(
        1 / 5
    )


def test_too_few_results_are_refused_not_guessed(encoded):
    gallery, queries = small(images=100)
    ids = np.tile(np.arange(50, 100), (100, 1))
    with pytest.raises(InputError, match="50 results are too few to tell the top 10 of a fold"):
        protocols.Folds(gallery.ids).judge(T2I, gallery, queries, ids)
    with pytest.raises(InputError, match="10 results are too few: eccv has queries with 19 right ones"):
        protocols.Positives("eccv", encoded).judge(T2I, encoded.images, encoded.captions, np.zeros((25_000, 10), int))


class Whole(Coco):
    """COCO without files."""

    def __init__(self):
        pass


def test_protocols_are_of_the_whole_test_split_of_coco(encoded, caplog):
    assert [judge.task for judge in protocols.judges(Whole(), "test", encoded)] == ["folds", "cxc", "eccv"]
    for corpus, split, count in ((Whole(), "val", 5_000), (object(), "test", 5_000), (Whole(), "test", 4_999)):
        part = SimpleNamespace(images=encoded.images.prefix(count), captions=encoded.captions)
        assert protocols.judges(corpus, split, part) == []
    assert not caplog.records


@pytest.mark.parametrize("case", ["package", "table", "picture"])
def test_positives_that_cannot_be_had_are_one_line(case, encoded, caplog, monkeypatch):
    images, captions = encoded.images, encoded.captions
    if case == "package":
        monkeypatch.setattr(positives.importlib.util, "find_spec", lambda name: None)
        said = "cxc and eccv are not measured: the package 'eccv-caption' is not installed; pip install 'lexlip-bench[positives]'"
    elif case == "table":  # captions numbered by picture, as in the tables of the official code
        captions = vectors([f"{group}#{n % 5}" for n, group in enumerate(captions.groups)], captions.groups)
        said = f"cxc is not measured: it judges the text {next(iter(positives.judgements('cxc')[0][T2I]))}, which is not in the corpus"
    else:
        images = vectors(["0", *images.ids[1:]])
        said = f"cxc is not measured: it judges the image {encoded.images.ids[0]}, which is not in the corpus"
    with caplog.at_level(logging.WARNING):
        found = protocols.judges(Whole(), "test", SimpleNamespace(images=images, captions=captions))
    assert [judge.task for judge in found] == ["folds"]
    (line,) = caplog.messages
    assert line.startswith(said)


def test_the_command_measures_and_prints_them(words, word_corpus, monkeypatch, tmp_path, capsys):
    """20 pictures of words as if they were COCO's test split: each has its points, and a second run measures nothing again."""

    class WordsOfCoco(type(word_corpus), Whole):
        hard_negatives = property()  # it has none

    monkeypatch.setattr("bench.corpora.open_corpus", lambda spec: WordsOfCoco())
    monkeypatch.setattr(Coco, "counts", {"test": 20})
    right = {T2I: {"test-3#1": frozenset({"test-3", "test-4"})}, I2T: {"test-3": frozenset({"test-3#1", "absent"})}}
    monkeypatch.setattr(protocols, "judgements", lambda name: (right, f"of-{name}"))
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

    monkeypatch.setattr(recall._Direction, "found", None)  # nothing is searched again
    assert cli.run(recall.main, recall.parser(), flags) == 0
    assert capsys.readouterr().out == printed
