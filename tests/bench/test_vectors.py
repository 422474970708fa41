import os

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.vectors import DenseVectors, LexiconVectors, open_vectors, to_csr, write_vectors
from models.errors import InputError


def lexicon_rows(count, dimension=20, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random((count, dimension)) < 0.3, rng.random((count, dimension)), 0).astype(np.float32)


def write(folder, kind, rows, batch=7, shard_rows=10, **more):
    ids = [f"item-é{i}" for i in range(len(rows))]
    with write_vectors(folder, kind, rows.shape[1], shard_rows=shard_rows, **more) as writer:
        for start in range(0, len(rows), batch):
            part = slice(start, start + batch)
            writer.append(rows[part], ids[part], [f"image{i // 5}" for i in range(len(rows))][part])
    return ids


@pytest.mark.parametrize("kind", ["dense", "lexicon"])
@settings(max_examples=30)
@given(count=st.integers(0, 35), batch=st.integers(1, 40), shard_rows=st.integers(1, 20), seed=st.integers(0, 5))
def test_what_is_streamed_in_comes_out(tmp_path_factory, kind, count, batch, shard_rows, seed):
    folder = tmp_path_factory.mktemp("vectors") / "v"
    rows = lexicon_rows(count, seed=seed)
    ids = write(folder, kind, rows, batch, shard_rows)
    vectors = open_vectors(folder)
    vectors.verify()
    read = vectors.to_numpy() if kind == "dense" else vectors.to_scipy().toarray()
    assert np.array_equal(read, rows)
    assert (vectors.count, vectors.dimension, vectors.ids) == (count, 20, ids)
    assert vectors.groups == [f"image{i // 5}" for i in range(count)]
    assert [len(shard.toarray() if kind == "lexicon" else shard) for shard in vectors.shards()] == [
        min(shard_rows, count - start) for start in range(0, count, shard_rows)
    ]
    start, stop = sorted((seed * 3 % (count + 1), count // 2))
    part = vectors.rows(start, stop)
    assert np.array_equal(part if kind == "dense" else part.toarray(), rows[start:stop])


def test_lexicons_are_sorted_and_weights_positive(tmp_path):
    unsorted = sp.csr_array((np.array([0.5, 0.0, 0.25], np.float32), np.array([3, 2, 1]), np.array([0, 3])), shape=(1, 5))
    with write_vectors(tmp_path / "v", "lexicon", 5, vocabulary=list("abcde"), made_from={"x": 1}) as writer:
        writer.append(unsorted, ["a"])
    vectors = open_vectors(tmp_path / "v")
    assert vectors.to_scipy().indices.tolist() == [1, 3]
    assert vectors.to_scipy().data.tolist() == [0.25, 0.5]
    assert vectors.vocabulary == list("abcde") and vectors.meta["made_from"] == {"x": 1}
    assert vectors.groups == vectors.ids == ["a"]


def test_opening_maps_and_does_not_read(tmp_path):
    write(tmp_path / "v", "dense", lexicon_rows(30))
    shard = next(open_vectors(tmp_path / "v").shards())
    assert isinstance(shard.base, np.memmap) and not shard.flags.writeable


def test_bytes_are_those_of_the_vectors(tmp_path):
    write(tmp_path / "v", "dense", lexicon_rows(30), shard_rows=100)
    assert open_vectors(tmp_path / "v").bytes == os.path.getsize(tmp_path / "v" / "00000.values.npy")
    assert DenseVectors.of(lexicon_rows(3)).bytes == 0


@pytest.mark.parametrize("part", ["indptr", "lexicons", "weights", "ids"])
def test_a_truncated_or_missing_shard_is_named_on_opening(tmp_path, part):
    write(tmp_path / "v", "lexicon", lexicon_rows(30))
    path = tmp_path / "v" / f"00001.{part}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"00001\.{part}\.npy: \d+ bytes, expected \d+"):
        open_vectors(tmp_path / "v")
    path.unlink()
    with pytest.raises(InputError, match=rf"00001\.{part}\.npy: missing"):
        open_vectors(tmp_path / "v")


def test_a_flipped_bit_is_named_by_verify(tmp_path):
    write(tmp_path / "v", "lexicon", lexicon_rows(30))
    path = tmp_path / "v" / "00002.weights.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"00002\.weights\.npy: its content has changed"):
        open_vectors(tmp_path / "v").verify()


def test_what_is_no_folder_of_vectors(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_vectors(tmp_path / "v")
    (tmp_path / "v").mkdir()
    with pytest.raises(InputError, match=r"meta\.json: no such file"):
        open_vectors(tmp_path / "v")
    (tmp_path / "v" / "meta.json").write_text("{}")
    with pytest.raises(InputError, match="not the description of vectors"):
        open_vectors(tmp_path / "v")


def test_nothing_appears_when_the_writing_fails(tmp_path):
    rows = lexicon_rows(3)
    rows[1, 4] = np.nan
    with pytest.raises(InputError, match="'item-é1' is not finite"):
        write(tmp_path / "v", "lexicon", rows)
    assert os.listdir(tmp_path) == []


def test_defects_of_the_caller_are_errors(tmp_path):
    with pytest.raises(ValueError, match="not negative"):
        to_csr(np.array([[-1.0]]))
    with pytest.raises(ValueError, match=r"expected \(2, 20\)"), write_vectors(tmp_path / "v", "dense", 20) as writer:
        writer.append(lexicon_rows(3), ["a", "b"])
    with pytest.raises(ValueError, match="either all batches"), write_vectors(tmp_path / "v", "dense", 20) as writer:
        writer.append(lexicon_rows(1), ["a"], ["g"])
        writer.append(lexicon_rows(1), ["b"])


def test_vectors_in_memory():
    rows = lexicon_rows(4)
    vectors = LexiconVectors.of(rows, ids=["a", "b", "c", "d"])
    assert vectors.ids[2] == "c" and vectors.count == len(vectors) == 4
    assert np.array_equal(vectors.rows(1, 3).toarray(), rows[1:3])
    assert np.array_equal(vectors.head(2).to_scipy().toarray(), rows[:2])
