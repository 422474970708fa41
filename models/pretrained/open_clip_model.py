"""A pre-trained model of open_clip with the interface of LexLIP; `models.pretrained.open_clip` loads it."""

import threading

import torch
from torch import nn
from torch.nn import functional as F

from models.towers import torchvision_ops
from models.towers.transformer import as_images

torchvision_ops.make_importable()
import open_clip  # noqa: E402

__all__ = ["PretrainedClip", "open_clip"]


class PretrainedClip(nn.Module):
    """The retrieval model: one of open_clip's, with its own tokenizer, resolution and image statistics.

    Args:
        model: made by open_clip, with `visual.preprocess_cfg`.
        tokenizer: maps a list of texts to token ids (B, L).
        dimension: D, the width of the dense vectors.
        pixels: the side of its images.
    """

    kind = "dense"
    vocabulary = None

    def __init__(self, model: nn.Module, tokenizer, dimension: int, pixels: int):
        super().__init__()
        self.clip, self.dimension, self.pixels = model, dimension, pixels
        self._tokenizer, self._tokenizer_lock = tokenizer, threading.Lock()
        for name in ("mean", "std"):
            statistic_C11 = torch.tensor(model.visual.preprocess_cfg[name], dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, statistic_C11, persistent=False)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_tokenizer_lock": None}  # locks cannot be pickled

    def __setstate__(self, state: dict) -> None:
        super().__setstate__({**state, "_tokenizer_lock": threading.Lock()})

    @torch.inference_mode()
    def encode_image(self, images_BHWC) -> torch.Tensor:
        """L2-normalised vectors, float32 (B, D) on the CPU, of images, uint8 (B, pixels, pixels, 3).

        Raises InputError for another dtype or shape.
        """
        images_BHWC = as_images(images_BHWC, self.pixels, self.mean.device)
        pixels_BCHW = (images_BHWC.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return F.normalize(self.clip.encode_image(pixels_BCHW).float(), dim=-1).cpu()

    def cut(self, captions: list[str]) -> int:
        """Number of captions that are longer than the context of the model, which cuts them."""
        with self._tokenizer_lock:
            short_BL = self._tokenizer(captions)
            longer_BL = self._tokenizer(captions, context_length=short_BL.shape[1] + 1)
        return int((short_BL[:, -1] != longer_BL[:, -2]).sum())  # the end mark, where the longer one has a word

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """L2-normalised vectors, float32 (B, D) on the CPU, of captions."""
        with self._tokenizer_lock:  # tokenizers of the hub set their padding at each call, which fails in two threads
            tokens_BL = self._tokenizer(captions)
        return F.normalize(self.clip.encode_text(tokens_BL.to(self.mean.device)).float(), dim=-1).cpu()
