"""Scales of impacts: which one fits the weights of lexicon vectors, and whether a given one cuts too many of them.

impact = rint(scale x weight), cut at 2**bits - 1. The published scale of 100 suits L2-normalised vectors only: weights
of SPLADE (up to 12, say) or of Anserini (integers) would nearly all become 255 without a word.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.errors import InputError

PUBLISHED = {4: 15.0, 8: 100.0, 16: 10_000.0}
"""Scales by bits for L2-normalised vectors. 100 is the paper's; the others spread the same weights over their bits."""

MAX_CUT = 0.001
"""Largest share of the weights that may be cut."""

DIGITS = 4  # of an automatic scale, so that it can be typed


@dataclass(frozen=True)
class Weights:
    """The weights of lexicon vectors, in one pass over them.

    count: their number. integral: whether all are integers. tail: the largest `MAX_CUT` of them and one more, ascending
    (empty without weights).
    """

    count: int
    integral: bool
    tail: np.ndarray

    @classmethod
    def of(cls, vectors) -> "Weights":
        """Weights of LexiconVectors or Impacts, read shard by shard, once; memory is that of one shard."""
        length, count, integral = math.floor(MAX_CUT * vectors.most_weights) + 1, 0, True
        tail = np.zeros(0, vectors.dtype)
        for shard in vectors.shards():
            count += shard.nnz
            integral = integral and bool((np.rint(shard.data) == shard.data).all())
            found = np.concatenate([tail, shard.data])
            tail = np.partition(found, len(found) - length)[-length:] if len(found) > length else found
        length = math.floor(MAX_CUT * count) + 1
        tail = np.partition(tail, len(tail) - length)[-length:] if len(tail) > length else tail
        return cls(count, integral, np.sort(tail))

    @property
    def largest(self) -> float:
        """The largest weight; 0 without weights."""
        return float(self.tail[-1]) if self.count else 0.0

    def scale(self, bits: int, percentile: float = 100.0) -> float:
        """The scale at which the percentile of the weights (100: the largest) becomes 2**bits - 1.

        1 for integers that fit. Raises InputError for a percentile that would cut more than `MAX_CUT` of the weights.
        """
        if not 100 * (1 - MAX_CUT) <= percentile <= 100:
            raise InputError(f"percentile {percentile:g} of the weights: expected {100 * (1 - MAX_CUT):g} to 100")
        top = 2**bits - 1
        if not self.count or (self.integral and self.largest <= top):
            return 1.0
        beyond = min(math.floor((1 - percentile / 100) * self.count), len(self.tail) - 1)
        return _rounded_down(top / float(self.tail[-1 - beyond]))

    def cuts_too_many(self, bits: int, scale: float) -> bool:
        """Whether the scale cuts more than `MAX_CUT` of the weights."""
        return bool(self.count) and bool(_cut(self.tail[:1], bits, scale).any())


def check_scale(vectors, bits: int, scale: float, give: str = "a scale of {}", weights: Weights | None = None) -> None:
    """Raises InputError when a scale cuts more than `MAX_CUT` of the weights; the message says which one fits.

    vectors: LexiconVectors. give: how to give a scale, with {} in place of it. weights: of the vectors, if known.
    """
    weights = weights or Weights.of(vectors)
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale {scale:g} of the weights: expected a positive number")
    if weights.cuts_too_many(bits, scale):
        share = sum(int(_cut(shard.data, bits, scale).sum()) for shard in vectors.shards()) / weights.count
        found = (
            f"{vectors.folder or 'vectors'}: scale {scale:g} cuts {100 * share:.3g}% of the weights at {2**bits - 1}"
        )
        fits = f"expected at most {MAX_CUT:.1%}; the largest weight is {weights.largest:g}"
        raise InputError(f"{found} ({bits} bits), {fits}: give {give.format(f'{weights.scale(bits):g}')}")


def _cut(weights: np.ndarray, bits: int, scale: float) -> np.ndarray:
    return np.rint(np.float32(scale) * weights) > 2**bits - 1


def _rounded_down(scale: float) -> float:
    """The scale cut after `DIGITS` digits."""
    unit = 10.0 ** (math.floor(math.log10(scale)) - DIGITS + 1)
    rounded = float(f"{scale:.{DIGITS}g}")
    return rounded if rounded <= scale * (1 + 1e-9) else float(f"{rounded - unit:.{DIGITS}g}")
