import os
import subprocess
import sys
import time

from bench.store import machine as environment


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
    script = "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); import bench.store.machine as e; print(e.machine()['cores'])"
    assert output(script) == "1"


def test_reading_records_needs_no_torch():
    script = "import sys, bench.store.records; bench.store.machine.machine(); print([m for m in ('torch', 'faiss', 'numba') if m in sys.modules])"
    assert output(script) == "[]"


def test_work_of_other_processes_is_told_from_our_own():
    busy = "import time; end = time.time() + {}\nwhile time.time() < end: pass"
    with environment.OtherWork() as ours:
        exec(busy.format(0.3))
    other = subprocess.Popen([sys.executable, "-c", busy.format(30)])
    try:
        time.sleep(0.3)
        with environment.OtherWork() as theirs:
            time.sleep(0.5)
    finally:
        other.kill()
        other.wait()
    assert theirs.cores > 0.3
    assert ours.cores < environment.cores()  # our own 0.3 s of work are not among it


def test_work_of_a_child_is_our_own_where_an_engine_is_one():
    """PISA answers in a process of its own: its timings were said to be taken on a loaded machine."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; end = time.time() + 30\nwhile time.time() < end: pass"]
    )
    try:
        time.sleep(0.3)
        with environment.OtherWork() as alone, environment.OtherWork(family=True) as together:
            time.sleep(0.5)
    finally:
        child.kill()
        child.wait()
    assert together.own > 0.15 > alone.own
    assert alone.cores - together.cores > 0.3


def test_a_loaded_machine_is_noted(monkeypatch):
    monkeypatch.setattr(environment, "cores", lambda: 2)
    with environment.OtherWork() as other:
        pass
    other.cores = 0.2
    assert other.note() == ""
    other.cores = 0.3
    assert other.note() == "loaded machine: other work kept 0.3 of 2 cores busy"
