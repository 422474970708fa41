"""Growth of hand-made lines; the command over a real engine, and over engines that change their answers or die."""

import os
import threading
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from bench.engines import indexes
from bench.engines.dummy import Dummy
from bench.scale import soak
from bench.store.cli import run
from bench.store.records import RecordStore

SECONDS = np.arange(0, 600, 5.0)


def test_growth_is_the_slope_per_hour():
    found = soak.growth(SECONDS, 100 + 2 * SECONDS, 1.0)
    assert (found.slope, found.low, found.high) == pytest.approx((7200, 7200, 7200))
    assert found.beyond_noise
    flat = soak.growth(SECONDS, np.full(len(SECONDS), 7.0), 1.0)
    assert (flat.slope, flat.beyond_noise) == (0, False)


def test_growth_below_the_floor_does_not_count():
    hours = (SECONDS[-1] - SECONDS[0]) / 3600
    for total, grows in ((0.9, False), (1.1, True)):
        found = soak.growth(SECONDS, total * SECONDS / SECONDS[-1], 1.0)
        assert found.beyond_noise is grows
        assert found.detectable == pytest.approx(1 / hours, rel=1e-6)


@given(st.integers(0, 1 << 30))
def test_noise_is_no_growth_and_outliers_hide_no_leak(seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 10, len(SECONDS))
    assert not soak.growth(SECONDS, 1e6 + noise, 1.0).beyond_noise
    leak = noise + 0.5 * SECONDS  # 300 in total, in noise of 10
    leak[rng.integers(0, len(leak), 5)] -= 1e5  # memory given back for a moment
    found = soak.growth(SECONDS, leak, 1.0)
    assert found.beyond_noise and abs(found.slope - 1800) < 400


def test_memory_given_back_at_the_end_hides_no_leak():
    leak = 0.5 * SECONDS
    leak[-3:] = 0
    assert linregress(SECONDS, leak).slope * 3600 < 1700
    assert soak.growth(SECONDS, leak, 1.0).slope == pytest.approx(1800)


def test_long_soaks_are_thinned_evenly():
    seconds = np.arange(20_000.0)
    assert soak.growth(seconds, 3 * seconds, 1.0).slope == pytest.approx(3 * 3600)


def test_generated_vectors_are_normalised_and_the_same_each_time():
    for kind in ("dense", "lexicon"):
        documents, queries = soak.generated(kind, 50, 5)
        again, _ = soak.generated(kind, 50, 5)
        rows, same = (
            found.rows(0, 50) if kind == "dense" else found.rows(0, 50).toarray() for found in (documents, again)
        )
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
        assert np.array_equal(rows, same) and queries.shape == (5, documents.dimension)


def test_a_sample_counts_what_is_opened_and_started():
    process, stop = psutil.Process(), threading.Event()
    before = soak.sample(process)
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with open(os.devnull):
        after = soak.sample(process)
    stop.set()
    thread.join()
    assert after["handles"] == before["handles"] + 1
    assert after["threads"] == before["threads"] + 1
    assert 0 < after["private"] <= after["memory"]


class Forgetful(Dummy):
    """Returns other ids each time."""

    asked = 0

    def search(self, queries, k, threads=1, **knobs):
        type(self).asked += 1
        ids, scores = super().search(queries, k, threads, **knobs)
        return ids + type(self).asked, scores


@pytest.mark.parametrize(("engine", "wrong"), [(Dummy, False), (Forgetful, True)])
def test_answers_that_change_are_counted(engine, wrong, tmp_path, monkeypatch):
    index, queries = soak.prepared(tmp_path, "dummy", 20, 4, False)
    monkeypatch.setattr(soak, "open_index", lambda folder: engine().open(folder))
    counts, rounds = [0, 0], iter([False, False, True])
    soak.serve(index.folder, queries, 3, {}, 10.0, SimpleNamespace(is_set=lambda: next(rounds)), counts)
    assert counts[0] == 2 * 2 * 4, "two rounds, in two modes, of four queries"
    assert counts[1] == (8 if wrong else 0), "all of the second round"


def test_the_command_records_an_engine_that_serves_and_one_that_dies(tmp_path, monkeypatch, capsys):
    sizes = ["--items", "300", "--queries", "8", "--warm-up", "0", "--every", "0.1", "--seconds", "0.02"]
    flags = ["--home", str(tmp_path), *sizes]
    monkeypatch.setattr(soak, "FLOORS", dict.fromkeys(soak.FLOORS, 1e18))  # a process that has just started grows
    assert run(soak.main, soak.parser(), [*flags, "--minutes", "0.02", "--engines", "dummy"]) == 0
    rows = RecordStore(tmp_path).read()
    assert set(rows.task) == {"reliability"} and set(rows.status) == {"ok"}
    values = rows.set_index("metric").value
    assert (
        values["soak_queries"] > 0
        and values["soak_wrong"] == 0
        and values["soak_minutes"] == pytest.approx(0.02, rel=1)
    )
    assert set(values.index) >= {f"soak_growth_{name}" for name in soak.FLOORS}
    samples = pd.read_csv(next((tmp_path / "soaks").glob("*.csv")))
    assert set(soak.FLOORS) < set(samples.columns) and len(samples) >= 3

    def broken(*arguments, **knobs):
        made = indexes.build_index(*arguments, **knobs)
        next(made.folder.glob("count.npy")).unlink()
        return made

    monkeypatch.setattr(soak, "build_index", broken)
    fork = get_context("fork")  # it dies at once, without the time of its imports
    monkeypatch.setattr(soak.multiprocessing, "get_context", lambda _: fork)
    assert run(soak.main, soak.parser(), [*flags, "--minutes", "0.05", "--engines", "dummy", "--force"]) == 1
    (failed,) = RecordStore(tmp_path).read().query("status == 'failed'").note
    assert "exit code 1" in failed


def test_an_engine_without_three_samples_fails_with_the_reason(tmp_path, monkeypatch, capsys):
    """When another engine died during warm-up, its growth used to end the command before it was recorded."""
    index, queries = soak.prepared(tmp_path, "dummy", 20, 4, False)
    service, store = soak.Service(index, queries, 3, 0.1), RecordStore(tmp_path)
    arguments = soak.parser().parse_args(["--engines", "dummy"])
    for samples in range(3):
        service.samples = [{"seconds": float(second)} | soak.sample(psutil.Process()) for second in range(samples)]
        assert soak._record(store, arguments, service, 0.5, died=False)
        rows = store.read()
        assert rows.status.tolist() == ["failed"] and f"{samples} samples in 0.5 minutes" in rows.note[0]


def test_other_queries_and_minutes_have_other_records(tmp_path, monkeypatch):
    index, queries = soak.prepared(tmp_path, "dummy", 20, 4, False)
    other, _ = soak.prepared(tmp_path, "dummy", 20, 5, False)
    assert index.id != other.id, "the documents follow from the number of queries"
    service, points = soak.Service(index, queries, 3, 0.1), set()
    for flags in ([], ["--minutes", "5"], ["--queries", "5"]):
        points.add(soak._point(soak.parser().parse_args(flags), service).id)
    assert len(points) == 3


@pytest.mark.parametrize(
    "flags",
    [
        *(["--every", "-1"], ["--minutes", "inf"], ["--minutes", "nan"], ["--items", "-5"], ["--depth", "0"]),
        *(["--queries", "0"], ["--seconds", "0"], ["--warm-up", "-1"]),
    ],
)
def test_numbers_that_cannot_be_are_refused(flags, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run(soak.main, soak.parser(), ["--home", str(tmp_path), f"{flags[0]}={flags[1]}"])
    assert ended.value.code == 2
    assert f"argument {flags[0]}: '{flags[1]}': expected a " in capsys.readouterr().err.splitlines()[-1]


def test_bad_flags_are_refused(tmp_path, capsys):
    assert run(soak.main, soak.parser(), ["--home", str(tmp_path), "--minutes", "0.01"]) == 2
    assert "at least 3 samples" in capsys.readouterr().err
    assert run(soak.main, soak.parser(), ["--home", str(tmp_path), "--engines", "impct"]) == 2
    assert "nearest: impact" in capsys.readouterr().err
