import gc
import os
import time

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from bench import engines
from bench.engines import ranking
from bench.engines.dummy import Dummy
from bench.tasks import timing as measure
from bench.tasks.timing import Timing
from bench.vectors.read import DenseVectors
from bench.vectors.statistics import evenly


class Recorder(Dummy):
    """A dummy that notes each search, and how long it was told to take."""

    def __init__(self, seconds=0.0):
        self.count, self.seconds, self.calls = 5, seconds, []

    def prepare(self, queries, **knobs):
        return queries * 2

    def search(self, queries, k, threads=1, **knobs):
        pools = {pool["num_threads"] for pool in threadpool_info()}
        self.calls.append((queries.tolist(), k, threads, knobs, pools, gc.isenabled()))
        time.sleep(self.seconds)
        return super().search(queries, k)


QUERIES = np.arange(6.0)[:, None]


def test_single_runs_one_prepared_query_at_a_time_pinned():
    engine = Recorder()
    measured = measure.single(engine, QUERIES, Timing(depth=3, repeats=2, threads=1), knob=7)
    asked = [call[0] for call in engine.calls]
    in_order = measure.timed_order(6).tolist()
    assert asked == [[[q * 2]] for q in in_order] * 3, "warm-up and two passes"
    assert sorted(in_order) == list(range(6)) != in_order and measured.which.tolist() == in_order
    assert {(call[1], call[2], call[3]["knob"], call[5]) for call in engine.calls} == {(3, 1, 7, False)}
    assert all(call[4] <= {1} for call in engine.calls)
    assert gc.isenabled()
    assert measured.queries == 6 and measured.latency_us.shape == (6,) and measured.ids.shape == (6, 3)
    assert measured.values.keys() == {"qps", "latency_p50_us", "latency_p95_us", "latency_p99_us"}
    assert "median of 2 passes" in measured.note and "6 of 6 queries" in measured.note


def test_a_slow_engine_times_a_sample_that_the_warm_up_did_not_run(monkeypatch):
    """Its time used to end within the first queries, which the warm-up had just run."""
    monkeypatch.setattr(measure, "WARM_UP_QUERIES", 3)
    engine, queries = Recorder(0.02), np.arange(40.0)[:, None]
    measured = measure.single(engine, queries, Timing(repeats=1, seconds=0.05))
    asked = [call[0][0][0] / 2 for call in engine.calls]
    assert 0 < measured.queries < 30 and asked[3:] == measured.which.tolist()
    assert not set(asked[:3]) & set(measured.which.tolist())
    assert measured.which.max() >= measured.queries, "a sample of all, not the first ones"


def test_values_follow_the_clock():
    """Sleeping engine: the rate cannot exceed 1 / sleep, nor can a latency fall below it."""
    measured = measure.single(Recorder(0.002), QUERIES, Timing(repeats=1))
    assert measured.values["qps"] <= 500 and measured.values["latency_p50_us"] >= 2000
    assert measure.batched(Recorder(0.002), QUERIES, Timing(repeats=1)).values["qps"] <= 6 / 0.002


def test_a_slow_engine_runs_fewer_queries_and_the_note_states_it():
    measured = measure.single(Recorder(0.02), QUERIES, Timing(repeats=2, seconds=0.03))
    assert measured.queries < 6 and len(measured.ids) == measured.queries
    assert f"{measured.queries} of 6 queries" in measured.note


def test_batched_runs_all_queries_in_one_call():
    engine = Recorder()
    measured = measure.batched(engine, QUERIES, Timing(repeats=2, threads=2))
    assert [len(call[0]) for call in engine.calls] == [6, 6, 6]
    assert measured.latency_us is None and measured.queries == 6 and set(measured.values) == {"qps"}


def test_a_loaded_machine_is_noted(monkeypatch):
    monkeypatch.setattr(measure.OtherWork, "note", lambda self: "loaded machine")
    assert measure.single(Recorder(), QUERIES, Timing()).note.startswith("loaded machine; median")


def test_threads_and_cores_are_restored():
    before, cores = faiss.omp_get_max_threads(), os.sched_getaffinity(0)
    with measure.pinned(1):
        assert faiss.omp_get_max_threads() == 1
        assert len(os.sched_getaffinity(0)) == 1
    assert faiss.omp_get_max_threads() == before
    assert os.sched_getaffinity(0) == cores


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [(0, 3, []), (1, 3, [0]), (5, 9, [0, 1, 2, 3, 4]), (10, 4, [0, 3, 6, 9]), (5000, 1, [0])],
)
def test_evenly(count, wanted, places):
    assert evenly(count, wanted).tolist() == places


def test_dummy_returns_at_once(tmp_path):
    ids, scores = Recorder().search(QUERIES, 7)
    assert ids[0].tolist() == [0, 1, 2, 3, 4, -1, -1] and np.isneginf(scores[0, 5:]).all()
    assert ranking.empty(2, 0)[0].shape == (2, 0)


def test_timing_does_not_change_the_threads_of_torch(tmp_path):
    """FAISS's thread count is OpenMP's: left at 1 it halved the speed of the training that came after a measurement."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = engines.get("faiss-flat")
        vectors = DenseVectors.of(np.eye(8, dtype=np.float32))
        engine.build(vectors, tmp_path)
        engine.open(tmp_path)
        measure.single(engine, np.eye(8, dtype=np.float32), Timing(threads=1, depth=2))
        measure.batched(engine, np.eye(8, dtype=np.float32), Timing(threads=1, depth=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
