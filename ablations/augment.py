"""What happens to the pictures of a step before the model sees them: RandAugment, and a resolution drawn for the whole batch.

All that is random follows from (seed, step, row of the global batch): a run that goes on, or another number of processes, sees the same.
Every variant of a profile sees the same pictures, the CLIP baseline among them.
"""

import dataclasses

import numpy as np
import torch

from ablations.config import PhaseConfig, TrainConfig
from ablations.data import TrainingData
from models.objective import Batch
from models.towers import torchvision_ops

torchvision_ops.make_importable()
from torchvision.transforms import v2  # noqa: E402

OPERATIONS, MAGNITUDE = 2, 9
"""Published: RandAugment(2, 9) (Luo et al., 2023); of torchvision's 31 magnitudes."""

PIXELS, ROWS = 1, 2
"""Streams of random numbers, apart from each other and from the one of `ablations.data`."""


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
    """What the model sees in a step, or one of `parts` equal slices of it, on `device`."""
    size = train.batch_of(phase)
    batch = data.batch(step, size, seed, part, parts, train.pairs_before(step)).to(device)
    return augmented(batch, train, phase, seed, step, part * (size // parts))


def augmented(batch: Batch, train: TrainConfig, phase: PhaseConfig, seed: int, step: int, first: int = 0) -> Batch:
    """The batch of a step with its pictures changed as the run says, on the device where they are.

    `first`: row of the global batch that the first row here is. Pictures stay uint8 (B, H, W, 3).
    """
    images_BCHW = batch.images_BHWC.permute(0, 3, 1, 2)
    if train.augment == "randaugment":
        images_BCHW = _rand_augmented(images_BCHW, seed, step, first)
    if phase.pixels:
        pixels = drawn_pixels(phase, seed, step)
        images_BCHW = v2.functional.resize(images_BCHW, [pixels, pixels], antialias=True)
    return dataclasses.replace(batch, images_BHWC=images_BCHW.permute(0, 2, 3, 1).contiguous())


def drawn_pixels(phase: PhaseConfig, seed: int, step: int) -> int:
    """The resolution of a step, each of the phase's with equal chance."""
    return phase.pixels[np.random.default_rng((seed, step, PIXELS)).integers(len(phase.pixels))]


def _rand_augmented(images_BCHW: torch.Tensor, seed: int, step: int, first: int) -> torch.Tensor:
    """Trap: torchvision draws from torch's global generator, which is seeded for each picture and then put back as it was."""
    augment = v2.RandAugment(OPERATIONS, MAGNITUDE)
    changed = []
    with torch.random.fork_rng(devices=[]):
        for row, image_CHW in enumerate(images_BCHW, first):
            (state,) = np.random.SeedSequence((seed, step, ROWS, row)).generate_state(1, np.uint64)
            torch.default_generator.manual_seed(int(state) >> 1)
            changed.append(augment(image_CHW))
    return torch.stack(changed)
