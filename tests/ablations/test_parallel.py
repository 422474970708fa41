"""Parallel training: order of outcomes, failures, threads; no process outlives its command."""

import contextlib
import multiprocessing
import os
import signal
import time

import psutil
import pytest

from ablations import parallel
from ablations.parallel import train_all
from models.errors import InputError
from tests.ablations import slots
from tests.ablations.slots import job

VARIANTS = ["refused", "one", "killed", "finished", "two", "three"]


@pytest.fixture(scope="module")
def outcomes():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(parallel, "cores", lambda: 6)
        found = list(train_all([job(variant) for variant in VARIANTS], 2, slots.train, slots.finished))
    return dict(zip(VARIANTS, found, strict=True))


def test_outcomes_are_in_the_order_of_the_jobs(outcomes):
    for variant in ("one", "finished", "two", "three"):
        assert outcomes[variant][0] == variant


def test_a_failure_is_an_outcome(outcomes):
    assert isinstance(outcomes["refused"], InputError)
    assert str(outcomes["refused"]) == "the loss is not finite"


def test_a_killed_training_fails_alone(outcomes):
    assert str(outcomes["killed"]) == "its process was killed, probably because memory ran out"


def test_each_process_gets_its_share_of_the_cores_and_trains_several_jobs(outcomes):
    processes = {outcomes[variant][1] for variant in ("one", "two", "three")}
    assert os.getpid() not in processes
    assert len(processes) <= 3  # two, and one in place of the killed one
    assert {outcomes[variant][2] for variant in ("one", "two", "three")} == {3}


def test_a_finished_job_takes_no_process(outcomes):
    assert outcomes["finished"][1] == os.getpid()


def test_without_parallelism_a_job_is_trained_when_its_outcome_is_needed():
    seen = []

    def train(*given):
        seen.append(given[2])
        return given[2]

    found = train_all([job("a"), job("b")], 1, train, slots.finished)
    assert (next(found), seen) == ("a", ["a"])
    assert (next(found), seen) == ("b", ["a", "b"])


@pytest.mark.nightly
def test_a_full_disk_ends_all_trainings(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        list(train_all([job("full"), job("endless", tmp_path)], 2, slots.train, slots.finished))
    assert not multiprocessing.active_children()


def alive(children: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(children, timeout=60)[1]


@pytest.fixture
def endless(start, tmp_path):
    """A command with two trainings that never end, in a process group of its own: the command, its children."""
    process = start("-m", "tests.ablations.slots", "--home", tmp_path / "home", start_new_session=True)
    end = time.monotonic() + 120
    while len([file for file in tmp_path.glob("home/*.pid") if file.read_text()]) < 2:
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    yield process, children
    process.kill()
    for left in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()


@pytest.mark.parametrize("target", ["command", "group"])
def test_ctrl_c_ends_the_command_with_one_line_and_no_process_is_left(endless, target):
    process, children = endless
    assert len(children) >= 2
    os.kill(process.pid, signal.SIGINT) if target == "command" else os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.endswith(": interrupted; run the same command again to resume\n") and err.count("\n") == 1
    assert not alive(children)


@pytest.mark.nightly
def test_no_training_outlives_a_killed_command(endless):
    """After `kill -9` the same command may start again: nothing else may be writing to its runs."""
    process, children = endless
    process.kill()
    process.wait()
    assert not alive(children)


@pytest.mark.parametrize(("available", "number"), [(100 * 2**30, 3), (9 * 2**30, 2), (2**30, 1)])
def test_the_default_follows_cores_and_memory(monkeypatch, available, number):
    monkeypatch.setattr(parallel, "cores", lambda: 8)
    monkeypatch.setattr(parallel, "has_gpu", lambda: False)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: type("Memory", (), {"available": available}))
    assert parallel.default_parallel(3) == number


def test_the_default_is_one_on_a_gpu(monkeypatch):
    monkeypatch.setattr(parallel, "has_gpu", lambda: True)
    assert parallel.default_parallel(5) == 1
