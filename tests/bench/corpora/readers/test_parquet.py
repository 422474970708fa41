"""Parquet files with images in them, as Hugging Face's `datasets` writes them."""

import io
import pickle

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from bench.corpora import Corpus, open_corpus
from bench.corpora.readers.stored import hash_split
from models.errors import InputError

ROWS = 12


def colour(i):
    return 20 * i, 60, 200


def png(i):
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), colour(i)).save(stream, "PNG")
    return stream.getvalue()


def columns(numbers=range(ROWS), **changes):
    numbers = list(numbers)
    images = [{"bytes": png(i), "path": f"{i}.png"} for i in numbers]
    return {"image": images, "caption": [[f"One of {i}", f"Two of {i}"] for i in numbers]} | changes


def store(file, of_file, group=5):
    pyarrow.parquet.write_table(pyarrow.table(of_file), file, row_group_size=group)
    return file


def spec(folder, pattern="*.parquet", **parameters):
    return {"name": "parquet", "files": str(folder / pattern), "pixels": 16} | parameters


def shown(corpus, split, *slice):
    return [(image_id, tuple(image[0, 0].tolist())) for image_id, image in corpus.images(split, *slice)]


def test_images_and_captions_are_those_of_the_rows(tmp_path):
    store(tmp_path / "test-00000-of-00001.parquet", columns())
    corpus = open_corpus(spec(tmp_path))
    assert isinstance(corpus, Corpus) and corpus.splits == ("test",) and corpus.sizes["test"] == ROWS
    expected = [(f"test-00000-of-00001/{i}", colour(i)) for i in range(ROWS)]
    assert shown(corpus, "test") == expected == shown(corpus, "all")
    for start, stop in ((7, 11), (0, 3), (11, None)):
        assert shown(open_corpus(spec(tmp_path)), "test", start, stop) == expected[start:stop]
    captions = list(corpus.captions("test", 3, 4))
    image_id = "test-00000-of-00001/3"
    assert captions == [(f"{image_id}#0", "One of 3", image_id), (f"{image_id}#1", "Two of 3", image_id)]
    assert shown(pickle.loads(pickle.dumps(corpus)), "test") == expected


@pytest.mark.parametrize(
    "of_file, given",
    [
        (columns(), None),
        (columns(image=[png(i) for i in range(ROWS)]), None),
        (columns(image=pyarrow.array([png(i) for i in range(ROWS)], pyarrow.large_binary())), None),
        ({k: v for k, v in columns(captions=columns()["caption"]).items() if k != "caption"}, None),
        (
            {
                "image": columns()["image"],
                "caption_0": [f"One of {i}" for i in range(ROWS)],
                "caption_1": [f"Two of {i}" for i in range(ROWS)],
            },
            None,
        ),
        (columns(title=["other"] * ROWS), "caption"),
        (
            columns(
                caption=[f"One of {i}" for i in range(ROWS)], alt=[[f"Two of {i}", None, " "] for i in range(ROWS)]
            ),
            ["caption", "alt"],
        ),
    ],
)
def test_the_usual_columns_are_read(tmp_path, of_file, given):
    store(tmp_path / "test.parquet", of_file)
    corpus = open_corpus(spec(tmp_path, caption=given))
    assert shown(corpus, "test") == [(f"test/{i}", colour(i)) for i in range(ROWS)]
    texts = [text for _, text, _ in corpus.captions("test")]
    assert texts == [text for i in range(ROWS) for text in (f"One of {i}", f"Two of {i}")]


def test_splits_come_from_a_mapping_a_column_or_the_file_name(tmp_path):
    store(tmp_path / "train-0.parquet", columns(range(4)))
    store(tmp_path / "train-1.parquet", columns(range(4, 6)))
    store(tmp_path / "validation-0.parquet", columns(range(6, 9)))
    store(tmp_path / "test.parquet", columns(range(9, 12)))
    corpus = open_corpus(spec(tmp_path))
    assert corpus.splits == ("train", "val", "test")
    assert [i for i, _ in shown(corpus, "train")] == [*(f"train-0/{i}" for i in range(4)), "train-1/0", "train-1/1"]
    assert corpus.sizes == {"train": 6, "val": 3, "test": 3, "all": 12}
    mapped = open_corpus(spec(tmp_path, files={"mine": str(tmp_path / "train-?.parquet")}))
    assert mapped.splits == ("mine",) and len(shown(mapped, "mine")) == 6 and mapped.sizes == {"mine": 6}
    store(tmp_path / "train-0.parquet", columns(range(4), split=["test", "train", "val", "test"]))
    assert [i for i, _ in shown(open_corpus(spec(tmp_path, "train-0.parquet")), "test")] == ["train-0/0", "train-0/3"]
    store(tmp_path / "data.parquet", columns())
    corpus = open_corpus(spec(tmp_path, "data.parquet"))
    assert all(hash_split(image_id) == split for split in corpus.splits for image_id, _ in shown(corpus, split))


def test_a_split_column_is_read_whatever_text_it_holds_and_refused_otherwise(tmp_path):
    splits = ["test", "train", "val", "test"]
    categories = pyarrow.array(splits).dictionary_encode()
    file = store(tmp_path / "train-0.parquet", columns(range(4), split=categories))
    assert [i for i, _ in shown(open_corpus(spec(tmp_path)), "test")] == ["train-0/0", "train-0/3"]
    store(file, columns(range(4), split=[0, 1, 2, 0]))
    with pytest.raises(InputError, match=r"train-0\.parquet: column 'split' holds int64, expected text"):
        open_corpus(spec(tmp_path))


def test_a_broken_image_is_skipped_and_a_row_without_caption_left_out(tmp_path, caplog):
    of_file = columns(range(60))
    of_file["image"][4] = {"bytes": b"rubbish", "path": None}
    of_file["image"][5] = {"bytes": None, "path": "elsewhere.png"}
    of_file["caption"][6], of_file["caption"][7] = [], None
    store(tmp_path / "test.parquet", of_file)
    corpus = open_corpus(spec(tmp_path))
    assert [i for i, _ in shown(corpus, "test")] == [f"test/{i}" for i in range(60) if i not in (4, 5, 6, 7)]
    assert (
        "test.parquet: 2 of 60 rows cannot be used (row 6 has no caption; row 7 has no caption): left out"
        in caplog.text
    )
    reasons = [left.reason for left in corpus.broken()]
    assert "test.parquet: row 4: not an image" in reasons[0] and "row 5: the file is empty" in reasons[1]
    with pytest.raises(InputError, match="2 of 60 rows .*; expected none"):
        open_corpus(spec(tmp_path, strict=True))


def test_the_fingerprint_covers_images_captions_and_parameters(tmp_path):
    specs = [spec(tmp_path), spec(tmp_path, pixels=32), spec(tmp_path, files={"test": str(tmp_path / "*.parquet")})]
    store(tmp_path / "test.parquet", columns())
    found = [open_corpus(each).fingerprint for each in specs]
    assert open_corpus(spec(tmp_path)).fingerprint == found[0]
    for changed in (columns(image=columns(range(1, ROWS + 1))["image"]), columns(caption=["other"] * ROWS)):
        store(tmp_path / "test.parquet", changed)
        found.append(open_corpus(spec(tmp_path)).fingerprint)
    assert len(set(found)) == 5


@pytest.mark.parametrize(
    "of_file, parameters, message",
    [
        (columns(), {"files": "nowhere/*.parquet"}, "no file matches nowhere/.*; expected Parquet files with images"),
        (columns(), {"files": "nowhere.parquet"}, "nowhere.parquet: no such file; expected Parquet files"),
        (columns(), {"files": 3}, "files: 3 is not a pattern"),
        (columns(), {"files": {}}, "files: {}; expected a mapping of split names to patterns"),
        (columns(), {"files": {1: "test.parquet"}}, "expected a mapping of split names to patterns"),
        (columns(), {"files": "/"}, "files: / is a folder; expected Parquet files with images in them: a pattern"),
        (columns(), {"image": "picture"}, "0 columns named 'picture', expected one; columns: 'image', 'caption'"),
        (columns(), {"caption": "words"}, "name the columns of captions as caption"),
        (columns(title=["one"] * ROWS), {}, "columns 'image', 'caption', 'title'; expected one of caption"),
        (columns(caption=[3] * ROWS), {}, "column 'caption' holds int64, expected text or lists of text"),
        (columns(image=["a.png"] * ROWS), {}, "column 'image' holds string, expected bytes .* use the corpus folder"),
        (columns(caption=[""] * ROWS), {}, "12 of 12 rows cannot be used"),
    ],
)
def test_broken_files_and_parameters_are_refused(tmp_path, of_file, parameters, message):
    store(tmp_path / "test.parquet", of_file)
    with pytest.raises(InputError, match=message):
        open_corpus(spec(tmp_path, **parameters))


def test_a_file_without_rows_is_refused(tmp_path):
    store(tmp_path / "test.parquet", pyarrow.table(columns()).slice(0, 0))
    with pytest.raises(InputError, match="no rows"):
        open_corpus(spec(tmp_path))


def test_a_damaged_file_is_refused(tmp_path):
    file = store(tmp_path / "test.parquet", columns())
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(InputError, match="test.parquet: not a valid Parquet file"):
        open_corpus(spec(tmp_path))
    file.write_bytes(whole)
    corpus = open_corpus(spec(tmp_path))
    store(file, columns(range(2)))
    with pytest.raises(InputError, match="test.parquet: "):
        list(corpus.images("test"))
