"""The corpus `folder`: images and captions are those of the table; a broken table is refused by file and row."""

import gzip

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from bench.corpora import Corpus, open_corpus, read_spec
from models.errors import InputError
from tests.bench.corpora.readers.tables import PIXELS, colour, paint, rows, shown, write


@pytest.fixture
def opened(tmp_path):
    """A corpus of 9 images, in train."""
    paint(tmp_path, 9)
    return open_corpus({"name": "folder", "annotations": str(write(tmp_path / "list.csv", rows(9))), "pixels": PIXELS})


def test_images_and_captions_are_those_of_the_table(opened):
    assert isinstance(opened, Corpus) and opened.splits == ("train",)
    images, texts = list(opened.images("train")), list(opened.captions("train"))
    assert [image_id for image_id, _ in images] == [f"{i:03d}.png" for i in range(9)] and len(texts) == 13
    assert texts[0] == ("000.png#0", "a red thing", "000.png")
    assert texts[6] == ("004.png#0", "a square thing", "004.png")
    assert texts[-1] == ("008.png#0", "a dark thing", "008.png")
    for i, (_, image) in enumerate(images):
        assert image.dtype == np.uint8 and image.shape == (PIXELS, PIXELS, 3) and (image == colour(i)).all()


@pytest.mark.parametrize("slice", [(0, 4), (3, 7), (8, 9), (4, 4), (7, None), (20, 30)])
def test_a_slice_equals_the_same_part_of_the_split(opened, slice):
    images, texts = shown(opened, "train")
    part_images, part_texts = shown(opened, "train", *slice)
    assert part_images == dict(list(images.items())[slice[0] : slice[1]])
    assert part_texts == [text for text in texts if text[2] in part_images]


def test_csv_tsv_and_parquet_give_the_same_corpus(tmp_path):
    paint(tmp_path, 9)
    corpora = [
        open_corpus({"name": "folder", "annotations": write(tmp_path / f"list{kind}", rows(9))})
        for kind in (".csv", ".tsv", ".parquet")
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == 1
    assert all(list(corpus.captions("train")) == list(corpora[0].captions("train")) for corpus in corpora)


def test_the_fingerprint_covers_captions_files_and_pixels(tmp_path):
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


def test_rows_with_the_same_path_are_captions_of_one_image(tmp_path):
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


def test_values_stay_text(tmp_path):
    paint(tmp_path, 2)
    texts = ["null", "NA", "1e5", 'he said "stop", twice', " spaces around ", "two\nlines", "#comment", "日本語 🙂"]
    for kind in (".csv", ".tsv", ".parquet"):
        table = write(tmp_path / f"list{kind}", [("000.png", text, "train") for text in texts])
        assert [text for _, text, _ in open_corpus({"name": "folder", "annotations": table}).captions("train")] == texts


def test_lists_of_captions_in_parquet_are_captions_of_one_image(tmp_path):
    paint(tmp_path, 2)
    columns = {"path": ["000.png", "001.png"], "caption": [["one", None, "two"], ["three"]], "split": ["test"] * 2}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    corpus = open_corpus({"name": "folder", "annotations": tmp_path / "list.parquet"})
    expected = [("000.png#0", "one"), ("000.png#1", "two"), ("001.png#0", "three")]
    assert [caption[:2] for caption in corpus.captions("test")] == expected


def test_quotes_can_be_plain_characters(tmp_path):
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
def test_hostile_file_names_are_read(tmp_path, caplog, kind):
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
    (tmp_path / "images").mkdir()
    paint(tmp_path / "images", 2)
    table = write(
        tmp_path / "list.csv",
        [("000.png", "no", "yes", "mine"), (str(tmp_path / "images" / "001.png"), "no", "yes", "other")],
        "where,caption,alt,part",
    )
    spec = {
        "name": "folder",
        "annotations": table,
        "root": str(tmp_path / "images"),
        "path": "where",
        "caption": "alt",
        "split": "part",
    }
    corpus = open_corpus(spec)
    assert corpus.splits == ("mine", "other")
    assert list(corpus.captions("mine")) == [("000.png#0", "yes", "000.png")]


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty"),
        ("path,caption\n", "lists no images"),
        ("a,b\n0,1\n", "'a', 'b', expected exactly one of path"),
        ("path,filepath,caption\n0,1,2\n", "expected exactly one of path"),
        ("path,title,caption\n0,1,2\n", "name the column as caption"),
        ("path,caption,caption\n0,1,2\n", "2 columns named 'caption'"),
        ("path,caption\n000.png,one\n000.png,two,three\n", "line 3 has 3 values, expected 2"),
        ("path,caption\n000.png,one\n000.png\n", "1 of 2 rows cannot be used .line 3 has 1 values, expected 2"),
        ("path,caption\n000.png,one\n000.png,  \n", "1 of 2 rows .*row 3: 'caption' is empty.*allow_missing: true"),
        ("path,caption\n,one\n", "row 2: 'path' is empty"),
        ("path,caption,split\n000.png,one,\n", "row 2: 'split' is empty"),
        (
            "path,caption,split\n000.png,one,train\n000.png,two,test\n",
            "'000.png' is in split 'test' and in 'train'",
        ),
        ('path,caption\n000.png,"one\n000.png,two\n', "quoted: false"),
        ("path,caption\n000.png,caf\udce9\n", "line 2: not UTF-8 .*; save the file as UTF-8"),
        (
            "path,caption\n000.png,one\n009.png,two\n../010.png,three\n",
            r"list.csv: 2 of 3 images cannot be used \(\S*009.png: No such file or directory; \S*010.png: .*at most 5%",
        ),
        ("path,caption\n.,one\n", "1 of 1 images cannot be used .*not a file"),
        ("path,caption\nhttps://a.b/0.png,one\n", "1 of 1 images cannot be used .*a URL, not a file"),
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
        ({"path": ["000.png", None], "caption": ["one", "two"]}, "row 2: 'path' is empty"),
        ({"path": ["000.png"], "caption": [5]}, "column 'caption' holds int64, expected text"),
        ({"path": ["000.png"], "caption": [[1, 2]]}, "column 'caption' holds list<.*>, expected text"),
        ({"path": ["000.png"] * 2, "caption": [[], ["one"]]}, "row 1: 'caption' is empty"),
        (
            {"image": [{"bytes": b"", "path": "000.png"}], "caption": ["one"]},
            "expected text; .* use the corpus parquet",
        ),
    ],
)
def test_a_broken_parquet_is_refused(tmp_path, columns, message):
    paint(tmp_path, 1)
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    with pytest.raises(InputError, match=f"list.parquet: .*{message}"):
        open_corpus({"name": "folder", "annotations": tmp_path / "list.parquet"})
    whole = (tmp_path / "list.parquet").read_bytes()
    (tmp_path / "list.parquet").write_bytes(whole[:-20])
    with pytest.raises(InputError, match="list.parquet: not a valid Parquet file"):
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
            "nowhere: no such folder; expected the images named in list.csv",
        ),
        ({"annotations": "list.csv", "pixels": 3}, "pixels: 3 is not between"),
        ({"annotations": "list.csv", "pixels": "64"}, "pixels: '64' is not an integer"),
        ({"annotations": "list.csv", "strict": "no"}, "strict: 'no' is not true or false"),
        ({"annotations": "list.csv", "strict": True, "allow_missing": True}, "strict and allow_missing"),
        ({"annotations": "list.csv", "separator": "\\t"}, "expected one of , ; | or a tab"),
        ({"annotations": "https://a.b/list.csv"}, "annotations: https://a.b/list.csv is a URL; expected a path"),
        ({"annotations": "list.csv", "root": "s3://images"}, "root: s3://images is a URL; expected a path"),
        ({"annotations": "list.csv", "split": "part"}, "0 columns named 'part'"),
        ({"annotations": "list.csv", "captions": "text"}, "unknown parameter 'captions' .nearest: caption;"),
    ],
)
def test_bad_parameters_are_refused(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path, 1)
    write(tmp_path / "list.csv", rows(1))
    with pytest.raises(InputError, match=message):
        open_corpus({"name": "folder"} | spec)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet", ""])
def test_a_compressed_table_is_named(tmp_path, suffix):
    (tmp_path / f"list{suffix}").write_bytes(gzip.compress(b"path,caption\n000.png,one\n"))
    with pytest.raises(InputError, match=rf"list{suffix}: compressed with gzip, .*decompress it first"):
        open_corpus({"name": "folder", "annotations": tmp_path / f"list{suffix}"})


@pytest.mark.parametrize(
    "text, key",
    [
        ("{name:folder}", "name: folder"),
        ("{name:folder,annotations:list.csv}", "name: folder"),
        ("{name: folder, annotations:list.csv}", "annotations: list.csv"),
        ('{name: webdataset, shards: {test:"0.tar"}}', 'test: "0.tar"'),
        ("{name: webdataset, shards: {test:0.tar}}", "test: 0.tar"),
    ],
)
def test_a_missing_space_after_a_colon_is_named(text, key):
    with pytest.raises(InputError, match=f"expected a space after the colon: {key}"):
        open_corpus(read_spec(text))


def test_an_unknown_split_and_a_bad_slice_are_refused(opened):
    with pytest.raises(InputError, match="unknown split 'tran' .nearest: train"):
        next(opened.images("tran"))
    for start, stop in ((-1, 3), (5, 4)):
        with pytest.raises(InputError, match="expected 0 <= start <= stop"):
            list(opened.captions("train", start, stop))
