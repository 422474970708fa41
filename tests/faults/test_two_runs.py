"""Two runs in one home at once: the second names the first and ends, or waits."""

import socket

import pytest

from tests.faults import commands


@pytest.mark.fault("two runs on one home at once")
def test_the_second_is_refused(trained, with_data, keeps):
    first = commands.start(commands.training(with_data))
    commands.wait_until(lambda: list(with_data.glob("runs/*")), first)
    with commands.pause(first):
        keeps(with_data)
        line = commands.refused(["ablations.train", "--profile", commands.TINY, "--home", with_data], str(with_data))
    assert f"in use by process {first.pid} on {socket.gethostname()} since 2" in line
    assert "(python -m ablations.train --profile" in line and "start with --wait" in line
    _, errors = first.communicate(timeout=commands.PATIENCE)
    assert first.returncode == 0, errors
    commands.assert_same(with_data, trained)


@pytest.mark.fault("two runs on one home at once, the second waits")
def test_the_second_waits(trained, with_data, keeps):
    first = commands.start(commands.training(with_data))
    commands.wait_until(lambda: list(with_data.glob("runs/*")), first)
    with commands.pause(first):
        keeps(with_data)
        second = commands.start(commands.training(with_data, "--wait"))
        commands.wait_for_message(second, f"in use by process {first.pid}")
    _, errors = second.communicate(timeout=commands.PATIENCE)
    assert (first.wait(), second.returncode) == (0, 0), errors
    first.communicate()
    commands.assert_same(with_data, trained)


@pytest.mark.fault("a run is killed while it holds the home, and another waits for it")
def test_the_lock_of_a_killed_run_is_released(swept, vectors, tmp_path, keeps):
    home = tmp_path / "home"
    first = commands.start(commands.sweep(home, vectors))
    commands.wait_until(lambda: commands.jobs(first), first)
    with commands.pause(first):
        second = commands.start(commands.sweep(home, vectors, "--wait"))
        commands.wait_for_message(second, f"in use by process {first.pid}")
        keeps(home)
    commands.kill(first)
    _, errors = second.communicate(timeout=commands.PATIENCE)
    assert second.returncode == 0, errors
    commands.assert_same(home, swept.home)
