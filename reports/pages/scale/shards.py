"""Searches over shards on several machines (`bench.scale --ray`), beside the same engine over one index."""

from dataclasses import replace

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.search import Call, Search, ordered
from reports.records.sweep import CEILING, machine_of, searches_of, sweeps
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
    size,
    times,
)

TASK = "sharded"
PREFIX = "sharded-"  # before the name of the engine that searches each shard
UNQUANTISED = "unquantised_recall@10"
QUALITY = {"quality": "recall@1"} | {name: name for name in ("engine_recall@10", UNQUANTISED, "bytes_per_image")}
TIMES = {"qps": "qps", "p95": "latency_p95_us"}


def section(evidence: Evidence) -> Section | None:
    rows = pd.concat([evidence.rows, evidence.generated])
    rows = rows[(rows.task == TASK) & rows.images.notna()]
    groups = list(rows.groupby(["profile", "corpus", "machine_id"]))
    groups.sort(key=lambda group: (group[0][1] != evidence.corpus, group[0]))
    tables = [_table(evidence, *key, group, place) for place, (key, group) in enumerate(groups, 1)]
    commands = list(dict.fromkeys(command for command in rows.sort_values("started").command if command))
    data = {"commands": commands}
    return Section("scale_shards", "Shards on several machines", tables, data=data, folder="scale") if tables else None


def _table(evidence: Evidence, profile: str, corpus: str, machine_id: str, rows: pd.DataFrame, place: int) -> Table:
    same = [
        sweep
        for sweep in sweeps(evidence)
        if (sweep.profile, sweep.corpus, sweep.machine_id) == (profile, corpus, machine_id)
    ]
    one_index = {(search.images, search.setting): search for sweep in same for search in sweep.searches}
    found = [search for search in ordered(searches_of(rows)) if search.engine != PREFIX + CEILING]
    found.sort(key=lambda search: -search.images)
    floats = any(not search.cell(UNQUANTISED).missing for search in found)
    columns = [Column("search", "Engine and settings"), Column("images", "Images", integer)]
    columns += [Column("shards", "Shards", integer), Column("called", "Call")]
    for key, group, written in (
        ("quality", "R@1, %", percent),
        ("engine_recall@10", "Engine recall@10, %", percent),
        *([(UNQUANTISED, "Recall@10 of float weights, %", percent)] if floats else []),
        ("bytes_per_image", "Bytes per image", size),
        ("qps", "QPS", significant),
        ("p95", "p95, µs", integer),
    ):
        columns += [Column(key, "shards", written, group), Column(f"one {key}", "one index", written, group)]
        columns += [Column("ratio", "shards / one index", times, group)] if key == "qps" else []
    columns += [Column("network_share", "Network, % of the time", percent), Column("note", "Note")]
    notes = (
        "Shards: consecutive parts of the gallery, an index of each, searched at once over a Ray cluster, results "
        "merged by score. Network: wall time beyond the search of the slowest shard. Threads: of each shard.",
    )
    caption = f"Shards against one index: {corpus or 'unknown corpus'}, client on {machine_of(rows)}"
    made = [row for search in found for row in _rows(search, one_index)]
    return Table(TASK if place == 1 else f"{TASK}_{place}", caption, tuple(columns), made, notes)


def _rows(search: Search, one_index: dict[tuple, Search]) -> list[dict[str, Cell]]:
    """One row for each call; one row for a search that was never timed."""
    inner = replace(search, engine=search.engine.removeprefix(PREFIX), shards=None)
    one = one_index.get((search.images, inner.setting))
    calls = sorted(search.calls, key=lambda call: call.order)
    return [_row(search, inner.label, one, call) for call in calls or [None]]


def _row(search: Search, label: str, one: Search | None, call: Call | None) -> dict[str, Cell]:
    missing = Cell(missing=NOT_MEASURED)
    cells = {"search": Cell(label), "images": Cell(search.images), "shards": Cell(search.shards)}
    cells["called"] = Cell(call.label if call else NOT_APPLICABLE)
    for key, metric in QUALITY.items():
        cells[key] = brief(search.cell(metric))
        cells[f"one {key}"] = brief(one.cell(metric)) if one else missing
    for key, metric in TIMES.items():
        cells[key] = brief(search.timed(call, metric)) if call else missing
        cells[f"one {key}"] = brief(one.timed(call, metric)) if one and call else missing
    if call and call.mode != "single":
        cells |= {"p95": Cell(NOT_APPLICABLE), "one p95": Cell(NOT_APPLICABLE)}
    cells["network_share"] = brief(search.timed(call, "network_share")) if call else missing
    rates = [side.rate(call) if side and call else None for side in (search, one)]
    if all(rates):
        cells["ratio"] = Cell(rates[0] / rates[1], points=cells["qps"].points + cells["one qps"].points)
    measured = [point for point in (search.accuracy, search.calls.get(call)) if point]
    notes = dict.fromkeys(point.problem or point.note for point in measured if point.problem or point.note)
    return cells | {"note": Cell("; ".join(notes))}
