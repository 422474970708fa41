"""The user's own table of pictures and captions: as it is, or refused by file and row; broken pictures are counted and left out, captions too."""

import logging
import threading

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from ablations.config import DataConfig
from ablations.data import prepare
from bench.corpora import Corpus, open_corpus
from bench.corpora.readers.stored import hash_split
from bench.tasks.relevance import Relevance
from bench.vectors.encode import Encoder, encode
from models import checkpoint
from models.config import ImageConfig, ModelConfig, TextConfig
from models.errors import InputError
from models.tokenizer import LexiconTokenizer

PIXELS = 16
WORDS = ("red", "green", "blue", "round", "square", "small", "large", "bright", "dark", "old")


def colour(i: int) -> tuple[int, int, int]:
    return i % 256, i * 7 % 256, 255 - i % 256


def captions(i: int) -> list[str]:
    return [f"a {WORDS[i % 10]} thing", f"one {WORDS[i % 7]} and {WORDS[i % 3]} thing"][: 1 + i % 2]


def paint(folder, count, broken=()):
    for i in range(count):
        Image.new("RGB", (20, 24), colour(i)).save(folder / f"{i:03d}.png")
        if i in broken:
            (folder / f"{i:03d}.png").write_bytes((folder / f"{i:03d}.png").read_bytes()[:-30])


def write(file, rows, header="path,caption,split"):
    """A CSV, TSV or Parquet file of these rows."""
    names = header.split(",")
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(
            pyarrow.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}),
            file,
        )
    else:
        delimiter = {".csv": ",", ".tsv": "\t"}[file.suffix]
        quoted = (delimiter.join(f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row) for row in rows)
        file.write_text("\n".join([delimiter.join(names), *quoted]) + "\n", encoding="utf-8", newline="")
    return file


def rows(count, split="train"):
    return [(f"{i:03d}.png", text, split) for i in range(count) for text in captions(i)]


@pytest.fixture
def opened(tmp_path):
    """A corpus of 9 pictures, in train."""
    paint(tmp_path, 9)
    return open_corpus({"name": "folder", "annotations": str(write(tmp_path / "list.csv", rows(9))), "pixels": PIXELS})


def shown(corpus, *slice):
    """What a slice yields: ids with the colour of the picture, and captions."""
    images = {image_id: tuple(picture[0, 0].tolist()) for image_id, picture in corpus.images(*slice)}
    return images, list(corpus.captions(*slice))


def test_the_records_are_those_of_the_table(opened):
    assert isinstance(opened, Corpus) and opened.splits == ("train",)
    images, texts = list(opened.images("train")), list(opened.captions("train"))
    assert [image_id for image_id, _ in images] == [f"{i:03d}.png" for i in range(9)] and len(texts) == 13
    assert texts[0] == ("000.png#0", "a red thing", "000.png")
    assert texts[6] == ("004.png#0", "a square thing", "004.png")
    assert texts[-1] == ("008.png#0", "a dark thing", "008.png")
    for i, (_, picture) in enumerate(images):
        assert picture.dtype == np.uint8 and picture.shape == (PIXELS, PIXELS, 3) and (picture == colour(i)).all()


@pytest.mark.parametrize("slice", [(0, 4), (3, 7), (8, 9), (4, 4), (7, None), (20, 30)])
def test_a_slice_is_that_of_the_whole(opened, slice):
    images, texts = shown(opened, "train")
    part_images, part_texts = shown(opened, "train", *slice)
    assert part_images == dict(list(images.items())[slice[0] : slice[1]])
    assert part_texts == [text for text in texts if text[2] in part_images]


def test_csv_tsv_and_parquet_are_the_same_corpus(tmp_path):
    paint(tmp_path, 9)
    corpora = [
        open_corpus({"name": "folder", "annotations": write(tmp_path / f"list{kind}", rows(9))})
        for kind in (".csv", ".tsv", ".parquet")
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == 1
    assert all(list(corpus.captions("train")) == list(corpora[0].captions("train")) for corpus in corpora)


def test_the_fingerprint_is_of_captions_files_and_pixels(tmp_path):
    paint(tmp_path, 3)
    table, spec = tmp_path / "list.csv", {"name": "folder", "annotations": tmp_path / "list.csv", "pixels": PIXELS}
    fingerprints = []
    for change in (
        lambda: write(table, rows(3)),
        lambda: write(table, [*rows(3)[:-1], ("002.png", "another thing", "train")]),
        lambda: write(table, rows(2)),
        lambda: Image.new("RGB", (99, 99)).save(tmp_path / "001.png"),
        lambda: spec.update(pixels=2 * PIXELS),
    ):
        change()
        fingerprints.append(open_corpus(spec).fingerprint)
        assert open_corpus(spec).fingerprint == fingerprints[-1]
    assert len(set(fingerprints)) == 5


def test_rows_of_a_path_are_captions_of_one_picture_wherever_they_stand(tmp_path):
    paint(tmp_path, 2)
    table = [("000.png", "one"), ("./001.png", "two"), ("000.png", "three"), ("001.png", "two")]
    corpus = open_corpus(
        {"name": "folder", "annotations": write(tmp_path / "list.csv", table, "path,caption"), "pixels": PIXELS}
    )
    found = [caption for split in corpus.splits for caption in corpus.captions(split)]
    assert sorted(found) == [
        ("000.png#0", "one", "000.png"),
        ("000.png#1", "three", "000.png"),
        ("001.png#0", "two", "001.png"),
        ("001.png#1", "two", "001.png"),
    ]


def test_values_are_text_and_nothing_else(tmp_path):
    paint(tmp_path, 2)
    texts = ["null", "NA", "1e5", 'he said "stop", twice', " spaces around ", "two\nlines", "#comment", "日本語 🙂"]
    for kind in (".csv", ".tsv", ".parquet"):
        table = write(tmp_path / f"list{kind}", [("000.png", text, "train") for text in texts])
        assert [text for _, text, _ in open_corpus({"name": "folder", "annotations": table}).captions("train")] == texts


def test_quotes_may_be_plain_characters(tmp_path):
    paint(tmp_path, 1)
    table = tmp_path / "list.tsv"
    table.write_text('filepath\ttitle\n000.png\t"quoted" at first\n000.png\t12" wide\n')
    spec = {"name": "folder", "annotations": str(table)}
    with pytest.raises(InputError, match="list.tsv: line 2: .* quoted: false"):
        open_corpus(spec)
    corpus = open_corpus(spec | {"quoted": False})
    assert [text for _, text, _ in corpus.captions(corpus.splits[0])] == ['"quoted" at first', '12" wide']


HOSTILE = [
    "a b.png",
    "a,b.png",
    'a"b.png',
    "a\tb.png",
    "a\nb.png",
    "-rf.png",
    "%s%d.png",
    "{0}.png",
    "日本🙂.png",
    "a#1.png",
    "sub/../x.png",
    "nul.png.",
    "'; drop.png",
]


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_hostile_file_names_are_names(tmp_path, caplog, kind):
    (tmp_path / "sub").mkdir()
    for i, name in enumerate(HOSTILE):
        Image.new("RGB", (16, 16), colour(i)).save(tmp_path / name, "PNG")
    (tmp_path / HOSTILE[4]).write_bytes(b"broken")
    table = write(tmp_path / f"list{kind}", [(name, "a thing", "test") for name in HOSTILE])
    images, texts = shown(open_corpus({"name": "folder", "annotations": table, "pixels": PIXELS}), "test")
    expected = {name.replace("sub/../", ""): colour(i) for i, name in enumerate(HOSTILE) if i != 4}
    assert images == expected and [image_id for _, _, image_id in texts] == list(expected)
    assert "a\\nb.png" in caplog.text and len(caplog.records) == 1


def test_a_root_and_column_names_can_be_given(tmp_path):
    (tmp_path / "pictures").mkdir()
    paint(tmp_path / "pictures", 2)
    table = write(
        tmp_path / "list.csv",
        [("000.png", "no", "yes", "mine"), (str(tmp_path / "pictures" / "001.png"), "no", "yes", "other")],
        "where,caption,alt,part",
    )
    spec = {
        "name": "folder",
        "annotations": table,
        "root": str(tmp_path / "pictures"),
        "path": "where",
        "caption": "alt",
        "split": "part",
    }
    corpus = open_corpus(spec)
    assert corpus.splits == ("mine", "other")
    assert list(corpus.captions("mine")) == [("000.png#0", "yes", "000.png")]


def test_without_a_split_column_the_path_decides(tmp_path):
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


def test_the_split_of_a_name_is_pinned():
    names = [f"{i:06d}.jpg" for i in range(20_000)]
    splits = list(map(hash_split, names))
    assert {split: splits.index(split) for split in ("train", "val", "test")} == {"train": 0, "val": 23, "test": 5}
    assert all(
        abs(splits.count(split) / 20_000 - share) < 0.01
        for split, share in (("train", 0.9), ("val", 0.05), ("test", 0.05))
    )


# --- broken pictures --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path):
    """A function that opens a corpus of 300 pictures, three of them broken."""
    paint(tmp_path, 300, broken=(0, 130, 299))
    write(tmp_path / "list.csv", rows(300, "test"))
    return lambda: open_corpus({"name": "folder", "annotations": tmp_path / "list.csv", "pixels": PIXELS})


INTACT = [i for i in range(300) if i not in (0, 130, 299)]


def test_a_broken_picture_is_counted_named_and_left_out_with_its_captions(damaged, caplog):
    corpus = damaged()
    with caplog.at_level(logging.WARNING):
        images, texts = shown(corpus, "test")
    assert images == {f"{i:03d}.png": colour(i) for i in INTACT}, "each has its own pixels: none was taken for another"
    assert [image_id for _, _, image_id in texts] == [f"{i:03d}.png" for i in INTACT for _ in captions(i)]
    assert (
        [left.name for left in corpus.broken()]
        == ["000.png", "130.png", "299.png"]
        == [left.name for left in corpus.broken("test")]
    )
    assert all(left.name in left.why and "cannot be decoded" in left.why for left in corpus.broken())
    assert len(caplog.records) == 3 and "3 of 300 so far" in caplog.text and "130.png" in caplog.text


@pytest.mark.parametrize("first", ["images", "captions"])
def test_positions_do_not_depend_on_what_was_asked_first(damaged, first):
    corpus = damaged()
    list(getattr(corpus, first)("test", 200, 250))
    for start, stop in ((200, 250), (0, 5), (129, 131), (296, 400)):
        images, texts = shown(corpus, "test", start, stop)
        assert list(images) == [f"{i:03d}.png" for i in INTACT[start:stop]]
        assert list(dict.fromkeys(image_id for _, _, image_id in texts)) == list(images)


def test_threads_see_the_same_pictures(damaged):
    corpus, seen = damaged(), {}

    def read(start):
        seen[start] = [image_id for image_id, _ in corpus.images("test", start, start + 50)]

    threads = [threading.Thread(target=read, args=(start,)) for start in range(250, -50, -50)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert [image_id for start in sorted(seen) for image_id in seen[start]] == [f"{i:03d}.png" for i in INTACT]
    assert len(corpus.broken()) == 3


def test_a_picture_that_shrinks_later_is_an_error_and_no_end(damaged, tmp_path):
    corpus = damaged()
    (tmp_path / "005.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(InputError, match="005.png: 0 bytes, expected"):
            list(corpus.images("test"))


def test_training_data_leaves_the_broken_out(damaged, tmp_path):
    paint(tmp_path, 40, broken=(3,))
    table = write(tmp_path / "train.csv", rows(40))
    config = DataConfig(corpus={"name": "folder", "annotations": str(table), "pixels": PIXELS}, train_images=39)
    data = prepare(tmp_path / "home", config, TextConfig(vocabulary=64, max_tokens=12))
    intact = [i for i in range(40) if i != 3]
    assert [tuple(image[0, 0].tolist()) for image in data.images_NHWC] == [colour(i) for i in intact]
    assert np.diff(data.first_N1).tolist() == [len(captions(i)) for i in intact]
    with pytest.raises(InputError, match="40 asked for, but folder has 39"):
        prepare(tmp_path / "home", DataConfig(config.corpus, train_images=40), TextConfig(vocabulary=64, max_tokens=12))


def test_encoding_gives_every_caption_the_group_of_its_picture(damaged, tmp_path):
    """Real models over pictures of another size, in batches that a broken picture cuts through."""
    corpus = damaged()
    tokenizer = LexiconTokenizer.train(
        [text for i in range(40) for text in captions(i)], vocabulary_size=96, max_tokens=12
    )
    torch.manual_seed(0)
    image = ImageConfig(layers=1, width=16, heads=2, pixels=32, patch=16, stem="patch")
    model = checkpoint.create(
        ModelConfig(
            kind="lexlip",
            image=image,
            text=TextConfig(layers=1, width=16, heads=2, max_tokens=12, vocabulary=len(tokenizer)),
        ),
        tokenizer,
    )
    checkpoint.save(model, tmp_path / "model")
    encoder = Encoder(tmp_path / "model")
    encoded = encode(tmp_path / "home", encoder, corpus, "test", 297)
    ids = [f"{i:03d}.png" for i in INTACT]
    assert list(encoded.images.ids) == ids
    assert list(encoded.captions.groups) == [f"{i:03d}.png" for i in INTACT for _ in captions(i)]
    assert list(encoded.captions.ids) == [f"{i:03d}.png#{k}" for i in INTACT for k in range(len(captions(i)))]
    row = ids.index("131.png")
    plain = np.full((1, 32, 32, 3), colour(131), np.uint8)
    np.testing.assert_allclose(encoded.images.to_scipy().toarray()[row], encoder.images(plain)[0], atol=1e-5)
    ranks, relevant = Relevance(encoded.images, encoded.captions).ranks(
        np.arange(297)[None].repeat(encoded.captions.count, axis=0)
    )
    assert relevant.tolist() == [1] * encoded.captions.count
    assert [rank.tolist() for rank in ranks] == [
        [position + 1] for position, i in enumerate(INTACT) for _ in captions(i)
    ]
    with pytest.raises(InputError, match="split test has 297 images, expected at least 300"):
        encode(tmp_path / "home", encoder, corpus, "test", 300)


# --- refused ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty"),
        ("path,caption\n", "names no pictures"),
        ("a,b\n0,1\n", "'a', 'b', expected one of path"),
        ("path,filepath,caption\n0,1,2\n", "expected one of path"),
        ("path,title,caption\n0,1,2\n", "name the right one as caption"),
        ("path,caption,caption\n0,1,2\n", "2 columns named 'caption'"),
        ("path,caption\n000.png,one\n000.png,two,three\n", "line 3 has 3 values, expected 2"),
        ("path,caption\n000.png,one\n000.png,  \n", "row 3 has no 'caption'"),
        ("path,caption\n,one\n", "row 2 has no 'path'"),
        ("path,caption,split\n000.png,one,\n", "row 2 has no 'split'"),
        (
            "path,caption,split\n000.png,one,train\n000.png,two,test\n",
            "'000.png' is in split 'test', but in 'train' before",
        ),
        ('path,caption\n000.png,"one\n000.png,two\n', "quoted: false"),
        ("path,caption\n000.png,caf\udce9\n", "not UTF-8"),
        (
            "path,caption\n000.png,one\n009.png,two\n../010.png,three\n",
            r"009.png: No such file or directory; 2 of 3 pictures named in \S*list.csv",
        ),
        ("path,caption\n.,one\n", "not a file; 1 of 1"),
        ("path,caption\n0\x00.png,one\n", "null"),
    ],
)
def test_a_broken_table_is_refused_by_file_and_row(tmp_path, text, message):
    paint(tmp_path, 1)
    (tmp_path / "list.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as error:
        open_corpus({"name": "folder", "annotations": str(tmp_path / "list.csv")})
    assert "list.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"path": ["000.png", None], "caption": ["one", "two"]}, "row 2 has no 'path'"),
        ({"path": ["000.png"], "caption": [5]}, "column 'caption' holds int64, expected text"),
        ({"path": ["000.png"], "caption": [["one", "two"]]}, "expected text"),
    ],
)
def test_a_broken_parquet_is_refused(tmp_path, columns, message):
    paint(tmp_path, 1)
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    with pytest.raises(InputError, match=f"list.parquet: .*{message}"):
        open_corpus({"name": "folder", "annotations": tmp_path / "list.parquet"})
    whole = (tmp_path / "list.parquet").read_bytes()
    (tmp_path / "list.parquet").write_bytes(whole[:-20])
    with pytest.raises(InputError, match="list.parquet: not a whole Parquet file"):
        open_corpus({"name": "folder", "annotations": tmp_path / "list.parquet"})


@pytest.mark.parametrize(
    "spec, message",
    [
        ({}, "corpus folder: annotations is missing"),
        ({"annotations": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"annotations": "list.xlsx"}, r"list.xlsx: (no such file|expected a name)"),
        ({"annotations": 7}, "annotations: 7 is not a path"),
        (
            {"annotations": "list.csv", "root": "nowhere"},
            "nowhere: no such folder; expected the pictures named in list.csv",
        ),
        ({"annotations": "list.csv", "pixels": 3}, "pixels: 3 is not between"),
        ({"annotations": "list.csv", "pixels": "64"}, "pixels: '64' is not a whole number"),
        ({"annotations": "list.csv", "split": "part"}, "0 columns named 'part'"),
        ({"annotations": "list.csv", "captions": "text"}, "'captions' is unknown .nearest: caption;"),
    ],
)
def test_bad_parameters_are_refused(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path, 1)
    write(tmp_path / "list.csv", rows(1))
    with pytest.raises(InputError, match=message):
        open_corpus({"name": "folder"} | spec)


def test_an_unknown_split_or_a_range_that_is_none_is_refused(opened):
    with pytest.raises(InputError, match="unknown split 'tran' .nearest: train"):
        next(opened.images("tran"))
    for start, stop in ((-1, 3), (5, 4)):
        with pytest.raises(InputError, match="is no range"):
            list(opened.captions("train", start, stop))
