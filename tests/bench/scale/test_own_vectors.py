"""`--corpus vectors`: scales that follow from the weights, and vectors that do not fit together."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from bench.scale import run as scale
from bench.store import cli
from bench.store.records import RecordStore
from bench.vectors.write import write_vectors

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
def sweep_own(in_process, monkeypatch, fast_grid, tmp_path):
    """A function: folders, overrides -> exit code of a small sweep over them with `impact`."""
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)

    def run(documents, queries, *overrides, engines="impact"):
        flags = ["--corpus", "vectors", "--documents", documents, "--queries", queries, "--engines", engines]
        flags = [str(flag) for flag in (*flags, "--sizes", ITEMS, "--home", tmp_path / "home")]
        return cli.run(scale.main, scale.parser(), [*flags, *fast_grid, *overrides])

    return run


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
