"""Undisturbed runs, shared by all faults; homes with a part of a run; disks that fill up or are read-only."""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.files import sha256
from tests.faults import commands


@pytest.fixture(scope="session")
def vectors(tmp_path_factory) -> Path:
    return commands.make_vectors(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The home of an undisturbed training; copy it before writing to it."""
    home = tmp_path_factory.mktemp("trained") / "home"
    commands.succeed(commands.training(home))
    return home


@pytest.fixture(scope="session")
def checkpoint(trained) -> Path:
    (found,) = trained.glob("runs/*/best")
    return found


@pytest.fixture(scope="session")
def measured(tmp_path_factory, checkpoint) -> Path:
    """The home of an undisturbed measurement of that checkpoint."""
    home = tmp_path_factory.mktemp("measured") / "home"
    commands.succeed(commands.measuring(home, checkpoint))
    return home


@pytest.fixture(scope="session")
def swept(tmp_path_factory, vectors) -> SimpleNamespace:
    """An undisturbed sweep: its home, and the seconds it took."""
    home, began = tmp_path_factory.mktemp("swept") / "home", time.monotonic()
    commands.succeed(commands.sweep(home, vectors))
    return SimpleNamespace(home=home, seconds=time.monotonic() - began)


@pytest.fixture
def with_data(trained, tmp_path) -> Path:
    """A home with training data and no checkpoint."""
    shutil.copytree(trained / "data", tmp_path / "home" / "data")
    return tmp_path / "home"


@pytest.fixture
def keeps(record_property):
    """A function of a home, called after its fault: files complete by then must exist unchanged at the end of the test.

    The number of lost bytes becomes part of the record.
    """
    sizes, digests = {}, {}

    def keeps(home) -> None:
        digests.update(commands.finished_files(home))
        sizes.update({path: path.stat().st_size for path in digests})

    yield keeps
    lost = [path for path, digest in digests.items() if not path.exists() or sha256(path) != digest]
    record_property("bytes_lost", sum(sizes[path] for path in lost))
    assert not lost


@contextlib.contextmanager
def mounted(command: str):
    """A process in a mount namespace of its own, after a shell command; yields the path under which others see its
    files.

    Needs the rights of an ordinary user on Linux; skips the test where the system grants less.
    """
    if shutil.which("unshare") is None:
        pytest.skip("no private mounts: no 'unshare' on this machine")
    ranks = ["--map-root-user"] if os.geteuid() else []
    line = ["unshare", *ranks, "--mount", "sh", "-c", f"{command} && echo ready && exec sleep 3600"]
    holder = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline() != "ready\n":
            pytest.skip(f"no private mounts: {holder.communicate()[1].strip()}")
        yield Path(f"/proc/{holder.pid}/root")
    finally:
        holder.kill()
        holder.communicate()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, of 40 MB in memory."""
    with mounted(f"mount -t tmpfs -o size=40m tmpfs {tmp_path}") as seen:
        yield seen / tmp_path.relative_to("/")


@pytest.fixture
def read_only():
    """A function: folder -> the same folder on a read-only disk."""
    with contextlib.ExitStack() as stack:

        def read_only(folder: Path) -> Path:
            seen = stack.enter_context(mounted(f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"))
            return seen / folder.relative_to("/")

        yield read_only
