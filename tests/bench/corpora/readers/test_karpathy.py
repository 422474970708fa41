"""COCO and Flickr30k: JSON files as published by Karpathy, and tables as read by LexLIP's official code."""

import json

import pytest
from PIL import Image

from bench.corpora import Corpus, open_corpus
from bench.corpora.readers import karpathy
from models.errors import InputError

PARTS = ("train", "restval", "val", "test", "train", "val", "test", "restval")
SMALL = {"train": 4, "val": 2, "test": 2}


def colour(i):
    return 10 * i, 0, 200


def entry(i, kind):
    sentences = [
        {"tokens": ["a"], "raw": f"Caption {k} of {i}. ", "imgid": i, "sentid": 100 * i + k} for k in range(5 + i % 2)
    ]
    image = {"split": PARTS[i], "sentences": sentences, "sentids": [s["sentid"] for s in sentences], "imgid": i}
    if kind == "coco":
        return image | {"filepath": "val2014", "filename": f"COCO_val2014_{900 + i:012d}.jpg", "cocoid": 900 + i}
    return image | {"filename": f"{7000 + i}.jpg"}


@pytest.fixture
def published(tmp_path):
    """A function that writes a small COCO or Flickr30k, and returns its specification."""

    def lay_out(kind, change=lambda images: None):
        images = [entry(i, kind) for i in range(8)]
        for i, image in enumerate(images):
            file = tmp_path / image.get("filepath", "") / image["filename"]
            file.parent.mkdir(exist_ok=True)
            Image.new("RGB", (24, 32), colour(i)).save(file, quality=95)
        change(images)
        (tmp_path / f"dataset_{kind}.json").write_text(json.dumps({"images": images, "dataset": kind}))
        return {"name": kind, "root": str(tmp_path), "pixels": 16, "check_counts": False}

    return lay_out


def test_coco_is_read_as_published(published):
    corpus = open_corpus(published("coco"))
    assert isinstance(corpus, Corpus) and corpus.splits == ("train", "val", "test")
    ids = {split: [image_id for image_id, _ in corpus.images(split)] for split in corpus.splits}
    assert ids == {"train": ["900", "901", "904", "907"], "val": ["902", "905"], "test": ["903", "906"]}, (
        "restval is train"
    )
    captions = list(corpus.captions("train"))
    assert len(captions) == 5 + 6 + 5 + 6, "all captions"
    assert captions[0] == ("0", "Caption 0 of 0. ", "900")
    assert captions[10] == ("105", "Caption 5 of 1. ", "901")
    assert captions[-1] == ("705", "Caption 5 of 7. ", "907")
    for image_id, image in corpus.images("test"):
        assert abs(image.astype(int) - colour(int(image_id) - 900)).max() < 9


def test_flickr30k_is_read_as_published(published):
    corpus = open_corpus(published("flickr30k"))
    assert [image_id for image_id, _ in corpus.images("train")] == ["0", "1", "4", "7"]
    assert next(corpus.captions("test", 1)) == ("600", "Caption 0 of 6. ", "6")


@pytest.mark.parametrize("kind, prefix", [("coco", "coco"), ("flickr30k", "f30k")])
def test_tables_of_the_official_code_give_the_same_corpus(published, tmp_path, kind, prefix):
    spec = published(kind)
    of_json = open_corpus(spec)
    listed = json.loads((tmp_path / f"dataset_{kind}.json").read_text())["images"]
    (tmp_path / f"dataset_{kind}.json").unlink()
    for part in ("train", "val", "test"):
        lines = ["title\tfilepath\timage_id"]
        for image in listed:
            if karpathy.SPLITS[image["split"]] == part:
                place = "/".join(filter(None, (image.get("filepath"), image["filename"])))
                lines += [
                    f"{sentence['raw']}\t{place}\t{image['cocoid' if kind == 'coco' else 'imgid']}"
                    for sentence in image["sentences"]
                ]
        (tmp_path / f"{prefix}_{part}.tsv").write_text("\n".join(lines) + "\n")
    of_tables = open_corpus(spec)
    assert of_tables.splits == of_json.splits
    for split in of_json.splits:
        assert [i for i, _ in of_tables.images(split)] == [i for i, _ in of_json.images(split)]
        assert [c[1:] for c in of_tables.captions(split)] == [c[1:] for c in of_json.captions(split)]
    first = next(of_tables.captions("train"))
    assert first == ("900#0" if kind == "coco" else "0#0", "Caption 0 of 0. ", first[2])


@pytest.mark.parametrize(
    "kind, expected", [("coco", "113,287 / 5,000 / 5,000"), ("flickr30k", "29,000 / 1,014 / 1,000")]
)
def test_other_counts_are_refused_unless_check_counts_is_false(published, tmp_path, monkeypatch, kind, expected):
    spec = published(kind)
    del spec["check_counts"]
    found = f"dataset_{kind}.json: 4 / 2 / 2 images in train / val / test"
    with pytest.raises(InputError, match=f"{found}, expected {expected}; .*check_counts: false"):
        open_corpus(spec)
    monkeypatch.setattr(karpathy.Karpathy.__subclasses__()[kind == "flickr30k"], "counts", SMALL)
    assert open_corpus(spec).splits == ("train", "val", "test")
    next(tmp_path.rglob("*.jpg")).unlink()
    with pytest.raises(InputError, match="1 of 8 images cannot be used .*No such file.*; expected none"):
        open_corpus(spec)


def test_annotations_can_be_elsewhere(published, tmp_path):
    spec = published("coco")
    elsewhere = tmp_path / "annotations"
    elsewhere.mkdir()
    (tmp_path / "dataset_coco.json").rename(elsewhere / "mine.json")
    with pytest.raises(InputError, match=r"expected dataset_coco.json, or coco_train.tsv, coco_val.tsv, coco_test.tsv"):
        open_corpus(spec)
    assert open_corpus(spec | {"annotations": str(elsewhere / "mine.json")}).splits == ("train", "val", "test")


def test_a_missing_image_is_named_with_its_path(published, tmp_path):
    spec = published("coco")
    (tmp_path / "val2014" / "COCO_val2014_000000000905.jpg").unlink()
    with pytest.raises(
        InputError,
        match=r"dataset_coco.json: 1 of 8 images .*val2014/COCO_val2014_000000000905.jpg: No such file.*allow_missing",
    ):
        open_corpus(spec)
    assert len(list(open_corpus(spec | {"allow_missing": True}).images("val"))) == 1


def test_a_broken_image_is_skipped_with_its_captions(published, tmp_path):
    spec = published("coco")
    file = tmp_path / "val2014" / "COCO_val2014_000000000901.jpg"
    file.write_bytes(file.read_bytes()[:200])
    corpus = open_corpus(spec)
    assert list(dict.fromkeys(image_id for _, _, image_id in corpus.captions("train"))) == ["900", "904", "907"]
    assert [image_id for image_id, _ in corpus.images("train", 1, 3)] == ["904", "907"]
    assert [left.name for left in corpus.broken()] == ["901"] and "000901.jpg" in corpus.broken()[0].reason


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda images: images[3].pop("cocoid"),
            r"images\[3\]: not in Karpathy's format \(KeyError\('cocoid'\)\)",
        ),
        (lambda images: images[0].update(split="trian"), r"images\[0\].*'trian'"),
        (lambda images: images[1].update(sentences=None), r"images\[1\]"),
        (lambda images: images[1]["sentences"][0].update(raw=None), r"images\[1\].*not text"),
        (lambda images: images.insert(2, "a string"), r"images\[2\]"),
        (lambda images: images[4].update(cocoid=900), "duplicate image id '900'"),
        (lambda images: images[4]["sentences"][0].update(sentid=0), "duplicate caption id '0'"),
        (lambda images: images.clear(), "lists no images"),
    ],
)
def test_broken_annotations_are_refused(published, change, message):
    with pytest.raises(InputError, match=f"dataset_coco.json: .*{message}"):
        open_corpus(published("coco", change))


def test_truncated_annotations_are_refused(published, tmp_path):
    spec = published("coco")
    file = tmp_path / "dataset_coco.json"
    for content, message in (
        (file.read_text()[:-40], "not valid JSON"),
        ("[]", "'images'"),
        ('{"images": {}}', "'images'"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=f"dataset_coco.json: .*{message}"):
            open_corpus(spec)


def test_an_image_with_two_paths_is_refused(tmp_path):
    (tmp_path / "f30k_train.tsv").write_text("title\tfilepath\timage_id\none\ta.jpg\t1\ntwo\tb.jpg\t1\n")
    with pytest.raises(InputError, match="f30k_train.tsv: line 3: image 1 has two paths, 'b.jpg' and 'a.jpg'"):
        open_corpus({"name": "flickr30k", "root": str(tmp_path)})
    (tmp_path / "f30k_train.tsv").write_text("title\tfilepath\timage_id\none\ta.jpg\t1\n")
    with pytest.raises(InputError, match="f30k_val.tsv: no such file"):
        open_corpus({"name": "flickr30k", "root": str(tmp_path)})
