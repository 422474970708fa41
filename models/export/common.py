"""What both exports share (`models.export.onnx`, `models.export.sparse_encoder`): the packages they need, and the check of what was written.

An export is compared with the model in torch on texts and pictures made up here, whole: from string or pixels to L2-normalised vector, by
the written files alone. One that differs is refused.
"""

import importlib.util

import numpy as np
import torch

from models.errors import InputError

TOLERANCE = 1e-5
"""Most that a component of a unit vector may differ by. float32 sums in another order differ by some 1e-7."""

PROBES = 6
"""Texts, and pictures, that are compared: the first by itself, the rest as one batch."""


def require(*packages: str) -> None:
    """Raise InputError for a package that is not installed."""
    if missing := next((name for name in packages if importlib.util.find_spec(name) is None), None):
        raise InputError(
            f"the package '{missing.replace('_', '-')}' is not installed; pip install 'lexlip-bench[export]'"
        )


def probe_texts(model) -> list[str]:
    """Texts of drawn words of the model's vocabulary, from one word to more than the model reads."""
    random, tokenizer = np.random.default_rng(0), model.tokenizer
    words = [word for word in tokenizer.vocabulary if word.isalpha()]
    lengths = np.linspace(1, tokenizer.max_tokens + 2, PROBES).astype(int)
    return [" ".join(random.choice(words, length)) for length in lengths]


def probe_pictures(model) -> np.ndarray:
    """uint8 (PROBES, P, P, 3): drawn colours, from one for the whole picture to one for each of many places."""
    generator = torch.Generator().manual_seed(0)
    pictures = []
    for step in range(PROBES):
        colours_1CHW = 256 * torch.rand(1, 3, 2**step, 2**step, generator=generator)
        pictures.append(
            torch.nn.functional.interpolate(colours_1CHW, size=model.pixels, mode="bilinear").clamp(max=255).byte()
        )
    return torch.cat(pictures).permute(0, 2, 3, 1).contiguous().numpy()


def in_batches(encode, probes) -> np.ndarray:
    """Vectors of the probes: the first by itself, then the others, so that a batch size that was fixed by mistake shows."""
    return np.concatenate([np.asarray(encode(part)) for part in (probes[:1], probes[1:])])


def compared(what: str, found: np.ndarray, model_says: torch.Tensor) -> float:
    """The largest difference of a component. Raises InputError above `TOLERANCE`, and where all vectors are zero, which would prove nothing."""
    expected = model_says.numpy()
    if found.shape != expected.shape:
        raise InputError(f"{what}: the export gives {found.shape}, the model {expected.shape}; nothing was written")
    if not expected.any():
        raise InputError(
            f"{what}: the model gives zero vectors for all that the export would be checked on; nothing was written"
        )
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:  # NaN too
        raise InputError(
            f"{what}: the export differs from the model by {difference:.1e}, at most {TOLERANCE:.0e} is let through"
        )
    return difference
