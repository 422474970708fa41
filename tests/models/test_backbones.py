"""Pixels to tokens: what is taken as a picture, how it is scaled, what the stem makes of it."""

import numpy as np
import pytest
import torch

from models.backbones import ConvolutionalStem, as_images, pixel_values
from models.errors import InputError

CPU = torch.device("cpu")


def test_pixels_are_scaled_to_mean_and_deviation_one_half():
    images_BHWC = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 4, 4, 3)
    values_BCHW = pixel_values(images_BHWC)
    assert values_BCHW.shape == (2, 3, 4, 4)
    assert values_BCHW[0].eq(-1).all() and values_BCHW[1].eq(1).all()
    assert images_BHWC[1].eq(255).all(), "the pictures given stay as they were"


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)],
    ids=["float", "grey", "wide", "one without batch"],
)
def test_what_is_no_batch_of_pictures_is_refused(images):
    with pytest.raises(InputError, match=r"expected uint8 \(B, 8, 8, 3\)"):
        as_images(images, 8, CPU)


def test_a_batch_of_pictures_is_taken_as_it_is():
    images = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    assert np.array_equal(as_images(images, 8, CPU).numpy(), images)


def test_the_stem_makes_one_token_of_each_patch():
    stem = ConvolutionalStem((4, 6), 10)
    assert stem(torch.zeros(2, 3, 64, 32)).shape == (2, 10, 4, 2)
    assert stem.weight is stem[-1].weight
