"""Checks of vectors that others made, each with an error that names the file and the row. Rows count from 0.

`check_dense` and `check_csr` look at the values of some rows, `check_vectors` at a whole folder, `check_ids` and
`check_pair` at items that must be there once or belong together.
"""

from collections.abc import Sequence

import numpy as np

from models.errors import InputError

SAMPLE = 3  # names in a message


def check_dense(values: np.ndarray, where: str, first: int = 0) -> None:
    """Raises InputError for a NaN or infinite value. where: the file of the rows; first: number of the first row."""
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"{where}: row {first + row}: value {column} is {values[row, column]}; expected finite numbers"
        )


def check_csr(data, indices, indptr, dimension: int, where: str, first: int = 0, stored: bool = False) -> None:
    """Raises InputError for rows of lexicon vectors with an impossible weight or lexicon.

    Refuses weights that are negative, NaN or infinite, lexicons outside 0..dimension-1, and a lexicon twice in a row.
    stored: rows are those of a folder of vectors, where zeros and unsorted lexicons are refused as well.
    """
    row_of = lambda place: first + int(np.searchsorted(indptr, indptr[0] + place, side="right")) - 1  # noqa: E731
    if (lengths := np.diff(indptr)).min(initial=0) < 0:
        row = first + int(np.argmax(lengths < 0))
        raise InputError(f"{where}: row {row}: the row pointers fall; expected them in ascending order")
    bad = ~(np.isfinite(data) & ((data > 0) if stored else (data >= 0)))
    if bad.any():
        place = int(np.argmax(bad))
        found = f"weight {data[place]:g} of lexicon {indices[place]}"
        expected = f"expected finite numbers {'above 0' if stored else 'that are not negative'}"
        raise InputError(f"{where}: row {row_of(place)}: {found}; {expected}")
    outside = (indices < 0) | (indices >= dimension)
    if outside.any():
        place = int(np.argmax(outside))
        raise InputError(f"{where}: row {row_of(place)}: lexicon {indices[place]}; expected 0 to {dimension - 1}")
    if (place := _not_ascending(indices, indptr)) is not None:
        if stored:
            raise InputError(f"{where}: row {row_of(place)}: its lexicons are not in ascending order, or repeated")
        keys = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths) * dimension + indices
        order = np.argsort(keys, kind="stable")
        repeated = np.flatnonzero(np.diff(keys[order]) == 0)
        if len(repeated):
            place = int(order[repeated[0] + 1])
            raise InputError(f"{where}: row {row_of(place)}: lexicon {indices[place]} twice; expected it once")


def _not_ascending(indices: np.ndarray, indptr: np.ndarray) -> int | None:
    """The first place whose lexicon is not above the one before it in the same row."""
    falls = np.diff(indices.astype(np.int64)) <= 0
    starts = np.asarray(indptr[1:-1], np.int64) - int(indptr[0])
    inner = starts[(starts > 0) & (starts < len(indices))]
    falls[inner - 1] = False
    return int(np.argmax(falls)) + 1 if falls.any() else None


def check_vectors(vectors) -> None:
    """Reads all values of opened vectors. Raises InputError with the file and its row."""
    for shard, about in zip(vectors.shards(), vectors.meta["shards"], strict=True):
        file = vectors.folder / about["files"]["values" if vectors.kind == "dense" else "weights"]["name"]
        if vectors.kind == "dense":
            check_dense(shard, str(file))
        else:
            check_csr(shard.data, shard.indices, shard.indptr, vectors.dimension, str(file), stored=True)
    check_ids(vectors.ids, f"{vectors.folder}")


def check_ids(ids: Sequence[str], where: str, unit: str = "rows", first: int = 0) -> None:
    """Raises InputError for an id that two items have. unit, first: what the places in `where` are, and the first."""
    values = np.array([text.encode() for text in ids], np.bytes_)
    order = np.argsort(values, kind="stable")
    repeated = np.flatnonzero(values[order][1:] == values[order][:-1])
    if len(repeated):
        one, other = (int(order[repeated[0] + step]) for step in (0, 1))
        more = f", and {len(repeated) - 1} more repeated ids" if len(repeated) > 1 else ""
        both = f"{unit} {one + first} and {other + first}"
        raise InputError(f"{where}: {both} have the same id '{ids[one]}'{more}; expected unique ids")


def check_pair(documents, queries) -> None:
    """Raises InputError unless queries can search documents: kind, length, vocabulary, groups or qrels of its items."""
    if (documents.kind, documents.dimension) != (queries.kind, queries.dimension):
        found = f"{queries.kind} vectors of dimension {queries.dimension}"
        expected = f"expected {documents.kind} of {documents.dimension}, as the documents"
        raise InputError(f"{queries.folder}: {found}; {expected} in {documents.folder}")
    if documents.vocabulary and queries.vocabulary and documents.vocabulary != queries.vocabulary:
        pairs = enumerate(zip(documents.vocabulary, queries.vocabulary, strict=True))
        place, (theirs, mine) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
        expected = f"expected '{theirs}', as in {documents.folder}"
        raise InputError(f"{queries.folder}: lexicon {place} is '{mine}'; {expected}")
    if queries.qrels is not None:
        known = set(documents.ids)
        lost = [row for row, query in enumerate(queries.ids) if known.isdisjoint(queries.qrels.get(query, ()))]
        if lost:
            named = ", ".join(f"row {row} ('{queries.ids[row]}')" for row in lost[:SAMPLE])
            found = (
                f"{len(lost):,} of {queries.count:,} queries have no relevant document in {documents.folder}: {named}"
            )
            raise InputError(f"{queries.folder}: {found}; expected the ids of its documents in the qrels")
    elif queries.grouped:
        known = set(documents.groups)
        lost = [row for row, group in enumerate(queries.groups) if group not in known]
        if lost:
            named = ", ".join(f"row {row} ('{queries.groups[row]}')" for row in lost[:SAMPLE])
            of = "the group" if documents.grouped else "the id"
            found = f"{len(lost):,} of {queries.count:,} queries belong to no document: {named}"
            raise InputError(f"{queries.folder}: {found}; expected {of} of a document in {documents.folder}")


def check_same_items(vectors, others) -> None:
    """Raises InputError unless two folders hold the same items in the same order, of the same groups."""
    for name in ("ids", "groups"):
        mine, theirs = getattr(vectors, name), getattr(others, name)
        if mine != theirs:
            row = next((row for row, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), None)
            if row is None:
                found = f"{others.count:,} vectors; expected {vectors.count:,}"
            else:
                found = f"row {row} is '{theirs[row]}' by its {name}; expected '{mine[row]}'"
            raise InputError(f"{others.folder}: {found}, as in {vectors.folder}")
    if vectors.qrels != others.qrels:
        raise InputError(f"{others.folder}: other qrels; expected those of {vectors.folder}")
