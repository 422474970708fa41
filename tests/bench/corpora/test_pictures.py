"""The corpus `pictures`: complete pictures on plain ground, with pinned bytes, in splits of different artists."""

import hashlib

import numpy as np
import pytest

from bench.corpora import Corpus, open_corpus
from bench.corpora.pictures import GROUND, on_ground
from models.errors import InputError


@pytest.fixture(scope="module")
def corpus():
    return open_corpus({"name": "pictures", "concepts": 60, "pixels": 48})


def test_the_first_images_and_captions_are_pinned(corpus):
    assert isinstance(corpus, Corpus) and corpus.splits == ("train", "val", "test")
    captions = list(corpus.captions("train"))
    assert captions[0] == ("noto/1f415#0", "a dog", "noto/1f415")
    assert captions[1] == ("noto/1f415#1", "dog, animal, animals, dogs, pet", "noto/1f415")
    assert tuple(text for _, text, image_id in captions if image_id == "noto/1f697")[:2] == ("a car", "an automobile")
    pictures = dict(corpus.images("test", 0, 3))
    assert list(pictures) == ["fluent/1f415", "fluent/1f436", "fluent/1f408"]
    assert (
        hashlib.sha256(pictures["fluent/1f415"].tobytes()).hexdigest()
        == "92fb4dfb97214971f8197f5bf3d680c7225e02a156d68b17452dc50f4516c2eb"
    )


def test_splits_have_different_artists_and_share_no_picture(corpus):
    ids = {split: [image_id for image_id, _ in corpus.images(split)] for split in corpus.splits}
    assert {image_id.split("/")[0] for image_id in ids["train"]} == {"noto"}
    assert {image_id.split("/")[0] for image_id in ids["val"] + ids["test"]} == {"fluent"}
    every = sum(ids.values(), [])
    assert len(set(every)) == len(every) and all(ids.values())
    things = {split: {text for _, text, _ in corpus.captions(split) if "," not in text} for split in ("val", "test")}
    assert not things["val"] & things["test"]


def test_every_picture_has_its_captions_in_order(corpus):
    for split in corpus.splits:
        images, captions = [image_id for image_id, _ in corpus.images(split)], list(corpus.captions(split))
        assert list(dict.fromkeys(image_id for _, _, image_id in captions)) == images
        assert len({caption_id for caption_id, _, _ in captions}) == len(captions) >= 2 * len(images)


def test_slices_and_pixels(corpus):
    whole = list(corpus.images("train"))
    part = list(corpus.images("train", 5, 9))
    assert [image_id for image_id, _ in part] == [image_id for image_id, _ in whole[5:9]]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(part, whole[5:9], strict=True))
    assert list(corpus.captions("train", 5, 6)) == [
        caption for caption in corpus.captions("train") if caption[2] == part[0][0]
    ]
    assert all(picture.shape == (48, 48, 3) and picture.dtype == np.uint8 for _, picture in whole)
    assert list(corpus.images("train", 10_000, 10_001)) == []


def test_a_sprite_is_complete_and_centred():
    sprite = np.zeros((32, 16, 4), np.uint8)
    sprite[..., 0], sprite[..., 3] = 255, 255
    picture = on_ground(sprite, 36)
    red = (picture == (255, 0, 0)).all(axis=2)
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 33, 10, 25)
    assert (picture[~red] == GROUND[:3]).all()


def test_the_fingerprint_covers_the_parameters(corpus):
    specs = [{"concepts": 60, "pixels": 48}, {"concepts": 61, "pixels": 48}, {"concepts": 60, "pixels": 49}]
    fingerprints = [open_corpus({"name": "pictures"} | spec).fingerprint for spec in specs]
    assert fingerprints[0] == corpus.fingerprint and len(set(fingerprints)) == 3


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"pixels": 2}, "pixels"),
        ({"concepts": 3}, "concepts: 3"),
        ({"concepts": "all"}, "concepts: 'all'"),
        ({"seed": 0}, "unknown parameter 'seed'"),
    ],
)
def test_bad_parameters_are_refused(corpus, spec, message):
    with pytest.raises(InputError, match=message):
        open_corpus({"name": "pictures"} | spec)
    with pytest.raises(InputError, match="unknown split 'tset' .nearest: test"):
        list(corpus.images("tset"))
    with pytest.raises(InputError, match="expected 0 <= start <= stop"):
        list(corpus.captions("test", 4, 2))
