"""Disagreement of two models: what each retrieves first for the queries on which their ranks differ most.

    lexlip-bench disagreement --checkpoint FOLDER --baseline FOLDER --corpus scenes --images 1000

Both models must have been measured by `bench.tasks.recall`: queries are selected by rank gap from the recorded ranks
(`bench.tasks.rank_gap`), not by hand. One point per model, with knobs {"recall": id of its recall point, "against":
id of the other's}. Its examples are, per query, the image that the model retrieves first and the relevant image. A
lexicon model has heat maps of these images for the query with the largest gap in each direction.
"""

import functools
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from bench.corpora import data_id
from bench.store import cli
from bench.store.config import code_fingerprint
from bench.store.records import Point, RecordStore
from bench.tasks import evaluation
from bench.tasks.rank_gap import RANK_GAP, furthest, paired
from bench.tasks.retrieval.direction import CODE as RETRIEVAL
from bench.tasks.retrieval.direction import Direction
from bench.tasks.retrieval.examples import Result, example_rows, heat_maps
from bench.tasks.retrieval.settings import TOP_KS, RecallOptions, Setting, main_setting
from bench.tasks.subject import Measurement, Slice, Subject, used
from bench.vectors.encoder import PRECISIONS
from models.errors import InputError

TASK = "disagreement"
CODE = (
    *RETRIEVAL,
    "bench.tasks.disagreement",
    "bench.tasks.rank_gap",
    "bench.tasks.retrieval.examples",
    "bench.tasks.views.lexicons",
)
COPIED = ("direction", "kind", "engine", "exact", "vectors_id", "index_id")  # fields of the recall point


def measure_disagreement(
    home,
    subjects: Sequence[Subject],
    slice_: Slice,
    top_k: Sequence[int | None] = TOP_KS,
    bits: int = 8,
    force: bool = False,
) -> list[str]:
    """Measures where two models disagree, on a slice on which their recall was measured; returns the ids of two points.

    top_k, bits: as in the options of `measure_recall`. Raises InputError if recall was not measured, and for one model
    given twice.
    """
    if len({subject.encoder.id for subject in subjects}) < len(subjects):
        raise InputError(f"--baseline {subjects[1].model}: the same model as --checkpoint; expected another one")
    store = RecordStore(home)
    rows = store.read()
    sides = [Side(Measurement(Path(home), subject, slice_), store, rows, top_k, bits) for subject in subjects]
    both = paired(*(side.first for side in sides), *(side.recall.depth for side in sides))
    chosen = [furthest(both, ours_lower).query_id.tolist() for ours_lower in (True, False)]
    for side, other, gap in zip(sides, reversed(sides), (both.gap, -both.gap), strict=True):
        point = side.point(other, len(both))
        if force or not store.has(point):
            store.write(point, gap_values(gap), examples=side.examples(chosen))
    return [side.point(other, len(both)).id for side, other in zip(sides, reversed(sides), strict=True)]


def gap_values(gap: pd.Series) -> dict[str, float]:
    """The metrics of a model from its rank gaps (Q,), positive where it ranks the relevant item further down."""
    return {"ranked_lower": int((gap > 0).sum()), "rank_gap_max": float(gap.clip(lower=0).max()) if len(gap) else 0.0}


class Side:
    """One of the two models: its recorded recall, and the search that this recall was measured with."""

    def __init__(self, measurement: Measurement, store: RecordStore, rows: pd.DataFrame, top_k, bits: int):
        self.measurement, self.store = measurement, store
        self.recall = recall_point(rows, measurement, top_k, bits)

    @functools.cached_property
    def first(self) -> pd.DataFrame:
        """query_id, group and `first`, the recorded rank of the first relevant image."""
        queries = self.store.queries(self.recall.point_id)
        if queries is None:
            raise InputError(
                f"{self.recall.point_id}: no per-query ranks beside this record; measure it again (--force)"
            )
        return queries.assign(first=evaluation.first_rank(queries.ranks, np.inf))

    def point(self, other: "Side", queries: int) -> Point:
        """The point of this model against another, with the fields of its recall point."""
        recall, (corpus, split, images) = self.recall, slice_fields(self.measurement.slice)
        subject = Subject(
            self.measurement.subject.model,
            recall.variant,
            None if pd.isna(recall.seed) else int(recall.seed),
            recall.profile,
            recall.config_id,
            precision=self.measurement.subject.precision,
        )
        setting, fields = recorded_setting(recall), {name: getattr(recall, name) for name in COPIED}
        fields |= {"top_k": setting.top_k, "bits": setting.bits, "depth": int(recall.depth), "queries": queries}
        fields["knobs"] = {"recall": recall.point_id, "against": other.recall.point_id}
        fields["exact"] = bool(recall.exact)
        return subject.point(TASK, corpus, split, images, **fields, code_id=code_fingerprint(*CODE))

    def examples(self, chosen: list[list[str]]) -> list[dict]:
        """Rows of the examples sidecar for the queries of both directions of the gap."""
        rows = [row | {"chosen": RANK_GAP} for row in self._results(list(chain(*chosen)))]
        if self.recall.kind != "lexicon":
            return rows
        furthest_apart = {query_ids[0] for query_ids in chosen if query_ids}
        heat = heat_maps(self.measurement, [row for row in rows if row["query_id"] in furthest_apart])
        return [row | {"heat_maps": heat.get((row["query_id"], row["image_id"]))} for row in rows]

    def _results(self, query_ids: list[str]) -> list[dict]:
        """The image retrieved first for these queries, and the relevant image if it is another."""
        encoded, setting, knobs = self.measurement.encoded, recorded_setting(self.recall), json.loads(self.recall.knobs)
        scaled = {name: knobs[name] for name in ("scale", "query_top_k") if name in knobs}
        search = Direction(self.measurement, "text_to_image", RecallOptions(depth=1, **scaled))
        ids, scores = search.ranking(setting)  # all queries, as recorded: the batch decides the rounding
        queries, documents = search.query_matrix(setting.bits), search.documents(setting)
        gallery = documents.to_numpy() if encoded.kind == "dense" else documents.to_scipy()
        query_row = {query_id: q for q, query_id in enumerate(encoded.captions.ids)}
        image_row = {image_id: i for i, image_id in enumerate(encoded.images.ids)}
        rank_of = dict(zip(self.first.query_id, self.first["first"], strict=True))
        results = []
        for query_id in query_ids:
            q = query_row[query_id]
            i, rank = image_row[encoded.captions.groups[q]], rank_of[query_id]
            if ids[q, 0] >= 0:
                results.append(Result(q, int(ids[q, 0]), 1, float(scores[q, 0])))
            if ids[q, 0] != i:
                score = pair_score(queries[q : q + 1], gallery[i : i + 1])
                results.append(Result(q, i, int(rank) if np.isfinite(rank) else None, score))
        return example_rows(self.measurement.slice, encoded, queries, gallery, results)


def slice_fields(slice_: Slice) -> tuple:
    """corpus, split and images of a slice."""
    return slice_.corpus, slice_.split, slice_.images


def recall_point(rows: pd.DataFrame, measurement: Measurement, top_k, bits: int):
    """The newest record of text-to-image recall of a model at its main setting, as a namedtuple. Raises InputError."""
    corpus, split, images = slice_fields(measurement.slice)
    encoder = measurement.subject.encoder
    wanted = {
        "task": "retrieval",
        "metric": "recall@1",
        "checkpoint_id": encoder.id,
        "data_id": data_id(corpus),
        "split": split,
        "images": images,
        "direction": "text_to_image",
        "batch_mode": "",
        "status": "ok",
    }
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    mains, measured = [main_setting(kind, top_k, bits) for kind in rows.kind], sorted(set(rows.top_k.dropna()))
    rows = rows[[recorded_setting(row) == main for row, main in zip(rows.itertuples(), mains, strict=True)]]
    if rows.empty:
        wanted_k = ", ".join(str(k) for k in dict.fromkeys(main.top_k for main in mains))
        other = f" at top-k {wanted_k} (measured: {', '.join(f'{k:.0f}' for k in measured)})"
        raise InputError(
            f"{encoder.source}: no recall of this checkpoint on {images} images of {corpus.name}, {split}"
            f"{other if measured else ''}; measure it with lexlip-bench recall"
        )
    return next(rows.sort_values("started").tail(1).itertuples())


def recorded_setting(point) -> Setting:
    """The setting of a recorded point (a namedtuple of `RecordStore.read`)."""
    return Setting(point.engine, *(None if pd.isna(value) else int(value) for value in (point.top_k, point.bits)))


def pair_score(query, document) -> float:
    """Score of one pair of rows, CSR or dense; impacts are summed in float64."""
    product = query.astype(np.float64) @ document.astype(np.float64).T
    return float(product.sum())


# --- lexlip-bench disagreement ---


def main(arguments) -> None:
    """Measures two models and prints the number of examples of each."""
    from bench.corpora import read_spec

    models = (arguments.checkpoint, arguments.baseline)
    slice_ = Slice.open(read_spec(arguments.corpus), arguments.split, arguments.images, models)
    subjects = [Subject(model, precision=arguments.precision) for model in models]
    store = RecordStore(arguments.home)
    for point_id in measure_disagreement(arguments.home, subjects, slice_, force=arguments.force):
        print(f"{point_id}: {len(store.examples(point_id))} examples")
    print(f"python -m reports.build --home {arguments.home} shows them under Largest disagreements")
    encoded = Measurement(arguments.home, subjects[0], slice_).encoded
    print(used(slice_.corpus.name, slice_.split, encoded.images.count, encoded.captions.count))


def parser():
    """Flags of `lexlip-bench disagreement`."""
    about = "The queries on which two models disagree most: what each retrieves first, with heat maps."
    flags = cli.parser(about, writes=True)
    flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    flags.add_argument("--baseline", type=Path, required=True, help="checkpoint folder of the other model")
    flags.add_argument("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="what the models compute in")
    cli.add_corpus(flags, images="images of the split on which recall was measured")
    return flags
