"""Heat maps: which tokens of a picture fired a lexicon. numpy only, for whoever draws one.

A heat map shows logits over the grid of patches, from the model's own head on the token states: the highest of them, over all tokens that
are pooled, is what the lexicon's weight is made of. [CLS] is one of these tokens, so a lexicon can be fired by no patch at all.
"""

import math
from typing import NamedTuple

import numpy as np

HOT, WINNER = (225, 40, 20), (255, 215, 0)  # colours of a heat map and of the frame around the winning patch


class HeatMap(NamedTuple):
    """Logits of one lexicon: over the patches (H, W), of the tokens before them ([CLS]), the winning token's place among all tokens, and
    the (row, column) of its patch, None when it is none."""

    patches_HW: np.ndarray
    before: np.ndarray
    token: int
    patch: tuple[int, int] | None


def heat_map(logits_L: np.ndarray, first_pooled: int = 0) -> HeatMap:
    """Where a lexicon was fired, from its logit at each token: a few tokens such as [CLS], then a square grid of patches, row by row.

    first_pooled: tokens before it do not count for the winner, as with heads that leave [CLS] out. Of equal logits the first token wins.
    The trap: the grid's side is the largest that fits, so there may be at most 2 x side tokens before the patches.
    """
    side = math.isqrt(len(logits_L))
    before = len(logits_L) - side * side
    token = first_pooled + int(np.argmax(logits_L[first_pooled:]))
    patch = divmod(token - before, side) if token >= before else None
    return HeatMap(logits_L[before:].reshape(side, side), logits_L[:before], token, patch)


def shares(patches_HW: np.ndarray) -> np.ndarray:
    """(H, W) the positive logits as shares of the highest, 0 to 1; all 0 where none is positive."""
    positive_HW = np.maximum(patches_HW, 0.0)
    return positive_HW / max(positive_HW.max(), np.finfo(np.float32).tiny)
