"""CPU seconds of `--help` of every command, against `import numpy, pandas`: `pytest tests/bench_startup.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("pytest_benchmark")


def children_cpu_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("command", ["numpy, pandas", *COMMANDS])
@pytest.mark.benchmark(
    timer=children_cpu_seconds, group="CPU seconds to start", min_rounds=3, max_time=0.1, warmup=True
)
def test_start(benchmark, command):
    flags = ["-m", "bench", command, "--help"] if command in COMMANDS else ["-c", f"import {command}"]
    benchmark.pedantic(
        subprocess.run,
        args=([sys.executable, *flags],),
        kwargs={"check": True, "cwd": ROOT, "stdout": subprocess.DEVNULL},
        rounds=3,
        warmup_rounds=1,
    )
