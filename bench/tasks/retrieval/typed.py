"""Typed-word search: the query is the bag of a caption's tokens times their idf; the text encoder is not used.

Its examples show what an image is as words: for a few images, evenly spaced, the strongest lexicons, the captions, and
the results of the first caption as a typed query.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import scipy

from bench.engines import ranking
from bench.tasks.retrieval.examples import LEXICONS, TOP, Result, example_rows
from bench.tasks.subject import Measurement
from bench.vectors.batches import batches
from bench.vectors.format import to_csr
from bench.vectors.statistics import evenly, joined

DEPTH = 10  # results retrieved for accuracy


def typed_queries(model, captions: Sequence[str]) -> scipy.sparse.csr_array:
    """The queries of captions, (Q, V) float32, L2-normalised; zero for a caption without any lexicon."""
    return joined([to_csr(np.asarray(model.encode_words(batch), np.float32)) for batch in batches(captions)])


def search(queries: scipy.sparse.csr_array, images: scipy.sparse.csr_array, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact search: ids (Q, k) int64 and scores (Q, k) float32 in the order of engines, padded with -1."""
    by_lexicon, found = images.T.tocsr(), [ranking.empty(0, k)]
    for rows in batches(range(queries.shape[0])):
        scores_BN = (queries[rows[0] : rows[-1] + 1] @ by_lexicon).toarray()
        found.append(ranking.top_k(scores_BN, k, positive=True))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def word_examples(
    measurement: Measurement,
    images: scipy.sparse.csr_array,
    queries: scipy.sparse.csr_array,
    texts: Sequence[str],
    owners: np.ndarray,
    marks: Sequence[scipy.sparse.csr_array | None],
    count: int,
) -> list[dict]:
    """Rows of the examples sidecar: the typed results of `count` images, evenly spaced, and of each the image itself.

    images: (N, V) as searched. queries: (Q, V); texts: the Q captions; owners: (Q,) the image of each, -1 for none.
    marks: (N, V) each, positive where a lexicon is a token of the image's captions, and of words for what it shows
    (None: unknown). The row of the image itself has its captions and its strongest lexicons; its rank is null if the
    query does not retrieve it.
    """
    owned = np.unique(owners[owners >= 0])
    shown = owned[evenly(len(owned), count)]
    first = [int(np.flatnonzero(owners == i)[0]) for i in shown]
    ids, scores = search(queries[first], images, images.shape[0])
    results = []
    for place, (q, i) in enumerate(zip(first, shown.tolist(), strict=True)):
        ranks = {int(row): rank for rank, row in enumerate(ids[place], 1) if row >= 0}
        at = [row for row, rank in ranks.items() if rank <= TOP or row == i]
        results += [Result(q, row, ranks[row], float(scores[place, ranks[row] - 1])) for row in at]
        if i not in ranks:
            results.append(Result(q, i, None, 0.0))
    rows = example_rows(measurement.slice, measurement.encoded, queries, images, results)
    vocabulary = measurement.encoded.images.vocabulary
    for row, result in zip(rows, results, strict=True):
        if owners[result.query] == result.row:
            captions = [texts[q] for q in np.flatnonzero(owners == result.row)]
            strongest = _strongest(images, marks, vocabulary, result.row)
            row |= {"captions": json.dumps(captions, ensure_ascii=False), "words": json.dumps(strongest)}
    return rows


def _strongest(images: scipy.sparse.csr_array, marks, vocabulary: Sequence[str], i: int) -> list[list]:
    """[lexicon, weight, 1 or 0 for each mark] of the strongest lexicons of image i; ties by lexicon id."""
    image_V = images[[i]].toarray()[0]
    marked = [None if mark is None else mark[[i]].toarray()[0] > 0 for mark in marks]
    order = [v for v in np.argsort(-image_V, kind="stable")[:LEXICONS] if image_V[v] > 0]
    return [
        [vocabulary[v], float(image_V[v]), *(None if mark_V is None else int(mark_V[v]) for mark_V in marked)]
        for v in order
    ]
