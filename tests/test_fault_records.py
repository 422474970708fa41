"""Outcomes of tests marked `fault` become records when pytest is given a home."""

import json

from bench.store.records import RecordStore

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.fixture
def breaks():
    yield
    raise RuntimeError("left a process behind")

@pytest.mark.fault("survived")
def test_survived(record_property):
    record_property("bytes_lost", 3)
    record_property("bytes_lost", 4)

@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.fault("not survived"))])
def test_not_survived(n):
    assert n == 2, "a lost record"

@pytest.mark.fault("fails after it")
def test_teardown(breaks):
    pass

@pytest.mark.fault("known to fail")
@pytest.mark.xfail(reason="not fixed yet")
def test_known():
    assert False

@pytest.mark.fault("not injected")
def test_skipped():
    pytest.skip("no such disk here")

@pytest.mark.fault("not injected either")
@pytest.mark.skipif(True, reason="no such machine")
def test_never():
    pass

def test_without_a_fault():
    pass
"""


def test_faults_become_records_with_a_home(pytester, tmp_path):
    pytester.makepyfile(test_it=TESTS)
    pytester.makeini("[pytest]\nmarkers = fault(sentence): x")
    plugins = ["-p", "tests.reliability", "-p", "no:xdist", "-q"]
    pytester.runpytest_inprocess(*plugins)
    assert list(tmp_path.glob("home/**/*.parquet")) == []

    pytester.runpytest_inprocess(*plugins, "--reliability-home", str(tmp_path / "home")).assert_outcomes(
        passed=3, failed=1, errors=1, skipped=2, xfailed=1
    )
    rows = RecordStore(tmp_path / "home").read()
    assert set(rows.task) == {"reliability"} and (rows.seconds >= 0).all()
    rows["fault"] = rows.knobs.map(lambda knobs: json.loads(knobs)["fault"])
    values = rows.pivot(index="fault", columns="metric", values="value")
    assert values.faults_injected.to_dict() == dict.fromkeys(
        ("survived", "not survived", "fails after it", "known to fail"), 1
    )
    assert values.faults_survived.to_dict() == {
        "survived": 1,
        "not survived": 0,
        "fails after it": 0,
        "known to fail": 0,
    }
    assert values.fault_bytes_lost.dropna().to_dict() == {"survived": 7}
    notes = rows.drop_duplicates("fault").set_index("fault").note
    assert (
        notes["survived"] == ""
        and "AssertionError" in notes["not survived"]
        and "left a process behind" in notes["fails after it"]
    )
    assert "test_it.py::test_not_survived[1]" in rows.command[rows.fault == "not survived"].iloc[0]
