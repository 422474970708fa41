"""What records call a corpus, and which corpora are the same data."""

import shutil

import numpy as np
import pytest

from bench.corpora import data_id, open_corpus, title_of
from bench.scale.galleries.own import own_galleries
from bench.scale.run import parser
from bench.vectors.write import write_vectors
from models.errors import InputError
from tests.bench.corpora.readers.tables import PIXELS, paint, rows, write


@pytest.mark.parametrize(
    ("spec", "title"),
    [
        ("scenes", "scenes"),
        ({"name": "scenes", "concepts": 10}, "scenes"),
        ({"name": "scenes", "title": "ten"}, "ten"),
        ({"name": "coco", "root": "x"}, "coco"),
        ({"name": "folder", "annotations": "my/birds.v2.csv"}, "birds.v2"),
        ({"name": "folder", "annotations": "my/a:b.csv"}, "a-b"),
        ({"name": "folder", "annotations": "my/birds.csv", "title": "mine"}, "mine"),
        ({"name": "webdataset", "shards": "data/cc3m/{00000..00331}.tar"}, "cc3m"),
        ({"name": "webdataset", "shards": ["data/cc3m/*.tar", "data/cc12m/0.tar"]}, "data"),
        ({"name": "webdataset", "shards": {"test": "data/sbu/1.tar", "train": ["data/sbu/train/2.tar"]}}, "sbu"),
        ({"name": "webdataset", "shards": "/data/laion/part{0..3}/*.tar"}, "laion"),
    ],
)
def test_a_title_is_given_or_follows_from_the_files(spec, title):
    assert title_of(spec) == title


@pytest.fixture
def spec(tmp_path):
    """A table of nine images in `one/`, with absolute paths."""
    (tmp_path / "one").mkdir()
    paint(tmp_path / "one", 9)
    table = [(str(tmp_path / "one" / path), *rest) for path, *rest in rows(9)]
    return {"name": "folder", "annotations": str(write(tmp_path / "one" / "birds.csv", table)), "pixels": PIXELS}


def test_the_record_name_of_a_table_is_its_title(spec):
    """Every table was corpus "folder", and two of them one corpus."""
    assert open_corpus(spec).name == "birds" and open_corpus(spec | {"title": "mine"}).name == "mine"
    assert open_corpus(spec | {"title": "mine"}).fingerprint == open_corpus(spec).fingerprint
    assert open_corpus({"name": "scenes", "title": "toys", "concepts": 10}).name == "toys"
    for wrong in ("", "a:b", 3, "two\nlines"):
        with pytest.raises(InputError, match="title .*: expected a name on one line, without ':'"):
            open_corpus(spec | {"title": wrong})
    with pytest.raises(InputError, match="unknown parameter 'titel' .*title"):
        open_corpus(spec | {"titel": "mine"})


def test_a_fingerprint_holds_no_absolute_path(spec, tmp_path):
    """The same table and images in another folder are the same data, with the same ids and splits."""
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    table = [(str(tmp_path / "two" / path), *rest) for path, *rest in rows(9)]
    moved = spec | {"annotations": str(write(tmp_path / "two" / "copy.csv", table))}
    plain = spec | {"annotations": str(write(tmp_path / "two" / "plain.csv", rows(9)))}
    elsewhere = str(write(tmp_path / "table.csv", rows(9)))
    rooted = spec | {"annotations": elsewhere, "root": str(tmp_path / "two")}
    opened = [open_corpus(each) for each in (spec, moved, plain, rooted)]
    assert len({corpus.fingerprint for corpus in opened}) == len({data_id(corpus) for corpus in opened}) == 1
    assert all(list(corpus.captions("train")) == list(opened[0].captions("train")) for corpus in opened)
    other = [("000.png", "another caption", "train"), *rows(9)[1:]]
    changed = open_corpus(spec | {"annotations": str(write(tmp_path / "one" / "birds.csv", other))})
    assert data_id(changed) != data_id(opened[0])


def test_the_data_is_the_same_at_every_resolution(spec):
    """An open_clip model at 224 pixels stands beside a model trained at 64."""
    for small, large in (
        (open_corpus(spec), open_corpus(spec | {"pixels": 2 * PIXELS})),
        (open_corpus("scenes"), open_corpus({"name": "scenes", "pixels": 224})),
        (open_corpus("pictures"), open_corpus({"name": "pictures", "pixels": 128})),
    ):
        assert small.fingerprint != large.fingerprint and data_id(small) == data_id(large)
    assert data_id(open_corpus("scenes")) == open_corpus("scenes").fingerprint, "as in earlier records"
    assert data_id(open_corpus({"name": "scenes", "seed": 1})) != data_id(open_corpus("scenes"))


def test_own_vectors_of_the_same_items_are_one_corpus(tmp_path):
    """Two models' vectors of one gallery meet, those of two galleries do not, whatever their folders are called."""

    def made(name, items):
        folders = []
        for part, ids in (("documents", items), ("queries", [f"query {item}" for item in items])):
            folders += [f"--{part}", str(tmp_path / name / part / "images")]
            (tmp_path / name / part).mkdir(parents=True)
            with write_vectors(folders[-1], "dense", 2, shard_rows=2) as writer:
                writer.append(np.full((len(ids), 2), len(name), np.float32), ids, items)
        (gallery,) = own_galleries(parser().parse_args(["--corpus", "vectors", *folders]))
        return gallery.base.corpus, gallery.base.data_id

    one, same, other = made("one", ["a", "b", "c"]), made("again", ["a", "b", "c"]), made("other", ["a", "b", "d"])
    assert one == same and one[0] == other[0] == "vectors:images" and one[1] != other[1]
