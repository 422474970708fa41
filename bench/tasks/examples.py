"""What a few queries found, with the picture and the lexicons that matched, so that a person sees why."""

import io
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from bench.tasks.timing import evenly

TOP = 5  # results shown for each query
LEXICONS = 12  # matched lexicons kept for each result
THUMBNAIL = 128  # pixels of the longer side; smaller pictures stay as they are


def chosen(queries: int, wanted: int) -> np.ndarray:
    """Which queries are shown. The rule, so that nobody picks: evenly spaced through the query list, first and last included."""
    return evenly(queries, wanted)


class Result(NamedTuple):
    """An item that a query found. query: its number; row: of the gallery; rank: None where it was not retrieved."""

    query: int
    row: int
    rank: int | None
    score: float


def example_rows(
    corpus,
    split: str,
    images: int,
    queries,
    gallery,
    which: np.ndarray,
    ids,
    scores,
    query_ids,
    groups,
    gallery_ids,
    vocabulary,
) -> list[dict]:
    """Rows of the examples sidecar for text-to-image retrieval: the first results of the queries `which`.

    ids, scores: (Q, k) of all queries. The rest as `result_rows`.
    """
    results = [
        Result(int(q), int(i), rank, float(score))
        for q in which
        for rank, (i, score) in enumerate(zip(ids[q, :TOP], scores[q, :TOP], strict=True), start=1)
        if i >= 0
    ]
    return result_rows(corpus, split, images, queries, gallery, results, query_ids, groups, gallery_ids, vocabulary)


def result_rows(
    corpus,
    split: str,
    images: int,
    queries,
    gallery,
    results: Sequence[Result],
    query_ids,
    groups,
    gallery_ids,
    vocabulary,
) -> list[dict]:
    """Rows of the examples sidecar for results of text-to-image retrieval.

    queries, gallery: matrices as they were searched (CSR of impacts, or dense). query_ids, groups: id of each query and of its image;
    gallery_ids: id of each indexed image. vocabulary: None for dense.
    """
    texts = _texts(corpus, split, images, [query_ids[q] for q in {found.query for found in results}])
    pictures = _pictures(corpus, split, images, {found.row: gallery_ids[found.row] for found in results})
    return [
        {
            "query_id": query_ids[q],
            "query": texts[query_ids[q]],
            "rank": rank,
            "image_id": gallery_ids[i],
            "relevant": gallery_ids[i] == groups[q],
            "score": score,
            "lexicons": json.dumps(
                [] if vocabulary is None else matched(queries[q : q + 1], gallery[i : i + 1], vocabulary)
            ),
            "image": pictures[i],
        }
        for q, i, rank, score in results
    ]


def matched(query, document, vocabulary: Sequence[str]) -> list[list]:
    """[[lexicon, query weight, document weight, share of the score], ...] of one pair of CSR rows, the largest share first."""
    common, of_query, of_document = np.intersect1d(
        query.indices, document.indices, assume_unique=True, return_indices=True
    )
    weights = np.stack([query.data[of_query], document.data[of_document]]).astype(np.float64)
    products = weights.prod(axis=0)
    best = np.argsort(-products, kind="stable")[:LEXICONS]
    total = products.sum()
    return [
        [vocabulary[common[j]], float(weights[0, j]), float(weights[1, j]), float(products[j] / total)] for j in best
    ]


def _texts(corpus, split: str, images: int, wanted: list[str]) -> dict[str, str]:
    missing = set(wanted)
    found = {}
    for caption_id, text, _ in corpus.captions(split, 0, images):
        if caption_id in missing:
            found[caption_id] = text
            missing.discard(caption_id)
        if not missing:
            break
    return found


def _pictures(corpus, split: str, images: int, wanted: dict[int, str]) -> dict[int, bytes]:
    """WebP thumbnails of the wanted gallery rows. Row i is image i of the split, unless the corpus had to leave out a broken one."""
    found = {}
    for i, image_id in wanted.items():
        for found_id, picture in corpus.images(split, i, i + 1):
            if found_id == image_id:
                found[i] = _webp(picture)
    if left := {image_id: i for i, image_id in wanted.items() if i not in found}:
        for image_id, picture in corpus.images(split, 0, images):
            if image_id in left:
                found[left[image_id]] = _webp(picture)
    return found


def _webp(picture: np.ndarray) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
