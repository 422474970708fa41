"""The check shared by both exports (`models.export.onnx`, `models.export.sparse_encoder`).

An export is compared with the torch model on generated texts and images, end to end: from string or pixels to
L2-normalised vector, by the written files only. An export that differs is refused.
"""

import numpy as np
import torch

from models.errors import InputError

TOLERANCE = 1e-5
"""Largest accepted difference of a component of a unit vector. float32 sums in another order differ by about 1e-7."""

PROBES = 6
"""Number of texts and of images to compare: the first alone, the others as one batch."""


def probe_texts(model) -> list[str]:
    """Random texts from the model's vocabulary, from one word to more than the model's length limit."""
    random, tokenizer = np.random.default_rng(0), model.tokenizer
    words = [word for word in tokenizer.vocabulary if word.isalpha()]
    lengths = np.linspace(1, tokenizer.max_tokens + 2, PROBES).astype(int)
    return [" ".join(random.choice(words, length)) for length in lengths]


def probe_images(model) -> np.ndarray:
    """Random images, uint8 (PROBES, P, P, 3), from one colour per image to many."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for step in range(PROBES):
        colours_1CHW = 256 * torch.rand(1, 3, 2**step, 2**step, generator=generator)
        image_1CHW = torch.nn.functional.interpolate(colours_1CHW, size=model.pixels, mode="bilinear")
        images.append(image_1CHW.clamp(max=255).byte())
    return torch.cat(images).permute(0, 2, 3, 1).contiguous().numpy()


def in_batches(encode, probes) -> np.ndarray:
    """Vectors of the first probe alone and of the others as a batch, which shows a batch size fixed by mistake."""
    return np.concatenate([np.asarray(encode(part)) for part in (probes[:1], probes[1:])])


def largest_difference(what: str, exported: np.ndarray, expected: torch.Tensor) -> float:
    """The largest absolute difference of a component.

    Raises InputError above `TOLERANCE`, for another shape, and if all expected vectors are zero, which would prove
    nothing.
    """
    expected = expected.numpy()
    if exported.shape != expected.shape:
        raise InputError(
            f"{what}: the export gives shape {exported.shape}, the model {expected.shape}; nothing was written"
        )
    if not expected.any():
        raise InputError(f"{what}: the model gives zero vectors for all probes, so the export cannot be checked")
    difference = float(np.abs(exported - expected).max())
    if not difference <= TOLERANCE:  # NaN too
        raise InputError(
            f"{what}: the export differs from the model by {difference:.1e}; expected at most {TOLERANCE:.0e}"
        )
    return difference
