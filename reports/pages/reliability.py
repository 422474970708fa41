"""How hard it is to break: broken input, injected faults, long runs; from records of the task "reliability", whatever their profile."""

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence, parsed
from reports.render.tables import FAILED, NOT_MEASURED, Cell, Column, Table, integer, significant, size

TASK = "reliability"
RUN = {
    "inputs": "python -m tests.fuzz --target all --executions 100000 --home runs",
    "faults": "python -m pytest -m fault tests/faults --reliability-home runs",
    "soaks": "lexlip-bench soak --minutes 60 --home runs",
}
"""What measures each part."""

COMMANDS = 3  # that a table names of those that wrote it


def section(evidence: Evidence) -> Section:
    rows = evidence.all[evidence.all.task == TASK]
    points = _points(rows)
    parts = {"inputs": _inputs(points), "faults": _faults(points), "soaks": _soaks(points)}
    data = {
        "missing": [{"what": part, "command": RUN[part]} for part, table in parts.items() if not table],
        "tables": {part: table.name for part, table in parts.items() if table},
        "totals": _totals(points),
    }
    return Section("reliability", "What it survived", tables=[table for table in parts.values() if table], data=data)


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per point, oldest first, with its metrics as columns, and its knobs taken apart."""
    if rows.empty:
        return pd.DataFrame(columns=["point_id", "status", "command", "knobs"])
    values = rows[rows.metric != ""].pivot(index="point_id", columns="metric", values="value")
    about = rows.drop_duplicates("point_id").set_index("point_id")
    known = about[["engine", "images", "threads", "command", "status", "note", "started", "seconds"]]
    knobs = about.knobs.map(lambda text: found if isinstance(found := parsed(text), dict) else {})
    return known.join(values).assign(knobs=knobs).sort_values(["started", "engine"]).reset_index()


def _of(points: pd.DataFrame, knob: str) -> pd.DataFrame:
    """The points that have a knob, with it as `what`."""
    what = points.knobs.map(lambda knobs: knobs.get(knob))
    return points.assign(what=what)[what.notna()]


def _newest_faults(points: pd.DataFrame) -> pd.DataFrame:
    """Of each test the newest outcome."""
    found = _of(points, "fault")
    return found.assign(test=found.knobs.map(lambda knobs: knobs.get("test"))).drop_duplicates(
        ["what", "test"], keep="last"
    )


def _inputs(points: pd.DataFrame) -> Table | None:
    found = _of(points, "target")
    if found.empty:
        return None
    rows = []
    for target, of_target in found.groupby("what"):
        behind, seconds = tuple(of_target.point_id), of_target.seconds.sum()
        rows.append(
            {
                "what": Cell(of_target.knobs.iloc[-1].get("about", target)), "target": Cell(target),
                "tried": _sum(of_target, "fuzz_executions"), "mishandled": _sum(of_target, "fuzz_mishandled"),
                "rate": Cell(float(of_target.fuzz_executions.sum() / seconds), points=behind) if seconds else Cell(missing=NOT_MEASURED),
            }
        )  # fmt: skip
    columns = (
        Column("what", "What is read"), Column("target", "Target"), Column("tried", "Broken inputs tried", integer), Column("mishandled", "Mishandled", integer),
        Column("rate", "Inputs a second", significant),
    )  # fmt: skip
    notes = (
        "Mishandled: a traceback, a hang or a crash instead of one line that names what is wrong; or, of what this project writes itself, values other than "
        "were written. Inputs of all records are added up.",
        _written_by(found),
    )
    return Table("reliability_inputs", "Broken input, by what reads it", columns, rows, notes)


def _faults(points: pd.DataFrame) -> Table | None:
    newest = _newest_faults(points)
    if newest.empty:
        return None
    rows = [
        {
            "fault": Cell(fault), "injected": _sum(of_fault, "faults_injected"), "survived": _sum(of_fault, "faults_survived"),
            "lost": _sum(of_fault, "fault_bytes_lost"), "how": Cell("; ".join(note for note in of_fault.note if note) or "as if nothing had happened"),
        }
        for fault, of_fault in newest.groupby("what")
    ]  # fmt: skip
    columns = (
        Column("fault", "Fault"), Column("injected", "Injected", integer), Column("survived", "Survived", integer), Column("lost", "Finished work lost", size),
        Column("how", "What happened"),
    )  # fmt: skip
    notes = (
        "Each fault is put into the real commands by a test; survived: everything that the test asks held afterwards. Of a test that ran twice, the newer.",
        _written_by(newest),
    )
    return Table("reliability_faults", "Faults injected", columns, rows, notes)


def _soaks(points: pd.DataFrame) -> Table | None:
    found = _of(points, "soak")
    if found.empty:
        return None
    rows = [_soak(row) for _, row in found.iterrows()]
    columns = (
        Column("engine", "Engine"), Column("items", "Items", integer), Column("hours", "Hours", significant), Column("served", "Queries served", integer),
        Column("wrong", "Answers that changed", integer), Column("private", "Private memory", _bytes, "Growth per hour"),
        Column("memory", "Memory", _bytes, "Growth per hour"), Column("handles", "File handles", _signed, "Growth per hour"),
        Column("threads", "Threads", _signed, "Growth per hour"), Column("noticeable", "Could be told from", _bytes, "Growth per hour"), Column("how", "What happened"),
    )  # fmt: skip
    notes = (
        "Growth: median slope over all pairs of samples after warm-up, of the serving process and its children; memory with its share of shared pages. "
        "A growth of private memory below the last number could not have been told from noise in so short a time.",
        _written_by(found),
    )
    return Table("reliability_soaks", "Under full load", columns, rows, notes)


def _soak(row: pd.Series) -> dict[str, Cell]:
    metrics = {
        "served": "soak_queries", "wrong": "soak_wrong", "private": "soak_growth_private", "memory": "soak_growth_memory",
        "handles": "soak_growth_handles", "threads": "soak_growth_threads", "noticeable": "soak_min_detectable",
    }  # fmt: skip
    behind, failed = (row.point_id,), row.status != "ok"
    cells = {name: _cell(row.get(metric), behind, FAILED if failed else "") for name, metric in metrics.items()}
    hours = _cell(row.seconds / 3600, behind)
    return {
        "engine": Cell(row.engine),
        "items": _cell(row.images, behind),
        "hours": hours,
        "how": Cell(row.note or "nothing grew"),
    } | cells


def _totals(points: pd.DataFrame) -> dict[str, float | None]:
    """Sums over the newest points of each part; None for what was not measured."""
    newest, inputs, soaks = _newest_faults(points), _of(points, "target"), _of(points, "soak")
    names = {"tried": (inputs, "fuzz_executions"), "mishandled": (inputs, "fuzz_mishandled"), "injected": (newest, "faults_injected"),
        "survived": (newest, "faults_survived"), "lost": (newest, "fault_bytes_lost"), "minutes": (soaks, "soak_minutes"), "served": (soaks, "soak_queries"),
    }  # fmt: skip
    return {name: _sum(found, metric).value for name, (found, metric) in names.items()}


def _sum(found: pd.DataFrame, metric: str) -> Cell:
    values = found[metric].dropna() if metric in found else ()
    return Cell(float(sum(values)), points=tuple(found.point_id)) if len(values) else Cell(missing=NOT_MEASURED)


def _cell(value, points: tuple[str, ...], missing: str = "") -> Cell:
    if value is None or pd.isna(value):
        return Cell(missing=missing or NOT_MEASURED)
    return Cell(float(value), points=points)


def _written_by(found: pd.DataFrame) -> str:
    commands = sorted(set(found.command) - {""})
    more = f", and {len(commands) - COMMANDS} more" if len(commands) > COMMANDS else ""
    return f"Written by: {'; '.join(commands[:COMMANDS]) or 'unknown'}{more}."


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")


def _bytes(value: float) -> str:
    return size(value).replace("-", "−")
