"""Searches over shards on several machines (`bench.scale --ray`), beside the same engine over one index where both were measured."""

from dataclasses import replace

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.scale import CEILING, MODES, Call, Search, machine_of, ordered, searches_of, sweeps
from reports.render.tables import (
    NOT_APPLICABLE,
    NOT_MEASURED,
    Cell,
    Column,
    Table,
    integer,
    percent,
    significant,
    size,
    times,
)

TASK = "sharded"
PREFIX = "sharded-"  # before the name of the engine that searches each shard


def section(evidence: Evidence) -> Section | None:
    rows = pd.concat([evidence.rows, evidence.generated])
    rows = rows[(rows.task == TASK) & rows.images.notna()]
    groups = sorted(
        rows.groupby(["profile", "corpus", "machine_id"]), key=lambda group: (group[0][1] != evidence.corpus, group[0])
    )
    tables = [_table(evidence, *key, group, place) for place, (key, group) in enumerate(groups, 1)]
    commands = list(dict.fromkeys(command for command in rows.sort_values("started").command if command))
    return Section("scale_shards", "Past one machine: shards", tables, data={"commands": commands}) if tables else None


def _table(evidence: Evidence, profile: str, corpus: str, machine_id: str, rows: pd.DataFrame, place: int) -> Table:
    here = [
        sweep
        for sweep in sweeps(evidence)
        if (sweep.profile, sweep.corpus, sweep.machine_id) == (profile, corpus, machine_id)
    ]
    whole = {(search.images, search.setting): search for sweep in here for search in sweep.searches}
    found = [search for search in ordered(searches_of(rows)) if search.engine != PREFIX + CEILING]
    found.sort(key=lambda search: -search.images)
    made = [row for search in found for row in _rows(search, whole)]
    columns = (
        Column("search", "Engine and knobs"), Column("images", "Images", integer), Column("shards", "Shards", integer), Column("called", "Called"),
        Column("quality", "shards", percent, "R@1, %"), Column("one quality", "one index", percent, "R@1, %"),
        Column("engine_recall@10", "shards", percent, "Engine recall@10, %"), Column("one engine_recall@10", "one index", percent, "Engine recall@10, %"),
        Column("bytes_per_image", "shards", size, "Bytes per image"), Column("one bytes_per_image", "one index", size, "Bytes per image"),
        Column("qps", "shards", significant, "QPS"), Column("one qps", "one index", significant, "QPS"), Column("ratio", "shards / one index", times, "QPS"),
        Column("p95", "shards", integer, "p95, µs"), Column("one p95", "one index", integer, "p95, µs"),
        Column("network_share", "Network, % of the time", percent), Column("note", "Noted"),
    )  # fmt: skip
    notes = (
        "Shards: the images in consecutive parts, an index of each, asked at once over a Ray cluster, results merged by score. One index: the same engine and setting, on the machine that asked. "
        "Network: of the wall time, what is not the slowest shard's own search: sending, waiting, merging. Threads are those of each shard. An exact engine finds the same both ways.",
    )
    name = TASK if place == 1 else f"{TASK}_{place}"
    return Table(
        name,
        f"Shards against one index: {corpus or 'unknown corpus'}, asked from {machine_of(rows)}",
        columns,
        made,
        notes,
    )


def _rows(search: Search, whole: dict[tuple, Search]) -> list[dict[str, Cell]]:
    """One for each call; one in all for a search that was never timed."""
    inner = replace(search, engine=search.engine.removeprefix(PREFIX))
    one = whole.get((search.images, inner.setting))
    calls = sorted(search.calls, key=lambda call: (list(MODES).index(call.mode), call.threads))
    return [_row(search, inner.label, one, call) for call in calls or [None]]


def _row(search: Search, label: str, one: Search | None, call: Call | None) -> dict[str, Cell]:
    cells = {
        "search": Cell(label),
        "images": Cell(search.images),
        "shards": Cell(search.shards),
        "called": Cell(call.label if call else NOT_APPLICABLE),
    }
    for key, metric in (
        ("quality", "recall@1"),
        ("engine_recall@10", "engine_recall@10"),
        ("bytes_per_image", "bytes_per_image"),
    ):
        cells[key] = _brief(search.cell(metric))
        cells[f"one {key}"] = _brief(one.cell(metric)) if one else Cell(missing=NOT_MEASURED)
    for key, metric in (("qps", "qps"), ("p95", "latency_p95_us")):
        cells[key] = _brief(search.timed(call, metric)) if call else Cell(missing=NOT_MEASURED)
        cells[f"one {key}"] = _brief(one.timed(call, metric)) if one and call else Cell(missing=NOT_MEASURED)
    if call and call.mode != "single":
        cells |= {"p95": Cell(NOT_APPLICABLE), "one p95": Cell(NOT_APPLICABLE)}
    cells["network_share"] = _brief(search.timed(call, "network_share")) if call else Cell(missing=NOT_MEASURED)
    rates = [side.rate(call) if side and call else None for side in (search, one)]
    if all(rates):
        cells["ratio"] = Cell(rates[0] / rates[1], points=cells["qps"].points + cells["one qps"].points)
    measured = [point for point in (search.accuracy, search.calls.get(call)) if point]
    return cells | {
        "note": Cell(
            "; ".join(dict.fromkeys(point.problem or point.note for point in measured if point.problem or point.note))
        )
    }


def _brief(cell: Cell) -> Cell:
    """How it ended in a word or two; the note of the row has the rest."""
    return Cell(missing=cell.missing.partition(":")[0]) if cell.missing else cell
