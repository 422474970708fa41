"""The lock of a home, held by other processes."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.store import cli, lock, records_command
from models.errors import InputError
from models.files import read_json

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys, time
from pathlib import Path
from bench.store.lock import locked
with locked(Path(sys.argv[1]), "python -m bench.scale"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the home until its stdin is closed."""
    line = [sys.executable, "-c", HOLD, tmp_path / "home"]
    process = subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def command(home, *flags, main=lambda _: None) -> int:
    return cli.run(main, cli.parser("", writes=True), ["--home", str(home), *flags])


def test_a_home_in_use_is_refused_with_its_holder(holder, tmp_path, capsys):
    assert command(tmp_path / "home", main=lambda _: pytest.fail("it ran")) == cli.BAD_INPUT
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert f"{tmp_path / 'home'}: in use by process {holder.pid} on {socket.gethostname()} since 2" in line
    assert "(python -m bench.scale)" in line and "--wait" in line


def test_wait_waits_for_the_holder(holder, tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(lock.log, "warning", lambda *_: (ended.append("waited"), holder.communicate()))
    assert command(tmp_path / "home", "--wait", main=lambda _: ended.append(holder.poll())) == 0
    assert ended == ["waited", 0]


def test_a_home_that_its_holder_removed_is_created_again(holder, tmp_path, monkeypatch):
    """A regression: the missing folder of the lock was a traceback."""
    home, ran = tmp_path / "home", []
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(lock.log, "warning", lambda *_: (holder.communicate(), ran.append(home.exists())))
    assert command(home, "--wait", main=lambda _: ran.append(home.exists())) == 0
    assert ran == [False, True]


def test_records_are_not_merged_into_a_home_in_use(holder, tmp_path, capsys):
    flags = ["merge", str(tmp_path), "--home", str(tmp_path / "home")]
    assert cli.run(records_command.main, records_command.parser(), flags) == cli.BAD_INPUT
    assert "in use by process" in capsys.readouterr().err


def test_the_lock_is_released_if_its_process_dies(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert read_json(tmp_path / "home" / lock.HOLDER)["process"] == holder.pid, "it had no time to remove its name"
    assert command(tmp_path / "home") == 0


def test_a_child_of_the_holder_runs_under_its_lock(tmp_path):
    """Any other process would be refused; and the child ends with the holder."""
    code = (
        "import os, subprocess, sys; from pathlib import Path; from bench.store.lock import locked\n"
        "with locked(Path(sys.argv[1]), 'first'):\n"
        f"    child = subprocess.Popen([sys.executable, '-c', {HOLD!r}, sys.argv[1]], stdin=subprocess.PIPE)\n"
        "    print(child.pid, flush=True)\n"
        "    child.wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "home"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    child, answer = psutil.Process(int(process.stdout.readline())), process.stdout.readline()
    assert answer == "held\n"
    assert read_json(tmp_path / "home" / lock.HOLDER)["process"] == process.pid
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs([child], timeout=60)
    assert not alive, "it outlived the holder"


def test_a_home_without_output_is_left_as_it_was(tmp_path):
    def refuse(_):
        raise InputError("bad input")

    assert command(tmp_path / "home", main=refuse) == cli.BAD_INPUT
    assert not (tmp_path / "home").exists()
    (tmp_path / "home").mkdir()
    assert command(tmp_path / "home") == 0
    assert os.listdir(tmp_path / "home") == []


def test_under_torchrun_the_first_process_locks(holder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert command(tmp_path / "home") == 0
    monkeypatch.setenv("RANK", "0")
    assert command(tmp_path / "home") == cli.BAD_INPUT


def test_commands_that_only_read_take_no_lock(holder, tmp_path):
    parser = cli.parser("")
    assert "--wait" not in parser.format_help()
    assert cli.run(lambda _: None, parser, ["--home", str(tmp_path / "home")]) == 0


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOLCK, "its file system has no locks (No locks available); use a --home on another"),
        (errno.ENOSYS, "its file system has no locks (Function not implemented); use a --home on another"),
        (errno.EROFS, "cannot be written (Read-only file system); use another --home"),
    ],
)
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, capsys, number, message):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert command(tmp_path, main=lambda _: pytest.fail("it ran")) == cli.BAD_INPUT
    assert capsys.readouterr().err.endswith(f"{tmp_path}: {message}\n")
