"""Searches of the variants, from records of `bench.tasks.recall`; and all searches by where they were measured."""

import functools

import pandas as pd

from reports.records.evidence import Evidence
from reports.records.rows import filtered, parsed, whole
from reports.records.search import MODES, Call, Measured, Search
from reports.records.sweep import knobs_in_words, sweeps
from reports.render.tables import NOT_APPLICABLE, Cell

SEARCHED = ["variant", "engine", "top_k", "bits", "knobs"]
CALLED = ["batch_mode", "threads"]
OF_SEARCH = ("recall@1", "recall@10", "bytes_per_image", "build_seconds", "overlap@10")
OF_CALL = ("qps", "latency_p50_us", "latency_p95_us", "latency_p99_us")


@functools.lru_cache(maxsize=8)
def searches_of_variants(evidence: Evidence) -> list[Search]:
    """Text-to-image searches of the test gallery: one for each setting and each machine that timed it."""
    filters, rows = evidence.retrieval(), evidence.rows
    rows = rows[(rows.task == "retrieval") & (rows.split == "test") & (rows.direction == "text_to_image")]
    rows = rows[rows.images == filters["images"]]
    found = [search for setting in _distinct(rows, SEARCHED) for search in _searches(evidence, rows, filters, setting)]
    order = {name: i for i, name in enumerate(evidence.variants)}
    none_last = lambda value: (value is None, value or 0)  # noqa: E731
    return sorted(found, key=lambda s: (order[s.variant], s.engine, none_last(s.top_k), none_last(s.bits)))


def _searches(evidence: Evidence, rows: pd.DataFrame, filters: dict, setting: dict) -> list[Search]:
    r, variant, engine = evidence.reading, setting["variant"], setting["engine"]
    exactly = filters | {name: setting[name] for name in SEARCHED[1:]}
    knobs = parsed(setting["knobs"])
    timed = filtered(rows, setting)
    timed = timed[timed.batch_mode.isin(list(MODES)) & timed.metric.isin(OF_CALL)]
    common = {
        "images": int(filters["images"]),
        "kind": evidence.kinds.get(variant) or "unknown",
        "variant": variant,
        "engine": engine,
        "top_k": whole(setting["top_k"]),
        "bits": whole(setting["bits"]),
        "knobs": knobs_in_words(knobs) if isinstance(knobs, dict) else "",
        "exact": engine in (r.dense_engine, r.lexicon_brute_force, r.lexicon_engine),
        "accuracy": Measured({metric: evidence.cell(variant, metric, **exactly) for metric in OF_SEARCH}),
    }
    found = []
    for machine_id, of_machine in timed.groupby("machine_id", sort=False):
        calls = {}
        for called in _distinct(of_machine, CALLED):
            at = exactly | called | {"machine_id": machine_id}
            cells = {metric: evidence.cell(variant, metric, **at) for metric in OF_CALL}
            if called["batch_mode"] != "single":
                cells |= {metric: Cell(NOT_APPLICABLE) for metric in OF_CALL[1:] if cells[metric].missing}
            note = of_machine[of_machine.batch_mode == called["batch_mode"]].note.iloc[-1]
            calls[Call(called["batch_mode"], whole(called["threads"]))] = Measured(cells, note=note)
        calls = dict(sorted(calls.items(), key=lambda one: one[0].order))
        found.append(Search(**common, machine_id=machine_id, calls=calls))
    return found or [Search(**common)]


@functools.lru_cache(maxsize=8)
def sources(evidence: Evidence) -> dict[str, list[Search]]:
    """Title of a source -> its searches with measured R@1: each sweep with a task, then the variants.

    A source is what one machine measured of one corpus; numbers of two sources never share a plot or a Pareto front.
    """
    found: dict[str, list[Search]] = {}
    for sweep in sweeps(evidence):
        title = f"{sweep.corpus or 'unknown corpus'}, sweep on {sweep.machine}"
        if sweep.has_task:  # machines of the same make are told apart by id
            searches = [search for images in sweep.sizes for search in sweep.at(images) if search.recall is not None]
            found[f"{title} ({sweep.machine_id})" if title in found else title] = searches
    variants = [search for search in searches_of_variants(evidence) if search.recall is not None]
    cpus = dict(zip(evidence.rows.machine_id, evidence.rows.cpu, strict=True))
    machines = {search.machine_id for search in variants if search.machine_id}
    only = next(iter(machines)) if len(machines) == 1 else ""
    for search in variants:  # searches without a rate hold on any machine
        cpu = cpus.get(search.machine_id or only)
        title = f"{evidence.corpus or 'unknown corpus'}, variants{f' on {cpu}' if cpu else ''}"
        found.setdefault(title, []).append(search)
    return {title: searches for title, searches in found.items() if searches}


def _distinct(rows: pd.DataFrame, columns: list[str]) -> list[dict]:
    """Distinct values of some columns; nulls as None."""
    found = rows[columns].drop_duplicates().to_dict("records")
    none = lambda value: None if not isinstance(value, str) and pd.isna(value) else value  # noqa: E731
    return [{key: none(value) for key, value in row.items()} for row in found]
