"""Every search: quality against speed in each gallery, and one table to sort and filter."""

from dataclasses import replace

import pandas as pd

from reports.pages import Section
from reports.pages.answer import QUALITIES, label, names_of, tip
from reports.records.evidence import Evidence
from reports.records.search import KINDS, MODES, Call, Search, ordered
from reports.records.sweep import CEILING, searches_of, sweeps
from reports.records.variants import searches_of_variants
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import (
    NOT_APPLICABLE,
    NOT_MEASURED,
    Cell,
    Column,
    Table,
    brief,
    integer,
    percent,
    significant,
)
from reports.render.tables import size as bytes_

METRICS = ("recall@1", "recall@10", "unquantised_recall@10", "ndcg@10", "bytes_per_image", "build_seconds")
FILTERS = ("gallery", "call", "kind", "variant", "engine")
"""Columns that the table is filtered by, in this order; the first two start with their first value."""


def sections(evidence: Evidence) -> list[Section]:
    found = galleries(evidence)
    if not found:
        return []
    text = (
        "Each mark and each row is one search: a model, an engine, its settings and the way of asking. "
        "Choose a gallery; point at a mark for its records; click a heading to sort.",
    )
    rows = [(name, search, call) for name, searches in found.items() for search in searches
            for call in search.calls or [None]]  # fmt: skip
    charts = [one for name in found if (one := chart(name, rows, list(found))).panels]
    return [Section("explore", "Every search", text, charts, [table(rows)], template="explore.html")]


def galleries(evidence: Evidence) -> dict[str, list[Search]]:
    """Name of a gallery -> its searches: the largest of the first sweep first, then the models, then other sweeps."""
    found: dict[str, list[Search]] = {}

    def add(name: str, searches: list[Search]) -> None:
        places = [name, *(f"{name} ({n})" for n in range(2, 100))]
        if searches := [search for search in searches if search.engine != CEILING]:
            found[next(place for place in places if place not in found)] = searches

    for sweep in sweeps(evidence):
        what = f", {sweep.corpus}" if sweep.corpus != evidence.corpus else ""
        for images in reversed(sweep.sizes):
            add(f"{integer(images)} images{what}", sweep.at(images))
    if models := searches_of_variants(evidence):
        name = f"{integer(models[0].images)} images, all models"
        first = dict(list(found.items())[:1])
        found = first | {name: models} | found
    rows = pd.concat([evidence.rows, evidence.generated])
    sharded = ordered(searches_of(rows[(rows.task == "sharded") & rows.images.notna()]))
    for images in sorted({search.images for search in sharded}, reverse=True):
        add(f"{integer(images)} images, in shards", [search for search in sharded if search.images == images])
    return found


def chart(gallery: str, rows: list[tuple[str, Search, Call | None]], names: list[str]) -> Chart:
    """Quality of the task and of the engine against speed; hidden marks are those of other calls than the first."""
    mine = [(key, search, call) for key, (name, search, call) in enumerate(rows) if name == gallery]
    panels, first = [], next((m for m in MODES if any(call and call.mode == m for *_, call in mine)), "")
    for metric, title in QUALITIES.items():
        series = []
        for place, kind in enumerate(KINDS):
            marks = [
                Mark(search.rate(call), 100 * value, tip(search, call), size=search.bytes_per_image,
                     label=label(search), key=key, hidden=not called(call).startswith(first))
                for key, search, call in mine
                if search.kind == kind and call and search.rate(call)
                and (value := quality(search, metric).value) is not None
            ]  # fmt: skip
            series += (
                [Series(names_of([s for _, s, _ in mine], kind), tuple(marks), place, line="front")] if marks else []
            )
        if series:
            panels.append(Panel(title, Axis("queries per second", log=True), Axis(title), tuple(series)))
    best = [mark for panel in panels[:1] for one in panel.series for mark in one.marks if not mark.hidden]
    alt = "; ".join(f"{mark.label} {significant(mark.y)} % at {significant(mark.x)}/s" for mark in best[:12])
    return Chart(
        f"explore_{names.index(gallery) + 1}", f"Quality against speed, {gallery}",
        "R@10: does the task succeed? Engine recall: does the engine find what exact search finds? Size: bytes.",
        gallery, f"Quality against queries per second, {gallery}: {alt}", tuple(panels), 2,
        "Line: Pareto front of each kind of vectors.", gallery, height=340,
    )  # fmt: skip


def quality(search: Search, metric: str) -> Cell:
    """A quality; the engine recall of the models is their overlap with exact search over un-pruned vectors."""
    cell = search.cell(metric)
    return search.cell("overlap@10") if cell.missing and metric == "engine_recall@10" else cell


def called(call: Call | None) -> str:
    return f"{call.mode}, {call.threads or '?'} thread{'' if call.threads == 1 else 's'}" if call else "not timed"


def table(rows: list[tuple[str, Search, Call | None]]) -> Table:
    columns = (
        Column("variant", "Model"),
        Column("kind", "Vectors"),
        Column("engine", "Engine"),
        Column("settings", "Settings"),
        Column("gallery", "Gallery"),
        Column("call", "Call"),
        Column("qps", "Queries/s", significant),
        Column("p95", "p95, µs", significant),
        Column("recall@1", "R@1, %", percent),
        Column("recall@10", "R@10, %", percent),
        Column("engine_recall@10", "Engine, %", percent),
        Column("unquantised_recall@10", "Engine, before quantising, %", percent),
        Column("ndcg@10", "nDCG@10, %", percent),
        Column("bytes_per_image", "Bytes per image", bytes_),
        Column("build_seconds", "Build, s", significant),
    )
    notes = (
        "Call: one query at a time (single) or in batches. R@K: of the task. Engine: share of "
        "the exact top 10 found; for “all models”, of the exact top 10 of un-pruned "
        "vectors. p95: latency of single queries. Bytes: of the index on disk.",
    )
    made = Table("explore", "Every search", columns, [_row(*one) for one in rows], notes)
    return made.measured(("unquantised_recall@10", "ndcg@10"))


def _row(gallery: str, search: Search, call: Call | None) -> dict[str, Cell]:
    plain = lambda cell: replace(brief(cell), low=None, high=None)  # noqa: E731
    settings = search.label.removeprefix(search.engine).strip(", ")
    cells = {
        "variant": Cell(search.variant or NOT_APPLICABLE), "kind": Cell(search.kind), "engine": Cell(search.engine),
        "settings": Cell(settings or NOT_APPLICABLE), "gallery": Cell(gallery), "call": Cell(called(call)),
        "qps": plain(search.timed(call) if call else Cell(missing=search.problem or NOT_MEASURED)),
        "p95": plain(search.timed(call, "latency_p95_us")) if call and call.mode == "single" else Cell(NOT_APPLICABLE),
    }  # fmt: skip
    cells |= {name: plain(search.cell(name)) for name in METRICS}
    return cells | {"engine_recall@10": plain(quality(search, "engine_recall@10"))}
