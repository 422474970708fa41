"""Does a model read the words? Each image is scored against its caption and against the same caption with one attribute, count or relation
swapped; the caption must score strictly higher. Retrieval among random captions can be won without that.
"""

import time
from dataclasses import replace

import numpy as np

from bench.store import cli, config
from bench.store.records import Point, RecordStore
from bench.vectors.encode import Encoded, Encoder, batches


def measure_hard_negatives(
    store: RecordStore, encoder: Encoder, corpus, encoded: Encoded, base: Point, force: bool = False
) -> str | None:
    """Share of images that score their caption above its hard negative, in all and by kind, on float vectors as encoded; ties are wrong."""
    code = config.code_fingerprint("bench.tasks.hard_negatives")
    cases = list(corpus.hard_negatives(base.split, 0, base.images))
    if not cases:
        return None
    point = replace(base, task="hard_negatives", queries=len(cases), vectors_id=encoded.images_id, code_id=code)
    if store.has(point) and not force:
        return point.id
    began, row_of = time.perf_counter(), {image_id: row for row, image_id in enumerate(encoded.images.ids)}
    correct = []
    for batch in batches(cli.progress(cases, desc="hard negatives", unit="pair")):
        rows = np.array([row_of[case.image_id] for case in batch])
        pictures = np.concatenate([_dense(encoded.images.rows(row, row + 1)) for row in rows])
        own, other = (encoder.texts([getattr(case, text) for case in batch]) for text in ("caption", "negative"))
        correct += ((pictures * own).sum(axis=1) > (pictures * other).sum(axis=1)).tolist()
    rows = [
        {"query_id": f"{case.image_id}/{case.kind}/{i}", "group": case.image_id, "kind": case.kind, "correct": right}
        for i, (case, right) in enumerate(zip(cases, correct, strict=True))
    ]
    values = {"hard_negative_accuracy": float(np.mean(correct))}
    for kind in sorted({case.kind for case in cases}):
        values[f"hard_negative_accuracy_{kind}"] = float(
            np.mean([row["correct"] for row in rows if row["kind"] == kind])
        )
    return store.write(point, values, rows, seconds=time.perf_counter() - began)


def _dense(rows) -> np.ndarray:
    return rows if isinstance(rows, np.ndarray) else rows.toarray()
