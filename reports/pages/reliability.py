"""Broken input, injected faults and long runs: records of the task "reliability" of any profile."""

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render.tables import FAILED, NOT_MEASURED, Cell, Column, Table, integer, significant, size

TASK = "reliability"
RUN = {
    "inputs": "python -m tests.fuzz --target all --executions 100000 --home runs",
    "faults": "python -m pytest -m fault tests/faults --reliability-home runs",
    "soaks": "lexlip-bench soak --minutes 60 --home runs",
}
"""The command that measures each part."""

COMMANDS = 3  # number of commands named under a table


def section(evidence: Evidence) -> Section:
    rows = evidence.all[evidence.all.task == TASK]
    points = _points(rows)
    parts = {"inputs": _inputs(points), "faults": _faults(points), "soaks": _soaks(points)}
    data = {
        "missing": [{"what": part, "command": RUN[part]} for part, table in parts.items() if not table],
        "tables": {part: table.name for part, table in parts.items() if table},
        "totals": _totals(points),
    }
    tables = [table for table in parts.values() if table]
    return Section("reliability", "Faults, broken input and load", tables=tables, data=data)


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per point, oldest first, with metrics as columns and parsed knobs."""
    if rows.empty:
        return pd.DataFrame(columns=["point_id", "status", "command", "knobs"])
    values = rows[rows.metric != ""].pivot(index="point_id", columns="metric", values="value")
    about = rows.drop_duplicates("point_id").set_index("point_id")
    known = about[["engine", "images", "threads", "command", "status", "note", "started", "seconds"]]
    knobs = about.knobs.map(lambda text: found if isinstance(found := parsed(text), dict) else {})
    return known.join(values).assign(knobs=knobs).sort_values(["started", "engine"]).reset_index()


def _of(points: pd.DataFrame, knob: str) -> pd.DataFrame:
    """Points that have a knob, as column `what`."""
    what = points.knobs.map(lambda knobs: knobs.get(knob))
    return points.assign(what=what)[what.notna()]


def _newest_faults(points: pd.DataFrame) -> pd.DataFrame:
    """The newest outcome of each test."""
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
        tried, seconds = _sum(of_target, "fuzz_executions"), of_target.seconds.sum()
        rate = Cell(missing=NOT_MEASURED)
        if seconds and not tried.missing:
            rate = Cell(tried.value / seconds, points=tried.points)
        about = {"what": Cell(of_target.knobs.iloc[-1].get("about", target)), "target": Cell(target)}
        rows.append(about | {"tried": tried, "mishandled": _sum(of_target, "fuzz_mishandled"), "rate": rate})
    columns = (
        Column("what", "Input"),
        Column("target", "Target"),
        Column("tried", "Broken inputs tried", integer),
        Column("mishandled", "Mishandled", integer),
        Column("rate", "Inputs per second", significant),
    )
    notes = (
        "Mishandled: a traceback, a hang or a crash instead of a one-line error; or, for files of this project, values "
        "other than those written. Sums over all records.",
        _written_by(found),
    )
    return Table("reliability_inputs", "Broken input", columns, rows, notes)


def _faults(points: pd.DataFrame) -> Table | None:
    newest = _newest_faults(points)
    if newest.empty:
        return None
    rows = []
    for fault, of_fault in newest.groupby("what"):
        note = Cell("; ".join(note for note in of_fault.note if note) or "recovered without loss")
        sums = {"injected": "faults_injected", "survived": "faults_survived", "lost": "fault_bytes_lost"}
        cells = {name: _sum(of_fault, metric) for name, metric in sums.items()}
        rows.append({"fault": Cell(fault), "how": note} | cells)
    columns = (
        Column("fault", "Fault"),
        Column("injected", "Injected", integer),
        Column("survived", "Survived", integer),
        Column("lost", "Finished work lost", size),
        Column("how", "Outcome"),
    )
    notes = (
        "Tests inject each fault into the real commands. Survived: every assertion of the test held afterwards. "
        "Of repeated tests the newest counts.",
        _written_by(newest),
    )
    return Table("reliability_faults", "Injected faults", columns, rows, notes)


def _soaks(points: pd.DataFrame) -> Table | None:
    found = _of(points, "soak")
    if found.empty:
        return None
    rows, growth = [_soak(row) for _, row in found.iterrows()], "Growth per hour"
    columns = (
        Column("engine", "Engine"),
        Column("items", "Images", integer),
        Column("hours", "Hours", significant),
        Column("served", "Queries answered", integer),
        Column("wrong", "Changed answers", integer),
        Column("private", "Private memory", _bytes, growth),
        Column("memory", "Memory", _bytes, growth),
        Column("handles", "File handles", _signed, growth),
        Column("threads", "Threads", _signed, growth),
        Column("detectable", "Minimum detectable", _bytes, growth),
        Column("how", "Outcome"),
    )
    notes = (
        "Growth: median slope over all pairs of samples after warm-up, of the serving process and its children. Memory "
        "includes the share of shared pages. Minimum detectable: less growth of private memory is noise in this time.",
        _written_by(found),
    )
    return Table("reliability_soaks", "Sustained load", columns, rows, notes)


def _soak(row: pd.Series) -> dict[str, Cell]:
    metrics = {
        "served": "soak_queries", "wrong": "soak_wrong", "private": "soak_growth_private",
        "memory": "soak_growth_memory", "handles": "soak_growth_handles", "threads": "soak_growth_threads",
        "detectable": "soak_min_detectable",
    }  # fmt: skip
    behind, failed = (row.point_id,), row.status != "ok"
    cells = {name: _cell(row.get(metric), behind, FAILED if failed else "") for name, metric in metrics.items()}
    about = {"engine": Cell(row.engine), "how": Cell(row.note or "no growth")}
    return about | {"items": _cell(row.images, behind), "hours": _cell(row.seconds / 3600, behind)} | cells


def _totals(points: pd.DataFrame) -> dict[str, float | None]:
    """Sums over the newest points of each part; None if not measured."""
    newest, inputs, soaks = _newest_faults(points), _of(points, "target"), _of(points, "soak")
    names = {
        "tried": (inputs, "fuzz_executions"),
        "mishandled": (inputs, "fuzz_mishandled"),
        "injected": (newest, "faults_injected"),
        "survived": (newest, "faults_survived"),
        "lost": (newest, "fault_bytes_lost"),
        "minutes": (soaks, "soak_minutes"),
        "served": (soaks, "soak_queries"),
    }
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
    return f"Measured by: {'; '.join(commands[:COMMANDS]) or 'unknown'}{more}."


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")


def _bytes(value: float) -> str:
    return size(value).replace("-", "−")
