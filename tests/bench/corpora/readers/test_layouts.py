"""The corpus `folder` over JSON files, folders of image and text, and several tables: all give the same images."""

import json

import pytest
from PIL import Image

from bench.corpora import Corpus, open_corpus
from models.errors import InputError
from tests.bench.corpora.readers.tables import PIXELS, captions, colour, paint, rows, shown, write

COUNT = 9


def coco(table):
    """COCO's own captions_*.json; the annotations are in another order than the images."""
    images = [{"id": 100 + i, "file_name": f"{i:03d}.png", "height": 24} for i in range(COUNT)]
    notes = [
        {"image_id": 100 + i, "id": 10 * i + k, "caption": t} for i in range(COUNT) for k, t in enumerate(captions(i))
    ]
    table.write_text(json.dumps({"info": {}, "images": images[::-1], "annotations": notes, "licenses": []}))


def blip(table):
    """The lists of ALBEF and BLIP: one caption as text, several as a list."""
    texts = [captions(i) for i in range(COUNT)]
    table.write_text(
        json.dumps(
            [{"image": f"{i:03d}.png", "caption": t if len(t) > 1 else t[0]} for i, t in enumerate(texts)], indent=1
        )
    )


def json_lines(table):
    table.write_text("\n\n".join(json.dumps({"file_name": path, "text": text}) for path, text, _ in rows(COUNT)) + "\n")


@pytest.mark.parametrize(
    "form, name", [(coco, "a.json"), (blip, "a.json"), (json_lines, "a.jsonl"), (json_lines, "a.json")]
)
def test_json_gives_the_same_corpus_as_a_table(tmp_path, form, name):
    paint(tmp_path, COUNT)
    form(tmp_path / name)
    write(tmp_path / "list.csv", [row[:2] for row in rows(COUNT)], "path,caption")
    spec = {"name": "folder", "pixels": PIXELS, "split": "all"}
    corpus = open_corpus(spec | {"annotations": tmp_path / name})
    expected = open_corpus(spec | {"annotations": tmp_path / "list.csv"})
    assert isinstance(corpus, Corpus) and shown(corpus, "all") == shown(expected, "all")
    assert corpus.fingerprint == expected.fingerprint


def test_a_folder_of_image_and_text(tmp_path, caplog):
    (tmp_path / "sub").mkdir()
    for i in range(40):
        Image.new("RGB", (20, 24), colour(i)).save(tmp_path / "sub" / f"{i:03d}.b.PNG", "PNG")
        (tmp_path / "sub" / f"{i:03d}.b.txt").write_text("\n".join(captions(i)) + "\n")
    (tmp_path / "sub" / "003.b.txt").unlink()
    (tmp_path / "sub" / "._004.b.PNG").write_bytes(b"metadata of another system")
    (tmp_path / "readme.txt").write_text("not a caption")
    corpus = open_corpus({"name": "folder", "annotations": tmp_path, "pixels": PIXELS})
    images, texts = shown(corpus, "all")
    assert images == {f"sub/{i:03d}.b.PNG": colour(i) for i in range(40) if i != 3}
    assert [text for _, text, _ in texts] == [text for i in range(40) if i != 3 for text in captions(i)]
    assert "1 of 59 rows cannot be used (sub/003.b.PNG: no 003.b.txt beside it): left out" in caplog.text
    (tmp_path / "sub" / "005.b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="005.b.txt: not UTF-8"):
        open_corpus({"name": "folder", "annotations": tmp_path})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: lists no images"):
        open_corpus({"name": "folder", "annotations": tmp_path / "empty"})


def test_splits_can_be_tables_and_folders_of_their_own(tmp_path):
    for part, count in (("train", 5), ("val", 2)):
        (tmp_path / part).mkdir()
        paint(tmp_path / part, count)
    write(tmp_path / "train" / "list.csv", [row[:2] for row in rows(5)], "path,caption")
    for i in range(2):
        (tmp_path / "val" / f"{i:03d}.txt").write_text("one")
    tables = {"train": tmp_path / "train" / "list.csv", "val": tmp_path / "val"}
    spec = {"name": "folder", "pixels": PIXELS}
    corpus = open_corpus(spec | {"annotations": tables})
    assert corpus.splits == ("train", "val") and not corpus.hidden_splits
    assert shown(corpus, "train")[0] == {f"train/{i:03d}.png": colour(i) for i in range(5)}
    assert shown(corpus, "val")[0] == {f"val/{i:03d}.png": colour(i) for i in range(2)}
    write(tmp_path / "t.csv", [row[:2] for row in rows(5)], "path,caption")
    write(tmp_path / "v.csv", [("000.png", "one")], "path,caption")
    tables = {"train": tmp_path / "t.csv", "val": tmp_path / "v.csv"}
    given = spec | {"annotations": tables, "root": {"train": tmp_path / "train", "val": tmp_path / "val"}}
    assert shown(open_corpus(given), "train") == shown(corpus, "train")
    with pytest.raises(InputError, match="v.csv: row 2: '000.png' is in split 'val' and in 'train'"):
        open_corpus(spec | {"annotations": tables, "root": tmp_path / "train"})
    for change, message in (
        ({"split": "all"}, "split: 'all'; expected none"),
        ({"root": {"train": tmp_path}}, "expected one path, or a mapping of the same splits"),
        ({"annotations": {3: tables["train"]}}, "annotations: 3 is not the name of a split"),
        ({"annotations": {"val": 7}}, "annotations: val: 7 is not a path"),
        ({"annotations": {}}, "annotations: {} is not a path"),
    ):
        with pytest.raises(InputError, match=message):
            open_corpus(given | change)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.json", "", "a.json: not valid JSON"),
        ("a.json", "[1, 2", "a.json: not valid JSON"),
        ("a.json", '{"a": 1,\n"b": 2}', "a.json: expected a list of objects, JSON lines, or COCO's"),
        ("a.json", "3", "expected a list of objects"),
        ("a.json", "[3]", "object 1 is 3, expected an object with keys"),
        ("a.json", "[" * 100_000, "JSON"),
        ("a.jsonl", '{"path": "000.png", "caption": "one"}\n{"path": ', "line 2: not valid JSON"),
        ("a.jsonl", '{"path": "000.png", "caption": 5}', "object 1: 'caption' is 5, expected text or a list of texts"),
        ("a.jsonl", '{"path": "000.png", "caption": [["a"]]}', "expected text or a list of texts"),
        ("a.jsonl", '{"path": "000.png", "caption": "a"}\n{"path": "000.png"}', "row 2: 'caption' is empty"),
        ("a.jsonl", '{"path": "000.png", "alt": "a"}', "columns 'path', 'alt', expected exactly one of caption"),
        ("a.json", '{"images": [{"id": 1}], "annotations": []}', "COCO's captions .KeyError"),
        ("a.json", '{"images": [], "annotations": [{"image_id": [], "caption": ""}]}', "COCO's captions .TypeError"),
        ("a.json", '{"images": [], "annotations": []}', "columns , expected exactly one of path"),
        ("a.json", '{"images": [{"id": 1, "file_name": "000.png"}], "annotations": [{"image_id": 1, "caption": "a"}, '
         '{"image_id": 2, "caption": "a"}]}', r"1 of 2 rows .*annotations\[1\]: image_id 2 is not among the images"),
        ("a.jsonl", "caf\udce9", "not UTF-8"),
    ],
)  # fmt: skip
def test_broken_json_is_refused_by_file_and_object(tmp_path, name, text, message):
    paint(tmp_path, 1)
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as error:
        open_corpus({"name": "folder", "annotations": tmp_path / name})
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_metadata_of_an_image_folder_is_a_table(tmp_path, suffix):
    paint(tmp_path, 3)
    listed = [{"file_name": f"{i:03d}.png", "text": f"thing {i}"} for i in range(3)]
    lines = [json.dumps(row) for row in listed]
    if suffix == "csv":
        lines = ["file_name,text", *(",".join(row.values()) for row in listed)]
    (tmp_path / f"metadata.{suffix}").write_text("\n".join(lines))
    spec = {"name": "folder", "annotations": tmp_path / f"metadata.{suffix}", "split": "all"}
    found = [(text, image_id) for _, text, image_id in open_corpus(spec).captions("all")]
    assert found == [(row["text"], row["file_name"]) for row in listed]
