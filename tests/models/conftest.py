"""Tiny models with all parts: width 16, one layer, 100 lexicons, 16 pixels."""

import dataclasses

import numpy as np
import pytest
import torch

from models import checkpoint
from models.batch import Batch
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
from models.tokenizer import LexiconTokenizer
from models.towers import torchvision_ops

torchvision_ops.make_importable()  # before the tests import transformers and open_clip

THINGS = ("apple", "bicycle", "camera", "dolphin", "elephant", "flamingo", "guitar", "helicopter")
COLOURS = ("red", "green", "blue")
PLACES = ("on the grass", "near a mountain", "under the clouds")
CAPTIONS = [f"a {colour} {thing} {place}" for colour in COLOURS for thing in THINGS for place in PLACES]


torch.set_num_threads(1)  # more threads are slower at this size


@pytest.fixture(scope="session")
def captions() -> list[str]:
    return CAPTIONS


@pytest.fixture(scope="session")
def tokenizer() -> LexiconTokenizer:
    return LexiconTokenizer.train(CAPTIONS, vocabulary_size=100, max_tokens=14)


@pytest.fixture(scope="session")
def make_config(tokenizer):
    """A function that makes a tiny configuration of a kind; keyword arguments are sections of `LexLIPConfig`."""

    def make(kind: str = "lexlip", clip: ClipConfig | None = None, **sections) -> ModelConfig:
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
            clip=clip or ClipConfig(embedding=8),
        )

    return make


@pytest.fixture(scope="session")
def make_model(make_config, tokenizer):
    def make(kind: str = "lexlip", seed: int = 0, **sections) -> torch.nn.Module:
        torch.manual_seed(seed)
        return checkpoint.create(make_config(kind, **sections), tokenizer)

    return make


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)


@pytest.fixture(scope="session")
def make_batch(tokenizer, images):
    """A function that makes a batch of up to 8 pairs; batches differ by `first`."""

    def make(first: int = 0, size: int = 8) -> Batch:
        tokens_BL, words_BL = tokenizer.encode([CAPTIONS[(first + 5 * row) % len(CAPTIONS)] for row in range(size)])
        images_BHWC = np.roll(images, first, axis=0)[:size]
        return Batch(
            torch.from_numpy(images_BHWC.copy()),
            torch.from_numpy(tokens_BL.astype(np.int64)),
            torch.from_numpy(words_BL),
            torch.from_numpy(tokens_BL.astype(np.int64)),
            size,
        )

    return make


@pytest.fixture
def make(make_config, tokenizer):
    """A function that makes a new model with changed keys of `image` and `text`; CLIP has LexLIP's encoders."""

    def make(kind="lexlip", image=None, text=None, seed=1, **sections):
        config = make_config(kind, **sections)
        config = dataclasses.replace(
            config,
            image=dataclasses.replace(config.image, **image or {}),
            text=dataclasses.replace(config.text, **text or {}),
            clip=ClipConfig(embedding=8, towers="lexlip"),
        )
        torch.manual_seed(seed)
        return checkpoint.create(config, tokenizer)

    return make


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGE_SIZES = {**SIZES, "image_size": 16, "patch_size": 8}


@pytest.fixture(scope="session")
def folders(tmp_path_factory, tokenizer):
    """Folders saved by transformers: `mlm` and `plain` (BERT with and without its head), `beit`, `vit`, `dinov2`.

    They have longer tables than needed and heads, as published ones do.
    """
    import transformers as hf

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("folders")
    bert = hf.BertConfig(vocab_size=len(tokenizer), **SIZES, intermediate_size=64, max_position_embeddings=30)
    beit = {"use_shared_relative_position_bias": True, "intermediate_size": 64, "use_mask_token": True}
    saved = {
        "mlm": hf.BertForMaskedLM(bert),
        "plain": hf.BertModel(bert),
        "beit": hf.BeitForMaskedImageModeling(hf.BeitConfig(**IMAGE_SIZES, **beit)),
        "vit": hf.ViTModel(hf.ViTConfig(**IMAGE_SIZES, intermediate_size=64)),
        "dinov2": hf.Dinov2Model(hf.Dinov2Config(**IMAGE_SIZES)),
    }
    for name, model in saved.items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)  # initial biases are 0 and norms 1
        model.eval().save_pretrained(root / name)
        tokenizer.save(root / name / "tokenizer.json")
    return root
