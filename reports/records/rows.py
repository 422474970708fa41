"""Rows of the record store, prepared for a report: types, newest checkpoints, filters and per-query outcomes."""

import json
from collections import Counter

import numpy as np
import pandas as pd

from bench.store.records import SCHEMA
from bench.tasks import evaluation

NUMBERS = (
    "value", "images", "queries", "seed", "step", "top_k", "bits", "depth", "threads", "cores", "memory_gb", "seconds",
)  # fmt: skip
# Tasks of `bench.scale`, whose records have no seed; `reports.records.sweep` reads them.
SWEPT = ("scale", "encoded_control", "sharded", "encoding", "vectors", "false_negatives", "steps")


def prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with all columns of the schema: numbers as float64 (NaN = null), strings without nulls."""
    rows = rows.reindex(columns=SCHEMA.names).reset_index(drop=True)
    for name in SCHEMA.names:
        if name in NUMBERS:
            rows[name] = pd.to_numeric(rows[name], errors="coerce").astype("float64")
        elif name != "exact":  # object columns are much faster to filter than string arrays
            rows[name] = rows[name].astype(object).where(rows[name].notna(), "").map(str).astype(object)
    return rows.assign(status=rows.status.replace("", "ok"))


CONTENDED = "loaded machine"  # in the note of a record, by `bench.store.machine`; and why a rate is missing
WALL_TIMES = ("train_seconds", "train_samples_per_second")
LEAST_BUSY = 0.7  # CPU time over wall time of a training that had a core for itself


def contended_runs(rows: pd.DataFrame) -> set[tuple]:
    """(variant, config_id) of trainings that shared their cores with other work: their wall times say nothing.

    Other work is in the note of the cost; where it was not measured, the CPU time is far below the wall time.
    """
    costs = rows[(rows.task == "training") & rows.step.isna()]
    loaded = costs[costs.note.str.contains(CONTENDED, regex=False)]
    columns = ["variant", "config_id", "point_id"]
    timed = costs[costs.metric.isin(("train_seconds", "train_cpu_seconds"))]
    times = timed.pivot_table(index=columns, columns="metric", values="value")
    if len(times.columns) == 2:
        idle = times[times.train_cpu_seconds < LEAST_BUSY * times.train_seconds].reset_index()
        loaded = pd.concat([loaded[columns], idle[columns]])
    return set(zip(loaded.variant, loaded.config_id, strict=True))


def is_swept(rows: pd.DataFrame) -> pd.Series:
    """Whether each row was measured by `bench.scale`."""
    return rows.task.isin(SWEPT) & rows.seed.isna()


def newest_checkpoints(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the checkpoint of the newest training of each variant and seed; learning curves of the run that made it.

    If the training of a checkpoint is not among the records, the newest measurement decides in place of the trainings.
    A curve without a matching checkpoint stays if it is the newest of its variant and seed.
    """
    training, swept = rows.task == "training", is_swept(rows)
    ended = rows[training & (rows.config_id != "")].groupby("config_id").started.max()
    of_sweeps = _newest(rows[swept], "checkpoint_id", ("machine_id", "corpus"))
    others = pd.concat([_newest(rows[~training & ~swept], "checkpoint_id", trained=ended), of_sweeps])
    used = others[["variant", "seed", "config_id"]].drop_duplicates()
    curves = rows[training]
    matching = curves.reset_index().merge(used, on=["variant", "seed", "config_id"]).set_index("index").index
    runs = curves.loc[matching].set_index(["variant", "seed"]).index
    matched = curves.set_index(["variant", "seed"]).index.isin(runs)
    curves = pd.concat([curves.loc[matching], _newest(curves[~matched], "config_id")])
    return pd.concat([others, curves]).sort_index().reset_index(drop=True)


def _newest(
    rows: pd.DataFrame, identity: str, also: tuple[str, ...] = (), trained: pd.Series | None = None
) -> pd.DataFrame:
    """Rows of the newest `identity` per variant, seed and columns `also`; rows without an identity stay.

    trained: when the run of a `config_id` ended; the newest measurement counts where it does not hold all runs.
    """
    named, keys = rows[rows[identity] != ""], ["variant", "seed", *also]
    ended = named.config_id.map({} if trained is None else trained).fillna("").astype(str)
    ended = ended.groupby(named[identity]).transform("max")
    known = (ended != "").groupby([named[key] for key in keys], dropna=False).transform("all")
    named = named.assign(ended=ended.where(known, "")).sort_values(["ended", "started"])
    newest = named.groupby(keys, dropna=False)[identity].transform("last")
    return rows[(rows[identity] == "") | (rows[identity] == newest.reindex(rows.index))]


def galleries(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    """(split, direction) -> the gallery size that most variants were measured on; the largest among ties."""
    found = {}
    retrieval = rows[(rows.task == "retrieval") & rows.images.notna()]
    for key, group in retrieval.groupby(["split", "direction"]):
        sizes = Counter(group.drop_duplicates(["variant", "images"]).images)
        found[key] = max(sizes, key=lambda size: (sizes[size], size))
    return found


def filtered(rows: pd.DataFrame, filters: dict) -> pd.DataFrame:
    """Rows whose columns equal the filters: None matches null, a tuple any of its values."""
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
    """(Q,) values whose mean is the metric (NaN: the query does not count); None if the metric is no such mean."""
    name, _, depth = metric.partition("@")
    if metric in ("zero_shot_top1", "zero_shot_top5") and "first" in queries:
        return (queries["first"].to_numpy() <= int(metric.removeprefix("zero_shot_top"))).astype(float)
    if name == "recall" and "first" in queries:
        return (queries["first"].to_numpy() <= int(depth)).astype(float)
    if metric == "true@1" and "true" in queries and queries["true"].notna().all():
        return queries["true"].to_numpy(float)
    if name == "trec_recall" and "ranks" in queries:
        return evaluation.trec_recall(queries["ranks"], queries["relevant"].astype(float), int(depth))
    if metric.startswith("judgements_tau") and "outcome" in queries:
        return queries["outcome"].to_numpy(float)
    if metric.startswith("hard_negative_accuracy") and "correct" in queries:
        kind = metric.removeprefix("hard_negative_accuracy").removeprefix("_")
        counts = (queries["kind"] == kind) if kind else np.ones(len(queries), bool)
        return np.where(counts, queries["correct"].astype(float), np.nan)
    return None


def parsed(text: str):
    """Parsed JSON, or None for text that is not JSON: free text in a record must not break a page."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def whole(value) -> int | None:
    """An integer, or None for a null."""
    return None if value is None or pd.isna(value) else int(value)
