"""A changed, truncated or missing file is refused by name; indexes are built once."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.engines import indexes
from bench.engines.indexes import build_index, open_index
from bench.scale import worker
from bench.store.machine import machine
from bench.vectors.impacts import Impacts
from bench.vectors.read import LexiconVectors, open_vectors
from bench.vectors.write import write_vectors
from models import files
from models.errors import InputError
from models.files import BrokenFileError, crc32, mapped_array, read_json, write_json

ROOT = Path(__file__).resolve().parents[3]
VALUE = {"name": "ä", "nested": {"1": [0.1, None, 1e300], "10": -0.0}, "count": 7}


def flipped(content: bytes, place: float, bit: int) -> bytes:
    changed = bytearray(content)
    changed[int(place * (len(content) - 1))] ^= 1 << bit
    return bytes(changed)


anywhere = given(place=st.floats(0, 1), bit=st.integers(0, 7))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    vectors = Impacts(LexiconVectors.of(np.eye(4, dtype=np.float32)), bits=8)
    return build_index(tmp_path_factory.mktemp("home"), "impact", vectors, "v").folder


def test_crc32_is_the_standard_one(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"123456789")
    assert crc32(tmp_path / "file") == 0xCBF43926  # the check value of CRC-32/ISO-HDLC
    monkeypatch.setattr(files, "CHUNK_BYTES", 4)
    assert crc32(tmp_path / "file") == 0xCBF43926
    (tmp_path / "file").write_bytes(b"")
    assert crc32(tmp_path / "file") == 0


@pytest.mark.parametrize("name", ["postings.npy", "offsets.npy", "impacts.npy", "impact.json"])
@settings(max_examples=10)
@anywhere
def test_a_flipped_bit_of_an_index_is_refused(index, tmp_path_factory, name, place, bit):
    folder = shutil.copytree(index, tmp_path_factory.mktemp("index") / "x")
    (folder / name).write_bytes(flipped((folder / name).read_bytes(), place, bit))
    with pytest.raises(
        BrokenFileError, match=rf"{name}: changed since it was written .*; remove {folder} or use --force"
    ):
        open_index(folder)


@settings(max_examples=30)
@anywhere
def test_a_flipped_bit_of_an_index_description_is_refused_or_harmless(index, tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("index") / "index.json"
    path.write_bytes(flipped((index / "index.json").read_bytes(), place, bit))
    try:
        found = read_json(path)
    except BrokenFileError as error:
        assert str(path) in str(error)
    else:
        assert found.items() >= read_json(index / "index.json").items()


def test_the_peak_memory_is_that_of_the_build(tmp_path, monkeypatch):
    """An index that exists used to be charged with the peak of the process that found it."""
    vectors = Impacts(LexiconVectors.of(np.eye(4, dtype=np.float32)), bits=8)
    built = build_index(tmp_path, "impact", vectors, "v")
    monkeypatch.setattr(indexes, "peak_bytes", lambda: 2**50)
    found = build_index(tmp_path, "impact", vectors, "v")
    assert found == built and 2**20 < found.peak_bytes < 2**50
    assert found.machine_id == machine()["machine_id"]


@pytest.mark.skipif(not indexes.PROCESS.exists(), reason="only /proc tells the peak of one process")
def test_the_peak_of_a_process_is_not_that_of_its_parent():
    """`ru_maxrss` survives fork and exec."""
    held = np.ones(2**26)  # 512 MiB
    code = "from bench.engines.indexes import peak_bytes; print(peak_bytes())"
    with psutil.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as child:
        peak = int(child.communicate()[0])
    assert 2**20 < peak < held.nbytes <= indexes.peak_bytes()


def test_checking_an_index_opens_nothing(index, monkeypatch):
    """So the time to open holds no checksums, which are this project's own."""
    monkeypatch.setattr(indexes.registry, "get", lambda name: pytest.fail("opened"))
    about = indexes.check_index(index)
    monkeypatch.undo()
    monkeypatch.setattr(indexes, "crc32", lambda path: pytest.fail("checked"))
    with indexes.open_checked(index, about) as engine:
        assert engine.items.tolist()[-1] == -1


def test_an_index_without_its_description_is_refused_with_a_remedy(index, tmp_path):
    folder = shutil.copytree(index, tmp_path / "x")
    (folder / "index.json").unlink()
    with pytest.raises(BrokenFileError, match=r"index\.json: no such file; remove .* or use --force to build it again"):
        open_index(folder)


@pytest.mark.parametrize(
    "value", [VALUE, [], ["a", "é"], {1: "a", 10: "b", 2: "c"}, {"value": [1]}, {"value": {"seal": 3}}]
)
def test_a_sealed_file_is_read_as_written(tmp_path, value):
    write_json(tmp_path / "a.json", value, seal=True)
    expected = {str(key): item for key, item in value.items()} if isinstance(value, dict) else value
    assert read_json(tmp_path / "a.json") == expected


@settings(max_examples=30)
@anywhere
def test_a_flipped_bit_of_a_sealed_file_is_refused_or_harmless(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("sealed") / "a.json"
    write_json(path, VALUE, seal=True)
    path.write_bytes(flipped(path.read_bytes(), place, bit))
    try:
        found = read_json(path, "make it again")
    except BrokenFileError as error:
        assert str(path) in str(error) and str(error).endswith("; make it again")
    else:
        assert found.items() >= VALUE.items()


@settings(max_examples=30)
@anywhere
def test_a_flipped_bit_of_a_job_result_is_refused_or_harmless(tmp_path_factory, place, bit):
    path, array = tmp_path_factory.mktemp("job") / "best.npz", np.arange(60, dtype=np.float64).reshape(6, 10)
    worker.save_array(path, array)
    assert np.array_equal(worker.load_array(path), array)
    path.write_bytes(flipped(path.read_bytes(), place, bit))
    try:
        found = worker.load_array(path)
    except BrokenFileError as error:
        assert str(error).startswith(f"{path}: missing, truncated or changed")
    else:
        assert np.array_equal(found, array)


@settings(max_examples=15)
@anywhere
@pytest.mark.parametrize(
    "name", ["00000.indptr.npy", "00000.weights.npy", "00000.ids.npy", "meta.json", "vocabulary.json"]
)
def test_a_flipped_bit_of_vectors_is_refused_or_harmless(tmp_path_factory, name, place, bit):
    folder = tmp_path_factory.mktemp("vectors") / "v"
    with write_vectors(folder, "lexicon", 3, vocabulary=["a", "b", "c"]) as writer:
        writer.append(np.eye(3, dtype=np.float32), ["x", "y", "z"])
    (folder / name).write_bytes(flipped((folder / name).read_bytes(), place, bit))
    if name.endswith(".npy"):
        with pytest.raises(BrokenFileError, match=rf"{name}: changed since it was written"):
            open_vectors(folder)
        return
    try:
        found = open_vectors(folder)
    except BrokenFileError as error:
        assert str(folder / name) in str(error)
    else:
        assert (found.ids, found.vocabulary) == (["x", "y", "z"], ["a", "b", "c"])


def test_vectors_are_checked_once_per_process_and_again_after_a_change(tmp_path, monkeypatch):
    from bench.vectors import read as vectors

    with write_vectors(tmp_path / "v", "dense", 2) as writer:
        writer.append(np.eye(2, dtype=np.float32), ["x", "y"])
    read = []
    real = vectors.check_content
    monkeypatch.setattr(
        vectors, "check_content", lambda folder, entry: (read.append(entry["name"]), real(folder, entry))
    )
    open_vectors(tmp_path / "v", check=False)
    assert read == []
    for _ in range(2):
        open_vectors(tmp_path / "v")
    assert sorted(read) == ["00000.ids.npy", "00000.values.npy"]
    later = (tmp_path / "v" / "00000.values.npy").stat().st_mtime_ns + 10**9
    os.utime(tmp_path / "v" / "00000.values.npy", ns=(later, later))
    open_vectors(tmp_path / "v")
    assert read.count("00000.values.npy") == 2


def test_a_library_error_on_a_full_disk_is_a_disk_error(tmp_path, monkeypatch):
    """On a full disk numpy raises an OSError without errno, faiss a RuntimeError."""
    usage = shutil.disk_usage(tmp_path)
    for error in (OSError("20 requested and 0 written"), RuntimeError("fwrite failed")):
        with pytest.raises(type(error), match=str(error)), files.atomic_folder(tmp_path / "x"):
            raise error
        with monkeypatch.context() as disk:
            disk.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
            with (
                pytest.raises(OSError, match=rf"No space left on device \({error}\)") as found,
                files.atomic_folder(tmp_path / "x"),
            ):
                raise error
            assert found.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_a_mapped_array_allocates_its_blocks_at_once(tmp_path):
    array = mapped_array(tmp_path / "a.npy", np.uint16, (300_000,))
    assert os.stat(tmp_path / "a.npy").st_blocks * 512 >= 600_000
    array[:] = np.arange(300_000) % 60_000
    array.flush()
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.arange(300_000) % 60_000)


def test_an_index_is_built_once_and_again_with_force(tmp_path, monkeypatch):
    vectors = Impacts(LexiconVectors.of(np.eye(4, dtype=np.float32)), bits=8)
    first = build_index(tmp_path, "impact", vectors, "v")
    stamp = (first.folder / "index.json").stat().st_mtime_ns
    assert build_index(tmp_path, "impact", vectors, "v") == first
    assert (first.folder / "index.json").stat().st_mtime_ns == stamp
    build_index(tmp_path, "impact", vectors, "v", force=True)
    assert (first.folder / "index.json").stat().st_mtime_ns != stamp
    others = [
        build_index(tmp_path, "scipy", vectors, "v"),
        build_index(tmp_path, "impact", vectors, "w"),
        build_index(tmp_path, "impact", Impacts(vectors.vectors, top_k=2, bits=8), "v"),
        build_index(tmp_path, "impact", Impacts(vectors.vectors, bits=16), "v"),
        build_index(tmp_path, "impact", Impacts(vectors.vectors, bits=8, scale=50), "v"),
    ]
    assert len({first.id, *(other.id for other in others)}) == 6


def test_a_build_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(InputError):
        build_index(tmp_path, "impact", LexiconVectors.of(np.eye(4, dtype=np.float32)), "v")
    assert list((tmp_path / "indexes").iterdir() if (tmp_path / "indexes").exists() else []) == []
