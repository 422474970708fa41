"""COCO's evaluation protocols beside the 5K test set: mean over five folds of 1K, and qrels with additional positives.

Each evaluates a ranking of all 5,000 images, so none needs its own index. They apply only if the gallery is the
whole test split.
"""

import logging
import typing
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.tasks import evaluation
from bench.tasks.relevance import query_rows
from bench.tasks.retrieval.positives import SETS, read_qrels
from bench.vectors.read import Vectors
from models.errors import InputError

log = logging.getLogger(__name__)

CODE = ("bench.tasks.retrieval.coco", "bench.tasks.retrieval.positives")
TASKS = ("folds", *SETS)  # tasks of the records
SPLIT = "test"
FOLDS = 5
LARGEST_K = 10
CHUNK = 1024  # queries whose places are counted at a time


class Evaluated(NamedTuple):
    """Metric -> value; and row numbers, ranks and numbers of relevant items of the evaluated queries."""

    values: dict[str, float]
    which: np.ndarray
    ranks: list[np.ndarray]
    relevant: np.ndarray

    def sidecar(self, queries: Vectors) -> list[dict]:
        """Per-query results for the record store."""
        return query_rows(queries, self.which, self.ranks, self.relevant)


class Protocol(typing.Protocol):
    """An evaluation protocol. task: of its records. data_id: id of its qrels, "" if it uses those of the corpus."""

    task: str
    data_id: str

    def evaluate(self, direction: str, gallery: Vectors, queries: Vectors, ids: np.ndarray) -> Evaluated:
        """Evaluates a ranking.

        direction: text_to_image or image_to_text. ids: (Q, k) row numbers of the gallery, padded with -1.
        Raises InputError if k is too small.
        """
        ...


def protocols(corpus, split: str, encoded) -> list[Protocol]:
    """The protocols that apply to encoded images: none except for the whole test split of COCO.

    A set of additional positives that is not available is logged in one line.
    """
    from bench.corpora.readers.karpathy import Coco

    if not isinstance(corpus, Coco) or split != SPLIT or encoded.images.count != Coco.counts[SPLIT]:
        return []
    found: list[Protocol] = [Folds(encoded.images.ids)]
    try:
        for name in SETS:
            found.append(Positives(name, encoded))
    except InputError as error:
        log.warning("%s", error)
    return found


class Folds:
    """Recall within five folds of 1,000 images, in the order of the split (Karpathy and Fei-Fei, 2015), averaged.

    The ranking within a fold is the ranking over all images without those of other folds; items of equal score keep
    their order.
    """

    task, data_id = "folds", ""

    def __init__(self, image_ids: Sequence[str]):
        self.image = {image_id: row for row, image_id in enumerate(image_ids)}
        self.size = len(image_ids) // FOLDS

    def evaluate(self, direction: str, gallery: Vectors, queries: Vectors, ids: np.ndarray) -> Evaluated:
        """See `Protocol`."""
        items, owners = (np.array([self.image[group] for group in side.groups]) for side in (gallery, queries))
        ranks: list[np.ndarray] = []
        for start in range(0, len(owners), CHUNK):
            part, of_query = ids[start : start + CHUNK], owners[start : start + CHUNK, None]
            images = np.where(part >= 0, items[part], -1)
            within = (images >= 0) & (images // self.size == of_query // self.size)
            places = within.cumsum(axis=1)
            relevant = images == of_query
            truncated = (part[:, -1] >= 0) & (part.shape[1] < gallery.count)
            if (truncated & ~relevant.any(axis=1) & (places[:, -1] < LARGEST_K)).any():
                raise InputError(f"{ids.shape[1]} results per query are too few for the top {LARGEST_K} of a fold")
            rows, columns = np.nonzero(relevant)
            counts = np.bincount(rows, minlength=len(part))
            ranks += np.split(places[rows, columns].astype(np.int32), np.cumsum(counts)[:-1])
        fold, values = owners // self.size, {}
        for k in (1, 5, LARGEST_K):
            hits = evaluation.success(ranks, k)
            values[f"fold_recall@{k}"] = float(np.mean([hits[fold == number].mean() for number in range(FOLDS)]))
        return Evaluated(values, np.arange(len(owners)), ranks, np.bincount(items, minlength=len(self.image))[owners])


class Positives:
    """Recall, R-Precision and mAP@R by one set of qrels of `bench.tasks.retrieval.positives`, over its queries.

    Raises InputError if the package is not installed, or if an image or caption that is a query is not in the corpus.
    """

    def __init__(self, name: str, encoded):
        self.task = name
        self.qrels, self.data_id = read_qrels(name)
        for direction, side in (("text_to_image", encoded.captions), ("image_to_text", encoded.images)):
            known = set(side.ids)
            if unknown := next((query for query in self.qrels[direction] if query not in known), None):
                raise InputError(
                    f"{name} is not measured: its query {direction.split('_')[0]} {unknown} is not in the corpus; "
                    "expected all images of the test split, and captions with the ids of dataset_coco.json"
                )

    def evaluate(self, direction: str, gallery: Vectors, queries: Vectors, ids: np.ndarray) -> Evaluated:
        """See `Protocol`."""
        qrels, rows = self.qrels[direction], {item: row for row, item in enumerate(gallery.ids)}
        which = [q for q, query in enumerate(queries.ids) if query in qrels]
        positives = [qrels[queries.ids[q]] for q in which]
        relevant = np.array([len(items) for items in positives])
        depth = max(LARGEST_K, relevant.max())
        if ids.shape[1] < min(depth, gallery.count):
            raise InputError(
                f"{ids.shape[1]} results per query are too few: {self.task} has queries with {depth} relevant items"
            )
        ranks = [
            np.flatnonzero(np.isin(ids[q, :depth], [rows[item] for item in items if item in rows])).astype(np.int32) + 1
            for q, items in zip(which, positives, strict=True)
        ]
        values = {f"{self.task}_recall@{k}": float(evaluation.success(ranks, k).mean()) for k in (1, 5, LARGEST_K)}
        values[f"{self.task}_r_precision"] = evaluation.r_precision(ranks, relevant)
        values[f"{self.task}_map@r"] = evaluation.map_at_r(ranks, relevant)
        return Evaluated(values, np.array(which), ranks, relevant)


def table(rows) -> str:
    """The points of these protocols among rows of records, one line per setting; "" if there are none."""
    rows = rows[rows.task.isin(TASKS)]
    if rows.empty:
        return ""
    setting = {"top_k": rows.top_k.astype(object).fillna("all"), "bits": rows.bits.astype(object).fillna("float")}
    index = ["direction", "engine", *setting]
    wide = rows.assign(**setting).pivot_table(index=index, columns="metric", values="value", sort=False)
    return wide.to_string(float_format="{:.3f}".format)
