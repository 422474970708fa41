"""Batches are cut at the same places in every run; images are resized to the sizes requested."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bench.vectors.batches import batch_spans, render
from models.errors import InputError


class Photographs:
    """Images of different sizes, one of them grey; every value of image i is i modulo 256."""

    name = "photographs"

    def images(self, split, start, stop):
        for i in range(start, stop):
            yield f"{split}{i}", np.full((20, 30) if i == 3 else (20 + i % 99, 30, 3), i % 256, np.uint8)


@pytest.mark.parametrize("start", [0, 128, 256])
def test_batches_contain_the_slices_in_order_from_any_start(start):
    spans = list(batch_spans([("a", 10), ("b", 0), ("c", 300)], start))
    assert spans == [[("a", 0, 10), ("c", 0, 118)], [("c", 118, 246)], [("c", 246, 300)]][start // 128 :]
    for batch in spans:
        made = render(Photographs(), batch, {8, 16})
        assert made.ids == [f"{split}{i}" for split, first, last in batch for i in range(first, last)]
        for size in (8, 16):
            assert made.of_size[size].shape == (len(made.ids), size, size, 3)
            assert [f"{image[0, 0, 0]}" for image in made.of_size[size]] == [
                str(int(name[1:]) % 256) for name in made.ids
            ]


def test_resizing_is_bicubic():
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    corpus = SimpleNamespace(name="one", images=lambda split, start, stop: [("x", image)])
    made = render(corpus, [("a", 0, 1)], {16}).of_size[16]
    assert np.array_equal(made[0], np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC)))


def test_a_split_with_too_few_images_is_refused():
    corpus = SimpleNamespace(name="one", images=lambda split, start, stop: iter([]))
    with pytest.raises(InputError, match="corpus one: split a has 0 images, expected at least 2"):
        render(corpus, [("a", 0, 2)], {16})
    with pytest.raises(InputError, match="split a has no image 99; the first is image 0"):
        render(corpus, [("a", 99, 100)], {16})
    with pytest.raises(InputError, match="split a has 99 images, expected at least 200; ask for at most 99"):
        render(corpus, [("a", 99, 163)], {16}, {"a": 200})
