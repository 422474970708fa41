"""The table of reliability: sums, the newest outcome of a test, missing records."""

import pytest

from bench.store.records import Point, RecordStore
from reports.pages import method
from reports.records.evidence import Evidence


@pytest.fixture
def store(tmp_path) -> RecordStore:
    return RecordStore(tmp_path)


def write(store, values, knobs, at=1, **more):
    fields = {name: more.pop(name) for name in ("engine", "seed", "code_id", "images") if name in more}
    point = Point("reliability", knobs=knobs, machine_id="m", command="python -m tests.fuzz --executions 5", **fields)
    store.write(point, values, started=f"2026-01-0{at}T00:00:00+00:00", **{"seconds": 7200.0} | more)


def rows_of(store) -> dict[str, list[str]]:
    return {row[0]: row[1:4] for row in method.reliability(Evidence(store)).texts()}


def test_without_records_each_part_says_how_to_make_them(store):
    table = method.reliability(Evidence(store))
    assert {row["tried"].missing for row in table.rows} == {"not measured"}
    assert {row["command"].value for row in table.rows} == set(method.RUN.values())


def test_inputs_of_all_records_are_added_up(store):
    for seed, (tried, bad) in enumerate(((1000, 0), (500, 2))):
        write(
            store, {"fuzz_executions": tried, "fuzz_mishandled": bad}, {"target": "csv", "about": "tables"}, seed=seed
        )
    write(store, {"fuzz_executions": 40, "fuzz_mishandled": 0}, {"target": "tar", "about": "shards"})
    assert rows_of(store)["Broken inputs"] == ["1,540", "2", "mishandled"]
    assert rows_of(store)["Injected faults"][0] == "not measured"


def test_of_a_fault_that_was_injected_twice_by_one_test_the_newer_counts(store):
    fault = {"fault": "kill -9 in training"}
    write(store, {"faults_injected": 1, "faults_survived": 0}, fault | {"test": "a"}, at=1, code_id="old")
    lost = {"faults_injected": 1, "faults_survived": 1, "fault_bytes_lost": 0}
    write(store, lost, fault | {"test": "a"}, at=2, code_id="new")
    write(store, {"faults_injected": 1, "faults_survived": 0}, fault | {"test": "b"}, at=1)
    write(store, {"faults_injected": 1, "faults_survived": 1}, {"fault": "a full disk", "test": "c"})
    found = rows_of(store)
    assert found["Injected faults"] == ["3", "1", "not survived"]
    assert found["Finished work lost to faults"][0] == "0 B"


def test_soaks_are_added_up_and_the_largest_growth_stands(store):
    for engine, growth in (("impact", -1500.0), ("usearch", 2500.0)):
        values = {"soak_minutes": 60.0, "soak_queries": 5e6, "soak_wrong": 0, "soak_growth_private": growth}
        write(store, values, {"soak": [engine]}, engine=engine, images=1000)
    found = rows_of(store)
    assert found["Queries under sustained load"] == ["10,000,000", "0", "changed answers"]
    assert found["Minutes of sustained load"][0] == "120"
    assert found["Largest growth of memory in an hour"] == ["2.50 kB", "–", "usearch"]
