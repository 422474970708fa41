"""Atomic files and folders, JSON and checksums."""

import os
import signal
import subprocess
import sys

import pytest

from models.errors import InputError
from models.files import atomic_file, atomic_folder, read_json, sha256, write_json


def test_a_file_appears_at_the_end_of_the_block_only(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with atomic_file(target) as partial:
        partial.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), atomic_file(target) as partial:
        partial.write_text("second")
        raise RuntimeError
    assert target.read_text() == "first"
    assert os.listdir(target.parent) == ["file.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder"
    with atomic_folder(target) as partial:
        (partial / "old").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as partial:
        (partial / "new").write_text("new")
        raise RuntimeError
    assert os.listdir(target) == ["old"]
    with atomic_folder(target) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "new").write_text("new")
        assert os.listdir(target) == ["old"], "the old folder stays readable meanwhile"
    assert os.listdir(target) == ["inner"]
    assert os.listdir(tmp_path) == ["folder"]


def test_a_file_is_flushed_before_it_has_its_name_and_its_folder_after(tmp_path, monkeypatch):
    """Other tests do without (tests/conftest.py)."""
    target, flushed = tmp_path / "file.txt", []
    monkeypatch.setattr(os, "fsync", lambda at: flushed.append((os.fstat(at).st_ino, target.exists())))
    with atomic_file(target) as partial:
        partial.write_text("whole")
        written = partial.stat().st_ino
    assert flushed == [(written, False), (tmp_path.stat().st_ino, True)]


KILLED = """
import os, signal, sys
from models.files import atomic_file, atomic_folder
make = {"file": atomic_file, "folder": atomic_folder}[sys.argv[1]]
with make(sys.argv[2]) as partial:
    (partial if sys.argv[1] == "file" else partial / "part").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_killed_writer_leaves_the_old_target_and_the_next_write_cleans_up(tmp_path, what):
    target = tmp_path / "target"
    make = {"file": atomic_file, "folder": atomic_folder}[what]

    def write(text):
        with make(target) as partial:
            (partial if what == "file" else partial / "part").write_text(text)

    def read():
        return (target if what == "file" else target / "part").read_text()

    write("whole")
    killed = subprocess.run([sys.executable, "-c", KILLED, what, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read() == "whole"
    assert len(os.listdir(tmp_path)) == 2
    write("again")
    assert read() == "again"
    assert os.listdir(tmp_path) == ["target"]


def test_partial_files_of_running_processes_are_kept(tmp_path):
    with atomic_file(tmp_path / "target") as partial:
        other = partial.with_name(partial.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
        other.write_text("of a living process")
        with atomic_file(tmp_path / "target") as second:
            second.write_text("x")
        assert other.exists()
        partial.write_text("y")


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, None]}
    (tmp_path / "a.json").write_text('{"b": [1,')
    with pytest.raises(InputError, match=r"a\.json.*not valid JSON"):
        read_json(tmp_path / "a.json")
    for absent in (tmp_path / "none.json", tmp_path / "a.json" / "none.json"):
        with pytest.raises(InputError, match="no such file"):
            read_json(absent)


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
