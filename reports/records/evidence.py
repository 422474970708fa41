"""The records as a report reads them: which of them count, how a number is looked up, and what is said when there is none.

A home can hold several profiles, several trainings of the same variant, and points measured twice. The rules, which the page states:
one profile and corpus (that of the newest record, unless named); of each variant and seed the newest checkpoint; of points that differ
only in what does not matter for the number asked for, the newest. Nothing is averaged but seeds.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.store.records import SCHEMA
from bench.tasks import evaluation
from models.errors import InputError
from reports.render.tables import FAILED, NOT_A_NUMBER, NOT_MEASURED, Cell
from reports.statistics import significance
from reports.statistics.significance import Estimate

NUMBERS = (
    "value",
    "images",
    "queries",
    "seed",
    "step",
    "top_k",
    "bits",
    "depth",
    "threads",
    "cores",
    "memory_gb",
    "seconds",
)
# What `bench.scale` writes, without a seed; `reports.records.scale` reads it.
SWEPT = ("scale", "encoded_control", "sharded", "encoding", "vectors", "false_negatives", "steps")
WITHOUT_PICTURES = ("synthetic:", "vectors:")  # corpora of generated vectors and of the user's own
BESIDE = ("zero_shot", "sparsity", "lexicon_head", "key_queue")  # tasks that may be of other pictures, or of none
UNTRAINED = ("bm25", "clip_zeroshot")  # how the names of baselines begin that were not trained here: no ablations
MAXIMUM_IDENTICAL = 1e-6  # a recorded recall and the mean of its per-query hits may differ by rounding alone


@dataclass(frozen=True)
class Reading:
    """What the page compares. `top_k` and `bits` are the operating point of lexicon vectors; dense vectors are searched exactly."""

    profile: str = ""  # "" = that of the newest record
    reference: str = "lexlip"
    baseline: str = "clip"
    top_k: int = 32
    bits: int = 8
    lexicon_engine: str = "impact"
    lexicon_brute_force: str = "scipy"
    dense_engine: str = "faiss-flat"
    significant: float = 0.05
    examples: int = 10  # queries shown
    pictures: int = 5  # of each model, for each query
    costs: Path | None = None  # what the Cost page assumes; None: reports/cost.yaml


class Evidence:
    """Records of one profile and corpus. `store`: anything with read(), queries(point_id) and examples(point_id)."""

    def __init__(self, store, reading: Reading | None = None):
        self.store = store
        self.reading = reading or Reading()
        self.all = _clean(store.read())
        self.profile, self.corpus = self._choose_profile()
        ours = self.all[(self.all.profile == self.profile) & (self.all.corpus.isin([self.corpus, ""]))]
        self.rows = _newest_checkpoints(ours)
        self.superseded = ours.point_id.nunique() - self.rows.point_id.nunique()
        self.generated = _newest_checkpoints(self._without_pictures())
        shown = {(self.profile, self.corpus), (self.profile, ""), ("", "")} | set(
            zip(self.generated.profile, self.generated.corpus, strict=True)
        )
        self.others = sorted(set(zip(self.all.profile, self.all.corpus, strict=True)) - shown)
        self.gallery = _galleries(self.rows)
        in_time = self.rows.sort_values(["started", "point_id"])
        self._by_key = {key: group for key, group in in_time.groupby(["variant", "metric"], sort=False)}

    @functools.cached_property
    def variants(self) -> list[str]:
        """The reference, the baseline, then the others by name."""
        first = [self.reading.reference, self.reading.baseline]
        trained = self.rows[~_swept(self.rows)]  # a sweep may be of any checkpoint, under the name of its folder
        return sorted(
            set((trained if len(trained) else self.rows).variant) - {""},
            key=lambda name: (first.index(name) if name in first else len(first), name),
        )

    @functools.cached_property
    def kinds(self) -> dict[str, str]:
        """Variant -> "dense", "lexicon", or "" when no record says."""
        known = self.rows[self.rows.kind != ""]
        return dict.fromkeys(self.variants, "") | dict(zip(known.variant, known.kind, strict=True))

    def operating_point(self, variant: str) -> dict:
        """The filters of the row that stands for a variant in the tables."""
        if self.kinds.get(variant) == "dense":
            return {"engine": self.reading.dense_engine}
        if variant in self._own_engine:
            return {"engine": self._own_engine[variant]}
        return {"engine": self.reading.lexicon_engine, "top_k": self.reading.top_k, "bits": self.reading.bits}

    @functools.cached_property
    def _own_engine(self) -> dict[str, str]:
        """Variants that one engine of their own measured and no other: BM25 has no vectors to prune, or to search otherwise."""
        ours = {self.reading.lexicon_engine, self.reading.lexicon_brute_force, self.reading.dense_engine}
        retrieval = self.rows[(self.rows.task == "retrieval") & self.rows.variant.str.startswith(UNTRAINED)]
        engines = {variant: set(rows.engine) for variant, rows in retrieval.groupby("variant")}
        return {
            variant: next(iter(names)) for variant, names in engines.items() if len(names) == 1 and not names & ours
        }

    def brute_force(self, variant: str) -> dict:
        """The filters of exact search over the un-pruned float vectors."""
        engine = self.reading.dense_engine if self.kinds.get(variant) == "dense" else self.reading.lexicon_brute_force
        return {"engine": engine, "top_k": None, "bits": None}

    def retrieval(self, split: str = "test", direction: str = "text_to_image") -> dict:
        """The filters of retrieval over the gallery that most variants were measured on."""
        return {
            "task": "retrieval",
            "split": split,
            "direction": direction,
            "images": self.gallery.get((split, direction)),
        }

    def matching(self, variant: str, metric: str, **filters) -> pd.DataFrame:
        """Rows of a metric whose columns equal `filters` (None = null; a tuple = any of them), in the order in which they were measured."""
        return filtered(self._by_key.get((variant, metric), self.rows.iloc[:0]), filters)

    def measured(self, variant: str, metric: str, **filters) -> pd.DataFrame:
        """One row per seed, the newest that was measured, in the order of seeds."""
        rows = self.matching(variant, metric, **filters)
        rows = rows[((rows.status == "ok") & np.isfinite(rows.value)).to_numpy()]
        newest = {None if seed != seed else seed: place for place, seed in enumerate(rows.seed.to_numpy())}
        return rows.iloc[[newest[seed] for seed in sorted(newest, key=lambda seed: (seed is None, seed))]]

    def cell(self, variant: str, metric: str, **filters) -> Cell:
        """The mean over seeds; with its bootstrap interval where the per-query results are kept; else what is missing and why."""
        rows = self.measured(variant, metric, **filters)
        if rows.empty:
            return Cell(missing=self._why_missing(variant, metric, filters))
        points = tuple(rows.point_id)
        estimate = self.interval(points, metric)
        bounds = (estimate.low, estimate.high) if estimate else (None, None)
        return Cell(float(rows.value.mean()), *bounds, n=_size(rows, estimate), points=points)

    @functools.cache  # noqa: B019  (an Evidence lives as long as one build)
    def interval(self, points: tuple[str, ...], metric: str) -> Estimate | None:
        """The bootstrap estimate of a metric that is a mean over queries, None for others."""
        outcomes = self.outcomes(points, metric)
        return None if outcomes is None else significance.mean(outcomes)

    def outcomes(self, points: Iterable[str], metric: str) -> pd.DataFrame | None:
        """Per query and seed: seed, query_id, group, outcome; None where the metric is no mean over queries or a sidecar is missing."""
        parts = []
        for point_id in points:
            queries = self.queries(point_id)
            values = None if queries is None else per_query(queries, metric)
            if values is None:
                return None
            parts.append(
                queries[["query_id", "group"]].assign(outcome=values, seed=self._seed_of[point_id])[np.isfinite(values)]
            )
        return pd.concat(parts, ignore_index=True) if parts else None

    @functools.cache  # noqa: B019
    def queries(self, point_id: str) -> pd.DataFrame | None:
        """Per-query results of a point, with `first`, the rank of the first relevant item (infinite when not retrieved)."""
        queries = self.store.queries(point_id)
        if queries is not None and "ranks" in queries:
            queries = queries.assign(first=evaluation.first_rank(queries["ranks"], np.inf))
        return queries

    def disagreements(self) -> list[str]:
        """Point ids whose recorded R@1 is not the mean of their own per-query hits: one of the two files was changed."""
        found = []
        for row in self.rows[
            (self.rows.metric == "recall@1") & (self.rows.task == "retrieval") & (self.rows.status == "ok")
        ].itertuples():
            outcomes = self.outcomes([row.point_id], "recall@1") if np.isfinite(row.value) else None
            if outcomes is not None and len(outcomes) and abs(outcomes.outcome.mean() - row.value) > MAXIMUM_IDENTICAL:
                found.append(row.point_id)
        return found

    def failures(self) -> pd.DataFrame:
        """One row per point that did not end well, without those of sweeps: their own tables say it."""
        return self.rows[(self.rows.status != "ok") & ~_swept(self.rows)].drop_duplicates("point_id")

    def seeds(self, variant: str) -> list[int]:
        found = self.rows[(self.rows.variant == variant) & self.rows.seed.notna()].seed
        return sorted({int(seed) for seed in found})

    @functools.cached_property
    def _seed_of(self) -> dict[str, float]:
        points = pd.concat([self.rows, self.generated]).drop_duplicates("point_id")
        return dict(zip(points.point_id, points.seed.fillna(significance.UNSEEDED), strict=True))

    @functools.cached_property
    def _failed(self) -> dict[str, pd.DataFrame]:
        return dict(iter(self.failures().groupby("variant")))

    def _why_missing(self, variant: str, metric: str, filters: dict) -> str:
        same = self.matching(variant, metric, **filters)
        if same.empty and variant not in self._failed:
            return NOT_MEASURED
        if (same.status == "ok").any():
            return NOT_A_NUMBER
        failed = self._failed.get(variant, self.rows.iloc[:0])
        for candidates in (same[same.status != "ok"], filtered(failed, filters), failed[failed.task == "training"]):
            if len(candidates):
                worst = candidates.sort_values("started").iloc[-1]
                return ended(worst.status, worst.note)
        return NOT_MEASURED

    def _choose_profile(self) -> tuple[str, str]:
        profiles = self.all[self.all.profile == self.reading.profile] if self.reading.profile else self.all
        if self.reading.profile and profiles.empty:
            known = ", ".join(sorted(set(self.all.profile) - {""})) or "none"
            raise InputError(f"no records of profile '{self.reading.profile}' (known: {known})")
        placed = profiles[(profiles.corpus != "") & ~profiles.task.isin(BESIDE)]
        pictured = placed[~placed.corpus.str.startswith(WITHOUT_PICTURES)]
        chosen = next((rows for rows in (pictured, placed) if len(rows)), profiles)
        if chosen.empty:
            return "", ""
        newest = chosen.sort_values("started").iloc[-1]
        return newest.profile, newest.corpus

    def _without_pictures(self) -> pd.DataFrame:
        """Rows of other corpora that have vectors only: they stand on the page of the pictures that they were made from."""
        profiles = self.all[self.all.profile.isin([self.profile, ""])]
        return profiles[profiles.corpus.str.startswith(WITHOUT_PICTURES) & (profiles.corpus != self.corpus)]


def ended(status: str, note: str) -> str:
    """How a point that did not end well ended, in words."""
    status = FAILED if status == "failed" else status.replace("_", " ")
    return f"{status}: {note}" if note else status


def _swept(rows: pd.DataFrame) -> pd.Series:
    return rows.task.isin(SWEPT) & rows.seed.isna()


def _clean(rows: pd.DataFrame) -> pd.DataFrame:
    """All columns of the schema, whatever was stored: numbers as float64 (NaN = null), strings without nulls."""
    rows = rows.reindex(columns=SCHEMA.names).reset_index(drop=True)
    for name in SCHEMA.names:
        if name in NUMBERS:
            rows[name] = pd.to_numeric(rows[name], errors="coerce").astype("float64")
        elif name != "exact":
            rows[name] = (
                rows[name].astype(object).where(rows[name].notna(), "").map(str).astype(object)
            )  # far quicker to filter than string arrays
    return rows.assign(status=rows.status.replace("", "ok"))


def _newest_checkpoints(rows: pd.DataFrame) -> pd.DataFrame:
    """Without what an earlier training of the same variant and seed left: other checkpoints, and curves of other configurations."""
    training = rows.task == "training"
    swept = _swept(rows)
    others = pd.concat(
        [
            _newest(rows[~training & ~swept], "checkpoint_id"),
            _newest(rows[swept], "checkpoint_id", ("machine_id", "corpus")),
        ]
    )
    used = others[["variant", "seed", "config_id"]].drop_duplicates()
    curves = rows[training]
    of_checkpoint = curves.reset_index().merge(used, on=["variant", "seed", "config_id"]).set_index("index").index
    # A curve belongs to the run of the chosen checkpoint; where no record ties the two, the newest curve stands.
    known = curves.set_index(["variant", "seed"]).index.isin(
        curves.loc[of_checkpoint].set_index(["variant", "seed"]).index
    )
    curves = pd.concat([curves.loc[of_checkpoint], _newest(curves[~known], "config_id")])
    return pd.concat([others, curves]).sort_index().reset_index(drop=True)


def _newest(rows: pd.DataFrame, identity: str, apart: tuple[str, ...] = ()) -> pd.DataFrame:
    """Rows of the newest `identity` of each variant and seed, and of each value of the columns `apart`; rows without one stay."""
    named = rows[rows[identity] != ""]
    newest = named.sort_values("started").groupby(["variant", "seed", *apart], dropna=False)[identity].transform("last")
    return rows[(rows[identity] == "") | (rows[identity] == newest.reindex(rows.index))]


def _galleries(rows: pd.DataFrame) -> dict[tuple[str, str], float | None]:
    """(split, direction) -> gallery size in images that most variants were measured on; the largest of equals."""
    found = {}
    retrieval = rows[(rows.task == "retrieval") & rows.images.notna()]
    for key, group in retrieval.groupby(["split", "direction"]):
        sizes = Counter(group.drop_duplicates(["variant", "images"]).images)
        found[key] = max(sizes, key=lambda size: (sizes[size], size))
    return found


def filtered(rows: pd.DataFrame, filters: dict) -> pd.DataFrame:
    """Rows whose columns equal the filters: None means null, a tuple means any of its values."""
    keep = np.ones(len(rows), bool)
    for column, wanted in filters.items():
        values = rows[column].to_numpy()
        if wanted is None:
            keep &= pd.isna(values)
        elif isinstance(wanted, tuple):
            keep &= np.isin(values, wanted)
        else:
            keep &= values == wanted
    return rows[keep]


def per_query(queries: pd.DataFrame, metric: str) -> np.ndarray | None:
    """(Q,) the per-query values whose mean is the metric (NaN = the query does not count), None when it is no such mean."""
    name, _, depth = metric.partition("@")
    if metric in ("zero_shot_top1", "zero_shot_top5") and "first" in queries:
        return (queries["first"].to_numpy() <= int(metric.removeprefix("zero_shot_top"))).astype(float)
    if name == "recall" and "first" in queries:
        return (queries["first"].to_numpy() <= int(depth)).astype(float)
    if name == "trec_recall" and "ranks" in queries:
        return evaluation.trec_recall(queries["ranks"], queries["relevant"].astype(float), int(depth))
    if metric.startswith("hard_negative_accuracy") and "correct" in queries:
        kind = metric.removeprefix("hard_negative_accuracy").removeprefix("_")
        counts = (queries["kind"] == kind) if kind else np.ones(len(queries), bool)
        return np.where(counts, queries["correct"].astype(float), np.nan)
    return None


def _size(rows: pd.DataFrame, estimate) -> str:
    """How many: "5,000 queries on 1,000 images, 2 seeds"."""
    seeds = f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"
    if estimate:
        return f"{estimate.queries:,} queries on {estimate.groups:,} images, {seeds}"
    queries = rows.queries.dropna()
    return f"{int(queries.iloc[0]):,} queries, {seeds}" if len(queries) else seeds


def parsed(text: str):
    """JSON, or None when it is none: a record's free text must not break the page."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None
