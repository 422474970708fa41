"""Heat maps: which tokens of an image activated a lexicon. numpy only, so that the report can draw them.

A heat map shows logits over the grid of patches, from the model's own head on the token states. The maximum over all
pooled tokens determines the lexicon's weight. [CLS] is one of these tokens, so a lexicon can be activated by no
patch at all.
"""

import math
from typing import NamedTuple

import numpy as np

HOT, WINNER = (225, 40, 20), (255, 215, 0)  # RGB of a heat map and of the frame around the winning patch


class HeatMap(NamedTuple):
    """Logits of one lexicon.

    patches_HW: over the patches. before: of the tokens before them ([CLS]). token: index of the winning token among
    all tokens. patch: (row, column) of its patch, None if it is no patch.
    """

    patches_HW: np.ndarray
    before: np.ndarray
    token: int
    patch: tuple[int, int] | None


def heat_map(logits_L: np.ndarray, first_pooled: int = 0) -> HeatMap:
    """Heat map of a lexicon from its logit at each token: a few tokens such as [CLS], then a square of patches by row.

    first_pooled: tokens before it cannot win, as for heads that leave out [CLS]. Ties go to the first token.
    Trap: the grid is the largest square that fits, so at most 2 x side tokens may stand before the patches.
    """
    side = math.isqrt(len(logits_L))
    before = len(logits_L) - side * side
    token = first_pooled + int(np.argmax(logits_L[first_pooled:]))
    patch = divmod(token - before, side) if token >= before else None
    return HeatMap(logits_L[before:].reshape(side, side), logits_L[:before], token, patch)


def shares(patches_HW: np.ndarray) -> np.ndarray:
    """(H, W) positive logits divided by their maximum, 0 to 1; all 0 if none is positive."""
    positive_HW = np.maximum(patches_HW, 0.0)
    return positive_HW / max(positive_HW.max(), np.finfo(np.float32).tiny)
