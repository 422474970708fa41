"""Vectors of queries over the vocabulary of imported documents: tokens are matched by their text."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from models.errors import InputError


class Matched:
    """A reader of lexicon vectors with its lexicons moved to the places that a vocabulary gives their tokens.

    Weights of tokens that the vocabulary does not have are left out; `unknown` counts them. Raises InputError if no
    token is in the vocabulary.
    """

    kind = "lexicon"

    def __init__(self, reader, vocabulary: list[str], source):
        self.reader, self.vocabulary, self.unknown = reader, vocabulary, 0
        self.count, self.ids, self.dimension = reader.count, reader.ids, len(vocabulary)
        places = {token: place for place, token in enumerate(vocabulary)}
        self._places = np.array([places.get(token, -1) for token in reader.vocabulary], np.int64)
        if (self._places < 0).all():
            mine, theirs = repr(reader.vocabulary[0]), repr(vocabulary[0])
            raise InputError(f"no token of the queries, such as {mine}, is in {source}, which has such as {theirs}")

    @property
    def zeros(self) -> int:
        """Weights of 0 that are left out."""
        return self.reader.zeros

    def batches(self) -> Iterator[sp.csr_array]:
        """Rows of float32 weights over the vocabulary."""
        for rows in self.reader.batches():
            lexicons, known = self._places[rows.indices], self._places[rows.indices] >= 0
            self.unknown += int((~known & (rows.data != 0)).sum())
            before = np.concatenate([[0], np.cumsum(known)])
            parts = rows.data[known], lexicons[known], before[rows.indptr]
            yield sp.csr_array(parts, shape=(rows.shape[0], self.dimension))
