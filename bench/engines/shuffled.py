"""Vectors in a fixed pseudo-random order, in which every index is built.

Engines break ties of equal scores by row number. Galleries hold the test images first and distractors after them, so
ties would favour relevant images: with weights of a few bits, equal scores are common. An order by chance favours none.

The order depends on the number of items alone. `bench.engines.indexes` maps results back to the caller's row numbers.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

SEED = 20230202
ORDER = "splitmix64"
"""Name of the order, part of the id of an index."""
SHARD_ROWS = 65_536


def order(count: int) -> np.ndarray:
    """(count,) int32: the item at each place, sorted by a hash of its number (SplitMix64 of Steele et al., 2014)."""
    state = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(SEED)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable").astype(np.int32)


def shuffled(vectors):
    """A lazy view of dense vectors, lexicon vectors or impacts in the order of `order`."""
    if hasattr(vectors, "vectors"):  # impacts are made of the shuffled lexicon vectors
        return replace(vectors, vectors=Shuffled(vectors.vectors))
    return Shuffled(vectors)


class Shuffled:
    """What engines need of vectors, in another order; rows are read from the mapped files when asked for.

    places: (count,) item at each place; by default `order`.
    """

    def __init__(self, vectors, places: np.ndarray | None = None):
        self.vectors = vectors
        self.places = order(vectors.count) if places is None else places
        self.kind, self.dimension, self.dtype = vectors.kind, vectors.dimension, vectors.dtype
        self.count = len(self.places)

    def rows(self, start: int, stop: int):
        """Items at places start..stop-1: float32 (stop - start, D), or CSR (stop - start, V)."""
        return self.vectors.gather(self.places[start:stop])

    def shards(self) -> Iterator:
        """All items in order, `SHARD_ROWS` at a time."""
        for start in range(0, max(1, self.count), SHARD_ROWS):
            yield self.rows(start, min(start + SHARD_ROWS, self.count))

    def head(self, count: int) -> "Shuffled":
        """The items at the first places, or all if there are fewer."""
        return Shuffled(self.vectors, self.places[:count])
