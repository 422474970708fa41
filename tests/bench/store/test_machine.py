"""The machine of a record, and the load of other processes."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from bench.store import machine as machines


def output(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_machine_describes_this_machine():
    here = machines.machine()
    assert set(here) == {"machine_id", "cpu", "cores", "memory_gb", "gpu", "versions", "git_commit"}
    assert len(here["machine_id"]) == 16
    assert 1 <= here["cores"] <= os.cpu_count()
    assert here["memory_gb"] > 0
    assert here["versions"]["numpy"].count(".") == 2


def test_fewer_cores_are_another_machine():
    script = "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
    script += "from bench.store.machine import machine; print(machine()['cores'])"
    assert output(script) == "1"


INTEL = "processor\t: {}\nmodel name\t: Some CPU\nmodel\t\t: 17\nflags\t\t: fpu {}\n\n"
ARM = "processor\t: {}\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd {}\n\n"


@pytest.mark.parametrize(
    ("form", "flags", "ending"),
    [
        (INTEL, "sse2 avx avx2", "Some CPU (AVX2)"),
        (INTEL, "avx2 avx512f", "Some CPU (AVX-512)"),
        (INTEL, "avx2 avx512f avx512_bf16", "Some CPU (AVX-512 with bfloat16)"),
        (INTEL, "avx2x", "Some CPU"),
        (ARM, "crc32", " (NEON)"),
        (ARM, "sve", " (SVE)"),
    ],
)
def test_processors_of_one_name_differ_by_their_vector_instructions(form, flags, ending, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(form.format(0, flags) + form.format(1, "other"))
    monkeypatch.setattr(machines, "CPUINFO", tmp_path / "cpuinfo")
    machines.machine.cache_clear()
    here = machines.machine()
    monkeypatch.undo()
    machines.machine.cache_clear()
    assert here["cpu"].endswith(ending)
    assert (here["machine_id"] == machines.machine()["machine_id"]) == (here["cpu"] == machines.machine()["cpu"])


def test_reading_records_needs_no_torch():
    script = "import sys, bench.store.records; bench.store.machine.machine()\n"
    script += "print([m for m in ('torch', 'faiss', 'numba') if m in sys.modules])"
    assert output(script) == "[]"


BUSY = "import time; end = time.time() + {}\nwhile time.time() < end: pass"


@pytest.fixture
def work():
    """A function that waits until a busy child process has used 0.4 s more of CPU time."""
    child = subprocess.Popen([sys.executable, "-c", BUSY.format(60)])

    def used() -> float:
        times = psutil.Process(child.pid).cpu_times()
        return times.user + times.system

    def wait():
        enough = used() + 0.4
        while used() < enough:
            time.sleep(0.05)

    yield wait
    child.kill()
    child.wait()


def test_work_of_other_processes_is_separated_from_our_own(work):
    with machines.OtherWork() as theirs:
        work()
    assert theirs.cores * theirs.wall > 0.3
    with machines.OtherWork() as ours:
        exec(BUSY.format(0.3))
    assert ours.own > 0 and ours.cores <= machines.cores() - 0.5 * ours.own / ours.wall


def test_work_of_a_child_counts_as_our_own_with_family(work):
    """PISA searches in a child process: its timings used to be flagged as taken on a loaded machine."""
    with machines.OtherWork() as alone, machines.OtherWork(family=True) as together:
        work()
    assert together.own > 0.3 > alone.own
    assert (alone.cores - together.cores) * alone.wall > 0.2


def test_a_loaded_machine_is_noted(monkeypatch):
    monkeypatch.setattr(machines, "cores", lambda: 2)
    with machines.OtherWork() as other:
        pass
    other.cores = 0.2
    assert other.note() == ""
    other.cores = 0.3
    assert other.note() == "loaded machine: other work kept 0.3 of 2 cores busy"


def topology(folder, cores: dict[int, tuple[int, int]]):
    """A folder as the kernel shows one: logical core -> (package, physical core)."""
    for number, values in cores.items():
        about = folder / f"cpu{number}" / "topology"
        about.mkdir(parents=True)
        for name, value in zip(("physical_package_id", "core_id"), values, strict=True):
            (about / name).write_text(f"{value}\n")
    return folder


def test_physical_cores_come_before_their_siblings(tmp_path):
    """Neighbours 0 and 1 share a core, and so do 2 and 3; cores of two packages have the same number."""
    shown = topology(tmp_path, {0: (0, 0), 1: (0, 0), 2: (0, 1), 3: (0, 1), 4: (1, 0)})
    assert machines.by_physical_core([3, 2, 1, 0, 4], shown) == [0, 2, 4, 1, 3]
    assert machines.threads_note(2, range(4), shown) == "2 threads on 2 physical cores"
    assert machines.threads_note(4, range(4), shown) == "4 threads on 2 physical cores"
    assert machines.threads_note(2, [0, 1], shown) == "2 threads on 1 physical core"
    assert machines.threads_note(1, range(4), shown) == ""


def test_a_machine_that_does_not_tell_keeps_the_order(tmp_path):
    assert machines.by_physical_core([2, 0, 1], tmp_path) == [0, 1, 2]
    assert machines.threads_note(2, [0, 1], tmp_path) == ""
