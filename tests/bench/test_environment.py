import os
import subprocess
import sys

from bench import environment


def output(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_machine_says_where_a_number_was_measured():
    here = environment.machine()
    assert set(here) == {"machine_id", "cpu", "cores", "memory_gb", "gpu", "versions", "git_commit"}
    assert len(here["machine_id"]) == 16
    assert 1 <= here["cores"] <= os.cpu_count()
    assert here["memory_gb"] > 0
    assert here["versions"]["numpy"].count(".") == 2


def test_fewer_cores_are_another_machine():
    script = (
        "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); import bench.environment as e; print(e.machine()['cores'])"
    )
    assert output(script) == "1"


def test_reading_records_needs_no_torch():
    script = "import sys, bench.records; bench.environment.machine(); print([m for m in ('torch', 'faiss', 'numba') if m in sys.modules])"
    assert output(script) == "[]"


def test_a_loaded_machine_is_noted(monkeypatch):
    monkeypatch.setattr(environment, "cores", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.0, 0.0, 0.0))
    assert environment.load_note() == ""
    monkeypatch.setattr(os, "getloadavg", lambda: (2.1, 0.0, 0.0))
    assert "load average 2.1 on 2 cores" in environment.load_note()
