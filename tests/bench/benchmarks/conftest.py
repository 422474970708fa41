"""Benchmarks of parts of training, whose results become records.

    pytest tests/bench/benchmarks/bench_lexicon_head.py --benchmark-only --record-home runs
    pytest tests/bench/benchmarks/bench_key_queue.py --benchmark-only --record-home runs --shape active=0.05

Each test is one backend. A backend that cannot run here is recorded as absent with the reason; one that is recorded
already is skipped. Without --record-home, results are only shown.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import pytest

from bench.store import cli, config
from bench.store.machine import cores
from bench.store.records import Point, RecordStore


def pytest_addoption(parser):
    group = parser.getgroup("records")
    group.addoption("--record-home", default=None, help="home to write records to")
    group.addoption("--shape", action="append", default=[], metavar="KEY=VALUE", help="of the workload, repeatable")
    group.addoption("--threads", type=int, default=cores(), help="CPU threads")
    group.addoption("--repeats", type=int, default=3, help="timed passes")


class Workload(NamedTuple):
    """What a benchmark runs, and `write(values, status, note)` for its record."""

    shape: object
    threads: int
    repeats: int
    write: Callable[..., None]


@pytest.fixture
def workload(pytestconfig):
    """A function of (task, backend, shape class, code modules) to `Workload`; skips one that is recorded."""

    def start(task: str, backend: str, kind: type, code: tuple[str, ...]) -> Workload:
        tree = {}
        for override in pytestconfig.getoption("--shape"):
            tree = config.merge(tree, config.parse_override(override))
        shape, home = config.build(kind, tree, "--shape"), pytestconfig.getoption("--record-home")
        threads, knobs = pytestconfig.getoption("--threads"), config.as_tree(shape)
        size = knobs[dataclasses.fields(kind)[0].name]
        code_id, command = config.code_fingerprint(*code), cli.command_line()
        point = Point(task, images=size, engine=backend, knobs=knobs, threads=threads, code_id=code_id, command=command)
        store = None if home is None else RecordStore(home)
        if store and store.has(point):
            pytest.skip(f"recorded: {point.id}")

        def write(values: dict, status: str = "ok", note: str = "") -> None:
            if store:
                store.write(point, values, status=status, note=note)

        return Workload(shape, threads, pytestconfig.getoption("--repeats"), write)

    return start
