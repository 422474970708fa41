"""The states of frozen encoders of a run's train and val items, in `<home>/states/<id>/` (`train.cache`).

The id hashes the frozen weights, the settings of the encoder, the corpus, the split, the number of images and, for
texts, their tokens. So variants and seeds share them, whatever is trained on top.

17 states of 1,280 values for each of 8,000 images take 350 MB. Texts are stored without padding: 310 MB for 30,000
captions of 13.5 tokens and 384 values.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch

from ablations.cache.rows import cached_rows
from ablations.config import RunConfig
from ablations.data import TokenStates, TrainingData
from ablations.validate import ValidationSet
from bench.corpora import open_corpus
from bench.store.config import as_tree, code_fingerprint, fingerprint
from models.batch import by_length
from models.config import ImageTopConfig, TopConfig
from models.towers.efficientnet import EfficientNetLite
from models.towers.frozen import FrozenTower
from models.towers.transformer import frozen_image_states, frozen_text_states, pixel_values

IMAGES, CAPTIONS = 32, 512
"""Items per block: what a kill loses at most."""

CODE = ("ablations.cache.states", "models.towers.efficientnet", "models.towers.transformer")


def with_states(
    home: Path, model: torch.nn.Module, run: RunConfig, data: TrainingData, held: ValidationSet | None
) -> tuple[TrainingData, ValidationSet | None]:
    """The training data and the validation set with the states that `run.train.cache` asks for, computed if missing.

    model: with its initial weights. held: None on all processes but the first.
    """
    if run.train.cache in ("image", "both"):
        data = dataclasses.replace(data, image_states_NLX=_of_images(home, model, run, "train", data.images_NHWC))
        if held:
            held = dataclasses.replace(held, image_states_NLX=_of_images(home, model, run, "val", held.images_NHWC))
    if run.train.cache in ("text", "both"):
        data = dataclasses.replace(data, text_states=_of_texts(home, model, run, "train", data.tokens_CL))
        if held:
            tokens_QL, _ = model.tokenizer.encode(held.captions)
            states = _of_texts(home, model, run, "val", tokens_QL)
            held = dataclasses.replace(held, tokens_QL=tokens_QL, text_states=states)
    return data, held


def _of_images(home: Path, model, run: RunConfig, split: str, images_NHWC: np.ndarray) -> np.ndarray:
    """States, float16 (N, L, X), of uint8 images."""
    tower, config = model.image_encoder, run.model.image
    settings = dataclasses.replace(config, pretrained=None, top=ImageTopConfig(grid=config.top.grid))

    fast = tower
    if isinstance(tower.encoder, EfficientNetLite):
        fast = FrozenTower(tower.encoder.fused(), tower.top, tower.grid)

    @torch.inference_mode()
    def states(images_bHWC: np.ndarray) -> np.ndarray:
        images_bHWC = torch.from_numpy(np.array(images_bHWC)).to(_device(tower))
        return frozen_image_states(fast, pixel_values(images_bHWC, config.statistics)).cpu().numpy()

    def block(number: int) -> np.ndarray:
        return states(images_NHWC[number * IMAGES : (number + 1) * IMAGES])

    made_from = {"title": f"{split} images", **_made_from(tower, as_tree(settings), run, split, len(images_NHWC))}
    ends = np.minimum(np.arange(1, -(-len(images_NHWC) // IMAGES) + 1) * IMAGES, len(images_NHWC))
    return cached_rows(_folder(home, made_from), ends, states(images_NHWC[:1]).shape[1:], block, made_from)


def _of_texts(home: Path, model, run: RunConfig, split: str, tokens_CL: np.ndarray) -> TokenStates:
    """States of the tokens of captions, without padding."""
    tower, pad_id = model.text_encoder, model.tokenizer.pad_id
    settings = dataclasses.replace(run.model.text, pretrained=None, lexicon_min_count=0, top=TopConfig())
    first_C1 = np.concatenate([[0], (tokens_CL != pad_id).sum(axis=1).cumsum()])

    @torch.inference_mode()
    def block(number: int) -> np.ndarray:
        tokens_cL = tokens_CL[number * CAPTIONS : (number + 1) * CAPTIONS].astype(np.int64)
        tokens_BL = torch.from_numpy(tokens_cL).to(_device(tower))
        is_token_BL = tokens_BL != pad_id
        both = (tokens_BL, is_token_BL)
        (states_BLX,) = by_length(lambda *part: [frozen_text_states(tower, *part)], is_token_BL.sum(dim=1), both)
        return states_BLX[is_token_BL].cpu().numpy()

    settings = [as_tree(settings), hashlib.sha256(np.ascontiguousarray(tokens_CL)).hexdigest()]
    made_from = {"title": f"{split} captions", **_made_from(tower, settings, run, split, len(tokens_CL))}
    ends = first_C1[np.minimum(np.arange(1, -(-len(tokens_CL) // CAPTIONS) + 1) * CAPTIONS, len(tokens_CL))]
    return TokenStates(cached_rows(_folder(home, made_from), ends, (run.model.text.width,), block, made_from), first_C1)


def _made_from(tower: FrozenTower, settings, run: RunConfig, split: str, items: int) -> dict:
    digest = hashlib.sha256()
    for name, value in tower.encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.cpu().numpy()))
    return {
        "weights": digest.hexdigest(),
        "settings": settings,
        "corpus": open_corpus(run.data.corpus).fingerprint,
        "split": split,
        "items": items,
        "code": code_fingerprint(*CODE),
    }


def _folder(home: Path, made_from: dict) -> Path:
    return Path(home) / "states" / fingerprint(made_from)


def _device(tower: torch.nn.Module) -> torch.device:
    return next(tower.parameters()).device
