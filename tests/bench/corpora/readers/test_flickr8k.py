"""Flickr8k in its authors' and in Kaggle's layout, made up here; counts of a real copy where there is one."""

import json
import logging
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from bench.corpora import Corpus, open_corpus
from bench.corpora.readers import flickr8k
from models.errors import InputError

NAMES = [f"{i}_ab{i}.jpg" for i in range(10)]
SPLITS = {"train": NAMES[:4], "val": NAMES[4:6], "test": NAMES[6:8]}  # the last two are in no list
SMALL = {"train": 4, "val": 2, "test": 2}


def caption(i, k):
    return f"Caption {k} of {i} , with a comma ."


def texts(i):
    return [caption(i, k) for k in range(5)]


def images_in(folder):
    folder.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        Image.new("RGB", (20, 20), (20 * i, 0, 200)).save(folder / name, quality=95)


def token_file(folder, renamed=()):
    lines = [
        f"{NAMES[i]}{'.1' if i in renamed else ''}#{k}\t{text}\n" for i in range(10) for k, text in enumerate(texts(i))
    ]
    (folder / "Flickr8k.token.txt").write_text("".join(lines))


def lists(folder, prefix="Flickr_8k."):
    for split, part in (("train", "train"), ("val", "dev"), ("test", "test")):
        (folder / f"{prefix}{part}Images.txt").write_text("".join(f"{name}\n" for name in SPLITS[split]))


def kaggle_captions(folder):
    lines = [f'{NAMES[i]},"{text}"\n' for i in range(10) for text in texts(i)]
    (folder / "captions.txt").write_text("image,caption\n" + "".join(lines))


def karpathy_json(file):
    images = [
        {"filename": NAMES[i], "split": split, "sentences": [{"raw": text} for text in texts(i)]}
        for split, names in SPLITS.items()
        for i in map(NAMES.index, names)
    ]
    file.write_text(json.dumps({"images": images, "dataset": "flickr8k"}))


def authors(root):
    images_in(root / "Flicker8k_Dataset")
    token_file(root)
    lists(root)


def authors_unpacked(root):
    """Two archives, each unpacked to its own folder."""
    images_in(root / "Flicker8k_Dataset")
    (root / "Flickr8k_text").mkdir()
    token_file(root / "Flickr8k_text")
    lists(root / "Flickr8k_text")


def kaggle_with_json(root):
    images_in(root / "Images")
    kaggle_captions(root)
    karpathy_json(root / "dataset_flickr8k.json")


def kaggle_with_lists(root):
    images_in(root / "Images")
    kaggle_captions(root)
    lists(root, prefix="")


def json_only(root):
    images_in(root / "Images")
    karpathy_json(root / "dataset_flickr8k.json")


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setattr(flickr8k, "COUNTS", SMALL)
    return {"name": "flickr8k", "root": str(tmp_path), "pixels": 16}


@pytest.mark.parametrize("layout", [authors, authors_unpacked, kaggle_with_json, kaggle_with_lists, json_only])
def test_all_layouts_give_the_same_corpus(tmp_path, spec, caplog, layout):
    layout(tmp_path)
    with caplog.at_level(logging.INFO):
        corpus = open_corpus(spec)
    assert isinstance(corpus, Corpus) and corpus.splits == ("train", "val", "test")
    for split, names in SPLITS.items():
        assert [image_id for image_id, _ in corpus.images(split)] == names
        expected = [(f"{name}#{k}", caption(NAMES.index(name), k), name) for name in names for k in range(5)]
        assert list(corpus.captions(split)) == expected
    for image_id, image in corpus.images("test"):
        assert abs(image.astype(int) - (20 * NAMES.index(image_id), 0, 200)).max() < 9
    assert ("2 images with captions are in no list: left out" in caplog.text) == (layout is not json_only)


def test_the_json_can_be_elsewhere(tmp_path, spec):
    images_in(tmp_path / "Images")
    kaggle_captions(tmp_path)
    with pytest.raises(InputError, match=r"expected Flickr_8k.trainImages.txt, .* or dataset_flickr8k.json"):
        open_corpus(spec)
    (tmp_path / "other").mkdir()
    karpathy_json(tmp_path / "other" / "mine.json")
    assert len(list(open_corpus(spec | {"annotations": str(tmp_path / "other" / "mine.json")}).images("train"))) == 4


def test_an_image_that_the_captions_number_is_found(tmp_path, spec):
    authors(tmp_path)
    token_file(tmp_path, renamed=(2,))
    assert f"{NAMES[2]}.1#4" in (tmp_path / "Flickr8k.token.txt").read_text()
    found = [c for c in open_corpus(spec).captions("train") if c[2] == NAMES[2]]
    assert [(c[0], c[1]) for c in found] == [(f"{NAMES[2]}#{k}", caption(2, k)) for k in range(5)]


def test_a_number_on_an_image_that_has_captions_is_another_image(tmp_path, spec, caplog):
    authors(tmp_path)
    with open(tmp_path / "Flickr8k.token.txt", "a") as stream:
        stream.writelines(f"{NAMES[2]}.1#{k}\tanother\n" for k in range(5))
    with caplog.at_level(logging.INFO):
        assert "another" not in [c[1] for c in open_corpus(spec).captions("train")]
    assert "3 images with captions are in no list" in caplog.text


def test_other_counts_are_refused_unless_check_counts_is_false(tmp_path, spec, caplog, monkeypatch):
    authors(tmp_path)
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("".join(f"{name}\n" for name in NAMES[:3]))
    with pytest.raises(InputError, match="3 / 2 / 2 images in .*; expected 4 / 2 / 2.*check_counts: false"):
        open_corpus(spec)
    assert len(list(open_corpus(spec | {"check_counts": False}).images("train"))) == 3
    assert "3 / 2 / 2 images" in caplog.text
    lists(tmp_path)
    tokens = (tmp_path / "Flickr8k.token.txt").read_text().splitlines(keepends=True)
    (tmp_path / "Flickr8k.token.txt").write_text("".join(tokens[1:]))
    with pytest.raises(InputError, match="4 / 2 / 2 images .*, 1 of them without five captions; expected"):
        open_corpus(spec)
    monkeypatch.undo()
    with pytest.raises(InputError, match="expected 6,000 / 1,000 / 1,000, with five captions each"):
        open_corpus(spec)


def test_listed_images_without_file_or_captions_are_left_out_by_name(tmp_path, spec, caplog):
    authors(tmp_path)
    (tmp_path / "Flicker8k_Dataset" / NAMES[1]).unlink()
    (tmp_path / "Flickr_8k.devImages.txt").write_text(f"{NAMES[4]}\nnowhere.jpg\n")
    with pytest.raises(InputError, match=r"2 of 8 listed images .*nowhere.jpg: no caption.*allow_missing") as error:
        open_corpus(spec)
    assert f"{NAMES[1]}: No such file" in str(error.value)
    corpus = open_corpus(spec | {"allow_missing": True, "check_counts": False})
    assert [len(list(corpus.images(split))) for split in corpus.splits] == [3, 1, 2]
    assert "2 of 8 listed images" in caplog.text and "3 / 1 / 2 images" in caplog.text


@pytest.mark.parametrize(
    "file, text, message",
    [
        (
            "Flickr8k.token.txt",
            "a.jpg\tno number\n",
            "token.txt: line 1: expected NAME.jpg#NUMBER, a tab and",
        ),
        ("Flickr8k.token.txt", f"{NAMES[0]}#0\t \n", "1 of 1 lines cannot be used .line 1 has no caption"),
        ("Flickr8k.token.txt", "caf\udce9", "token.txt: not UTF-8"),
        ("Flickr_8k.devImages.txt", f"{NAMES[0]}\n", "devImages.txt: line 1: .* is in the lists of train and val"),
        ("Flickr_8k.testImages.txt", "\n\n", "4 / 2 / 0 images"),
    ],
)
def test_broken_files_are_refused(tmp_path, spec, file, text, message):
    authors(tmp_path)
    (tmp_path / file).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as error:
        open_corpus(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "missing, message",
    [
        ("Images", "expected a folder Flicker8k_Dataset or Flickr8k_Dataset or Images"),
        ("captions.txt", "expected Flickr8k.token.txt, captions.txt or dataset_flickr8k.json"),
        ("devImages.txt", "expected Flickr_8k.trainImages.txt, Flickr_8k.devImages.txt, Flickr_8k.testImages.txt or"),
    ],
)
def test_missing_files_are_named(tmp_path, spec, missing, message):
    kaggle_with_lists(tmp_path)
    (tmp_path / missing).rename(tmp_path / "moved")
    with pytest.raises(InputError, match=message):
        open_corpus(spec)
    with pytest.raises(InputError, match="nowhere"):
        open_corpus(spec | {"root": "nowhere"})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda images: images[0].pop("filename"), r"images\[0\]: not in Karpathy's format"),
        (lambda images: images[1].update(split="trian"), r"images\[1\].*the split is one of"),
        (lambda images: images[2]["sentences"][0].update(raw=3), r"images\[2\].*text"),
        (lambda images: images.insert(0, "a string"), r"images\[0\]"),
    ],
)
def test_a_broken_json_is_refused(tmp_path, spec, change, message):
    json_only(tmp_path)
    file = tmp_path / "dataset_flickr8k.json"
    content = json.loads(file.read_text())
    change(content["images"])
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        open_corpus(spec)


def real_copy():
    beside = Path(__file__).resolve().parents[5] / "shared" / "data" / "flickr8k"
    given = os.environ.get("LEXLIP_BENCH_FLICKR8K")
    return Path(given) if given else beside


@pytest.mark.skipif(not real_copy().is_dir(), reason="no copy of Flickr8k; LEXLIP_BENCH_FLICKR8K names its folder")
def test_a_real_copy_has_the_published_counts(caplog):
    """One known copy lacks an image of train. Counts only: nothing of the data set enters the repository."""
    spec = {"name": "flickr8k", "root": str(real_copy()), "pixels": 16}
    try:
        corpus = open_corpus(spec)
        expected = [6_000, 1_000, 1_000]
    except InputError as error:
        assert "5,999 / 1,000 / 1,000 images in train / val / test; expected 6,000 / 1,000 / 1,000" in str(error)
        with caplog.at_level(logging.INFO):
            corpus = open_corpus(spec | {"check_counts": False})
        expected = [5_999, 1_000, 1_000]
        assert "5,999 / 1,000 / 1,000" in caplog.text
        assert "91 images with captions are in no list: left out" in caplog.text
    found = {split: Counter(image_id for _, _, image_id in corpus.captions(split)) for split in corpus.splits}
    assert [len(of_split) for of_split in found.values()] == expected and not corpus.broken()
    assert {number for of_split in found.values() for number in of_split.values()} == {5}
