"""Two runs on one home at once: the second says who holds it, or waits."""

import socket

import pytest

from tests.faults import road


@pytest.mark.fault("two runs on one home at once")
def test_the_second_is_refused(trained, with_data, keeps):
    first = road.start(road.training(with_data))
    road.wait_until(lambda: list(with_data.glob("runs/*")), first)
    with road.pause(first):
        keeps(with_data)
        line = road.refused(["ablations.train", "--profile", road.TINY, "--home", with_data], str(with_data))
    assert f"in use by process {first.pid} on {socket.gethostname()} since 2" in line
    assert "(python -m ablations.train --profile" in line and "start with --wait" in line
    _, errors = first.communicate(timeout=road.PATIENCE)
    assert first.returncode == 0, errors
    road.assert_same(with_data, trained)


@pytest.mark.fault("two runs on one home at once, the second waits")
def test_the_second_waits(trained, with_data, keeps):
    first = road.start(road.training(with_data))
    road.wait_until(lambda: list(with_data.glob("runs/*")), first)
    with road.pause(first):
        keeps(with_data)
        second = road.start(road.training(with_data, "--wait"))
        road.until_it_says(second, f"in use by process {first.pid}")
    _, errors = second.communicate(timeout=road.PATIENCE)
    assert (first.wait(), second.returncode) == (0, 0), errors
    first.communicate()
    road.assert_same(with_data, trained)


@pytest.mark.fault("a run is killed while it holds the home, and another waits for it")
def test_a_killed_run_holds_nobody_up(swept, vectors, tmp_path, keeps):
    home = tmp_path / "home"
    first = road.start(road.sweep(home, vectors))
    road.wait_until(lambda: road.jobs(first), first)
    with road.pause(first):
        second = road.start(road.sweep(home, vectors, "--wait"))
        road.until_it_says(second, f"in use by process {first.pid}")
        keeps(home)
    road.kill(first)
    _, errors = second.communicate(timeout=road.PATIENCE)
    assert second.returncode == 0, errors
    road.assert_same(home, swept.home)
