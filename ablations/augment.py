"""Augmentation of training images: RandAugment, and a resolution drawn for the whole batch.

All randomness is a function of (seed, step, row of the global batch), so a resumed run and another number of
processes see the same images. Every variant of a profile sees the same images, the CLIP baseline included.
"""

import dataclasses

import numpy as np
import torch

from ablations.config import PhaseConfig, TrainConfig
from ablations.data import TrainingData
from models.batch import Batch
from models.towers import torchvision_ops

torchvision_ops.make_importable()
from torchvision.transforms import v2  # noqa: E402

OPERATIONS, MAGNITUDE = 2, 9
"""RandAugment(2, 9) as published (Luo et al., 2023); the magnitude is one of torchvision's 31."""

PIXELS, ROWS = 1, 2
"""Keys of random streams, different from each other and from that of `ablations.data`."""


def batch_of_step(
    data: TrainingData,
    train: TrainConfig,
    phase: PhaseConfig,
    seed: int,
    step: int,
    part: int = 0,
    parts: int = 1,
    device: str = "cpu",
) -> Batch:
    """The augmented batch of a step, or the `part`-th of `parts` equal slices of it, on `device`."""
    size = train.batch_of(phase)
    batch = data.batch(step, size, seed, part, parts, train.pairs_before(step)).to(device)
    return augmented(batch, train, phase, seed, step, part * (size // parts))


def augmented(batch: Batch, train: TrainConfig, phase: PhaseConfig, seed: int, step: int, first: int = 0) -> Batch:
    """The batch of a step with its images augmented as configured, on the same device; images stay uint8 (B, H, W, 3).
    Cached states are not augmented.

    first: the row of the global batch that is row 0 of this one.
    """
    if batch.images_BHWC is None:
        return batch
    images_BCHW = batch.images_BHWC.permute(0, 3, 1, 2)
    if train.augment == "randaugment":
        images_BCHW = _rand_augmented(images_BCHW, seed, step, first)
    if phase.pixels:
        pixels = drawn_pixels(phase, seed, step)
        images_BCHW = v2.functional.resize(images_BCHW, [pixels, pixels], antialias=True)
    return dataclasses.replace(batch, images_BHWC=images_BCHW.permute(0, 2, 3, 1).contiguous())


def drawn_pixels(phase: PhaseConfig, seed: int, step: int) -> int:
    """The resolution of a step, drawn uniformly from the phase's."""
    return phase.pixels[np.random.default_rng((seed, step, PIXELS)).integers(len(phase.pixels))]


def _rand_augmented(images_BCHW: torch.Tensor, seed: int, step: int, first: int) -> torch.Tensor:
    """Trap: torchvision draws from torch's global generator, which is seeded for each image and restored afterwards."""
    augment = v2.RandAugment(OPERATIONS, MAGNITUDE)
    changed = []
    with torch.random.fork_rng(devices=[]):
        for row, image_CHW in enumerate(images_BCHW, first):
            (state,) = np.random.SeedSequence((seed, step, ROWS, row)).generate_state(1, np.uint64)
            torch.default_generator.manual_seed(int(state) >> 1)
            changed.append(augment(image_CHW))
    return torch.stack(changed)
