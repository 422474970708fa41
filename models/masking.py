"""Whole-word masking of captions for the self and the bottlenecked masked-language-model losses."""

import torch

from models.tokenizer import NO_WORD


def mask_words(
    tokens_BL: torch.Tensor, words_BL: torch.Tensor, share: float, mask_id: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace each word, whole, by `[MASK]` with probability `share`.

    Args:
        tokens_BL: token ids; words_BL: word number of each token, `NO_WORD` for special tokens and padding.
        share: in [0, 1]. generator: of the CPU, so that a step draws the same masks on every device.

    Returns:
        The masked token ids (B, L) and where a token was masked, bool (B, L).
    """
    draws_BW = torch.rand(tokens_BL.shape, generator=generator).to(tokens_BL.device)
    is_word_BL = words_BL != NO_WORD
    word_BL = torch.where(is_word_BL, words_BL, 0).long().clamp(max=tokens_BL.shape[1] - 1)
    masked_BL = is_word_BL & (draws_BW.gather(1, word_BL) < share)
    return tokens_BL.masked_fill(masked_BL, mask_id), masked_BL
