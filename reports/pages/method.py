"""Protocol, definitions, the paper's claims, reliability, caveats, machines, versions, commands and downloads."""

from collections.abc import Iterable

import pandas as pd

from reports.findings import paper
from reports.findings.ratios import FLAT, flat, lexicon_side, smaller, speedup
from reports.pages import Section, downloads, history, limits
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.records.search import MODES
from reports.records.sweep import Sweep, machine_of, sweeps
from reports.render.tables import NOT_APPLICABLE, NOT_MEASURED, Cell, Column, Table, integer, significant, size, times

RUN = {
    "inputs": "python -m tests.fuzz --target all --executions 100000 --home runs",
    "faults": "python -m pytest -m fault tests/faults --reliability-home runs",
    "soaks": "lexlip-bench soak --minutes 60 --home runs",
}
"""The command that measures each part of the reliability."""
ENGINES = ("impact", "lucene")  # ours and the paper's


def sections(evidence: Evidence) -> list[Section]:
    caveats, rows = limits.caveats(evidence), evidence.rows
    data = {
        "commits": sorted(set(rows.git_commit) - {""}),
        "threads": sorted({int(threads) for threads in rows.threads.dropna()}),
        "started": sorted(set(rows.started) - {""}),
        "points": rows.point_id.nunique(),
    }
    quoted = "Quoted from Luo et al., 2023 (arXiv 2302.02908): 1M distractor images in Lucene against flat search."
    found = [
        Section("protocol", "Protocol", data=data, template="protocol.html"),
        Section("claims", "The paper's claims against the measurement", (quoted,), tables=[claims(evidence)]),
        Section("caveats", "Caveats", tables=[caveats]) if caveats.rows else None,
        Section("reliability", "Broken input, faults and load", tables=[reliability(evidence)]),
        *history.sections(evidence),
        Section("machines", "Machines, software, commands", (), tables=[_machines(evidence)],
                folded=[_versions(evidence), _commands(evidence)]),
        Section("definitions", "Definitions", folded=[_definitions(evidence)]),
        downloads.section(evidence),
    ]  # fmt: skip
    return [section for section in found if section]


def claims(evidence: Evidence) -> Table:
    """Speed and size against flat search as ranges over top-k, in the largest encoded gallery; and in the largest
    generated one, if flat search was measured there."""
    encoded = [sweep for sweep in sweeps(evidence) if sweep.has_task]
    generated = [one for one in sweeps(evidence) if not one.has_task and not one.stretched_to and flat(one)]
    rows = [row for sweep in (*encoded[:1], *generated[:1]) for row in _claims(sweep)]
    rows = rows or [_claim(*claim, "", [], None) for claim in (paper.SPEED, paper.SIZE)]
    rows += [_claim(*claim, "", [], None) for claim in paper.OTHERS]
    columns = (
        Column("claim", "Claim"),
        Column("side", "Engine and model"),
        Column("v1", "arXiv v1"),
        Column("iccv", "ICCV version"),
        Column("least", "least", times, f"Measured against {FLAT}, over top-k"),
        Column("most", "most", times, f"Measured against {FLAT}, over top-k"),
        Column("gallery", "Gallery"),
    )
    notes = (
        "Speed: with as many threads, where flat search reaches the same R@1, or both are exact and generated vectors "
        "have no R@1. Below 1×, flat search is better.",
    )
    return Table("claims", "The paper against the records", columns, rows, notes)


def _claims(sweep: Sweep) -> list[dict[str, Cell]]:
    """Rows of a sweep: each engine of the claims with each model, called both ways."""
    made, calls = [], [call for mode in MODES if (call := sweep.call(mode))]
    for engine in ENGINES:
        for variant in dict.fromkeys(search.variant for search in sweep.at(sweep.largest, "lexicon")):
            if side := lexicon_side(sweep, engine, variant):
                name = f"{engine}, {variant}" if variant else engine
                for call in calls:
                    cells = [speedup(sweep, search, call) for search in side]
                    made.append(_claim(f"{paper.SPEED[0]}, {MODES[call.mode]}", *paper.SPEED[1:], name, cells, sweep))
                made.append(_claim(*paper.SIZE, name, [smaller(sweep, search) for search in side], sweep))
    return made


def _claim(claim: str, v1: str, iccv: str, side: str, cells: list[Cell], sweep: Sweep | None) -> dict[str, Cell]:
    known = [cell for cell in cells if not cell.missing]
    behind = tuple(dict.fromkeys(point for cell in known for point in cell.points))
    why = next((cell.missing for cell in cells), NOT_MEASURED)
    ends = {end: Cell(of(cell.value for cell in known), points=behind) if known else Cell(missing=why)
            for end, of in (("least", min), ("most", max))}  # fmt: skip
    over = Cell(f"{integer(sweep.largest)} images, {sweep.corpus}") if sweep else Cell(missing=NOT_MEASURED)
    named = {"side": Cell(side or NOT_APPLICABLE), "gallery": over}
    return {"claim": Cell(claim), "v1": Cell(v1), "iccv": Cell(iccv)} | named | ends


# --- reliability


def reliability(evidence: Evidence) -> Table:
    """One row for each part: how much was tried, what went wrong, the command. Of repeated faults the newest counts."""
    points = _points(evidence.all[evidence.all.task == "reliability"])
    inputs, faults, soaks = (_of(points, knob) for knob in ("target", "fault", "soak"))
    tests = faults.knobs.map(lambda knobs: knobs.get("test")) if len(faults) else faults.knobs
    faults = faults.assign(test=tests).drop_duplicates(["what", "test"], keep="last")
    rows = [
        _part("Broken inputs", inputs, "inputs", "fuzz_executions", "fuzz_mishandled", "mishandled"),
        _part("Injected faults", faults, "faults", "faults_injected", None, "not survived"),
        _part("Finished work lost to faults", faults, "faults", "fault_bytes_lost", None, "", size),
        _part("Queries under sustained load", soaks, "soaks", "soak_queries", "soak_wrong", "changed answers"),
        _part("Minutes of sustained load", soaks, "soaks", "soak_minutes", None, ""),
        _part("Largest growth of memory in an hour", soaks, "soaks", "soak_growth_private", None, "", size, max),
    ]  # fmt: skip
    if not (grown := rows[-1])["tried"].missing:
        grown["of"] = Cell(soaks.engine[soaks.soak_growth_private.idxmax()])
    injected, survived = (_total(faults, f"faults_{what}") for what in ("injected", "survived"))
    if not injected.missing and not survived.missing:
        rows[1]["wrong"] = Cell(injected.value - survived.value, points=survived.points)
    columns = (
        Column("what", "Tried"),
        Column("tried", "Amount", integer),
        Column("wrong", "Went wrong", integer),
        Column("of", "That is"),
        Column("command", "Command"),
    )
    notes = ("Mishandled: a traceback, a hang, a crash or wrong values in place of a one-line error.",)
    return Table("reliability", "Reliability", columns, rows, notes)


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per point, oldest first, with metrics as columns and parsed knobs."""
    if rows.empty:
        return pd.DataFrame(columns=["point_id", "knobs"])
    values = rows[rows.metric != ""].pivot(index="point_id", columns="metric", values="value")
    about = rows.drop_duplicates("point_id").set_index("point_id")[["engine", "knobs", "started"]]
    knobs = about.knobs.map(lambda text: found if isinstance(found := parsed(text), dict) else {})
    return about.assign(knobs=knobs).join(values).sort_values(["started", "engine"]).reset_index()


def _of(points: pd.DataFrame, knob: str) -> pd.DataFrame:
    """Points that have a knob, as column `what`."""
    what = points.knobs.map(lambda knobs: knobs.get(knob))
    return points.assign(what=what)[what.notna()]


def _part(what, found, part, tried, wrong, problem, written=None, over=sum) -> dict[str, Cell]:
    cells = {
        "tried": _total(found, tried, over, written),
        "wrong": _total(found, wrong) if wrong else Cell(NOT_APPLICABLE),
    }
    said = {"what": Cell(what), "of": Cell(problem or NOT_APPLICABLE), "command": Cell(RUN[part])}
    return said | cells


def _total(found: pd.DataFrame, metric: str, over=sum, written=None) -> Cell:
    values: Iterable[float] = found[metric].dropna() if metric in found else ()
    if not len(values):
        return Cell(missing=NOT_MEASURED)
    return Cell(float(over(values)), points=tuple(found.point_id), format=written)


# --- machines, versions, definitions, commands


def _machines(evidence: Evidence) -> Table:
    rows = [
        {
            "machine": Cell(machine_id or "unknown"),
            "what": Cell(machine_of(group)),
            "points": Cell(int(group.point_id.nunique())),
        }
        for machine_id, group in evidence.rows.groupby("machine_id")
    ]
    columns = (
        Column("machine", "Machine"),
        Column("what", "Processor, memory, GPU"),
        Column("points", "Points measured", integer),
    )
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
    better, rows = {"higher": "higher", "lower": "lower", "": NOT_APPLICABLE}, []
    for name in sorted(set(evidence.rows.metric) - {""}):
        if metric := limits.metric(name):
            cells = {"label": Cell(metric.label), "better": Cell(better[metric.direction]), "unit": Cell(metric.unit)}
            rows.append({"name": Cell(name), "definition": Cell(metric.definition)} | cells)
    labels = {"name": "Metric", "label": "Label", "unit": "Unit", "better": "Better", "definition": "Definition"}
    return Table("metrics", "Definitions of the metrics", tuple(Column(*one) for one in labels.items()), rows)


def _commands(evidence: Evidence) -> Table:
    """The commands behind the rows of each model, each once, training first."""
    order, rows = {"training": 0, "encoding": 1, "index": 2, "retrieval": 3}, []
    for variant in [*evidence.variants, *sorted(set(evidence.rows.variant) - {*evidence.variants, ""})]:
        mine = evidence.rows[(evidence.rows.variant == variant) & (evidence.rows.command != "")]
        mine = mine.assign(order=mine.task.map(order).fillna(9)).sort_values(["order", "seed", "started"])
        for command, group in mine.groupby("command", sort=False):
            seconds = group.drop_duplicates("point_id").seconds.sum(min_count=1)
            cells = {
                "variant": Cell(variant),
                "tasks": Cell(", ".join(dict.fromkeys(group.task))),
                "command": Cell(command),
            }
            cells["seconds"] = Cell(missing="not recorded") if seconds != seconds else Cell(float(seconds))
            rows.append(cells)
        if mine.empty:
            rows.append({"variant": Cell(variant), "command": Cell(missing="not recorded")})
    columns = (
        Column("variant", "Model"),
        Column("tasks", "Tasks"),
        Column("seconds", "Seconds", significant),
        Column("command", "Command"),
    )
    return Table("commands", "Commands that reproduce the rows", columns, rows)
