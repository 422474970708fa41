"""Compares two sets of records: two commits, two machines, two runs.

    lexlip-bench compare runs-before runs
    lexlip-bench compare results/reference runs --fail-on quality,size     # for CI: exit code 1 on a regression
    lexlip-bench compare A B --out changes                                 # everything, as Markdown and CSV

A and B are homes, folders of records or bundles. Quality is judged by an exact paired test over the queries, with
Holm's correction over all comparisons; sizes of files by a tolerance. Rates, times and memory are shown but not judged.
`reports.findings.changes` describes how points are matched. The test is over queries: it shows that two models answer
them differently, not that another training would. Compare several seeds for that.
"""

import statistics
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.store import cli
from bench.store.metrics import METRICS
from models.errors import InputError
from models.files import atomic_folder
from reports.findings.changes import (
    BETTER,
    NOT_JUDGED,
    ONLY_A,
    ONLY_B,
    OTHER,
    OTHER_DATA,
    OTHER_MACHINE,
    QUALITY,
    SAME,
    SIZE,
    SPEED,
    WORSE,
    Change,
    changes,
)
from reports.findings.verdict import EQUAL_RATIO
from reports.records.bundle import open_records
from reports.records.evidence import Evidence
from reports.records.sweep import machine_of
from reports.render.tables import (
    NOT_APPLICABLE,
    Cell,
    Column,
    Table,
    clean,
    is_number,
    p_value,
    percent,
    points,
    significant,
    times,
)

REGRESSION = 1  # exit code
MISSING = "missing"
VERDICTS = (BETTER, WORSE, SAME, NOT_JUDGED)
PRINTED = (WORSE, BETTER, ONLY_A, ONLY_B)
MOST_PRINTED = 20  # rows of a table on the terminal
TITLES = {QUALITY: "Quality", SIZE: "Sizes of files", SPEED: "Speed and memory", OTHER: "Other metrics"}


def sides(a: Evidence, b: Evidence) -> list[str]:
    """Folder, points, commits and machines of A and B, one line each."""
    return [f"{name}: {_described(evidence)}" for name, evidence in (("A", a), ("B", b))]


def summary(found: list[Change], tolerance: float) -> list[str]:
    """Counts of the verdicts of each kind of metric, and of what was left out."""
    of = {kind: Counter(change.verdict for change in found if change.kind == kind and change.metric) for kind in TITLES}
    tested = sum(change.p is not None for change in found)
    counts = {kind: ", ".join(f"{of[kind][verdict]} {verdict}" for verdict in VERDICTS) for kind in (QUALITY, SIZE)}
    lines = [
        f"Quality: {counts[QUALITY]}; {tested} tested.",
        f"Sizes of files (tolerance {100 * tolerance:g} %): {counts[SIZE]}.",
    ]
    if other := of[SIZE][OTHER_DATA] + of[QUALITY][OTHER_DATA]:
        lines.append(f"Of other data, not compared: {other} qualities and sizes.")
    speeds = [one for one in found if one.kind == SPEED and one.verdict == NOT_JUDGED and one.ratio]
    if ratios := [one.ratio for one in speeds]:
        spread = f"{times(min(ratios))} to {times(max(ratios))}, median {times(statistics.median(ratios))}"
        lines.append(f"Speed and memory on the same machine, not judged: {len(ratios)} ratios of B to A, {spread}.")
    if other := of[SPEED][OTHER_MACHINE]:
        lines.append(f"Of different machines, not compared: {other} rates, times and amounts of memory.")
    for verdict in (ONLY_A, ONLY_B):
        points = [change for change in found if change.verdict == verdict and not change.metric]
        metrics = sum(counts[verdict] for counts in of.values())
        if points or metrics:
            failed = sum(bool(change.why) for change in points)
            lines.append(
                f"Only in {verdict[-1]}: {len(points)} points ({failed} failed on one side), and {metrics} metrics of "
                "shared points."
            )
    return lines


def tables(found: list[Change], tolerance: float, level: float) -> list[Table]:
    """A table for each kind of metric, and one of the points of one side only."""
    made = []
    for kind, title in TITLES.items():
        share = kind == QUALITY
        value = percent if share else significant
        change = Column("change", "B − A, points" if share else "B / A", points if share else times)
        columns = (
            Column("what", "Measured"),
            Column("metric", "Metric, %" if share else "Metric"),
            Column("a", "A", value),
            Column("b", "B", value),
            change,
            *([Column("p", "p (Holm)", p_value)] if share else []),
            Column("verdict", "B is"),
            Column("why", "Note"),
        )
        rows = [_row(change) for change in found if change.kind == kind and change.metric]
        made.append(Table(f"compare_{kind}", title, columns, rows, _notes(kind, tolerance, level)))
    columns = (Column("what", "Measured"), Column("verdict", "Is"), Column("why", "Ended"))
    rows = [
        {"what": Cell(change.what), "verdict": Cell(change.verdict), "why": Cell(change.why)}
        for change in found
        if not change.metric
    ]
    return [*made, Table("compare_only", "Points of one side only", columns, rows)]


def regressions(found: list[Change], kinds: set[str]) -> list[Change]:
    """Changes that fail: worse quality, larger files and points missing in B, if `kinds` names them."""
    worse = [change for change in found if change.verdict == WORSE and change.kind in kinds]
    return worse + [change for change in found if MISSING in kinds and change.verdict == ONLY_A]


def _row(change: Change) -> dict[str, Cell]:
    known, e = METRICS.get(change.metric), change.difference
    label = known.label if known else change.metric
    unit = f" ({known.unit})" if known and known.unit not in ("", "share") else ""
    notes = "; ".join(f"{side}: {note}" for side, note in zip("AB", change.notes, strict=True) if note)
    cells = {"what": Cell(change.what), "metric": Cell(label + unit)}
    cells |= {"verdict": Cell(change.verdict), "why": Cell(change.why or notes)}
    for side, value in (("a", change.a), ("b", change.b)):
        cells[side] = Cell(missing=NOT_APPLICABLE) if value is None else Cell(value, points=change.points)
    number = change.ratio
    if change.kind == QUALITY:
        number = change.b - change.a if change.verdict in (SAME, NOT_JUDGED) else None
    cells["change"] = Cell(NOT_APPLICABLE) if number is None else Cell(number, points=change.points)
    if e is not None:
        n = f"{e.queries:,} queries of {e.groups:,} images"
        cells["change"] = Cell(e.value, e.low, e.high, n=n, points=change.points)
    if change.kind == QUALITY:
        cells["p"] = Cell(NOT_APPLICABLE) if change.p is None else Cell(change.p, points=change.points)
    return cells


def _notes(kind: str, tolerance: float, level: float) -> tuple[str, ...]:
    judged = (
        f"Better, worse: significant at {level:g} by an exact paired test over queries grouped by image, after Holm's "
        "correction over all comparisons in which any query differs. Not judged: no per-query results of shared "
        "queries. Intervals: 95%, of one comparison. Another training may differ by as much: compare several seeds."
    )
    return {
        QUALITY: (judged,),
        SIZE: (f"Same: within {100 * tolerance:g} %.",),
        SPEED: ("Not judged. Note: spread of the rounds, if recorded. No ratio between machines.",),
        OTHER: ("Neither a quality nor a size; not judged.",),
    }[kind]


def _described(evidence: Evidence) -> str:
    rows = evidence.all
    dirty = "+changes"
    commits = {commit[:12] + (dirty if commit.endswith(dirty) else "") for commit in rows.git_commit if commit}
    machines = sorted({machine_of(of_machine) for _, of_machine in rows.groupby("machine_id")})
    size = f"{rows.point_id.nunique():,} points, commit {', '.join(sorted(commits)) or 'unknown'}"
    return clean(f"{evidence.store.folder}: {size}, {'; '.join(machines)}")


def _printed(table: Table, everything: bool) -> str:
    """Rows as plain text, or only those with a verdict in `PRINTED`, worst first; "" if there are none."""
    shown = table.rows
    if not everything:
        p = lambda row: row["p"].value if "p" in row and is_number(row["p"]) else 0.0  # noqa: E731
        shown = [row for row in shown if row["verdict"].value in PRINTED]
        shown.sort(key=lambda row: (PRINTED.index(row["verdict"].value), p(row)))
    if not shown:
        return ""
    more = 0 if everything else max(0, len(shown) - MOST_PRINTED)
    part = replace(table, rows=shown[: len(shown) - more])
    rest = f"\n... and {more} more: --all prints them, --out writes them" if more else ""
    return f"\n{table.caption}\n{pd.DataFrame(part.texts(), columns=part.headings()).to_string(index=False)}{rest}"


def _write(folder: Path, lines: list[str], made: list[Table]) -> None:
    """Writes compare.md with everything, and each table as CSV."""
    listed = "\n".join(f"- {clean(line)}" for line in lines)
    with atomic_folder(folder) as partial:
        text = "\n\n".join(["# Changes", listed, "\n".join(table.to_markdown() for table in made)])
        (partial / "compare.md").write_text(text, encoding="utf-8")
        for table in made:
            (partial / f"{table.name}.csv").write_text(table.to_csv(), encoding="utf-8")


def main(arguments) -> None:
    """`lexlip-bench compare`; exits with 1 on a regression that `--fail-on` names."""
    kinds = {kind for kind in arguments.fail_on.split(",") if kind}
    if unknown := sorted(kinds - {QUALITY, SIZE, MISSING}):
        raise InputError(f"--fail-on: unknown kind '{unknown[0]}'; expected {QUALITY}, {SIZE} or {MISSING}")
    if not arguments.tolerance >= 0 or not 0 < arguments.level < 1:
        raise InputError("expected a --tolerance of at least 0 and a --level between 0 and 1")
    both = [Evidence(open_records(folder)) for folder in (arguments.a, arguments.b)]
    found = changes(*both, arguments.tolerance, arguments.level)
    if not any(change.a is not None and change.b is not None for change in found):
        raise InputError(f"{arguments.a} and {arguments.b} have no measured point in common")
    lines = [*sides(*both), *summary(found, arguments.tolerance)]
    made = tables(found, arguments.tolerance, arguments.level)
    print("\n".join(lines))
    for table in made:
        if text := _printed(table, arguments.all):
            print(text)
    if arguments.out:
        _write(arguments.out, lines, made)
    if failed := regressions(found, kinds):
        print(f"\nRegression: {len(failed)} of {', '.join(sorted(kinds))}")
        sys.exit(REGRESSION)


def parser():
    """Flags of `lexlip-bench compare`."""
    flags = cli.parser("Compares two sets of records. Exit code 1 on a regression that --fail-on names.")
    flags.add_argument("a", type=Path, metavar="A", help="records before: a home, a folder of records or a bundle")
    flags.add_argument("b", type=Path, metavar="B", help="records after")
    kinds = "kinds of regression that fail, separated by commas: quality, size, missing"
    flags.add_argument("--fail-on", default="", help=kinds)
    flags.add_argument("--tolerance", type=float, default=EQUAL_RATIO, help="share by which a file size may differ")
    flags.add_argument("--level", type=float, default=0.05, help="significance level over all tests of quality")
    flags.add_argument("--out", type=Path, help="folder for all tables as Markdown and CSV; its contents are replaced")
    everything = "print every row, not only those that are better, worse or of one side only"
    flags.add_argument("--all", action="store_true", help=everything)
    return flags
