"""A full or read-only disk: one line names it, no engine is blamed, and with free space the same command resumes."""

import contextlib

import pytest

from bench.store.records import RecordStore
from tests.faults import commands


def fill(home) -> None:
    """Uses all free space of the disk of a home."""
    with (home.parent / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(65536)):
            pass


def make_room(home) -> None:
    (home.parent / "filler").unlink()


@pytest.mark.parametrize(
    "made",
    [
        pytest.param("data/.*/images.npy", marks=pytest.mark.fault("the disk fills while training data is made")),
        pytest.param("runs/*/state-*", marks=pytest.mark.fault("the disk fills in training")),
    ],
)
def test_a_full_disk_in_training(made, small_disk, trained, keeps):
    home = small_disk / "home"
    process = commands.start(commands.training(home))
    commands.wait_until(lambda: list(home.glob(made)), process)
    fill(home)
    _, errors = process.communicate()
    assert process.returncode == 2 and "No space left on device" in errors.splitlines()[-1], errors
    keeps(home)
    make_room(home)
    commands.succeed(commands.training(home))
    commands.assert_same(home, trained)


@pytest.mark.parametrize(
    "job",
    [
        pytest.param("build", marks=pytest.mark.fault("the disk fills while an index is built")),
        pytest.param("timing", marks=pytest.mark.fault("the disk fills while an index is timed")),
    ],
)
def test_a_full_disk_in_a_sweep(job, small_disk, swept, vectors, keeps):
    home = small_disk / "home"
    process = commands.start(commands.sweep(home, vectors))
    commands.wait_until(lambda: commands.jobs(process, job), process)
    fill(home)
    _, errors = process.communicate()
    assert process.returncode == 2 and "No space left on device" in errors.splitlines()[-1], errors
    keeps(home)
    make_room(home)
    assert set(RecordStore(home).read().status) <= {"ok"}, "a full disk is not a failure of an engine"
    commands.succeed(commands.sweep(home, vectors))
    commands.assert_same(home, swept.home)


@pytest.mark.fault("the home can only be read")
def test_a_read_only_home(swept, vectors, read_only, tmp_path):
    home = read_only(swept.home)
    commands.refused(commands.sweep(home, vectors), str(home), "cannot be written (Read-only file system)")
    commands.refused(commands.training(home / "new"), str(home / "new"), "cannot be written (Read-only file system)")
    commands.succeed(["bench", "records", "list", "--home", home])
    commands.succeed(["reports.build", "--home", home, "--out", tmp_path / "site"])
    assert (tmp_path / "site" / "index.html").exists()
