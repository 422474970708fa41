"""COCO's protocols beside the 5,000 test images: the mean over five folds of 1,000, and extra positives that the captions never named.

Each judges a ranking that was made over all 5,000 images, so none needs an index of its own. The whole test split must be in the gallery;
of a part of it nothing is said.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from bench.corpora.readers.karpathy import Coco
from bench.tasks import evaluation
from bench.tasks.protocols.positives import SETS, judgements
from bench.tasks.protocols.precision import map_at_r, r_precision
from bench.vectors.encode import Encoded
from bench.vectors.read import Vectors
from models.errors import InputError

log = logging.getLogger(__name__)

CODE = ("bench.tasks.protocols.protocols", "bench.tasks.protocols.positives", "bench.tasks.protocols.precision")
TASKS = ("folds", *SETS)  # of the records
SPLIT = "test"
FOLDS = 5
REACH = 10  # the largest K of a recall
CHUNK = 1024  # queries whose places are counted at a time


class Judged(NamedTuple):
    """What a protocol says: metric -> value; and of the queries judged (row numbers) the ranks and the number of their relevant items."""

    values: dict[str, float]
    which: np.ndarray
    ranks: list[np.ndarray]
    relevant: np.ndarray

    def sidecar(self, queries: Vectors) -> list[dict]:
        """Rows of a point's per-query results."""
        return [
            {
                "query_id": queries.ids[q],
                "group": queries.groups[q],
                "ranks": ranks,
                "relevant": int(relevant),
                "latency_us": None,
            }
            for q, ranks, relevant in zip(self.which, self.ranks, self.relevant, strict=True)
        ]


class Judge(Protocol):
    """`task` names its points among the records; `data_id` says what it judges by beside the corpus, "" for nothing."""

    task: str
    data_id: str

    def judge(self, direction: str, gallery: Vectors, queries: Vectors, ids: np.ndarray) -> Judged:
        """direction: text_to_image or image_to_text. ids: (Q, k) row numbers of the gallery as retrieved, padded with -1. Raises InputError where k is too small to tell."""
        ...


def judges(corpus, split: str, encoded: Encoded) -> list[Judge]:
    """The protocols that apply: none but for the whole test split of COCO. Extra positives that cannot be had are logged, one line each."""
    if not isinstance(corpus, Coco) or split != SPLIT or encoded.images.count != Coco.counts[SPLIT]:
        return []
    found: list[Judge] = [Folds(encoded.images.ids)]
    try:
        for name in SETS:
            found.append(Positives(name, encoded))
    except InputError as error:
        log.warning("%s", error)
    return found


class Folds:
    """Recall within folds of 1,000 images, in the order in which the split lists them (Karpathy and Fei-Fei, 2015), averaged over the five.

    A query's ranking within its fold is its ranking over all with the rest left out: the items of equal score stay in order.
    """

    task, data_id = "folds", ""

    def __init__(self, image_ids: Sequence[str]):
        self.image = {image_id: row for row, image_id in enumerate(image_ids)}
        self.size = len(image_ids) // FOLDS

    def judge(self, direction: str, gallery: Vectors, queries: Vectors, ids: np.ndarray) -> Judged:
        items, asked = (np.array([self.image[group] for group in side.groups]) for side in (gallery, queries))
        ranks: list[np.ndarray] = []
        for start in range(0, len(asked), CHUNK):
            part, of_query = ids[start : start + CHUNK], asked[start : start + CHUNK, None]
            images = np.where(part >= 0, items[part], -1)
            within = (images >= 0) & (images // self.size == of_query // self.size)
            places = within.cumsum(axis=1)
            right = images == of_query
            cut_off = (part[:, -1] >= 0) & (part.shape[1] < gallery.count)  # there was more to retrieve
            if (cut_off & ~right.any(axis=1) & (places[:, -1] < REACH)).any():
                raise InputError(f"{ids.shape[1]} results are too few to tell the top {REACH} of a fold")
            rows, columns = np.nonzero(right)
            counts = np.bincount(rows, minlength=len(part))
            ranks += np.split(places[rows, columns].astype(np.int32), np.cumsum(counts)[:-1])
        values = {}
        for k in (1, 5, REACH):
            hits = evaluation.success(ranks, k)
            values[f"fold_recall@{k}"] = float(
                np.mean([hits[asked // self.size == fold].mean() for fold in range(FOLDS)])
            )
        return Judged(values, np.arange(len(asked)), ranks, np.bincount(items, minlength=len(self.image))[asked])


class Positives:
    """Recall, R-Precision and mAP@R by one set of judgements of `bench.tasks.protocols.positives`, over the queries that it judges.

    Raises InputError where the package is missing, or a picture or a caption that it names as a query is not in the corpus.
    """

    def __init__(self, name: str, encoded: Encoded):
        self.task = name
        self.relevant, self.data_id = judgements(name)
        known = {
            direction: set(side.ids)
            for direction, side in (("text_to_image", encoded.captions), ("image_to_text", encoded.images))
        }
        for direction, ids in known.items():
            if absent := next((query for query in self.relevant[direction] if query not in ids), None):
                what = direction.split("_")[0]
                raise InputError(
                    f"{name} is not measured: it judges the {what} {absent}, which is not in the corpus; expected all pictures of the test "
                    "split, and captions with the ids of dataset_coco.json"
                )

    def judge(self, direction: str, gallery: Vectors, queries: Vectors, ids: np.ndarray) -> Judged:
        of_query, rows = self.relevant[direction], {item: row for row, item in enumerate(gallery.ids)}
        which = [q for q, query in enumerate(queries.ids) if query in of_query]
        positives = [of_query[queries.ids[q]] for q in which]
        relevant = np.array([len(items) for items in positives])
        depth = max(REACH, relevant.max())
        if ids.shape[1] < min(depth, gallery.count):
            raise InputError(f"{ids.shape[1]} results are too few: {self.task} has queries with {depth} right ones")
        ranks = [
            np.flatnonzero(np.isin(ids[q, :depth], [rows[item] for item in items if item in rows])).astype(np.int32) + 1
            for q, items in zip(which, positives, strict=True)
        ]
        values = {f"{self.task}_recall@{k}": float(evaluation.success(ranks, k).mean()) for k in (1, 5, REACH)}
        values |= {
            f"{self.task}_r_precision": r_precision(ranks, relevant),
            f"{self.task}_map@r": map_at_r(ranks, relevant),
        }
        return Judged(values, np.array(which), ranks, relevant)


def table(rows) -> str:
    """The points of protocols among the rows, one line for each setting and a column for each metric; "" where there are none."""
    rows = rows[rows.task.isin(TASKS)]
    if rows.empty:
        return ""
    setting = {"top_k": rows.top_k.astype(object).fillna("all"), "bits": rows.bits.astype(object).fillna("float")}
    index = ["direction", "engine", *setting]
    wide = rows.assign(**setting).pivot_table(index=index, columns="metric", values="value", sort=False)
    return wide.to_string(float_format="{:.3f}".format)
