"""Outcomes of tests marked `fault("sentence")` as records: `pytest -m fault --reliability-home HOME`.

A fault counts as injected when the test ran, and as survived when it passed, setup and teardown included; a skipped
test leaves no record. A test may report lost bytes of completed work: `record_property("bytes_lost", 0)`.
"""

import shlex
from pathlib import Path

import pytest

from bench.store.config import code_fingerprint
from bench.store.records import Point, RecordStore

PHASES = pytest.StashKey[dict[str, pytest.TestReport]]()


def pytest_addoption(parser):
    text = "home that records the outcomes of tests marked `fault`"
    parser.addoption("--reliability-home", type=Path, help=text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    phases = item.stash.setdefault(PHASES, {})
    phases[report.when] = report
    home, marker = item.config.getoption("--reliability-home"), item.get_closest_marker("fault")
    if home and marker and report.when == "teardown" and _ran(phases):
        record(RecordStore(home), item.nodeid, marker.args[0], list(phases.values()))
    return report


def _ran(phases: dict[str, pytest.TestReport]) -> bool:
    """Whether the test was run, expected failures included. A skipped test injects no fault."""
    return "call" in phases and (not phases["call"].skipped or hasattr(phases["call"], "wasxfail"))


def record(store: RecordStore, test: str, fault: str, phases: list[pytest.TestReport]) -> None:
    """Writes the outcome of one test."""
    failed = next((report for report in phases if not report.passed), None)
    lost = [value for name, value in phases[-1].user_properties if name == "bytes_lost"]
    values = {"faults_injected": 1, "faults_survived": int(failed is None)}
    values |= {"fault_bytes_lost": sum(lost)} if lost else {}
    note = "" if failed is None else f"{failed.when}: {_why(failed)}"[:300]
    point = Point(
        "reliability",
        knobs={"fault": fault, "test": test},
        code_id=code_fingerprint("bench", "models", "ablations"),  # a fault can reach any of it
        command=shlex.join(["python", "-m", "pytest", "-m", "fault", test]),
    )
    store.write(point, values, note=note, seconds=sum(report.duration for report in phases))


def _why(report: pytest.TestReport) -> str:
    """The error in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join((crash.message if crash else report.longreprtext).split())
