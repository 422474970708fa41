"""The pairs of one training step: micro-batches, whole-word masks, and groups of captions of similar length."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from models.tokenizer import NO_WORD

LENGTH_GROUPS = 4
"""Groups of a batch in `by_length`. With captions of 7 to 28 tokens, 4 groups leave 62% of the tokens, 8 groups 58%."""


@dataclass(frozen=True)
class Batch:
    """Pairs of one step.

    images_BHWC: uint8 (B, H, W, 3); None if their states are given.
    tokens_BL: padded token ids of one caption per image. words_BL: their word numbers, uint8 (`models.tokenizer`).
    captions_BM: padded token ids of all captions of each image, in one row.
    pairs: number of pairs in the process's whole batch, of which this may be a part.
    image_states_BLX, text_states_BLX: token states of a frozen encoder, float16, if they are cached.
    """

    images_BHWC: torch.Tensor | None
    tokens_BL: torch.Tensor
    words_BL: torch.Tensor
    captions_BM: torch.Tensor
    pairs: int
    image_states_BLX: torch.Tensor | None = field(default=None, kw_only=True)
    text_states_BLX: torch.Tensor | None = field(default=None, kw_only=True)

    def to(self, device: str) -> "Batch":
        """The same pairs on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def split(self, size: int) -> list["Batch"]:
        """Consecutive micro-batches of `size` pairs; the last may be smaller."""
        return [self._map(lambda tensor, at=at: tensor[at : at + size]) for at in range(0, len(self.tokens_BL), size)]

    def _map(self, function) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
        return dataclasses.replace(self, **{name: function(tensor) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """A batch with the masks of phase 1, separate ones for the encoder and for the decoder.

    for_*_BL: token ids with some replaced by [MASK]. hidden_from_*_BL: bool, where.
    hidden_from_*: the number of masked tokens in the global batch, divided by the number of processes.
    """

    for_encoder_BL: torch.Tensor
    hidden_from_encoder_BL: torch.Tensor
    hidden_from_encoder: float
    for_decoder_BL: torch.Tensor
    hidden_from_decoder_BL: torch.Tensor
    hidden_from_decoder: float


def mask_words(
    tokens_BL: torch.Tensor, words_BL: torch.Tensor, share: float, mask_id: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replaces each whole word by `mask_id` with probability `share`, for the masked-language-model losses.

    Args:
        tokens_BL: token ids. words_BL: word number of each token, `NO_WORD` for special tokens and padding.
        share: in [0, 1].
        generator: on the CPU, so that a step draws the same masks on every device.

    Returns:
        The masked token ids (B, L), and a bool mask (B, L) of the replaced tokens.
    """
    draws_BW = torch.rand(len(tokens_BL), NO_WORD, generator=generator).to(tokens_BL.device)
    is_word_BL = words_BL != NO_WORD
    word_BL = torch.where(is_word_BL, words_BL, 0).long()
    masked_BL = is_word_BL & (draws_BW.gather(1, word_BL) < share)
    return tokens_BL.masked_fill(masked_BL, mask_id), masked_BL


def by_length(
    function: Callable[..., Sequence[torch.Tensor]],
    lengths_B: torch.Tensor,
    tokens: Sequence[torch.Tensor],
    items: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, ...]:
    """Computes function(*tokens, *items) in groups of rows of similar length, each cut at its longest row.

    Half of a padded batch of captions is padding.

    Args:
        function: maps tensors with rows (b, ...) to tensors with rows (b, ...). Results with three dimensions have
            tokens as their second dimension; they are padded back with zeros.
        lengths_B: number of tokens of each row without padding, which is at the end.
        tokens: tensors (B, L), cut. items: tensors (B, ...), not cut.

    Returns:
        The results of `function` with rows in the order of the batch: equal to ungrouped results up to rounding, except
        for the states of padding.
    """
    longest, order_B = tokens[0].shape[1], lengths_B.argsort(stable=True)
    results = []
    for rows_b in order_B.chunk(LENGTH_GROUPS):
        length = max(int(lengths_B[rows_b[-1]]), 1)
        cut = [tensor_BL[rows_b, :length] for tensor_BL in tokens]
        parts = function(*cut, *(tensor_B[rows_b] for tensor_B in items))
        results.append([F.pad(part, (0, 0, 0, longest - length)) if part.ndim == 3 else part for part in parts])
    back_B = order_B.argsort()
    return tuple(torch.cat(parts)[back_B] for parts in zip(*results, strict=True))
