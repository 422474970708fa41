"""Jobs in processes of their own: every way that one can end."""

import os
import shutil
import subprocess
import sys

import pytest

from bench.store import isolated
from bench.store.isolated import Limits, Outcome, run_job
from models.errors import InputError

MARK = f"# of test process {os.getpid()}"
EAT = f"import time; x = []\nwhile True: x.append(bytearray(10**7)); time.sleep(0.01) {MARK}"
BODIES = {
    "ok": "write('ok', '', {'value': 7})",
    "absent": "write('absent', 'the package is not installed', {})",
    "meets_a_broken_file": "write('refused', 'x.npy: truncated', {})",
    "hangs": "import time; time.sleep(60)",
    "eats": EAT,
    "fails": "raise RuntimeError('a broken wheel')",
    "is_killed": "import os; os.kill(os.getpid(), 9)",
    "starts_another_that_eats": f"import subprocess; subprocess.run([sys.executable, '-c', {EAT!r}])",
}
START = """import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[-1])
def write(status, note, result):
    (folder / 'result.json').write_text(json.dumps(dict(status=status, note=note, result=result)))
"""


@pytest.fixture
def job(monkeypatch, tmp_path):
    """Runs a body in place of the worker module, with the worker's arguments."""
    popen = isolated.psutil.Popen

    def run(name, limits=None):
        def instead(command, **kwargs):
            assert command[:3] == [sys.executable, "-m", "a.worker"]
            return popen([sys.executable, "-c", START + BODIES[name], *command[3:]], **kwargs)

        monkeypatch.setattr(isolated.psutil, "Popen", instead)
        return run_job("job", {"asked": 1}, tmp_path / "job", limits or Limits(30), worker="a.worker")

    return run


def test_a_result_comes_back(job):
    assert job("ok") == Outcome("ok", {"value": 7}, "")
    assert job("absent") == Outcome("absent", {}, "the package is not installed")


def test_a_hanging_job_is_stopped(job):
    assert job("hangs", Limits(0.5)) == Outcome("timeout", {}, "not done after 0.5 s")


@pytest.mark.parametrize("name", ["eats", "starts_another_that_eats"])
def test_a_job_over_its_memory_limit_is_stopped_with_its_children(job, name):
    outcome = job(name, Limits(30, 200 * 2**20))
    assert outcome.status == "out_of_memory" and "over the limit of 0.2 GiB" in outcome.note
    assert not subprocess.run(["pgrep", "-f", MARK], capture_output=True, check=False).stdout


def test_a_job_that_the_system_kills_ran_out_of_memory(job):
    assert job("is_killed").status == "out_of_memory"


def test_a_defect_is_its_last_line(job):
    assert job("fails") == Outcome("failed", {}, "exit code 1: RuntimeError: a broken wheel")


def test_a_broken_file_ends_the_command(job):
    with pytest.raises(InputError, match=r"^x\.npy: truncated$"):
        job("meets_a_broken_file")


@pytest.mark.parametrize("name", ["fails", "is_killed"])
def test_a_job_that_ends_badly_on_a_full_disk_ends_the_command(job, monkeypatch, name):
    full = shutil.disk_usage("/")._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(OSError, match="No space left on device"):
        job(name)


def test_a_result_of_an_earlier_run_is_not_reused(job):
    assert job("ok").status == "ok"
    assert job("fails").status == "failed"


def test_a_result_that_is_needed_is_raised_when_it_is_not_ok():
    assert isolated.result_of(Outcome("ok", {"value": 7}), "it") == {"value": 7}
    with pytest.raises(InputError, match="exact search: timeout: not done"):
        isolated.result_of(Outcome("timeout", {}, "not done"), "exact search")
