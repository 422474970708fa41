"""Lexicon vectors of .jsonl files, as Anserini's JsonVectorCollection and exports of SPLADE: a line is an item."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.vectors.imports.text import text_lines
from models.errors import InputError, one_line

ROWS = 4_096  # of a batch


class JsonFiles:
    """Lines {"id": ..., "vector": {token: weight}}, .gz too, read twice: for ids and tokens, then for weights.

    vocabulary: the tokens of the files in alphabetical order unless given.
    """

    kind = "lexicon"

    def __init__(self, files: Sequence[Path], vocabulary: list[str] | None = None):
        self.files, self.zeros = list(files), 0
        ids, tokens = [], set()
        for _, item, vector in self._lines():
            ids.append(item)
            tokens.update(vector)
        if not tokens:
            raise InputError(f"{files[0]}: no token in any vector")
        if None in ids and any(item is not None for item in ids):
            raise InputError(f"{files[0]}: item {ids.index(None)} has no id, others have; expected an id for each")
        self.ids, self.count = None if None in ids else ids, len(ids)
        self.vocabulary = sorted(tokens) if vocabulary is None else vocabulary
        self.dimension = len(self.vocabulary)
        self._places = {token: place for place, token in enumerate(self.vocabulary)}

    def batches(self) -> Iterator[sp.csr_array]:
        """Rows of float32 weights. Raises InputError for a token that is not in the given vocabulary."""
        lexicons, weights, pointers = [], [], [0]
        for where, _, vector in self._lines():
            for token, weight in vector.items():
                if not weight:
                    self.zeros += 1
                elif (place := self._places.get(token)) is not None:
                    lexicons.append(place)
                    weights.append(weight)
                else:
                    raise InputError(f"{where}: token {token!r} is not in the vocabulary")
            pointers.append(len(lexicons))
            if len(pointers) > ROWS:
                yield self._rows(lexicons, weights, pointers)
                lexicons, weights, pointers = [], [], [0]
        if len(pointers) > 1:
            yield self._rows(lexicons, weights, pointers)

    def _rows(self, lexicons: list[int], weights: list[float], pointers: list[int]) -> sp.csr_array:
        parts = (np.array(weights, np.float32), np.array(lexicons, np.int64), np.array(pointers, np.int64))
        return sp.csr_array(parts, shape=(len(pointers) - 1, self.dimension))

    def _lines(self) -> Iterator[tuple[str, str | None, dict]]:
        """(file and line, id, vector) of each line."""
        for file in self.files:
            for number, line in enumerate(text_lines(file), 1):
                if line.strip():
                    where = f"{file}: line {number}"
                    yield where, *_parsed(line, where)


def _parsed(line: bytes, where: str) -> tuple[str | None, dict]:
    expected = 'expected {"id": "...", "vector": {"token": weight, ...}}'
    try:
        found = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {one_line(error)}; {expected}") from None
    if not (isinstance(found, dict) and isinstance(found.get("vector"), dict)):
        raise InputError(f"{where}: no vector; {expected}")
    item = found.get("id")
    if item is not None and (
        not isinstance(item, str | int) or isinstance(item, bool) or not str(item).strip() or "\0" in str(item)
    ):
        raise InputError(f"{where}: id {item!r}; expected a string or a number")
    try:
        "".join((str(item), *found["vector"])).encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: half of a UTF-16 pair in the id or a token; expected whole characters") from None
    for token, weight in found["vector"].items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 2.0**127:
            raise InputError(
                f"{where}: weight {weight!r:.40} of token {token!r}; expected a number that is not negative"
            )
    return None if item is None else str(item), found["vector"]


def _unique(pairs: list[tuple]) -> dict:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' twice")
    return made
