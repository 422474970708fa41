"""Augmentation of training pairs: RandAugment, a resolution drawn for the whole batch, and tokens left out.

All randomness is a function of (seed, step, row of the global batch), so a resumed run and another number of
processes see the same pairs. Every variant of a profile sees the same pairs, the CLIP baseline included.
"""

import dataclasses

import numpy as np
import torch

from ablations.config import PhaseConfig, TrainConfig
from ablations.data import TrainingData
from models.batch import Batch
from models.tokenizer import NO_WORD
from models.towers import torchvision_ops

torchvision_ops.make_importable()
from torchvision.transforms import v2  # noqa: E402

OPERATIONS, MAGNITUDE = 2, 9
"""RandAugment(2, 9) as published (Luo et al., 2023); the magnitude is one of torchvision's 31."""

PIXELS, ROWS, PATCHES, WORDS = 1, 2, 3, 4
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
    batch = data.batch(step, size, seed, part, parts, train.pairs_before(step))
    first, rows = part * (size // parts), len(batch.tokens_BL)
    if train.keep_patches < 1:
        patches = batch.image_states_BLX.shape[1] - 1
        draws_BP = np.random.default_rng((seed, step, PATCHES)).random((size, patches))[first : first + rows]
        batch = with_some_patches(batch, torch.from_numpy(draws_BP), max(round(train.keep_patches * patches), 1))
    if train.keep_words < 1:
        draws_BW = np.random.default_rng((seed, step, WORDS)).random((size, NO_WORD))[first : first + rows]
        batch = with_some_words(batch, torch.from_numpy(draws_BW), train.keep_words, data.tokenizer.pad_id)
    return augmented(batch.to(device), train, phase, seed, step, first)


def with_some_patches(batch: Batch, draws_BP: torch.Tensor, kept: int) -> Batch:
    """The batch with the states of the `kept` patches of lowest draw, in their order, after the first token."""
    lowest_BK = draws_BP.argsort(dim=1)[:, :kept].sort(dim=1).values + 1
    places_BL = torch.cat([torch.zeros_like(lowest_BK[:, :1]), lowest_BK], dim=1)
    return dataclasses.replace(batch, image_states_BLX=_gathered(batch.image_states_BLX, places_BL))


def with_some_words(batch: Batch, draws_BW: torch.Tensor, share: float, pad_id: int) -> Batch:
    """The batch without the caption words whose draw is at least `share`; other tokens move up. `captions_BM` stays.

    The width stays too, because it is the same on all processes; `models.batch.by_length` cuts the padding.
    draws_BW: one for each word number. A caption always keeps a word, that of the lowest draw.
    """
    words_BL = batch.words_BL.long()
    is_word_BL, is_token_BL = words_BL != NO_WORD, batch.tokens_BL != pad_id
    draws_BL = draws_BW.gather(1, words_BL.clamp(max=NO_WORD - 1)).masked_fill(~is_word_BL, 1.0)
    keep_BL = is_token_BL & (~is_word_BL | (draws_BL < share) | (draws_BL == draws_BL.min(dim=1, keepdim=True).values))
    places_BL = (~keep_BL).long().argsort(dim=1, stable=True)
    is_kept_BL = keep_BL.gather(1, places_BL)
    states_BLX = batch.text_states_BLX
    if states_BLX is not None:
        states_BLX = _gathered(states_BLX, places_BL) * is_kept_BL[..., None]
    return dataclasses.replace(
        batch,
        tokens_BL=torch.where(is_kept_BL, batch.tokens_BL.gather(1, places_BL), pad_id),
        words_BL=torch.where(is_kept_BL, words_BL.gather(1, places_BL), NO_WORD).to(batch.words_BL.dtype),
        text_states_BLX=states_BLX,
    )


def _gathered(states_BLX: torch.Tensor, places_BK: torch.Tensor) -> torch.Tensor:
    """The rows `places_BK` of each item's tokens."""
    return states_BLX.gather(1, places_BK[..., None].expand(-1, -1, states_BLX.shape[2]))


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
