"""Stored images: broken ones are counted, logged and skipped with their captions, in any order of access."""

import logging
import threading

import numpy as np
import pytest
import torch

from ablations.config import DataConfig
from ablations.data import prepare
from bench.corpora import open_corpus
from bench.tasks.relevance import Relevance
from bench.vectors.encode import encode
from bench.vectors.encoder import Encoder
from models import checkpoint
from models.config import ImageConfig, ModelConfig, TextConfig
from models.errors import InputError
from models.tokenizer import LexiconTokenizer
from tests.bench.corpora.readers.tables import PIXELS, captions, colour, paint, rows, shown, write


@pytest.fixture
def damaged(tmp_path):
    """A function that opens a corpus of 300 images, three of them broken."""
    paint(tmp_path, 300, broken=(0, 130, 299))
    write(tmp_path / "list.csv", rows(300, "test"))
    return lambda: open_corpus({"name": "folder", "annotations": tmp_path / "list.csv", "pixels": PIXELS})


INTACT = [i for i in range(300) if i not in (0, 130, 299)]


def test_a_broken_image_is_counted_logged_and_skipped_with_its_captions(damaged, caplog):
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
    assert all(left.name in left.reason and "cannot be decoded" in left.reason for left in corpus.broken())
    assert len(caplog.records) == 3 and "3 of 300 so far" in caplog.text and "130.png" in caplog.text


@pytest.mark.parametrize("first", ["images", "captions"])
def test_positions_do_not_depend_on_the_order_of_access(damaged, first):
    corpus = damaged()
    list(getattr(corpus, first)("test", 200, 250))
    for start, stop in ((200, 250), (0, 5), (129, 131), (296, 400)):
        images, texts = shown(corpus, "test", start, stop)
        assert list(images) == [f"{i:03d}.png" for i in INTACT[start:stop]]
        assert list(dict.fromkeys(image_id for _, _, image_id in texts)) == list(images)


def test_threads_read_the_same_images(damaged):
    corpus, seen = damaged(), {}

    def read(start):
        seen[start] = [image_id for image_id, _ in corpus.images("test", start, start + 50)]

    threads = [threading.Thread(target=read, args=(start,)) for start in range(250, -50, -50)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert [image_id for start in sorted(seen) for image_id in seen[start]] == [f"{i:03d}.png" for i in INTACT]
    assert len(corpus.broken()) == 3


def test_an_image_that_shrinks_later_raises(damaged, tmp_path):
    corpus = damaged()
    (tmp_path / "005.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(InputError, match="005.png: 0 bytes, expected"):
            list(corpus.images("test"))


def test_training_data_skips_broken_images(damaged, tmp_path):
    paint(tmp_path, 40, broken=(3,))
    table = write(tmp_path / "train.csv", rows(40))
    config = DataConfig(corpus={"name": "folder", "annotations": str(table), "pixels": PIXELS}, train_images=39)
    data = prepare(tmp_path / "home", config, TextConfig(vocabulary=64, max_tokens=12))
    intact = [i for i in range(40) if i != 3]
    assert [tuple(image[0, 0].tolist()) for image in data.images_NHWC] == [colour(i) for i in intact]
    assert np.diff(data.first_N1).tolist() == [len(captions(i)) for i in intact]
    with pytest.raises(InputError, match="40 requested, but corpus train has 39"):
        prepare(tmp_path / "home", DataConfig(config.corpus, train_images=40), TextConfig(vocabulary=64, max_tokens=12))


def test_encoded_captions_have_the_id_of_their_image_as_group(damaged, tmp_path):
    """Real models over images of another size, in batches that a broken image cuts through."""
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
