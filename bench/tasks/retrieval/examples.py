"""Examples sidecar: results of a few queries with thumbnails, matched lexicons and heat maps."""

import io
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.tasks.subject import Measurement, Slice
from bench.tasks.views.lexicons import matched, token_logits
from bench.vectors.batches import render
from bench.vectors.statistics import evenly

TOP = 5  # results stored per query
LEXICONS = 12  # matched lexicons stored per result
THUMBNAIL = 128  # pixels of the longer side; smaller images keep their size
HEATED_QUERIES = 4  # queries, evenly spaced among the examples, whose first result has heat maps
HEAT_MAPS = 4  # per result: of the lexicons with the largest share of the score
DECIMALS = 4  # of a logit


class Result(NamedTuple):
    """A gallery item retrieved for a query. query, row: row numbers; rank: None if it was not retrieved."""

    query: int
    row: int
    rank: int | None
    score: float


def evenly_spaced(ids: np.ndarray, scores: np.ndarray, queries: int) -> list[Result]:
    """The first results of `queries` queries, evenly spaced through the query list: selected by rule, not by hand.

    ids, scores: (Q, k) of all queries.
    """
    return [
        Result(int(q), int(i), rank, float(score))
        for q in evenly(len(ids), queries)
        for rank, (i, score) in enumerate(zip(ids[q, :TOP], scores[q, :TOP], strict=True), start=1)
        if i >= 0
    ]


def example_rows(slice_: Slice, encoded, queries, gallery, results: Sequence[Result]) -> list[dict]:
    """Rows of the examples sidecar for results of text-to-image retrieval.

    encoded: vectors of the slice. queries, gallery: CSR matrices of impacts as searched; not used for dense vectors.
    """
    captions, images = encoded.captions, encoded.images
    texts = _texts(slice_, [captions.ids[q] for q in {result.query for result in results}])
    thumbnails = _thumbnails(slice_, {result.row: images.ids[result.row] for result in results})

    def lexicons(q: int, i: int) -> list[list]:
        if images.vocabulary is None:
            return []
        query_V, document_V = (matrix[row : row + 1].toarray()[0] for matrix, row in ((queries, q), (gallery, i)))
        best = matched(query_V, document_V, images.vocabulary)[:LEXICONS]
        return [[name, query, document, share] for name, query, document, _, share in best]

    return [
        {
            "query_id": captions.ids[q],
            "query": texts[captions.ids[q]],
            "rank": rank,
            "image_id": images.ids[i],
            "relevant": images.ids[i] == captions.groups[q],
            "score": score,
            "lexicons": json.dumps(lexicons(q, i)),
            "image": thumbnails[i],
        }
        for q, i, rank, score in results
    ]


def add_heat_maps(rows: list[dict], measurement: Measurement) -> list[dict]:
    """The rows, with heat maps on the first result of a few queries, evenly spaced."""
    first = [row for row in rows if row["rank"] == 1]
    heat = heat_maps(measurement, [first[i] for i in evenly(len(first), HEATED_QUERIES)])
    return [row | {"heat_maps": heat.get((row["query_id"], row["image_id"]))} for row in rows]


def heat_maps(measurement: Measurement, rows: list[dict]) -> dict[tuple[str, str], str]:
    """(query id, image id) -> heat maps of a row's image, as the JSON of `EXAMPLES_SCHEMA`.

    The maps hold the logits of the lexicons that matched most at each token of the image. Empty for a model that
    does not give the states of its image tokens (`image_states`).
    """
    encoder = measurement.subject.encoder
    if not rows or not hasattr(encoder.model, "image_states"):
        return {}
    model, split = encoder.model, measurement.slice.split
    row_of = {image_id: i for i, image_id in enumerate(measurement.encoded.images.ids)}
    column = {name: v for v, name in enumerate(encoder.vocabulary)}
    found = {}
    for row in rows:
        i = row_of[row["image_id"]]
        rendered = render(measurement.slice.corpus, [(split, i, i + 1)], {model.pixels})
        _, logits_LV = token_logits(model, rendered.of_size[model.pixels][0])
        names = [name for name, *_ in json.loads(row["lexicons"])[:HEAT_MAPS]]
        maps = [
            [name, int(model.content_only), np.round(logits_LV[:, column[name]].astype(float), DECIMALS).tolist()]
            for name in names
        ]
        found[row["query_id"], row["image_id"]] = json.dumps(maps, allow_nan=False)
    return found


def _texts(slice_: Slice, wanted: list[str]) -> dict[str, str]:
    missing, found = set(wanted), {}
    for caption_id, text, _ in slice_.corpus.captions(slice_.split, 0, slice_.images):
        if caption_id in missing:
            found[caption_id] = text
            missing.discard(caption_id)
        if not missing:
            break
    return found


def _thumbnails(slice_: Slice, wanted: dict[int, str]) -> dict[int, bytes]:
    """WebP thumbnails of gallery rows. Row i is image i of the split, unless the corpus left out a broken image."""
    found = {}
    for i, image_id in wanted.items():
        for found_id, image in slice_.corpus.images(slice_.split, i, i + 1):
            if found_id == image_id:
                found[i] = _webp(image)
    if left := {image_id: i for i, image_id in wanted.items() if i not in found}:
        for image_id, image in slice_.corpus.images(slice_.split, 0, slice_.images):
            if image_id in left:
                found[left[image_id]] = _webp(image)
    return found


def _webp(pixels: np.ndarray) -> bytes:
    from PIL import Image

    image, buffer = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
