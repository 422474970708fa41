"""What a sweep measures again, and what it keeps: other machines and settings, failures, a removed folder."""

import shutil
from dataclasses import replace

import pytest

from bench.engines import indexes
from bench.scale import sweep
from bench.scale.plan import MinBatch, plan
from bench.scale.points import Points
from bench.scale.sweep import Sweep
from bench.store import machine, records, schema
from bench.store.isolated import Limits, Outcome
from bench.store.records import RecordStore

BUILD = {"build_seconds", "build_cpu_seconds", "build_peak_bytes"}


@pytest.fixture
def run(galleries, tmp_path, grid):
    """A function: runs a sweep of `faiss-flat` in the home `tmp_path`; returns all records."""

    def run(force=False, gallery=galleries["dense"], **changes):
        changed, store = replace(grid, **{"rounds": 1} | changes), RecordStore(tmp_path)
        cells = plan("dense", 200, changed, ["faiss-flat"], largest=False)
        Sweep(store, tmp_path, gallery, changed, Limits(60), force).run(cells)
        return store.read()

    return run


@pytest.fixture
def failing(in_process, monkeypatch):
    """A function: jobs of this name end as told, with a status or an exception."""
    real = sweep.run_job

    def failing(name, end):
        def run(job, *arguments):
            if job != name:
                return real(job, *arguments)
            if isinstance(end, BaseException):
                raise end
            return Outcome(end, {}, "as told")

        monkeypatch.setattr(sweep, "run_job", run if name else real)

    return failing


def test_another_machine_measures_all_again_and_claims_no_build(run, galleries, in_process, monkeypatch):
    """A home that moved used to record the rounds of its first machine as those of the second."""
    first = run()
    assert set(first.metric) > BUILD
    other = machine.machine() | {"machine_id": "f" * 16, "cpu": "another"}
    for module in (sweep, schema, records, indexes):
        monkeypatch.setattr(module, "machine", lambda: other)
    ran = len(in_process)
    base = replace(galleries["dense"].base, machine_id="f" * 16)
    rows = run(gallery=replace(galleries["dense"], base=base))
    assert {job for job, _ in in_process[ran:]} >= {"build", "accuracy", "timing"}
    here, there = (rows[rows.machine_id == name] for name in ("f" * 16, first.machine_id.iloc[0]))
    assert set(there.metric) - set(here.metric) == BUILD and set(here.status) == {"ok"}
    assert "its build was not measured here" in here[here.batch_mode == ""].note.iloc[0]


def test_another_version_of_a_package_measures_again(run, in_process, monkeypatch):
    run()
    other = machine.machine() | {"versions": {"faiss-cpu": "0"}}
    monkeypatch.setattr(sweep, "machine", lambda: other)
    ran = len(in_process)
    run(rounds=2)
    assert [job for job, _ in in_process[ran:]].count("timing") == 2, "no round of the other version is reused"


@pytest.mark.parametrize(
    ("changes", "modes"),
    [
        ({"rounds": 2}, {"single", "batched"}),
        ({"seconds": 0.03}, {"single", "batched"}),
        ({"batch_seconds": 1.0}, {"single", "batched"}),
        ({"min_batch": MinBatch(2, 2)}, {"single", "batched"}),
        ({"exact_queries": 5}, {""}),
    ],
)
def test_a_quick_try_replaces_no_full_measurement(run, in_process, changes, modes):
    before = run()
    after = run(**changes)
    added = after[~after.point_id.isin(before.point_id)]
    assert set(added.batch_mode) == modes and set(before.point_id) < set(after.point_id)


def test_rates_of_one_sweep_have_one_code_id(galleries, grid):
    """Reports tell by it which rates were timed in the same rounds, of both kinds of vectors."""
    engines = {"dense": "faiss-flat", "lexicon": "impact"}
    cells = {kind: plan(kind, 200, grid, [engine], largest=False) for kind, engine in engines.items()}
    points = [
        point for kind, mine in cells.items() for cell in mine for point in Points(galleries[kind], grid).of(cell)
    ]
    assert {point.kind for point in points} == set(engines)
    assert len({point.code_id for point in points if point.batch_mode}) == 1


@pytest.mark.parametrize("depth", [10, 100])
def test_engine_recall_is_over_ten_results_at_any_depth(sweep_once, grid, in_process, depth):
    knobs = {"faiss-hnsw": {"m": [2], "ef_construction": [4], "ef": [1]}}
    rows = sweep_once("dense", replace(grid, rounds=1, depth=depth, knobs=knobs), ["faiss-hnsw"])
    truth = next(request for job, request in in_process if job == "truth")
    assert truth["depth"] == 10
    found = rows[(rows.metric == "engine_recall@10")].value.iloc[0]
    assert 0 < found < 1, "the graph is too easy to tell"
    assert found * 6 * 10 == pytest.approx(round(found * 6 * 10)), "shares of 10 results of 6 queries"


@pytest.mark.parametrize(
    ("job", "failed"), [("timing", {"single", "batched"}), ("accuracy", {"", "single", "batched"})]
)
def test_a_failure_with_force_keeps_what_was_just_measured(run, failing, job, failed):
    run()
    failing(job, "timeout")
    rows = run(force=True)
    assert set(rows[rows.status == "timeout"].batch_mode) == failed
    assert set(rows[rows.status == "ok"].batch_mode) == {"", "single", "batched"} - failed


def test_a_sweep_finishes_after_its_answers_were_removed(run, failing, tmp_path):
    failing("timing", KeyboardInterrupt())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run()
    shutil.rmtree(tmp_path / "sweeps")
    failing(None, None)
    rows = run()
    assert set(rows.status) == {"ok"} and set(rows.batch_mode) == {"", "single", "batched"}
    assert len(run()) == len(rows)
