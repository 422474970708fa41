import os

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.vectors.format import to_csr
from bench.vectors.read import DenseVectors, LexiconVectors, open_vectors
from bench.vectors.write import resume_vectors, write_vectors
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
@settings(max_examples=15)
@given(count=st.integers(0, 35), batch=st.integers(1, 40), shard_rows=st.integers(1, 20), seed=st.integers(0, 5))
def test_written_vectors_are_read_back(tmp_path_factory, kind, count, batch, shard_rows, seed):
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


def test_lexicons_are_sorted_and_zeros_dropped(tmp_path):
    unsorted = sp.csr_array(
        (np.array([0.5, 0.0, 0.25], np.float32), np.array([3, 2, 1]), np.array([0, 3])), shape=(1, 5)
    )
    with write_vectors(tmp_path / "v", "lexicon", 5, vocabulary=list("abcde"), made_from={"x": 1}) as writer:
        writer.append(unsorted, ["a"])
    vectors = open_vectors(tmp_path / "v")
    assert vectors.to_scipy().indices.tolist() == [1, 3]
    assert vectors.to_scipy().data.tolist() == [0.25, 0.5]
    assert vectors.vocabulary == list("abcde") and vectors.meta["made_from"] == {"x": 1}
    assert vectors.groups == vectors.ids == ["a"]


def test_opening_maps_dense_vectors(tmp_path):
    write(tmp_path / "v", "dense", lexicon_rows(30))
    shard = next(open_vectors(tmp_path / "v").shards())
    assert isinstance(shard.base, np.memmap) and not shard.flags.writeable


def mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_opening_maps_lexicon_vectors(tmp_path):
    write(tmp_path / "v", "lexicon", lexicon_rows(30))
    for shard in open_vectors(tmp_path / "v").shards():
        assert mapped(shard.indices) and mapped(shard.data)


@pytest.mark.parametrize("kind", ["dense", "lexicon"])
@settings(max_examples=10)
@given(count=st.integers(1, 35), shard_rows=st.integers(1, 20), share=st.floats(0, 1))
def test_a_prefix_has_the_first_items_ids_and_groups(tmp_path_factory, kind, count, shard_rows, share):
    folder = tmp_path_factory.mktemp("vectors") / "v"
    rows = lexicon_rows(count)
    ids = write(folder, kind, rows, shard_rows=shard_rows)
    first = round(share * count)
    whole = open_vectors(folder)
    part = whole.prefix(first)
    assert np.array_equal(part.to_numpy() if kind == "dense" else part.to_scipy().toarray(), rows[:first])
    assert (part.count, part.dimension, part.ids) == (first, 20, ids[:first])
    assert part.groups == [f"image{i // 5}" for i in range(first)]
    assert part.meta["count"] == first and part.bytes <= whole.bytes
    part.verify()


def test_a_prefix_copies_nothing(tmp_path):
    for kind in ("dense", "lexicon"):
        write(tmp_path / kind, kind, lexicon_rows(30))
        vectors = open_vectors(tmp_path / kind)
        for whole, part in zip(vectors.shards(), vectors.prefix(24).shards(), strict=True):
            for name in ("indices", "data") if kind == "lexicon" else ("T",):
                assert np.shares_memory(getattr(whole, name), getattr(part, name))
    with pytest.raises(ValueError, match="31 items: expected 0 to 30"):
        vectors.prefix(31)


def test_bytes_of_a_prefix_equal_those_of_the_same_vectors_alone(tmp_path):
    for kind in ("dense", "lexicon"):
        write(tmp_path / kind, kind, lexicon_rows(30))
        write(tmp_path / f"{kind}-alone", kind, lexicon_rows(30)[:24])
        assert open_vectors(tmp_path / kind).prefix(24).bytes == open_vectors(tmp_path / f"{kind}-alone").bytes
        on_disk = [
            path.stat().st_size
            for path in (tmp_path / kind).glob("*.npy")
            if path.name.split(".")[1] not in ("ids", "groups")
        ]
        assert open_vectors(tmp_path / kind).bytes == sum(on_disk)


def test_bytes_equal_the_size_of_the_files(tmp_path):
    write(tmp_path / "v", "dense", lexicon_rows(30), shard_rows=100)
    assert open_vectors(tmp_path / "v").bytes == os.path.getsize(tmp_path / "v" / "00000.values.npy")
    assert DenseVectors.of(lexicon_rows(3)).bytes == 0


@pytest.mark.parametrize("part", ["indptr", "lexicons", "weights", "ids"])
def test_a_truncated_or_missing_shard_is_refused_on_opening(tmp_path, part):
    write(tmp_path / "v", "lexicon", lexicon_rows(30))
    path = tmp_path / "v" / f"00001.{part}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"00001\.{part}\.npy: \d+ bytes, expected \d+"):
        open_vectors(tmp_path / "v")
    path.unlink()
    with pytest.raises(InputError, match=rf"00001\.{part}\.npy: missing"):
        open_vectors(tmp_path / "v")


def test_verify_finds_a_flipped_bit(tmp_path):
    write(tmp_path / "v", "lexicon", lexicon_rows(30))
    path = tmp_path / "v" / "00002.weights.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"00002\.weights\.npy: changed since it was written"):
        open_vectors(tmp_path / "v").verify()


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_vectors(tmp_path / "v")
    (tmp_path / "v").mkdir()
    with pytest.raises(InputError, match=r"meta\.json: no such file"):
        open_vectors(tmp_path / "v")
    (tmp_path / "v" / "meta.json").write_text("{}")
    with pytest.raises(InputError, match="not a description of vectors"):
        open_vectors(tmp_path / "v")


def test_a_failed_write_leaves_nothing(tmp_path):
    rows = lexicon_rows(3)
    rows[1, 4] = np.nan
    with pytest.raises(InputError, match="'item-é1' is not finite"):
        write(tmp_path / "v", "lexicon", rows)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["dense", "lexicon"])
@pytest.mark.parametrize("stop", [0, 9, 10, 29, 30])
def test_a_resumed_writer_starts_after_the_last_complete_shard(tmp_path, kind, stop):
    rows, ids = lexicon_rows(30), [f"i{i}" for i in range(30)]

    def write_on(folder, stop=30):
        with resume_vectors(folder, kind, 20, made_from={"x": 1}, shard_rows=10) as writer:
            starts.append(writer.count)
            for i in range(writer.count, stop):
                writer.append(rows[i : i + 1], ids[i : i + 1])
            if stop < 30:
                raise KeyboardInterrupt

    starts = []
    if stop < 30:
        with pytest.raises(KeyboardInterrupt):
            write_on(tmp_path / "v", stop)
        assert [path.name for path in tmp_path.iterdir()] == (["v.parts"] if stop >= 10 else [])
    write_on(tmp_path / "v")
    write_on(tmp_path / "undisturbed")
    assert starts == ([0, stop // 10 * 10, 0] if stop < 30 else [0, 0])
    assert {path.name for path in tmp_path.iterdir()} == {"v", "undisturbed"}
    content = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("v", "undisturbed")]
    assert content[0] == content[1]
    open_vectors(tmp_path / "v").verify()


def test_a_writer_killed_before_the_last_rename_keeps_all_shards(tmp_path, monkeypatch):
    def fill():
        with resume_vectors(tmp_path / "v", "dense", 20, shard_rows=10) as writer:
            starts.append(writer.count)
            for start in range(writer.count, 25, 5):
                writer.append(lexicon_rows(25)[start : start + 5], [str(i) for i in range(start, start + 5)])

    starts = []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("bench.vectors.write._replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        fill()
    fill()
    assert starts == [0, 25]
    assert np.array_equal(open_vectors(tmp_path / "v").to_numpy(), lexicon_rows(25))


def test_force_discards_existing_shards(tmp_path):
    def fill(value, stop, **more):
        with resume_vectors(tmp_path / "v", "dense", 1, shard_rows=2, **more) as writer:
            for i in range(writer.count, stop):
                writer.append(np.full((1, 1), value, np.float32), [str(i)])
            if stop < 6:
                raise KeyboardInterrupt

    for value, stop, more in ((1, 4, {}), (2, 2, {"force": True})):
        with pytest.raises(KeyboardInterrupt):
            fill(value, stop, **more)
    fill(3, 6)
    assert open_vectors(tmp_path / "v").to_numpy().ravel().tolist() == [2, 2, 3, 3, 3, 3]
    fill(4, 6, force=True)
    assert open_vectors(tmp_path / "v").to_numpy().ravel().tolist() == [4] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_wrong_arguments_raise(tmp_path):
    with pytest.raises(ValueError, match="not negative"):
        to_csr(np.array([[-1.0]]))
    with pytest.raises(ValueError, match=r"expected \(2, 20\)"), write_vectors(tmp_path / "v", "dense", 20) as writer:
        writer.append(lexicon_rows(3), ["a", "b"])
    with (
        pytest.raises(ValueError, match="groups for all batches"),
        write_vectors(tmp_path / "v", "dense", 20) as writer,
    ):
        writer.append(lexicon_rows(1), ["a"], ["g"])
        writer.append(lexicon_rows(1), ["b"])


def test_vectors_in_memory():
    rows = lexicon_rows(4)
    vectors = LexiconVectors.of(rows, ids=["a", "b", "c", "d"])
    assert vectors.ids[2] == "c" and vectors.count == len(vectors) == 4
    assert np.array_equal(vectors.rows(1, 3).toarray(), rows[1:3])
    assert np.array_equal(vectors.head(2).to_scipy().toarray(), rows[:2])


def test_the_row_of_an_impossible_weight_is_named(tmp_path):
    rows = sp.csr_array(lexicon_rows(9))
    rows.data[rows.indptr[5]] = -1
    with (
        pytest.raises(InputError, match="row 7: the vector of item 'i3' is negative"),
        write_vectors(tmp_path / "v", "lexicon", 20) as writer,
    ):
        writer.append(rows[:4], list("abcd"))
        writer.append(rows[2:], [f"i{i}" for i in range(7)])


def test_unsorted_lexicons_are_sorted_and_zeros_left_out(tmp_path):
    rows = sp.csr_array((np.array([1.0, 2.0, 0.0]), [7, 3, 5], [0, 3]), shape=(1, 20))
    with write_vectors(tmp_path / "v", "lexicon", 20) as writer:
        writer.append(rows, ["a"])
    found = open_vectors(tmp_path / "v").to_scipy()
    assert (found.indices.tolist(), found.data.tolist()) == ([3, 7], [2.0, 1.0])
