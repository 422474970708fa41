"""Training data: its arrays, its batches, its id, and refusal of broken files."""

import shutil

import numpy as np
import pytest
import torch

from ablations import data as training_data
from ablations.data import data_id, prepare
from bench.corpora import open_corpus
from models.errors import InputError


@pytest.fixture(scope="module")
def data(made_home, resolve):
    run = resolve()
    return prepare(made_home, run.data, run.model.text)


def same(one, other) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("images_BHWC", "tokens_BL", "words_BL")
    )


def row_of(data, image_HWC) -> int:
    return next(row for row in range(len(data)) if np.array_equal(data.images_NHWC[row], image_HWC))


def test_the_arrays_hold_the_corpus(data, resolve):
    corpus = open_corpus(resolve().data.corpus)
    for row, (_, image) in enumerate(corpus.images("train", 0, 64)):
        assert np.array_equal(data.images_NHWC[row], image)
    captions = [text for _, text, _ in corpus.captions("train", 0, 64)]
    assert len(data) == 64 and data.first_N1.tolist() == list(range(0, 321, 5)), "five captions each"
    tokens_CL, words_CL = data.tokenizer.encode(captions)
    assert np.array_equal(data.tokens_CL, tokens_CL) and np.array_equal(data.words_CL, words_CL)


def test_a_batch_depends_on_seed_and_step_alone(data):
    assert same(data.batch(11, 8, seed=3), data.batch(11, 8, seed=3))
    before = data.batch(11, 8, seed=3)
    data.batch(4, 8, seed=0), np.random.random(), torch.rand(1)
    assert same(before, data.batch(11, 8, seed=3))
    assert not torch.equal(before.images_BHWC, data.batch(12, 8, seed=3).images_BHWC)
    assert not torch.equal(before.images_BHWC, data.batch(11, 8, seed=4).images_BHWC)


def test_every_image_comes_once_per_epoch(data):
    """Batches of 24 do not divide 64 images: epochs meet inside a batch."""
    seen = [row_of(data, image.numpy()) for step in range(8) for image in data.batch(step, 24, seed=0).images_BHWC]
    epochs = [seen[at : at + 64] for at in (0, 64, 128)]
    assert all(sorted(epoch) == list(range(64)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2], "in another order each time"


def test_a_caption_is_one_of_its_images(data):
    chosen = set()
    for step in range(8):
        batch = data.batch(step, 8, seed=0)
        for image, tokens_L, words_L in zip(batch.images_BHWC, batch.tokens_BL, batch.words_BL, strict=True):
            row, length = row_of(data, image.numpy()), len(tokens_L)
            captions = range(data.first_N1[row], data.first_N1[row + 1])
            found = [
                at
                for at in captions
                if np.array_equal(data.tokens_CL[at, :length], tokens_L) and not data.tokens_CL[at, length:].any()
            ]
            assert found
            assert any(np.array_equal(data.words_CL[at, :length], words_L) for at in found)
            chosen.add(found[0] - data.first_N1[row])
    assert len(chosen) == 5, "each of the five is drawn"


def test_batches_are_trimmed_to_their_longest_caption(data):
    widths = set()
    for step in range(8):
        tokens_BL = data.batch(step, 4, seed=0).tokens_BL
        assert (tokens_BL[:, -1] != data.tokenizer.pad_id).any()
        widths.add(tokens_BL.shape[1])
    assert len(widths) > 1


def test_a_batch_has_all_captions_of_its_images(data):
    batch = data.batch(0, 8, seed=0)
    for image, tokens_M in zip(batch.images_BHWC, batch.captions_BM, strict=True):
        row = row_of(data, image.numpy())
        of_row = data.tokens_CL[data.first_N1[row] : data.first_N1[row + 1]]
        assert np.array_equal(tokens_M[tokens_M != data.tokenizer.pad_id], of_row[of_row != data.tokenizer.pad_id])


def test_images_with_fewer_captions_are_padded(data):
    import dataclasses

    fewer = dataclasses.replace(data, first_N1=np.array([0, 1, 4]), images_NHWC=data.images_NHWC[:2])
    rows = fewer._all_captions(np.array([0, 1]))
    width = data.tokens_CL.shape[1]
    assert rows.shape == (2, 3 * width) and not (rows[0, width:] != data.tokenizer.pad_id).any()
    assert np.array_equal(rows[1], data.tokens_CL[1:4].ravel())


def test_idf_counts_each_caption_once(data, monkeypatch):
    monkeypatch.setattr(training_data, "IDF_ROWS", 7)  # in several parts
    for v in range(len(data.tokenizer.vocabulary)):
        captions = int((data.tokens_CL == data.tokenizer.lexicon_V[v]).any(axis=1).sum())
        assert data.idf()[v] == pytest.approx(np.log((1 + len(data.tokens_CL)) / (1 + captions)), rel=1e-5)


def test_the_lexicon_of_the_captions_is_written_with_the_data(tmp_path, resolve):
    run = resolve("lexlip", "model.text.lexicon_min_count=2")
    made = prepare(tmp_path, run.data, run.model.text)
    count = np.bincount(made.tokens_CL.ravel(), minlength=len(made.tokenizer))
    assert made.tokenizer.is_part and (count[made.tokenizer.lexicon_V] >= 2).all()
    assert prepare(tmp_path, run.data, run.model.text).tokenizer.vocabulary == made.tokenizer.vocabulary


def test_made_once_and_the_same_everywhere(made_home, resolve, tmp_path, monkeypatch):
    run = resolve()
    elsewhere = prepare(tmp_path, run.data, run.model.text)
    folder, other = made_home / "data" / elsewhere.id, tmp_path / "data" / elsewhere.id
    assert {file.name for file in folder.iterdir()} == {file.name for file in other.iterdir()}
    for file in folder.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name
    monkeypatch.setattr(training_data, "_write", None)
    assert same(prepare(tmp_path, run.data, run.model.text).batch(0, 8, 0), elsewhere.batch(0, 8, 0))


def test_what_makes_other_arrays_has_another_id(resolve):
    run = resolve()
    ids = {data_id(open_corpus(run.data.corpus), run.data, run.model.text)}
    for override in (
        "data.train_images=65",
        "data.corpus.seed=1",
        "data.corpus.concepts=13",
        "model.text.vocabulary=129",
        "model.text.max_tokens=65",
        "model.text.lexicon_min_count=2",
    ):
        other = resolve("lexlip", override)
        ids.add(data_id(open_corpus(other.data.corpus), other.data, other.model.text))
    assert len(ids) == 7
    assert (
        data_id(
            open_corpus(run.data.corpus), resolve("clip", "train.steps=3", "data.val_images=9").data, run.model.text
        )
        in ids
    )


@pytest.mark.parametrize("name", ["images.npy", "tokens.npy", "words.npy", "first.npy", "tokenizer.json"])
def test_truncated_changed_and_missing_files_are_named(made_home, data, resolve, tmp_path, name):
    shutil.copytree(made_home, tmp_path, dirs_exist_ok=True)
    file, run = tmp_path / "data" / data.id / name, resolve()
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), None):
        file.unlink() if broken is None else file.write_bytes(broken)
        with pytest.raises(InputError, match=f"{name}: missing, truncated or changed"):
            prepare(tmp_path, run.data, run.model.text)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"sha256": 3}', "{}"])
def test_a_broken_description_is_named(made_home, data, resolve, tmp_path, content):
    shutil.copytree(made_home, tmp_path, dirs_exist_ok=True)
    file, run = tmp_path / "data" / data.id / "meta.json", resolve()
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(InputError, match="meta.json: missing or broken"):
        prepare(tmp_path, run.data, run.model.text)
    prepare(tmp_path, run.data, run.model.text, force=True)


class ShortCorpus:
    """Three images; caption i belongs to image `of[i]`."""

    name, fingerprint, splits = "short", "short", ("train",)

    def __init__(self, of: list[int]):
        self.of = of

    def images(self, split, start, stop):
        yield from ((f"i{row}", np.full((64, 64, 3), row, np.uint8)) for row in range(start, min(stop, 3)))

    def captions(self, split, start, stop):
        yield from ((f"c{at}", f"picture {row}", f"i{row}") for at, row in enumerate(self.of))


@pytest.mark.parametrize(
    ("images", "of", "message"),
    [
        (4, [0, 1, 2], "train_images: 4 requested, but corpus short has 3"),
        (3, [0, 2, 1], "those of i1 are out of order"),
        (3, [0, 0, 2], "image number 1 of train has no caption"),
    ],
)
def test_a_corpus_that_breaks_its_contract_is_refused(monkeypatch, resolve, tmp_path, images, of, message):
    monkeypatch.setattr(training_data, "open_corpus", lambda spec: ShortCorpus(of))
    run = resolve("lexlip", f"data.train_images={images}")
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, run.data, run.model.text)
    assert list((tmp_path / "data").iterdir()) == [], "nothing half made is left"


def test_images_may_have_different_numbers_of_captions(monkeypatch, resolve, tmp_path):
    monkeypatch.setattr(training_data, "open_corpus", lambda spec: ShortCorpus([0, 1, 1, 1, 2, 2]))
    run = resolve("lexlip", "data.train_images=3")
    data = prepare(tmp_path, run.data, run.model.text)
    assert data.first_N1.tolist() == [0, 1, 4, 6]
    for step in range(20):
        batch = data.batch(step, 3, seed=0)
        for image, tokens_L in zip(batch.images_BHWC, batch.tokens_BL, strict=True):
            assert data.tokenizer.vocabulary[tokens_L[2]] == str(int(image[0, 0, 0])), (
                "the number in the caption is that of the image"
            )
