"""An engine that hangs or takes too much memory: recorded as such, and the other engines continue."""

import signal

import pytest

from models.files import read_json
from tests.faults import commands


def of_dummy(process):
    """The running job that builds the index of the engine `dummy`."""
    return next(
        (
            found
            for found in commands.jobs(process, "build")
            if read_json(commands.request_of(found))["engine"] == "dummy"
        ),
        None,
    )


def assert_only_dummy_ended(home, swept, status: str, note: str) -> None:
    """Every point of an undisturbed sweep exists; those of `dummy` have a status and a note, the others are equal."""
    rows, whole = commands.RecordStore(home).read(), commands.RecordStore(swept.home).read()
    ended = rows[rows.engine == "dummy"]
    assert set(rows.point_id) == set(whole.point_id)
    assert set(ended.status) == {status} and ended.note.str.contains(note).all()
    of_dummy = set(ended.point_id)
    others, same = (
        commands.records(place)[lambda found: ~found.point_id.isin(of_dummy)] for place in (home, swept.home)
    )
    commands.pd.testing.assert_frame_equal(others.reset_index(drop=True), same.reset_index(drop=True), check_exact=True)
    assert set(others.status) == {"ok"}


@pytest.mark.fault("an engine hangs")
def test_a_hanging_engine(swept, vectors, tmp_path):
    """The time limit of a job is the time of the whole undisturbed sweep."""
    process = commands.start(commands.sweep(tmp_path / "home", vectors, "--time-limit", f"{swept.seconds:.1f}"))
    commands.wait_until(lambda: of_dummy(process), process).send_signal(signal.SIGSTOP)
    _, errors = process.communicate(timeout=commands.PATIENCE)
    assert process.returncode == 0, errors
    assert_only_dummy_ended(tmp_path / "home", swept, "timeout", "not done after")


@pytest.mark.fault("an engine takes more memory than it may")
def test_a_greedy_engine(swept, vectors, tmp_path):
    commands.succeed(commands.sweep(tmp_path / "home", vectors, "--memory-limit", "1.5"), **commands.injected("memory"))
    assert_only_dummy_ended(tmp_path / "home", swept, "out_of_memory", r"over the limit of 1\.5 GiB")


@pytest.mark.fault("the system kills an engine for want of memory")
def test_an_engine_that_the_system_kills(swept, vectors, tmp_path):
    process = commands.start(commands.sweep(tmp_path / "home", vectors))
    commands.wait_until(lambda: of_dummy(process), process).kill()
    _, errors = process.communicate(timeout=commands.PATIENCE)
    assert process.returncode == 0, errors
    assert_only_dummy_ended(tmp_path / "home", swept, "out_of_memory", "killed by the system")
