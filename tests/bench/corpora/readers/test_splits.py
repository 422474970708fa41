"""Splits of tables: by hash, whole, and named with their sizes where one is missing or too small."""

import pytest

from bench.corpora import check_split, open_corpus
from bench.corpora.readers.stored import hash_split
from models.errors import InputError
from tests.bench.corpora.readers.tables import PIXELS, paint, rows, shown, write


def test_without_a_split_column_the_hash_of_the_path_decides(tmp_path):
    paint(tmp_path, 60)
    table = [row[:2] for row in rows(60)]
    by_order = [
        open_corpus({"name": "folder", "annotations": write(tmp_path / "list.csv", of, "path,caption")})
        for of in (table, table[::-1])
    ]
    found = [
        {split: {image_id for _, _, image_id in corpus.captions(split)} for split in corpus.splits}
        for corpus in by_order
    ]
    assert found[0] == found[1] and sum(map(len, found[0].values())) == 60
    assert all(hash_split(image_id) == split for split, ids in found[0].items() for image_id in ids)


def test_a_table_without_splits_can_be_used_whole(tmp_path):
    paint(tmp_path, 60)
    names = [f"{i:03d}.png" for i in range(60)]
    write(tmp_path / "list.csv", [row[:2] for row in rows(60)], "path,caption")
    spec = {"name": "folder", "annotations": tmp_path / "list.csv", "pixels": PIXELS}
    corpus = open_corpus(spec)
    assert "all" not in corpus.splits and sum(corpus.sizes[split] for split in corpus.splits) == 60
    assert list(shown(corpus, "all")[0]) == names and list(shown(corpus, "all", 7, 9)[0]) == names[7:9]
    assert open_corpus(spec | {"split": "all"}).splits == ("all",)
    write(tmp_path / "list.csv", rows(60))
    with pytest.raises(InputError, match="unknown split 'all'"):
        next(open_corpus(spec).images("all"))
    corpus = open_corpus(spec | {"split": "all"})
    assert corpus.splits == ("all",) and list(shown(corpus, "all")[0]) == names
    write(tmp_path / "list.csv", [(*row[:2], "mine") for row in rows(60)], "path,caption,all")
    assert open_corpus(spec | {"split": "all"}).splits == ("mine",), "a column of that name is a column of splits"


def test_a_broken_image_counts_once_in_all(tmp_path):
    paint(tmp_path, 3, broken=(1,))
    write(tmp_path / "list.csv", [row[:2] for row in rows(3)], "path,caption")
    corpus = open_corpus({"name": "folder", "annotations": tmp_path / "list.csv"})
    for split in (*corpus.splits, "all"):
        list(corpus.images(split))
    assert [left.name for left in corpus.broken()] == [left.name for left in corpus.broken("all")] == ["001.png"]


def test_a_missing_or_small_split_is_named_with_all_sizes(tmp_path):
    paint(tmp_path, 60)
    write(tmp_path / "list.csv", [row[:2] for row in rows(60)], "path,caption")
    corpus = open_corpus({"name": "folder", "annotations": tmp_path / "list.csv"})
    sizes = ", ".join(f"{split} {size}" for split, size in corpus.sizes.items())
    assert corpus.sizes["all"] == 60 and corpus.sizes["test"] < 10
    check_split(corpus, "test", corpus.sizes["test"])
    too_small = (
        f"split test has {corpus.sizes['test']} images, expected at least 1,000; set fewer images or another split"
    )
    with pytest.raises(InputError, match=f"{too_small}; images listed: {sizes}; the split 'all' has every image"):
        check_split(corpus, "test", 1000)
    with pytest.raises(InputError, match=f"unknown split 'tset' .nearest: test; .*; images listed: {sizes}"):
        check_split(corpus, "tset")


def test_the_split_of_a_name_is_pinned():
    names = [f"{i:06d}.jpg" for i in range(20_000)]
    splits = list(map(hash_split, names))
    assert {split: splits.index(split) for split in ("train", "val", "test")} == {"train": 0, "val": 23, "test": 5}
    assert all(
        abs(splits.count(split) / 20_000 - share) < 0.01
        for split, share in (("train", 0.9), ("val", 0.05), ("test", 0.05))
    )
