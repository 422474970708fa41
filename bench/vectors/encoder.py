"""`Encoder`: a retrieval model that turns images and captions into vectors. It imports torch on first use."""

import contextlib
import functools
from pathlib import Path
from types import ModuleType

import numpy as np

from models.errors import InputError

PRECISIONS = ("float32", "bfloat16")
OPEN_CLIP = "open_clip:"
OPEN_CLIP_CODE = ("models.pretrained.open_clip", "models.pretrained.open_clip_model")


def is_open_clip(source) -> bool:
    """Whether `source` names a pre-trained model of open_clip, not a checkpoint folder."""
    return isinstance(source, str) and source.startswith(OPEN_CLIP)


def loader(source: Path | str) -> ModuleType:
    """The module with `fingerprint(source)` and `load(source)` for a checkpoint folder or an `open_clip:` name."""
    if is_open_clip(source):
        from models.pretrained import open_clip

        return open_clip
    from models import checkpoint

    return checkpoint


class Encoder:
    """A retrieval model, loaded on first use. Its vectors are L2-normalised float32.

    source: a checkpoint folder, or the `open_clip:` name of a pre-trained model (`models.pretrained.open_clip`).
    precision: of the computation, "float32" or "bfloat16" (autocast; the vectors differ by rounding). Raises
    InputError for another one.
    """

    def __init__(self, source: Path | str, precision: str = PRECISIONS[0]):
        if precision not in PRECISIONS:
            raise InputError(f"precision '{precision}': expected {' or '.join(PRECISIONS)}")
        self.source, self.precision = source if is_open_clip(source) else Path(source), precision

    @functools.cached_property
    def id(self) -> str:
        """Hash of the weights, the configuration and the tokenizer. Raises InputError for a broken checkpoint."""
        return loader(self.source).fingerprint(self.source)

    @property
    def code(self) -> tuple[str, ...]:
        """The modules of `models` that decide the vectors."""
        if is_open_clip(self.source):
            return OPEN_CLIP_CODE
        from models.checkpoint import ENCODER_CODE

        return "models.checkpoint", *ENCODER_CODE

    @functools.cached_property
    def model(self):
        """The model, in eval mode. Raises InputError for a broken checkpoint."""
        return loader(self.source).load(self.source)

    @functools.cached_property
    def kind(self) -> str:
        """The kind of the vectors, "dense" or "lexicon"; does not load the model."""
        return loader(self.source).kind(self.source)

    @property
    def vocabulary(self) -> list[str] | None:
        """V strings of a lexicon model; None of a dense one."""
        return self.model.vocabulary if self.kind == "lexicon" else None

    def images(self, images_BHWC: np.ndarray) -> np.ndarray:
        """uint8 (B, P, P, 3), with P the model's `pixels`, to float32 (B, D or V)."""
        with self._autocast():
            return _numpy(self.model.encode_image(images_BHWC))

    def texts(self, texts: list[str]) -> np.ndarray:
        """B strings to float32 (B, D or V)."""
        with self._autocast():
            return _numpy(self.model.encode_text(list(texts)))

    def _autocast(self) -> contextlib.AbstractContextManager:
        import torch

        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16")


def _numpy(tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else tensor, np.float32)
