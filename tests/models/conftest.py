"""The smallest models that still have every part: width 16, one layer, a hundred lexicons, 16 pixels."""

import dataclasses

import numpy as np
import pytest
import torch

from models import checkpoint
from models.config import (
    BottleneckConfig,
    ClipConfig,
    HeadConfig,
    ImageConfig,
    LexLIPConfig,
    ModelConfig,
    MomentumConfig,
    TextConfig,
)
from models.objective import Batch
from models.tokenizer import LexiconTokenizer

THINGS = ("apple", "bicycle", "camera", "dolphin", "elephant", "flamingo", "guitar", "helicopter")
COLOURS = ("red", "green", "blue")
PLACES = ("on the grass", "near a mountain", "under the clouds")
CAPTIONS = [f"a {colour} {thing} {place}" for colour in COLOURS for thing in THINGS for place in PLACES]


torch.set_num_threads(1)  # at this size more threads only wait for each other


@pytest.fixture(scope="session")
def captions() -> list[str]:
    return CAPTIONS


@pytest.fixture(scope="session")
def tokenizer() -> LexiconTokenizer:
    return LexiconTokenizer.train(CAPTIONS, vocabulary_size=100, max_tokens=14)


@pytest.fixture(scope="session")
def make_config(tokenizer):
    """A tiny configuration; keyword arguments are sections of LexLIP (bottleneck, momentum, ...) or the kind."""

    def make(kind: str = "lexlip", **sections) -> ModelConfig:
        lexlip = {
            "head": HeadConfig(),
            "bottleneck": BottleneckConfig(),
            "momentum": MomentumConfig(decay=0.5, queue=12),
        }
        return ModelConfig(
            kind=kind,
            image=ImageConfig(layers=1, width=16, heads=2, pixels=16, patch=8, stem="patch"),
            text=TextConfig(
                layers=1,
                width=16,
                heads=2,
                max_tokens=tokenizer.max_tokens,
                vocabulary=len(tokenizer),
                embedding_std=0.5,
            ),
            lexlip=dataclasses.replace(LexLIPConfig(), **(lexlip | sections)),
            clip=ClipConfig(embedding=8),
        )

    return make


@pytest.fixture(scope="session")
def make_model(make_config, tokenizer):
    def make(kind: str = "lexlip", seed: int = 0, **sections) -> torch.nn.Module:
        torch.manual_seed(seed)
        return checkpoint.create(make_config(kind, **sections), tokenizer)

    return make


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)


@pytest.fixture(scope="session")
def make_batch(tokenizer, pictures):
    """Eight pairs of captions first.. and pictures."""

    def make(first: int = 0, size: int = 8) -> Batch:
        tokens_BL, words_BL = tokenizer.encode([CAPTIONS[(first + 5 * row) % len(CAPTIONS)] for row in range(size)])
        images_BHWC = np.roll(pictures, first, axis=0)[:size]
        return Batch(
            torch.from_numpy(images_BHWC.copy()),
            torch.from_numpy(tokens_BL.astype(np.int64)),
            torch.from_numpy(words_BL),
        )

    return make
