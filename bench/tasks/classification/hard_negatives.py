"""Hard negatives: an image against its caption and against the caption with one attribute, count or relation swapped.

The caption must score strictly higher. Retrieval among random captions can succeed without reading attributes,
counts and relations; this task cannot.
"""

import time

import numpy as np

from bench.store import cli
from bench.store.config import code_fingerprint
from bench.tasks.subject import Measurement
from bench.vectors.batches import batches


def measure_hard_negatives(measurement: Measurement) -> str | None:
    """Writes the share of images that score their caption above its hard negative, overall and by kind.

    Returns the id of the point, None if the slice has no hard negatives. Scores are of float vectors as encoded; ties
    are wrong.
    """
    encoded, slice_, store = measurement.encoded, measurement.slice, measurement.store
    cases = list(slice_.corpus.hard_negatives(slice_.split, 0, slice_.images))
    if not cases:
        return None
    code = code_fingerprint("bench.tasks.classification.hard_negatives")
    point = measurement.point("hard_negatives", queries=len(cases), vectors_id=encoded.images_id, code_id=code)
    if measurement.exists(point):
        return point.id
    began, row_of = time.perf_counter(), {image_id: row for row, image_id in enumerate(encoded.images.ids)}
    encoder, correct = measurement.subject.encoder, []
    for batch in batches(cli.progress(cases, desc="hard negatives", unit="pair")):
        rows = [row_of[case.image_id] for case in batch]
        images = np.concatenate([_dense(encoded.images.rows(row, row + 1)) for row in rows])
        captions, negatives = (
            encoder.texts([getattr(case, text) for case in batch]) for text in ("caption", "negative")
        )
        correct += ((images * captions).sum(axis=1) > (images * negatives).sum(axis=1)).tolist()
    rows = [
        {"query_id": f"{case.image_id}/{case.kind}/{i}", "group": case.image_id, "kind": case.kind, "correct": hit}
        for i, (case, hit) in enumerate(zip(cases, correct, strict=True))
    ]
    values = {"hard_negative_accuracy": float(np.mean(correct))}
    for kind in sorted({case.kind for case in cases}):
        hits = [row["correct"] for row in rows if row["kind"] == kind]
        values[f"hard_negative_accuracy_{kind}"] = float(np.mean(hits))
    return store.write(point, values, rows, seconds=time.perf_counter() - began)


def _dense(rows) -> np.ndarray:
    return rows if isinstance(rows, np.ndarray) else rows.toarray()
