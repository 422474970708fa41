"""Protocol, machines, software, metric definitions, and the command behind every row."""

from reports.pages import Section, limits
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render.tables import Cell, Column, Table, integer, significant


def section(evidence: Evidence) -> Section:
    tables = [_machines(evidence), _versions(evidence), _definitions(evidence), _commands(evidence)]
    rows = evidence.rows
    data = {
        "commits": sorted(set(rows.git_commit) - {""}),
        "threads": sorted({int(threads) for threads in rows.threads.dropna()}),
        "started": sorted(set(rows.started) - {""}),
        "points": rows.point_id.nunique(),
    }
    return Section("method", "Method, machines and reproduction", tables=tables, data=data)


def _machines(evidence: Evidence) -> Table:
    columns = (
        Column("machine", "Machine"),
        Column("cpu", "CPU"),
        Column("cores", "Cores", integer),
        Column("memory", "Memory, GiB", significant),
        Column("gpu", "GPU"),
        Column("points", "Points measured", integer),
    )
    rows = []
    for machine_id, group in evidence.rows.groupby("machine_id"):
        last = group.iloc[-1]
        cells = {
            "machine": Cell(machine_id or "unknown"),
            "cpu": Cell(last.cpu or "unknown"),
            "gpu": Cell(last.gpu or "none"),
            "points": Cell(int(group.point_id.nunique())),
        }
        for key, value in (("cores", last.cores), ("memory", last.memory_gb)):
            cells[key] = Cell(float(value)) if value == value else Cell(missing="unknown")
        rows.append(cells)
    return Table("machines", "Machines", columns, rows)


def _versions(evidence: Evidence) -> Table:
    found: dict[str, set[str]] = {}
    for text in set(evidence.rows.versions):
        versions = parsed(text)
        for name, version in (versions if isinstance(versions, dict) else {}).items():
            found.setdefault(str(name), set()).add(str(version))
    rows = [{"name": Cell(name), "version": Cell(", ".join(sorted(found[name])))} for name in sorted(found)]
    return Table("versions", "Software", (Column("name", "Package"), Column("version", "Version")), rows)


def _definitions(evidence: Evidence) -> Table:
    better = {"higher": "higher is better", "lower": "lower is better", "": ""}
    rows = []
    for name in sorted(set(evidence.rows.metric) - {""}):
        row = {"name": Cell(name), "label": Cell(""), "unit": Cell(""), "better": Cell("")}
        if metric := limits.metric(name):
            row |= {"label": Cell(metric.label), "unit": Cell(metric.unit), "better": Cell(better[metric.direction])}
            rows.append(row | {"definition": Cell(metric.definition)})
        else:
            rows.append(row | {"definition": Cell(missing="unknown metric, not used in any table")})
    labels = {"name": "Metric", "label": "Label", "unit": "Unit", "better": "Better", "definition": "Definition"}
    return Table("metrics", "Metric definitions", tuple(Column(*one) for one in labels.items()), rows)


def _commands(evidence: Evidence) -> Table:
    """The commands behind the rows of each variant, each once, training first."""
    order = {"training": 0, "encoding": 1, "index": 2, "retrieval": 3}
    rows = []
    for variant in evidence.variants:
        mine = evidence.rows[(evidence.rows.variant == variant) & (evidence.rows.command != "")]
        mine = mine.assign(order=mine.task.map(order).fillna(9)).sort_values(["order", "seed", "started"])
        for command, group in mine.groupby("command", sort=False):
            seconds = group.drop_duplicates("point_id").seconds.sum(min_count=1)
            cells = {
                "variant": Cell(variant),
                "tasks": Cell(", ".join(dict.fromkeys(group.task))),
                "seeds": Cell(", ".join(str(int(seed)) for seed in sorted(group.seed.dropna().unique()))),
                "seconds": Cell(missing="not recorded") if seconds != seconds else Cell(float(seconds)),
                "command": Cell(command),
            }
            rows.append(cells)
        if mine.empty:
            rows.append({"variant": Cell(variant), "command": Cell(missing="not recorded")})
    columns = (
        Column("variant", "Variant"),
        Column("tasks", "Tasks"),
        Column("seeds", "Seeds"),
        Column("seconds", "Seconds", integer),
        Column("command", "Command"),
    )
    return Table("commands", "Commands that reproduce the rows", columns, rows)
