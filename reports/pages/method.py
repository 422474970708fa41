"""How it was measured, on what, what each metric means, and the command behind every row."""

from bench.tasks.metrics import METRICS
from reports.pages import Section
from reports.records.evidence import Evidence, parsed
from reports.render.tables import Cell, Column, Table, clean, integer, significant


def section(evidence: Evidence) -> Section:
    machines, versions, definitions, commands = (
        _machines(evidence),
        _versions(evidence),
        _definitions(evidence),
        _commands(evidence),
    )
    rows = evidence.rows
    data = {
        "commits": sorted(set(rows.git_commit) - {""}),
        "code": rows[rows.code_id != ""].groupby("task").code_id.agg(lambda ids: sorted(set(ids))).to_dict(),
        "threads": sorted({int(threads) for threads in rows.threads.dropna()}),
        "started": sorted(set(rows.started) - {""}),
        "points": rows.point_id.nunique(),
        "unknown": unknown_metrics(evidence),
    }
    return Section(
        "method", "Method, machine and reproduction", tables=[machines, versions, definitions, commands], data=data
    )


def unknown_metrics(evidence: Evidence) -> list[str]:
    """Names in the records that the registry does not define."""
    return [clean(name) for name in sorted(set(evidence.rows.metric) - {""}) if _metric(name) is None]


def _metric(name: str):
    try:
        return METRICS[name]
    except KeyError:
        return None


def _machines(evidence: Evidence) -> Table:
    columns = (
        Column("machine", "Machine"), Column("cpu", "CPU"), Column("cores", "Cores", integer), Column("memory", "Memory, GiB", significant),
        Column("gpu", "GPU"), Column("points", "Points measured", integer),
    )  # fmt: skip
    rows = []
    for machine_id, group in evidence.rows.groupby("machine_id"):
        last = group.iloc[-1]
        cells = {
            "machine": Cell(machine_id or "unknown"),
            "cpu": Cell(last.cpu or "unknown"),
            "gpu": Cell(last.gpu or "none"),
            "points": Cell(int(group.point_id.nunique())),
        }
        cells |= {
            key: Cell(float(value)) if value == value else Cell(missing="unknown")
            for key, value in (("cores", last.cores), ("memory", last.memory_gb))
        }
        rows.append(cells)
    return Table("machines", "Machines that measured", columns, rows)


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
        if metric := _metric(name):
            rows.append(
                {
                    "name": Cell(name),
                    "label": Cell(metric.label),
                    "unit": Cell(metric.unit),
                    "better": Cell(better[metric.direction]),
                    "definition": Cell(metric.definition),
                }
            )
        else:
            rows.append(
                {
                    "name": Cell(name),
                    "definition": Cell(missing="unknown to the metric registry; not used in any table"),
                }
            )
    columns = (
        Column("name", "Metric"),
        Column("label", "Label"),
        Column("unit", "Unit"),
        Column("better", "Better"),
        Column("definition", "Definition"),
    )
    return Table(
        "metrics",
        "What each metric means (from the registry)",
        columns,
        [{"label": Cell(""), "unit": Cell(""), "better": Cell("")} | row for row in rows],
    )


def _commands(evidence: Evidence) -> Table:
    """The commands behind each variant's rows, each once: training first."""
    rows = []
    for variant in evidence.variants:
        mine = evidence.rows[(evidence.rows.variant == variant) & (evidence.rows.command != "")]
        order = {"training": 0, "encoding": 1, "index": 2, "retrieval": 3}
        mine = mine.assign(order=mine.task.map(order).fillna(9)).sort_values(["order", "seed", "started"])
        for command, group in mine.groupby("command", sort=False):
            tasks = ", ".join(dict.fromkeys(group.task))
            seeds = ", ".join(str(int(seed)) for seed in sorted(group.seed.dropna().unique()))
            spent = group.drop_duplicates("point_id").seconds.sum(min_count=1)
            rows.append(
                {
                    "variant": Cell(variant),
                    "tasks": Cell(tasks),
                    "seeds": Cell(seeds),
                    "seconds": Cell(missing="not recorded") if spent != spent else Cell(float(spent)),
                    "command": Cell(command),
                }
            )
        if mine.empty:
            rows.append({"variant": Cell(variant), "command": Cell(missing="not recorded")})
    columns = (
        Column("variant", "Variant"),
        Column("tasks", "Makes"),
        Column("seeds", "Seeds"),
        Column("seconds", "Measured in, s", integer),
        Column("command", "Command"),
    )
    return Table("commands", "How to make each row again", columns, rows)
