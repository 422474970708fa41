"""numba kernel that crosses pairs of lexicon vectors. Imported on first use, since numba is slow to import."""

import math

import numpy as np
from numba import njit

from bench.corpora.scenes.splitmix import GOLDEN, mix


@njit(cache=True, nogil=True)
def cross(
    key,
    items,
    a_rows,
    b_rows,
    a_prototypes,
    b_prototypes,
    starts,
    lexicons,
    weights,
    blocks,
    within,
    unit,
    indptr,
    out_lexicons,
    out_weights,
):
    """For each item, takes each lexicon of rows A and B from the row that its hash selects; rows stay ascending.

    items (n,): hashed with `key`. a_rows, b_rows (n,): rows of the CSR starts, lexicons, weights. a_prototypes,
    b_prototypes (n,): prototypes of the rows, which choose the lexicon of a block (`lexicon_of_block`). unit: whether
    to L2-normalise. Fills indptr, out_lexicons and out_weights.
    """
    at = 0
    for n in range(len(items)):
        here = mix(key ^ mix(np.uint64(items[n]) + GOLDEN))
        a, a_end, b, b_end = starts[a_rows[n]], starts[a_rows[n] + 1], starts[b_rows[n]], starts[b_rows[n] + 1]
        a_place, b_place = mix(np.uint64(a_prototypes[n]) + GOLDEN), mix(np.uint64(b_prototypes[n]) + GOLDEN)
        first, squares = at, 0.0
        while a < a_end or b < b_end:
            of_a = lexicons[a] if a < a_end else np.int32(blocks.size)
            of_b = lexicons[b] if b < b_end else np.int32(blocks.size)
            lexicon = min(of_a, of_b)
            from_b = mix(here ^ mix(np.uint64(lexicon))) >> np.uint64(63) != 0
            if (of_b if from_b else of_a) == lexicon:
                out_lexicons[at] = lexicon_of_block(lexicon, b_place if from_b else a_place, blocks, within)
                out_weights[at] = weights[b] if from_b else weights[a]
                squares += out_weights[at] ** 2
                at += 1
            a += of_a == lexicon
            b += of_b == lexicon
        if unit and squares > 0:
            out_weights[first:at] *= np.float32(1 / math.sqrt(squares))
        indptr[n + 1] = at


@njit(cache=True)
def lexicon_of_block(lexicon, place, blocks, within):
    """The lexicon of the block of a measured lexicon that a prototype has; place: hash of the prototype."""
    start, stop = blocks[lexicon], blocks[lexicon + 1]
    if stop == start + 1:
        return start
    chance = (mix(place ^ mix(np.uint64(lexicon))) >> np.uint64(11)) * 2.0**-53
    return start + np.searchsorted(within[start:stop], chance, side="right")
