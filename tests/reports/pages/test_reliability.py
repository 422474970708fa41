"""The page of reliability: sums, the newest outcome of a test, failures, missing records."""

import pytest

from bench.store.records import Point, RecordStore
from reports.pages import reliability
from reports.pages.site import PAGES, render
from reports.records.evidence import Evidence
from reports.render.tables import text


@pytest.fixture
def store(tmp_path) -> RecordStore:
    return RecordStore(tmp_path)


def write(store, values, knobs, at=1, **more):
    fields = {name: more.pop(name) for name in ("engine", "seed", "code_id", "images") if name in more}
    point = Point("reliability", knobs=knobs, machine_id="m", command="python -m tests.fuzz --executions 5", **fields)
    store.write(point, values, started=f"2026-01-0{at}T00:00:00+00:00", **{"seconds": 7200.0} | more)


def shown(store) -> tuple[str, dict]:
    """(the page, its tables by name)."""
    evidence = Evidence(store)
    section = reliability.section(evidence)
    page = next(page for page in PAGES if page.name == "reliability")
    html = render(evidence, page, [section], files=[], all_tables=[], places={"downloads": "method.html"})
    return " ".join(html.split()), {table.name: table for table in section.tables}


def cells(table) -> list[list[str]]:
    return [[text(table.cell(row, column), column) for column in table.columns] for row in table.rows]


def test_without_records_the_page_says_how_to_make_them(store):
    html, tables = shown(store)
    assert tables == {}
    for command in reliability.RUN.values():
        assert command in html
    assert html.count("not measured") == 3


def test_inputs_of_all_records_are_added_up_by_target(store):
    for seed, (tried, bad) in enumerate(((1000, 0), (500, 2))):
        write(
            store,
            {"fuzz_executions": tried, "fuzz_mishandled": bad},
            {"target": "csv", "about": "tables"},
            seed=seed,
            seconds=10.0,
        )
    write(store, {"fuzz_executions": 40, "fuzz_mishandled": 0}, {"target": "tar", "about": "shards"}, seconds=0.5)
    html, tables = shown(store)
    assert cells(tables["reliability_inputs"]) == [
        ["tables", "csv", "1,500", "2", "75.0"],
        ["shards", "tar", "40", "0", "80.0"],
    ]
    assert "Broken inputs: 2 of 1,540 mishandled." in html
    assert "Faults were not measured" in html and "Sustained load was not measured" in html
    assert "python -m tests.fuzz --executions 5" in tables["reliability_inputs"].notes[-1]


def test_of_a_fault_that_was_injected_twice_by_one_test_the_newer_counts(store):
    fault = {"fault": "kill -9 in training"}
    write(
        store,
        {"faults_injected": 1, "faults_survived": 0},
        fault | {"test": "a"},
        at=1,
        code_id="old",
        note="call: lost a record",
    )
    write(
        store,
        {"faults_injected": 1, "faults_survived": 1, "fault_bytes_lost": 0},
        fault | {"test": "a"},
        at=2,
        code_id="new",
    )
    write(store, {"faults_injected": 1, "faults_survived": 0}, fault | {"test": "b"}, at=1, note="call: AssertionError")
    write(store, {"faults_injected": 1, "faults_survived": 1}, {"fault": "a full disk", "test": "c"})
    html, tables = shown(store)
    assert cells(tables["reliability_faults"]) == [
        ["a full disk", "1", "1", "not measured", "recovered without loss"],
        ["kill -9 in training", "2", "1", "0 B", "call: AssertionError"],
    ]
    assert "Faults: 2 of 3 survived, 0 B of finished work lost." in html


def test_soaks_show_growth_and_a_process_that_died_says_so(store):
    values = {"soak_minutes": 120.0, "soak_queries": 5e6, "soak_wrong": 0, "soak_min_detectable": 2e6}
    growth = {"private": -1500.0, "memory": 2.5e3, "handles": 0.0, "threads": 0.25}
    values |= {f"soak_growth_{what}": value for what, value in growth.items()}
    write(store, values, {"soak": ["impact"]}, engine="impact", images=1000)
    write(
        store,
        {"soak_minutes": 3.0},
        {"soak": ["usearch"]},
        at=2,
        engine="usearch",
        status="failed",
        note="exit code -11",
        seconds=180.0,
    )
    html, tables = shown(store)
    whole, died = cells(tables["reliability_soaks"])
    assert whole == [
        "impact",
        "1,000",
        "2.00",
        "5,000,000",
        "0",
        "−1.50 kB",
        "2.50 kB",
        "+0",
        "+0.25",
        "2.00 MB",
        "no growth",
    ]
    assert died == ["usearch", "not measured", "0.0500", *["failed"] * 7, "exit code -11"]
    assert "2.00 hours over all engines, 5,000,000 queries answered" in html
