"""What the lexicon head and the queue of keys take, computed in several ways; from the records of `bench.tasks.parts.lexicon_head` and `bench.tasks.parts.key_queue`."""

import pandas as pd

from reports.pages import Section, definitions
from reports.records.evidence import Evidence, parsed
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, significant, size, times

WITHIN = 1e-3  # of the dense loss: the goal for the sparse queue
HEAD = ("head_forward_seconds", "head_backward_seconds", "head_peak_bytes")
QUEUE = ("queue_push_seconds", "queue_score_seconds", "queue_bytes", "queue_loss", "queue_active")


def section(evidence: Evidence) -> Section | None:
    tables = [
        table for table in (_head(_points(evidence, "lexicon_head")), _queue(_points(evidence, "key_queue"))) if table
    ]
    if not tables:
        return None
    shown = [
        metric
        for table, metrics in (("parts_head", HEAD), ("parts_queue", QUEUE))
        if table in {t.name for t in tables}
        for metric in metrics
    ]
    data = {"missing": [command for name, command in COMMANDS.items() if name not in {table.name for table in tables}]}
    return Section(
        "parts",
        "What the lexicon head and the queue of keys take",
        tables=tables,
        data=data | {"definitions": definitions(shown)},
    )


COMMANDS = {
    "parts_head": "python -m bench.tasks.parts.lexicon_head",
    "parts_queue": "python -m bench.tasks.parts.key_queue",
}


def _points(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row for each way at each shape on each machine, the newest, with its metrics as columns; in the order in which they were first measured."""
    rows = evidence.all[evidence.all.task == task]
    if rows.empty:
        return rows
    about = rows.drop_duplicates("point_id").set_index("point_id")[
        ["engine", "knobs", "threads", "cpu", "gpu", "status", "note", "started"]
    ]
    found = about.join(rows[rows.metric != ""].pivot(index="point_id", columns="metric", values="value")).reset_index()
    newest = found.sort_values("started").drop_duplicates(["engine", "knobs", "threads", "cpu", "gpu"], keep="last")
    device = newest.gpu.where(newest.gpu != "", newest.cpu)
    return newest.assign(
        shape=newest.knobs.map(parsed), device=device, case=newest.knobs + device + newest.threads.astype(str)
    )


def _cases(points: pd.DataFrame, base: str):
    """For each shape on each machine: the row of the way that the others are compared with, None where it was not measured, and all rows, it first."""
    for _, rows in points.groupby("case", sort=False):
        ok = rows[(rows.engine == base) & (rows.status == "ok")]
        yield None if ok.empty else ok.iloc[0], rows.assign(other=rows.engine != base).sort_values(["other", "engine"])


def _head(points: pd.DataFrame) -> Table | None:
    rows = []
    for plain, case in _cases(points, "plain") if len(points) else ():
        for _, row in case.iterrows():
            shape, cells = row["shape"], {metric: _cell(row, metric) for metric in HEAD}
            if plain is not None and row.status == "ok":
                behind = (row.point_id, plain.point_id)
                cells["faster"] = Cell(_seconds(plain) / _seconds(row), points=behind)
                cells["smaller"] = Cell(plain.head_peak_bytes / row.head_peak_bytes, points=behind)
            about = {
                "way": Cell(row.engine), "shape": Cell(f"{shape['items']} × {shape['tokens']} × {shape['lexicons']:,}, width {shape['width']}"),
                "dtype": Cell(shape["dtype"]), "where": Cell(_where(row)),
            }  # fmt: skip
            rows.append(about | cells | {"note": Cell(row.note or "–")})
    columns = (
        Column("way", "Way"), Column("shape", "Items × tokens × lexicons"), Column("dtype", "Product in"), Column("where", "On"),
        Column("head_forward_seconds", "forward, s", significant), Column("head_backward_seconds", "backward, s", significant),
        Column("head_peak_bytes", "peak memory", size), Column("faster", "faster by", times, "Against plain"),
        Column("smaller", "memory smaller by", times, "Against plain"), Column("note", "Note"),
    )  # fmt: skip
    notes = (
        "plain: a linear layer over all tokens, then the maximum, which holds the logits of every token. tiled: a tile of them at a time (models/lexicon/max_linear.py), "
        "backward by sparse products. triton: kernels for a GPU. Memory: the process's at its peak, beside the inputs, rounded up by what the libraries keep. Faster: both passes together.",
    )
    return Table("parts_head", "The lexicon head and its maximum over tokens", columns, rows, notes) if rows else None


def _queue(points: pd.DataFrame) -> Table | None:
    rows = []
    for dense, case in _cases(points, "dense") if len(points) else ():
        for _, row in case.iterrows():
            shape, cells = row["shape"], {metric: _cell(row, metric) for metric in QUEUE}
            if dense is not None and row.status == "ok":
                behind = (row.point_id, dense.point_id)
                cells["smaller"] = Cell(dense.queue_bytes / row.queue_bytes, points=behind)
                cells["difference"] = Cell(row.queue_loss - dense.queue_loss, points=behind)
            about = {
                "way": Cell(row.engine if row.engine == "dense" else f"{row.engine}, {shape['top_k']} kept"),
                "shape": Cell(f"{shape['queue']:,} × {shape['lexicons']:,}, batch {shape['batch']}"), "where": Cell(_where(row)),
            }  # fmt: skip
            rows.append(about | cells | {"note": Cell(row.note or "–")})
    columns = (
        Column("way", "Way"), Column("shape", "Keys × lexicons"), Column("where", "On"), Column("queue_active", "active lexicons of a key", integer),
        Column("queue_bytes", "memory", size), Column("queue_push_seconds", "to take a batch, s", significant),
        Column("queue_score_seconds", "to score a batch, s", significant), Column("queue_loss", "loss", lambda value: f"{value:.4f}"),
        Column("smaller", "memory smaller by", times, "Against dense"), Column("difference", "difference of the loss", _signed, "Against dense"),
        Column("note", "Note"),
    )  # fmt: skip
    notes = (
        f"Generated keys, which overlap as those of a model do. A sparse queue drops all but the highest lexicons of a key: with fewer active than kept, its loss "
        f"is that of the dense one but for rounding (goal: within {WITHIN:g}); with more, negatives lose weight and the loss is another one.",
    )
    return Table("parts_queue", "The queue of momentum keys", columns, rows, notes) if rows else None


def _seconds(row: pd.Series) -> float:
    return row.head_forward_seconds + row.head_backward_seconds


def _where(row: pd.Series) -> str:
    return row.gpu or f"{row.cpu}, {row.threads:.0f} thread{'s' if row.threads > 1 else ''}"


def _cell(row: pd.Series, metric: str) -> Cell:
    value = row.get(metric)
    if value is None or pd.isna(value):
        return Cell(missing=NOT_MEASURED if row.status == "ok" else row.status.replace("_", " "))
    return Cell(float(value), points=(row.point_id,))


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
