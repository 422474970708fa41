"""Records as a report reads them: which records count, how a number is looked up, and why it is missing.

A home can hold several profiles and corpora, several trainings of a variant, and repeated measurements. The rules,
which the Method page states: one profile and corpus (those of the newest record, unless named; `Evidence.by_corpus`
has the other corpora, `Evidence.profiles` the other profiles), where the fingerprint of the data decides what one
corpus is (`reports.records.corpora`); the checkpoint of the newest training of each variant and seed; the newest of
otherwise equal points. Only seeds are averaged.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.tasks import evaluation
from models.errors import InputError
from reports.records.corpora import OWN, SYNTHETIC, Corpora, is_photographs, own_or_fitted_to
from reports.records.rows import (
    CONTENDED,
    WALL_TIMES,
    contended_runs,
    filtered,
    galleries,
    is_swept,
    newest_checkpoints,
    per_query,
    prepared,
)
from reports.render.tables import NOT_A_NUMBER, NOT_MEASURED, Cell, ended
from reports.statistics import intervals
from reports.statistics.intervals import Estimate

BESIDE = ("zero_shot", "sparsity", "lexicon_head", "key_queue")  # tasks that may use other images, or none
UNTRAINED = ("bm25", "clip_zeroshot")  # prefixes of baselines that were not trained here, and so are no ablations
MAXIMUM_ROUNDING = 1e-6  # between a recorded recall and the mean of its per-query hits


@dataclass(frozen=True)
class Reading:
    """Settings of a report. `top_k`, `bits`: operating point of lexicon vectors; dense vectors are searched exactly."""

    profile: str = ""  # "" = profile of the newest record
    corpus: str = ""  # "" = corpus of the newest record
    reference: str = "lexlip"
    baseline: str = "clip"
    words: str = "lexlip_words"  # the variant trained on words of captions, shown beside the reference
    top_k: int = 32
    bits: int = 8
    lexicon_engine: str = "impact"
    lexicon_brute_force: str = "scipy"
    dense_engine: str = "faiss-flat"
    significant: float = 0.05
    examples: int = 10  # queries shown
    results: int = 5  # images shown per model and query


class Evidence:
    """Records of one profile and corpus.

    store: anything with `read()`, `queries(point_id)` and `examples(point_id)`. beside: a report on the same store,
    whose records are not read again. `rows`: the records that count; `generated`: those of vectors that were generated
    after the corpus; `trained`: trainings on the corpus under any profile; all name a corpus as `corpora` does. `all`:
    every record as it is. `others`: profiles and corpora that no page shows. Raises InputError for an unknown profile
    or corpus.
    """

    def __init__(self, store, reading: Reading | None = None, beside: "Evidence | None" = None):
        self.store = store
        self.asked = self.reading = reading or Reading()
        self.all = beside.all if beside else prepared(store.read())
        self.corpora = beside.corpora if beside else Corpora.of(self.all)
        self.named = named = beside.named if beside else self.corpora.renamed(self.all)
        self.profile, self.corpus = self._choose_profile(named)
        if self.corpus.startswith(OWN):  # vectors of the user have no variants
            self.reading = replace(self.asked, reference="lexicon", baseline="dense")
        trained = self.corpora.of_training(named, self.corpus)
        measured = (named.corpus == self.corpus) & (named.task != "training") | (named.corpus == "")
        self.trained = named[trained]
        ours = named[(named.profile == self.profile) & (measured | trained)]
        self.rows = newest_checkpoints(ours)
        measured_names = set(self.rows.variant)
        if self.reading.reference not in measured_names and self.reading.words in measured_names:
            self.reading = replace(self.reading, reference=self.reading.words)  # a home without the plain recipe
        self.superseded = ours.point_id.nunique() - self.rows.point_id.nunique()
        self.earlier = _checkpoints(ours) - _checkpoints(self.rows)
        self.generated = newest_checkpoints(self._generated(named))
        shown = {(self.profile, self.corpus), (self.profile, ""), ("", "")}
        shown |= set(zip(self.generated.profile, self.generated.corpus, strict=True))
        left_out = named[~named.index.isin(ours.index) & ~self.corpora.is_unsure(named)]
        self.others = sorted(set(zip(left_out.profile, left_out.corpus, strict=True)) - shown)
        self.gallery = galleries(self.rows)
        in_time = self.rows.sort_values(["started", "point_id"])
        self._by_key = {key: group for key, group in in_time.groupby(["variant", "metric"], sort=False)}

    def by_corpus(self) -> list["Evidence"]:
        """This report, then one for each other corpus of the records, newest first; alone if the reading names one.

        Of the other corpora the profile asked for, or else that of the most models.
        """
        found = [self]
        for corpus in [] if self.asked.corpus else self._corpora():
            if own_or_fitted_to(corpus) != own_or_fitted_to(self.corpus):
                mine = self.named[self.named.corpus == corpus]
                profile = self.asked.profile if self.asked.profile in set(mine.profile) else main_profile(mine)
                found.append(Evidence(self.store, replace(self.asked, profile=profile, corpus=corpus), self))
        with_profiles = [[one, *(one.profiles if is_photographs(one.corpus) else one.longer)] for one in found]
        shown = {(one.profile, one.corpus) for several in with_profiles for one in several}
        shown |= {key for one in found for key in zip(one.generated.profile, one.generated.corpus, strict=True)}
        for one in found:
            one.others = [key for key in one.others if key not in shown]
        return found

    @functools.cached_property
    def profiles(self) -> list["Evidence"]:
        """A report for each other profile whose models were measured on this corpus, in alphabetical order."""
        models = _models(self.named[self.named.corpus == self.corpus])
        others = sorted(profile for profile, count in models.items() if count and profile not in ("", self.profile))
        asked = (replace(self.asked, profile=profile, corpus=self.corpus) for profile in others)
        return [Evidence(self.store, reading, self) for reading in asked]

    @functools.cached_property
    def longer(self) -> list["Evidence"]:
        """Of `profiles`, those that trained the reference for more steps, the most last; none if these are unknown."""
        more = [one for one in self.profiles if self.steps and one.steps > self.steps]
        return sorted(more, key=lambda one: one.steps)

    @functools.cached_property
    def steps(self) -> float:
        """Optimiser steps of the reference; 0 if no training of it ended."""
        return max(self.measured(self.reading.reference, "steps", task="training").value, default=0.0)

    def _corpora(self) -> list[str]:
        """Names on pages, the newest first, without generated vectors of a corpus that has records of its own."""
        named = self.named[(self.named.corpus != "") & ~self.corpora.is_unsure(self.named)]
        newest = named.groupby("corpus").started.max().sort_values(ascending=False, kind="stable").index
        found: dict[str, str] = {}
        for corpus in sorted(newest, key=lambda name: name.startswith(SYNTHETIC)):
            found.setdefault(own_or_fitted_to(corpus), corpus)
        return list(found.values())

    @functools.cached_property
    def variants(self) -> list[str]:
        """Names of variants: the reference, the baseline, then the others in alphabetical order."""
        first = [self.reading.reference, self.reading.baseline]
        trained = self.rows[~is_swept(self.rows)]  # a sweep names any checkpoint, or vectors of the user
        return sorted(
            set((trained if len(trained) else self.rows[~self.rows.corpus.str.startswith(OWN)]).variant) - {""},
            key=lambda name: (first.index(name) if name in first else len(first), name),
        )

    @functools.cached_property
    def kinds(self) -> dict[str, str]:
        """Variant -> "dense", "lexicon", or "" if unknown."""
        known = self.rows[self.rows.kind != ""]
        return dict.fromkeys(self.variants, "") | dict(zip(known.variant, known.kind, strict=True))

    def operating_point(self, variant: str) -> dict:
        """Filters of the search that represents a variant in the tables."""
        if self.kinds.get(variant) == "dense":
            return {"engine": self.reading.dense_engine}
        if variant in self._own_engine:
            return {"engine": self._own_engine[variant]}
        return {"engine": self.reading.lexicon_engine, "top_k": self.reading.top_k, "bits": self.reading.bits}

    @functools.cached_property
    def _own_engine(self) -> dict[str, str]:
        """Untrained variants with an engine that searches nothing else, such as BM25, -> that engine."""
        ours = {self.reading.lexicon_engine, self.reading.lexicon_brute_force, self.reading.dense_engine}
        retrieval = self.rows[(self.rows.task == "retrieval") & self.rows.variant.str.startswith(UNTRAINED)]
        engines = {variant: set(rows.engine) for variant, rows in retrieval.groupby("variant")}
        return {
            variant: next(iter(names)) for variant, names in engines.items() if len(names) == 1 and not names & ours
        }

    def retrieval(self, split: str = "test", direction: str = "text_to_image") -> dict:
        """Filters of retrieval over the gallery that most variants were measured on."""
        return {
            "task": "retrieval",
            "split": split,
            "direction": direction,
            "images": self.gallery.get((split, direction)),
        }

    def matching(self, variant: str, metric: str, **filters) -> pd.DataFrame:
        """Rows of a metric whose columns equal `filters` (see `filtered`), oldest first.

        Wall times and rates of trainings on a loaded machine are left out.
        """
        rows = self._by_key.get((variant, metric), self.rows.iloc[:0])
        if metric in WALL_TIMES and self._contended:
            own = [(variant, run) not in self._contended for run in rows.config_id]
            rows = rows.loc[np.array(own, bool)]
        return filtered(rows, filters)

    def measured(self, variant: str, metric: str, **filters) -> pd.DataFrame:
        """The newest row of each seed, ordered by seed; failed and non-finite rows are left out."""
        rows = self.matching(variant, metric, **filters)
        rows = rows[((rows.status == "ok") & np.isfinite(rows.value)).to_numpy()]
        newest = {None if seed != seed else seed: place for place, seed in enumerate(rows.seed.to_numpy())}
        return rows.iloc[[newest[seed] for seed in sorted(newest, key=lambda seed: (seed is None, seed))]]

    def cell(self, variant: str, metric: str, **filters) -> Cell:
        """Mean over seeds, with an interval if per-query results were kept; or why it is missing."""
        rows = self.measured(variant, metric, **filters)
        if rows.empty:
            return Cell(missing=self._why_missing(variant, metric, filters))
        points = tuple(rows.point_id)
        estimate = self.interval(points, metric)
        bounds = (estimate.low, estimate.high) if estimate else (None, None)
        return Cell(float(rows.value.mean()), *bounds, n=_size(rows, estimate), points=points)

    @functools.cache  # noqa: B019  (an Evidence lives as long as one build)
    def interval(self, points: tuple[str, ...], metric: str) -> Estimate | None:
        """Estimate of a metric that is a mean over queries; None for other metrics."""
        outcomes = self.outcomes(points, metric)
        return None if outcomes is None else intervals.mean(outcomes)

    def outcomes(self, points: Iterable[str], metric: str) -> pd.DataFrame | None:
        """Columns seed, query_id, group, outcome; None if the metric is no mean over queries or a sidecar lacks."""
        parts = []
        for point_id in points:
            queries = self.queries(point_id)
            values = None if queries is None else per_query(queries, metric)
            if values is None:
                return None
            mine = queries[["query_id", "group"]].assign(outcome=values, seed=self._seed_of[point_id])
            parts.append(mine[np.isfinite(values)])
        return pd.concat(parts, ignore_index=True) if parts else None

    @functools.cache  # noqa: B019
    def queries(self, point_id: str) -> pd.DataFrame | None:
        """Per-query results of a point, with `first`: rank of the first relevant item (inf if not retrieved)."""
        queries = self.store.queries(point_id)
        if queries is not None and "ranks" in queries and queries["ranks"].notna().all():
            queries = queries.assign(first=evaluation.first_rank(queries["ranks"], np.inf))
        return queries

    def contradictions(self) -> list[str]:
        """Ids of points whose recorded R@1 differs from the mean of their per-query hits: one file was changed."""
        found, rows = [], self.rows
        rows = rows[(rows.metric == "recall@1") & (rows.task == "retrieval") & (rows.status == "ok")]
        for row in rows.itertuples():
            outcomes = self.outcomes([row.point_id], "recall@1") if np.isfinite(row.value) else None
            if outcomes is not None and len(outcomes) and abs(outcomes.outcome.mean() - row.value) > MAXIMUM_ROUNDING:
                found.append(row.point_id)
        return found

    def failures(self) -> pd.DataFrame:
        """One row per point that did not end well, except those of sweeps, which have their own tables."""
        return self.rows[(self.rows.status != "ok") & ~is_swept(self.rows)].drop_duplicates("point_id")

    def seeds(self, variant: str) -> list[int]:
        """Seeds of a variant, ascending."""
        found = self.rows[(self.rows.variant == variant) & self.rows.seed.notna()].seed
        return sorted({int(seed) for seed in found})

    @functools.cached_property
    def _seed_of(self) -> dict[str, float]:
        points = pd.concat([self.rows, self.generated]).drop_duplicates("point_id")
        return dict(zip(points.point_id, points.seed.fillna(intervals.UNSEEDED), strict=True))

    @functools.cached_property
    def _contended(self) -> set[tuple]:
        return contended_runs(self.rows)

    @functools.cached_property
    def _failed(self) -> dict[str, pd.DataFrame]:
        return dict(iter(self.failures().groupby("variant")))

    def _why_missing(self, variant: str, metric: str, filters: dict) -> str:
        same = self.matching(variant, metric, **filters)
        if metric in WALL_TIMES and any(name == variant for name, _ in self._contended):
            return CONTENDED
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

    def _choose_profile(self, named: pd.DataFrame) -> tuple[str, str]:
        profiles = named[named.profile == self.reading.profile] if self.reading.profile else named
        if self.reading.profile and profiles.empty:
            known = ", ".join(sorted(set(self.all.profile) - {""})) or "none"
            raise InputError(f"no records of profile '{self.reading.profile}' (known: {known})")
        if self.reading.corpus:
            return self._asked(profiles)
        placed = profiles[(profiles.corpus != "") & ~profiles.task.isin(BESIDE)]
        given = placed[~placed.corpus.str.startswith(SYNTHETIC)]
        chosen = next((rows for rows in (given, placed) if len(rows)), profiles)
        if chosen.empty:
            return "", ""
        newest = chosen.sort_values("started").iloc[-1]
        return newest.profile, self.corpora.named(newest.corpus)  # a training may have the given name

    def _asked(self, profiles: pd.DataFrame) -> tuple[str, str]:
        """The profile of the newest record of the corpus that the reading names, and the corpus's name on pages."""
        found = profiles[profiles.corpus == self.corpora.named(self.reading.corpus)]
        if found.empty:
            known = ", ".join(sorted(set(profiles.corpus) - {"", *self.corpora.split})) or "none"
            raise InputError(f"no records of corpus '{self.reading.corpus}' (known: {known})")
        newest = found.sort_values("started").iloc[-1]
        return newest.profile, newest.corpus

    def _generated(self, named: pd.DataFrame) -> pd.DataFrame:
        """Rows of vectors generated after the corpus, which a report shows beside those of the corpus itself."""
        made = named[named.profile.isin([self.profile, ""]) & named.corpus.str.startswith(SYNTHETIC)]
        own = own_or_fitted_to(self.corpus)
        return made[(made.corpus.map(own_or_fitted_to) == own) & (made.corpus != self.corpus)]


def main_profile(rows: pd.DataFrame) -> str:
    """Of the records of one corpus the profile of the most models; of several such the newest."""
    models = _models(rows)
    return max(models, key=models.get, default="")


def _models(rows: pd.DataFrame) -> dict[str, int]:
    """Models of each profile that have records, the profile of the newest record first."""
    newest_first = rows.sort_values("started", ascending=False, kind="stable")
    return {
        profile: mine.checkpoint_id[mine.checkpoint_id != ""].nunique()
        for profile, mine in newest_first.groupby("profile", sort=False)
    }


def _checkpoints(rows: pd.DataFrame) -> set[tuple]:
    """(variant, seed, checkpoint id) of measured models; seed "" if not recorded."""
    measured = rows[rows.checkpoint_id != ""]
    seeds = measured.seed.map(lambda seed: "" if seed != seed else int(seed))
    return set(zip(measured.variant, seeds, measured.checkpoint_id, strict=True))


def _size(rows: pd.DataFrame, estimate) -> str:
    """Sample size in words: "5,000 queries on 1,000 images, 2 seeds"."""
    seeds = f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"
    if estimate:
        return f"{estimate.queries:,} queries on {estimate.groups:,} images, {seeds}"
    queries = rows.queries.dropna()
    return f"{int(queries.iloc[0]):,} queries, {seeds}" if len(queries) else seeds
