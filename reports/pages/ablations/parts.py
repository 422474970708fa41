"""Time and memory of the lexicon head and of the key queue, by implementation.

Records of the benchmarks in tests/bench/benchmarks.
"""

from collections.abc import Iterator

import pandas as pd

from reports.pages import Section, definitions
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, signed, significant, size, times

WITHIN = 1e-3  # of the dense loss: the goal for the sparse queue
HEAD = ("head_forward_seconds", "head_backward_seconds", "head_peak_bytes")
QUEUE = ("queue_push_seconds", "queue_score_seconds", "queue_bytes", "queue_loss", "queue_active")
COMMANDS = {
    "parts_head": "pytest tests/bench/benchmarks/bench_lexicon_head.py --benchmark-only --record-home runs",
    "parts_queue": "pytest tests/bench/benchmarks/bench_key_queue.py --benchmark-only --record-home runs",
}


def section(evidence: Evidence) -> Section | None:
    made = {
        "parts_head": _head(_points(evidence, "lexicon_head")),
        "parts_queue": _queue(_points(evidence, "key_queue")),
    }
    tables = [table for table in made.values() if table]
    if not tables:
        return None
    shown = [*(HEAD if made["parts_head"] else ()), *(QUEUE if made["parts_queue"] else ())]
    missing = [command for name, command in COMMANDS.items() if not made[name]]
    data = {"missing": missing, "definitions": definitions(shown)}
    return Section("parts", "Lexicon head and key queue", tables=tables, data=data, folder="ablations")


def _points(evidence: Evidence, task: str) -> pd.DataFrame:
    """The newest point of each implementation, shape and machine, with metrics as columns; oldest first."""
    rows = evidence.all[evidence.all.task == task]
    if rows.empty:
        return rows
    columns = ["engine", "knobs", "threads", "cpu", "gpu", "status", "note", "started"]
    about = rows.drop_duplicates("point_id").set_index("point_id")[columns]
    found = about.join(rows[rows.metric != ""].pivot(index="point_id", columns="metric", values="value")).reset_index()
    newest = found.sort_values("started").drop_duplicates(columns[:5], keep="last")
    device = newest.gpu.where(newest.gpu != "", newest.cpu)
    case = newest.knobs + device + newest.threads.astype(str)
    return newest.assign(shape=newest.knobs.map(parsed), device=device, case=case)


def _cases(points: pd.DataFrame, base: str) -> Iterator[tuple[pd.Series | None, pd.Series]]:
    """(row of the base implementation or None, row) for each row, shape by shape and machine by machine, base first."""
    for _, rows in points.groupby("case", sort=False) if len(points) else ():
        ok = rows[(rows.engine == base) & (rows.status == "ok")]
        for _, row in rows.assign(other=rows.engine != base).sort_values(["other", "engine"]).iterrows():
            yield None if ok.empty or row.status != "ok" else ok.iloc[0], row


def _head(points: pd.DataFrame) -> Table | None:
    rows = []
    for plain, row in _cases(points, "plain"):
        shape, cells = row["shape"], {metric: _cell(row, metric) for metric in HEAD}
        if plain is not None:
            behind = (row.point_id, plain.point_id)
            cells["speedup"] = Cell(_seconds(plain) / _seconds(row), points=behind)
            cells["smaller"] = Cell(plain.head_peak_bytes / row.head_peak_bytes, points=behind)
        described = f"{shape['items']} × {shape['tokens']} × {shape['lexicons']:,}, width {shape['width']}"
        rows.append(_about(row, row.engine, described) | {"dtype": Cell(shape["dtype"])} | cells)
    columns = (
        Column("implementation", "Implementation"),
        Column("shape", "Items × tokens × lexicons"),
        Column("dtype", "dtype"),
        Column("where", "Machine"),
        Column("head_forward_seconds", "forward, s", significant),
        Column("head_backward_seconds", "backward, s", significant),
        Column("head_peak_bytes", "peak memory", size),
        Column("speedup", "speedup", times, "Against plain"),
        Column("smaller", "memory smaller by", times, "Against plain"),
        Column("note", "Note"),
    )
    notes = (
        "plain: a linear layer over all tokens, then the maximum. tiled: one tile of logits at a time "
        "(models/lexicon/max_linear.py), backward by sparse products. triton: GPU kernels. Memory: peak of the process "
        "beyond its inputs. Speedup: forward and backward together.",
    )
    return Table("parts_head", "Lexicon head with maximum over tokens", columns, rows, notes) if rows else None


def _queue(points: pd.DataFrame) -> Table | None:
    rows = []
    for dense, row in _cases(points, "dense"):
        shape, cells = row["shape"], {metric: _cell(row, metric) for metric in QUEUE}
        if dense is not None:
            behind = (row.point_id, dense.point_id)
            cells["smaller"] = Cell(dense.queue_bytes / row.queue_bytes, points=behind)
            cells["difference"] = Cell(row.queue_loss - dense.queue_loss, points=behind)
        name = row.engine if row.engine == "dense" else f"{row.engine}, top-{shape['top_k']}"
        described = f"{shape['queue']:,} × {shape['lexicons']:,}, batch {shape['batch']}"
        rows.append(_about(row, name, described) | cells)
    columns = (
        Column("implementation", "Implementation"),
        Column("shape", "Keys × lexicons"),
        Column("where", "Machine"),
        Column("queue_active", "active lexicons per key", integer),
        Column("queue_bytes", "memory", size),
        Column("queue_push_seconds", "push a batch, s", significant),
        Column("queue_score_seconds", "score a batch, s", significant),
        Column("queue_loss", "loss", lambda value: f"{value:.4f}"),
        Column("smaller", "memory smaller by", times, "Against dense"),
        Column("difference", "difference of the loss", lambda value: signed(value, 4), "Against dense"),
        Column("note", "Note"),
    )
    notes = (
        "Generated keys that overlap as those of a model do. A sparse queue keeps the top-k lexicons of a key: with "
        f"fewer active, its loss equals the dense one but for rounding (goal: within {WITHIN:g}). With more, "
        "negatives lose weight.",
    )
    return Table("parts_queue", "Queue of momentum keys", columns, rows, notes) if rows else None


def _about(row: pd.Series, implementation: str, shape: str) -> dict[str, Cell]:
    where = row.gpu or f"{row.cpu}, {row.threads:.0f} thread{'s' if row.threads > 1 else ''}"
    note = Cell(row.note or "–")
    return {"implementation": Cell(implementation), "shape": Cell(shape), "where": Cell(where), "note": note}


def _seconds(row: pd.Series) -> float:
    return row.head_forward_seconds + row.head_backward_seconds


def _cell(row: pd.Series, metric: str) -> Cell:
    value = row.get(metric)
    if value is None or pd.isna(value):
        return Cell(missing=NOT_MEASURED if row.status == "ok" else row.status.replace("_", " "))
    return Cell(float(value), points=(row.point_id,))
