"""`--corpus vectors`: scales that follow from the weights, and vectors that do not fit together."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from bench.scale import run as scale
from bench.store import cli
from bench.store.records import RecordStore
from bench.vectors.read import open_vectors
from bench.vectors.write import write_vectors
from models.files import read_json, sha256, write_json
from models.sparsify import checkpoint, heads
from models.sparsify.config import SparsifyConfig

ITEMS, QUERIES, LEXICONS = 300, 40, 60


def rows_of(kind: str, count: int = ITEMS, seed: int = 0) -> sp.csr_array:
    """Weights as SPLADE (floats up to 12) or Anserini (integers up to 255) write them. Row q of fewer is of item q."""
    rng = np.random.default_rng(seed)
    chosen = rng.random((ITEMS, LEXICONS)) < 0.2
    values = np.where(chosen, rng.uniform(2, 12 if kind == "splade" else 255, (ITEMS, LEXICONS)), 0)
    values = np.rint(values) if kind == "anserini" else values
    return sp.csr_array(values[:count].astype(np.float32))


def written(folder, rows, ids=None, groups=None, kind="lexicon"):
    ids = [f"item{i}" for i in range(rows.shape[0])] if ids is None else ids
    with write_vectors(folder, kind, rows.shape[1], shard_rows=100) as writer:
        writer.append(rows, ids, groups)
    return folder


@pytest.fixture
def sweep_pairs(in_process, monkeypatch, fast_grid, tmp_path):
    """A function: folders of documents and of queries, flags -> exit code of a small sweep."""
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)

    def run(documents, queries, *more, engines="impact,faiss-flat"):
        folders = [("--documents", folder) for folder in documents] + [("--queries", folder) for folder in queries]
        flags = ["--corpus", "vectors", *(word for pair in folders for word in pair), "--engines", engines]
        flags = [str(flag) for flag in (*flags, "--sizes", ITEMS, "--home", tmp_path / "home")]
        return cli.run(scale.main, scale.parser(), [*flags, *fast_grid, *more])

    return run


@pytest.fixture
def sweep_own(sweep_pairs):
    """A function: a folder of documents, one of queries, flags -> exit code of a small sweep."""
    return lambda documents, queries, *more, engines="impact": sweep_pairs(
        [documents], [queries], *more, engines=engines
    )


@pytest.mark.parametrize(("kind", "expected"), [("splade", 21.2), ("anserini", 1.0)])
def test_the_scale_follows_from_the_weights(kind, expected, sweep_own, tmp_path, capsys):
    """All weights used to become 255, with engine recall 1.000 against itself."""
    rows = rows_of(kind)
    ids = [f"item{i}" for i in range(QUERIES)]
    documents = written(tmp_path / "documents", rows)
    queries = written(tmp_path / "queries", (rows[:QUERIES] / 4 if kind == "splade" else rows[:QUERIES]), ids, ids)
    assert sweep_own(documents, queries) == 0
    found = RecordStore(tmp_path / "home").read()
    accuracy = found[(found.task == "scale") & (found.batch_mode == "") & (found.top_k == 32)]
    values = dict(zip(accuracy.metric, accuracy.value, strict=True))
    knobs = json.loads(accuracy.knobs.iloc[0])
    assert knobs["scale"] == pytest.approx(expected, rel=0.01)
    assert knobs.get("query_scale", knobs["scale"]) == pytest.approx(4 * expected if kind == "splade" else 1, rel=0.01)
    assert values["engine_recall@10"] == 1.0
    exact = 1.0 if kind == "anserini" else pytest.approx(1.0, abs=0.05)
    assert values["unquantised_recall@10"] == exact and values["recall@1"] == 1.0
    out = capsys.readouterr().out
    assert f"documents: largest weight {rows.data.max():g}; scale {knobs['scale']:g} at 8 bits" in out


def test_a_given_scale_that_cuts_is_refused_before_any_job(sweep_own, in_process, tmp_path, capsys):
    rows = rows_of("splade")
    documents, queries = written(tmp_path / "documents", rows), written(tmp_path / "queries", rows[:QUERIES])
    assert sweep_own(documents, queries, "scales.8=100") == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert f"{documents}: scale 100 cuts" in error and "give scales.8=21.2" in error and error.count("\n") == 1
    assert not in_process
    assert sweep_own(documents, queries, "scales.8=20") == 0
    assert set(
        json.loads(knobs)["scale"] for knobs in RecordStore(tmp_path / "home").read().knobs if "scale" in knobs
    ) == {20.0}
    assert sweep_own(documents, queries, "scale_percentile=50") == cli.BAD_INPUT
    assert "expected 99.9 to 100" in capsys.readouterr().err


def test_recall_before_quantising_shows_what_the_weights_lost(sweep_own, tmp_path):
    """A coarse scale, as an outlier causes: the index is exact for its own weights, and far from the true ones."""
    rows = rows_of("splade")
    documents, queries = written(tmp_path / "documents", rows), written(tmp_path / "queries", rows[:QUERIES])
    assert sweep_own(documents, queries, "scales.8=0.1") == 0
    found = RecordStore(tmp_path / "home").read()
    values = found[found.batch_mode == ""].groupby("metric").value.min()
    assert values["engine_recall@10"] == 1.0 and values["unquantised_recall@10"] < 0.9


# --- vectors that do not fit, or were not written by this project -----------------------------------------------------


def spoiled(folder, part: str, place, value):
    """Changes a value of a stored file, as another tool would write it: size and sum in meta.json fit."""
    file = folder / f"00001.{part}.npy"
    values = np.load(file)
    values[place] = value
    np.save(file, values)
    meta = {key: found for key, found in read_json(folder / "meta.json").items() if key != "seal"}
    (entry,) = (entry for shard in meta["shards"] for entry in shard["files"].values() if entry["name"] == file.name)
    entry["sha256"] = sha256(file)
    write_json(folder / "meta.json", meta, seal=True)


DENSE = np.random.default_rng(0).random((ITEMS, 8), np.float32)
IDS = [f"item{i}" for i in range(ITEMS)]


@pytest.mark.parametrize(
    ("documents", "queries", "message"),
    [
        ((DENSE, IDS), (DENSE[:9, :7], IDS[:9]), "queries: dense vectors of dimension 7; expected dense of 8"),
        ((DENSE, IDS[:-1] + ["item7"]), (DENSE[:9], IDS[:9]), "documents: rows 7 and 299 have the same id 'item7'"),
        ((DENSE, IDS), (DENSE[:3], ["q", "r", "q"]), "queries: rows 0 and 2 have the same id 'q'"),
        (
            (DENSE, IDS),
            (DENSE[:3], ["q", "r", "s"], ["item0", "image7.jpg", "item1"]),
            "queries: 1 of 3 queries belong to no document: row 1 ('image7.jpg'); expected the id of a document in",
        ),
        (
            (DENSE, IDS, ["g"] * ITEMS),
            (DENSE[:2], ["q", "r"], ["item0", "g"]),
            "queries: 1 of 2 queries belong to no document: row 0 ('item0'); expected the group of a document in",
        ),
    ],
)
def test_vectors_that_do_not_fit_together_are_refused(documents, queries, message, sweep_own, tmp_path, capsys):
    folders = [
        written(tmp_path / part, *made, kind="dense") for part, made in (("documents", documents), ("queries", queries))
    ]
    assert sweep_own(*folders, engines="faiss-flat") == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "part", "place", "value", "message"),
    [
        ("dense", "values", (4, 2), np.nan, "00001.values.npy: row 4: value 2 is nan; expected finite numbers"),
        ("dense", "values", (0, 7), -np.inf, "00001.values.npy: row 0: value 7 is -inf; expected finite numbers"),
        ("lexicon", "weights", 0, -1, "00001.weights.npy: row 0: weight -1 of lexicon"),
        ("lexicon", "weights", 0, 0, "00001.weights.npy: row 0: weight 0 of lexicon"),
        ("lexicon", "weights", -1, np.inf, "00001.weights.npy: row 99: weight inf of lexicon"),
        ("lexicon", "lexicons", 1, 99, "00001.weights.npy: row 0: lexicon 99; expected 0 to 59"),
        ("lexicon", "lexicons", 1, 0, "row 0: its lexicons are not in ascending order, or repeated"),
        ("lexicon", "indptr", 50, 0, "00001.weights.npy: row 49: the row pointers fall"),
    ],
)
def test_values_that_search_cannot_use_are_refused(kind, part, place, value, message, sweep_own, tmp_path, capsys):
    rows = DENSE if kind == "dense" else rows_of("splade")
    documents = written(tmp_path / "documents", rows, kind=kind)
    queries = written(tmp_path / "queries", rows[:9], kind=kind)
    spoiled(documents, part, place, value)
    assert sweep_own(documents, queries, engines="faiss-flat,impact") == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_vocabularies_that_differ_are_refused(sweep_own, tmp_path, capsys):
    """Both have three lexicons, so weights used to be multiplied with those of other words."""
    for part, words in (("documents", ["a", "b", "c"]), ("queries", ["a", "c", "b"])):
        with write_vectors(tmp_path / part, "lexicon", 3, vocabulary=words) as writer:
            writer.append(np.eye(3, dtype=np.float32), ["x", "y", "z"])
    assert sweep_own(tmp_path / "documents", tmp_path / "queries") == cli.BAD_INPUT
    assert "queries: lexicon 1 is 'c'; expected 'b', as in" in capsys.readouterr().err


def test_a_gallery_without_all_relevant_documents_measures_no_recall(sweep_own, tmp_path, capsys):
    """Queries of documents beyond the first 100 used to count as not found."""
    rows = rows_of("splade")
    documents = written(tmp_path / "documents", rows, IDS)
    queries = written(tmp_path / "queries", rows[140:150], [f"q{i}" for i in range(10)], IDS[140:150])
    assert sweep_own(documents, queries, "--sizes", "100,150,300") == 0
    found = RecordStore(tmp_path / "home").read()
    recall = found[found.metric == "recall@1"].groupby("images").value.min()
    assert recall.to_dict() == {150: 1.0, 300: 1.0} and 100 in set(found.images)
    assert "100 lexicon  no R@K: relevant documents lie in the first 150" in capsys.readouterr().out


# --- both sides of the same items -------------------------------------------------------------------------------------


def test_dense_and_lexicon_vectors_of_the_same_items_take_turns(sweep_pairs, in_process, tmp_path):
    rows, names = rows_of("splade"), [f"q{i}" for i in range(9)]
    folders = [
        written(tmp_path / "d1", DENSE, IDS, kind="dense"),
        written(tmp_path / "d2", rows, IDS),
        written(tmp_path / "q1", DENSE[:9], names, IDS[:9], kind="dense"),
        written(tmp_path / "q2", rows[:9], names, IDS[:9]),
    ]
    assert sweep_pairs(folders[:2], folders[2:], "--name", "mine", "rounds=2") == 0
    found = RecordStore(tmp_path / "home").read()
    assert set(found.corpus) == {"vectors:mine"} and len(set(found.data_id)) == 1
    assert set(found.variant) == {"mine dense", "mine lexicon"}
    assert set(found[found.metric == "recall@1"].kind) == {"dense", "lexicon"}
    timed = [request["queries"]["folder"][-2:] for job, request in in_process if job == "timing"]
    assert timed == ["q1", "q2", "q2"] * 2  # `impact` at two settings


@pytest.mark.parametrize(
    ("ids", "groups", "message"),
    [
        (IDS[::-1], IDS[:9], "d2: row 0 is 'item299' by its ids; expected 'item0', as in"),
        (IDS, IDS[1:10], "q2: row 0 is 'item1' by its groups; expected 'item0', as in"),
    ],
)
def test_sides_with_other_items_are_refused(ids, groups, message, sweep_pairs, tmp_path, capsys):
    rows, names = rows_of("splade"), [f"q{i}" for i in range(9)]
    documents = [written(tmp_path / "d1", DENSE, IDS, kind="dense"), written(tmp_path / "d2", rows, ids)]
    queries = [written(tmp_path / "q1", DENSE[:9], names, IDS[:9], kind="dense")]
    queries.append(written(tmp_path / "q2", rows[:9], names, groups))
    assert sweep_pairs(documents, queries) == cli.BAD_INPUT
    assert message in capsys.readouterr().err
    assert sweep_pairs(documents, queries[:1]) == cli.BAD_INPUT
    assert "expected both --documents FOLDER and --queries FOLDER" in capsys.readouterr().err
    assert sweep_pairs(documents[:1] * 2, queries[:1] * 2) == cli.BAD_INPUT
    assert "expected one folder of each kind, dense and lexicon" in capsys.readouterr().err


def test_a_folder_is_a_corpus(in_process, monkeypatch, fast_grid, tmp_path, capsys):
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)
    monkeypatch.chdir(tmp_path)
    names = [f"q{i}" for i in range(9)]

    def run(corpus, *more) -> int:
        flags = ["--corpus", corpus, "--engines", "impact,faiss-flat", "--sizes", str(ITEMS), "--home", "home"]
        return cli.run(scale.main, scale.parser(), [*flags, *more, *fast_grid])

    written(tmp_path / "mine/dense/documents", DENSE, IDS, kind="dense")
    assert run("mine") == cli.BAD_INPUT
    assert "--corpus mine: no vectors in mine/dense/queries; expected dense/documents and" in capsys.readouterr().err
    written(tmp_path / "mine/dense/queries", DENSE[:9], names, IDS[:9], kind="dense")
    written(tmp_path / "mine/lexicon/documents", rows_of("splade"), IDS)
    written(tmp_path / "mine/lexicon/queries", rows_of("splade")[:9], names, IDS[:9])
    assert run("mine") == 0
    found = RecordStore(tmp_path / "home").read()
    assert set(found.corpus) == {"vectors:mine"} and set(found.variant) == {"mine dense", "mine lexicon"}
    assert run("mine", "--name", "other") == 0
    assert "vectors:other" in set(RecordStore(tmp_path / "home").read().corpus)
    for corpus, message in (
        ("nowhere", "--corpus nowhere: expected a number of images such as 5000, 250k or 1M, synthetic:10M, or a fold"),
        ("home", "--corpus home: no vectors in home; expected dense/documents"),
    ):
        assert run(corpus) == cli.BAD_INPUT
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert run("mine", "--documents", "x") == cli.BAD_INPUT
    assert "expected it without --documents and --queries" in capsys.readouterr().err


# --- the sparse twin of dense vectors ---------------------------------------------------------------------------------


def sparse_encoder(folder):
    """A checkpoint of `lexlip-bench sparsify` for `DENSE`, with random words."""
    encoder = heads.create(SparsifyConfig(image_top_k=8, text_top_k=8), DENSE.shape[1], [f"w{v}" for v in range(20)])
    encoder.start(torch.nn.functional.normalize(torch.randn(20, DENSE.shape[1]), dim=-1))
    checkpoint.save(encoder.eval(), folder, {})
    return encoder


@pytest.mark.parametrize("graded", [False, True])
def test_the_sparse_twin_takes_turns_with_its_dense_vectors(sweep_pairs, in_process, tmp_path, graded):
    encoder, names = sparse_encoder(tmp_path / "sparse"), [f"q{i}" for i in range(9)]
    documents, qrels = written(tmp_path / "d1", DENSE, IDS, kind="dense"), None
    if graded:
        qrels = {name: {IDS[i]: 1.0, IDS[i + 20]: 2.0} for i, name in enumerate(names)}
    with write_vectors(tmp_path / "q1", "dense", DENSE.shape[1], qrels=qrels) as writer:
        writer.append(DENSE[:9], names, None if graded else IDS[:9])
    twin = "--sparsify", str(tmp_path / "sparse")
    assert sweep_pairs([documents], [tmp_path / "q1"], "--name", "mine", *twin) == 0
    found = RecordStore(tmp_path / "home").read()
    assert set(found.variant) == {"mine dense", "mine dense sparse"} and len(set(found.data_id)) == 1
    assert set(found[found.metric == "recall@1"].variant) == {"mine dense", "mine dense sparse"}
    assert {request["queries"]["folder"] for job, request in in_process if job == "timing"} > {str(tmp_path / "q1")}
    made = [open_vectors(folder) for folder in sorted((tmp_path / "home" / "vectors").iterdir())]
    (of_documents,) = [vectors for vectors in made if vectors.count == ITEMS]
    assert of_documents.ids == IDS
    np.testing.assert_allclose(of_documents.to_scipy().toarray(), encoder.encode_image(DENSE).numpy(), atol=1e-6)


def test_a_twin_without_dense_vectors_or_checkpoint_is_refused(sweep_own, tmp_path, capsys):
    rows = rows_of("splade")
    documents, queries = written(tmp_path / "d2", rows, IDS), written(tmp_path / "q2", rows[:9], groups=IDS[:9])
    sparse_encoder(tmp_path / "sparse")
    assert sweep_own(documents, queries, "--sparsify", str(tmp_path / "sparse")) == cli.BAD_INPUT
    assert "no dense vectors in this sweep" in capsys.readouterr().err
    assert sweep_own(documents, queries, "--sparsify", str(tmp_path / "none")) == cli.BAD_INPUT
    assert "model.json: no such file" in capsys.readouterr().err
