"""The sweep on small vectors; `swept` runs through real workers, the others mostly in this process."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.engines.indexes import open_index
from bench.scale import sweep, worker
from bench.scale.plan import MinBatch, plan
from bench.scale.sweep import Sweep
from bench.scale.table import table
from bench.store.isolated import Limits, Outcome
from bench.store.records import RecordStore
from bench.vectors.impacts import Impacts
from tests.bench.scale.conftest import QUERIES


def value(rows, metric, **filters):
    for column, wanted in filters.items():
        rows = rows[rows[column] == wanted]
    found = rows[rows.metric == metric].value.tolist()
    assert len(found) == 1, found
    return found[0]


def engine_of(folder) -> str | None:
    """The engine of an index folder."""
    about = Path(folder) / "index.json"
    return json.loads(about.read_text())["made_from"]["engine"] if about.exists() else None


def test_accuracy_and_size_are_those_of_the_index(swept, grid):
    accuracy = swept.rows[swept.rows.batch_mode == ""]
    assert value(accuracy, "recall@1", engine="impact") == 1.0  # a query equals its own item
    assert value(accuracy, "engine_recall@10", engine="impact") == 1.0
    assert value(accuracy, "engine_recall@10", engine="faiss-flat") == 1.0
    assert value(accuracy, "engine_recall@10", engine="dummy") < 0.5
    size = sum(file.stat().st_size for file in (swept.home / "indexes").rglob("index.faiss"))
    assert value(accuracy, "index_bytes", engine="faiss-flat") == size
    assert value(accuracy, "bytes_per_image", engine="faiss-flat") == size / 200
    assert value(accuracy, "touched_bytes", engine="impact") > 0
    assert set(accuracy.images) == {200} and set(accuracy.queries) == {grid.queries}


def test_rates_are_the_median_of_all_rounds(swept):
    timed = swept.rows[swept.rows.batch_mode != ""]
    single = timed[(timed.engine == "impact") & (timed.batch_mode == "single")]
    latencies = {f"latency_p{p}_us" for p in (50, 95, 99)}
    cold = {"open_seconds", "first_query_us"}
    assert set(single.metric) == {"qps", "qps_min", "qps_max", "limit_qps"} | latencies | cold
    low, middle, high = (value(single, name) for name in ("qps_min", "qps", "qps_max"))
    assert low <= middle <= high and middle == pytest.approx((low + high) / 2)  # of two rounds
    assert "median of 2 rounds" in single.note.iloc[0]
    assert set(timed[timed.engine == "faiss-flat"].batch_mode) == {"single", "batched"}


def test_the_first_query_of_a_process_stands_apart_from_warm_ones(swept):
    timed = swept.rows[swept.rows.batch_mode == "single"]
    for engine in ("impact", "faiss-flat"):
        mine = timed[timed.engine == engine]
        assert value(mine, "open_seconds") > 0 and value(mine, "first_query_us") > 0
    assert not set(swept.rows[swept.rows.batch_mode == "batched"].metric) & {"open_seconds", "first_query_us"}


def test_latencies_of_single_queries_come_with_the_postings_that_they_touch(swept, galleries, grid):
    timed = swept.rows[(swept.rows.batch_mode == "single") & (swept.rows.engine == "impact")]
    kept, gallery = RecordStore(swept.home).queries(timed.point_id.iloc[0]), galleries["lexicon"]
    documents, queries = (
        Impacts(vectors, top_k, 8).to_scipy() > 0
        for vectors, top_k in ((gallery.documents.prefix(200), grid.main.top_k), (gallery.queries, None))
    )
    touched = dict(zip(gallery.queries.ids, (queries @ documents.sum(axis=0)).tolist(), strict=True))
    assert 0 < len(kept) <= 100 and kept.query_id.is_unique
    assert [touched[id] for id in kept.query_id] == kept.touched.tolist()
    assert (kept.latency_us > 0).all() and kept.latency_us.median() == pytest.approx(
        value(timed, "latency_p50_us"), rel=1
    )
    dense = swept.rows[(swept.rows.batch_mode == "single") & (swept.rows.engine == "faiss-flat")]
    assert RecordStore(swept.home).queries(dense.point_id.iloc[0]) is None


def test_the_table_separates_corpora(swept):
    flat = swept.rows[swept.rows.engine == "faiss-flat"]
    copy = flat.assign(corpus="synthetic:scenes", point_id="copy " + flat.point_id)
    lines, one = table(pd.concat([flat, copy])).splitlines(), table(flat).splitlines()
    assert [line.endswith("synthetic:scenes") for line in lines] == [False, False, True, False]
    assert lines[1] == lines[3] == one[1] and lines[1].count("single x1") == 1


def test_the_table_says_why_a_row_is_missing(swept):
    """An engine that is absent, and a rate that could not be measured."""
    flat = swept.rows[swept.rows.engine == "faiss-flat"]
    absent = flat.assign(status="absent", note="pip install faiss-cpu", metric="", value=None)
    assert table(absent).splitlines()[1].split("  ")[-2].endswith("absent: pip install faiss-cpu")
    timeout = flat.batch_mode == "single"
    late = flat.assign(status=flat.status.mask(timeout, "out_of_memory"), note=flat.note.mask(timeout, "the machine"))
    line = table(late.assign(value=late.value.mask(timeout))).splitlines()[1]
    assert "single x1 out of memory: the machine" in line and "batched x1 " in line


def test_a_finished_sweep_runs_no_job(swept, galleries, grid, monkeypatch):
    monkeypatch.setattr(sweep, "run_job", lambda *_: pytest.fail("a job was run"))
    cells = plan("lexicon", 200, grid, ["impact", "dummy"], largest=False)
    Sweep(RecordStore(swept.home), swept.home, galleries["lexicon"], grid, Limits(60)).run(cells)
    assert len(RecordStore(swept.home).read()) == len(swept.rows)


def test_engine_recall_is_that_of_the_search_that_is_timed(sweep_once, grid, in_process):
    """Recall used to be that of a search for 100 results, for which a graph searches more of itself than for 10."""
    knobs = {"faiss-hnsw": {"m": [2], "ef_construction": [4], "ef": [1]}}
    rows = sweep_once("dense", replace(grid, rounds=1, exact_queries=8, knobs=knobs), ["faiss-hnsw"])
    requests = {job: request for job, request in in_process if job in ("accuracy", "timing")}
    assert requests["accuracy"]["depth"] == requests["timing"]["depth"] == grid.depth
    documents = next(worker.vectors_of(request["documents"]) for job, request in in_process if job == "build")
    asked = requests["timing"]["queries"]
    texts = worker.vectors_of(asked).rows(0, QUERIES)[asked["which"]]
    best = np.sort(texts.astype(np.float64) @ documents.rows(0, 200).astype(np.float64).T, axis=1)[:, ::-1]
    with open_index(Path(requests["timing"]["folder"])) as engine:
        scores = {depth: engine.search(texts, depth, ef=1)[1][:, :10] for depth in (10, 100)}
    recall = {depth: np.mean(found >= best[:, 9:10] - 1e-6) for depth, found in scores.items()}
    assert recall[10] < recall[100], "the graph is too easy to tell"
    assert value(rows[rows.batch_mode == ""], "engine_recall@10") == pytest.approx(recall[10])


def test_a_job_of_other_queries_is_not_reused(sweep_once, grid, in_process):
    """A sweep of other queries over the same index used to reuse the job, with the ids of the earlier queries."""
    for queries in (8, 5):
        rows = sweep_once("lexicon", replace(grid, rounds=1, queries=queries), ["impact"])
    accuracy = rows[(rows.batch_mode == "") & (rows.metric == "recall@1")]
    assert sorted(accuracy.queries) == [5, 8] and set(accuracy.value) == {1.0}
    notes = rows[rows.metric == "qps"][["queries", "note"]].itertuples(index=False)
    assert all(f"{queries} queries a round" in note for queries, note in notes)


@pytest.mark.parametrize(("seconds", "batch"), [(1e-9, 3), (1e6, 8)])
def test_a_batch_holds_what_an_engine_answers_in_its_time(sweep_once, grid, in_process, seconds, batch):
    """At least `min_batch` queries, at most all."""
    grid = replace(grid, rounds=1, batch_seconds=seconds, min_batch=MinBatch(3, 3))
    rows = sweep_once("lexicon", grid, ["dummy"])
    note = rows[(rows.batch_mode == "batched") & (rows.metric == "qps")].note.iloc[0]
    assert f"{batch} queries a round" in note


def test_galleries_take_turns_in_a_round(galleries, grid, tmp_path, in_process):
    """Dense indexes used to be timed after all rounds of the lexicon ones."""
    sweeps = []
    for kind, names in (("lexicon", ["impact", "dummy"]), ("dense", ["faiss-flat"])):
        cells = plan(kind, 60, grid, names, largest=False)
        sweeps.append((Sweep(RecordStore(tmp_path), tmp_path, galleries[kind], grid, Limits(60)), cells))
    spent = sweep.take_turns(sweeps)
    timed = [engine_of(request["folder"]) for job, request in in_process if job == "timing"]
    assert timed == ["impact", "faiss-flat", "dummy"] * 2
    assert all(seconds > 0 for of_sweep in spent for seconds in of_sweep.values())
    assert set(RecordStore(tmp_path).read().status) == {"ok"}


@pytest.mark.parametrize(
    ("job", "status"), [("build", "absent"), ("build", "timeout"), ("accuracy", "failed"), ("timing", "out_of_memory")]
)
def test_a_failed_job_is_recorded_and_the_others_continue(sweep_once, grid, in_process, monkeypatch, job, status):
    real, grid = sweep.run_job, replace(grid, rounds=1)

    def run(name, request, folder, limits):
        fails = name == job and "dummy" in (request.get("engine"), engine_of(request.get("folder", "nowhere")))
        return Outcome(status, {}, "as it was") if fails else real(name, request, folder, limits)

    monkeypatch.setattr(sweep, "run_job", run)
    rows = sweep_once("dense", grid, ["dummy", "faiss-flat"], size=60)
    of_dummy, of_flat = rows[rows.engine == "dummy"], rows[rows.engine == "faiss-flat"]
    every_mode = {"", "single", "batched"}
    assert set(of_flat.status) == {"ok"} and set(of_flat.batch_mode) == every_mode
    assert set(of_dummy.batch_mode) == every_mode
    failed = of_dummy[of_dummy.status == status]
    assert set(failed.batch_mode) == ({"single", "batched"} if job == "timing" else every_mode)
    assert failed.note.str.endswith("as it was").all() and failed.value.isna().all()

    monkeypatch.setattr(sweep, "run_job", real)
    again = sweep_once("dense", grid, ["dummy", "faiss-flat"], size=60)
    expected = {"ok"} if status == "absent" else set(of_dummy.status)
    assert set(again[again.engine == "dummy"].status) == expected, "an absent engine may be installed by now"


def test_true_at_1_judges_the_first_result(galleries, grid, tmp_path, in_process):
    """Here a caption is true of the items whose number is even, whichever item it was written for."""
    known = replace(galleries["lexicon"], is_true=lambda query, item: int(item.removeprefix("item")) % 2 == 0)
    store = RecordStore(tmp_path)
    Sweep(store, tmp_path, known, grid, Limits(60)).run(plan("lexicon", 200, grid, ["impact"], largest=False))
    accuracy = store.read().query("batch_mode == ''")
    queries = store.queries(accuracy.point_id.iloc[0])
    assert value(accuracy, "recall@1") == 1.0, "each query finds its own item"
    expected = [int(query.removeprefix("query")) % 2 == 0 for query in queries.query_id]
    assert queries.true.tolist() == expected
    assert value(accuracy, "true@1") == sum(expected) / len(expected)


def test_true_at_1_is_not_measured_where_nobody_knows(swept):
    assert "true@1" not in set(swept.rows.metric)
