"""Trainings beside each other: order, failures, threads, and that none outlives its command."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ablations import parallel as side_by_side
from ablations.parallel import Job, trained
from models.errors import InputError
from tests.ablations import slots

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ["refused", "one", "killed", "finished", "two", "three"]


def job(variant: str, home: Path = Path("nowhere"), seed: int = 0) -> Job:
    return Job(home, "tiny", variant, seed, {}, "command", False)


@pytest.fixture(scope="module")
def outcomes():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(side_by_side, "cores", lambda: 6)
        found = list(trained([job(variant) for variant in VARIANTS], 2, slots.train, slots.finished))
    return dict(zip(VARIANTS, found, strict=True))


def test_each_outcome_stands_at_its_job(outcomes):
    assert [outcomes[variant][0] for variant in ("one", "finished", "two", "three")] == [
        "one",
        "finished",
        "two",
        "three",
    ]


def test_a_failure_is_an_outcome(outcomes):
    assert isinstance(outcomes["refused"], InputError)
    assert str(outcomes["refused"]) == "the loss is not finite"


def test_one_that_is_killed_fails_alone(outcomes):
    assert str(outcomes["killed"]) == "its process was killed, as it is when memory runs out"


def test_each_gets_its_share_of_the_cores_in_a_process_that_takes_one_after_the_other(outcomes):
    processes = {outcomes[variant][1] for variant in ("one", "two", "three")}
    assert os.getpid() not in processes
    assert len(processes) <= 3  # two, and one in place of the killed one
    assert {outcomes[variant][2] for variant in ("one", "two", "three")} == {3}


def test_what_is_finished_takes_no_process(outcomes):
    assert outcomes["finished"][1] == os.getpid()


def test_one_at_a_time_is_trained_when_it_is_asked_for():
    seen = []

    def train(*given):
        seen.append(given[2])
        return given[2]

    found = trained([job("a"), job("b")], 1, train, slots.finished)
    assert (next(found), seen) == ("a", ["a"])
    assert (next(found), seen) == ("b", ["a", "b"])


def test_a_full_disk_ends_the_others_at_once(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        list(trained([job("full"), job("endless", tmp_path)], 2, slots.train, slots.finished))


def test_none_outlives_its_command(tmp_path):
    """After `kill -9` the same command starts again: no one else may be writing to its runs."""
    code = (
        "import sys; from pathlib import Path; from ablations.parallel import Job, trained; from tests.ablations import slots\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job(Path(sys.argv[1]), 'tiny', 'endless', seed, {}, '', False) for seed in (0, 1)]\n"
        "    list(trained(jobs, 2, slots.train, slots.finished))\n"
    )
    script = tmp_path / "command.py"
    script.write_text(code)
    command = subprocess.Popen([sys.executable, script, tmp_path], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: len([file for file in tmp_path.glob("*.pid") if file.read_text()]) == 2)
    finally:
        command.kill()
        command.wait()
    children = [int(file.read_text()) for file in tmp_path.glob("*.pid")]
    wait_until(
        lambda: (
            not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in children)
        )
    )


def wait_until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(("available", "number"), [(100 * 2**30, 3), (9 * 2**30, 2), (2**30, 1)])
def test_as_many_as_there_are_cores_and_memory(monkeypatch, available, number):
    monkeypatch.setattr(side_by_side, "cores", lambda: 8)
    monkeypatch.setattr(side_by_side.psutil, "virtual_memory", lambda: type("Memory", (), {"available": available}))
    assert side_by_side.at_once(3) == number


def test_a_gpu_trains_one_at_a_time(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert side_by_side.at_once(5) == 1
