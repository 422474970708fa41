"""What changed between two sets of records: two commits, two machines, two runs.

    lexlip-bench compare runs-before runs
    lexlip-bench compare results/reference runs --fail-on quality,size     # for CI: exit code 1 on a regression
    lexlip-bench compare A B --out changes                                 # all of it, as Markdown and CSV

A and B are homes, folders of records or bundles. Quality is judged by an exact paired test over the queries, corrected over all comparisons; sizes of
files against a tolerance; rates, times and memory are shown, and fail nothing. `reports.findings.changes` says how points are matched.
The test is over queries: it says that these two models answer them differently, not that another training would. Compare several seeds for that.
"""

import statistics
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.store import cli
from bench.tasks.metrics import METRICS
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
from reports.render.tables import Cell, Column, Table, clean, integer, is_number, percent, points, significant, times

REGRESSION = 1  # exit code
MISSING = "missing"
LOOKED_AT = (WORSE, BETTER, ONLY_A, ONLY_B)
MOST_PRINTED = 20  # rows of a table
TITLES = {QUALITY: "Quality", SIZE: "Sizes of files", SPEED: "Speed and memory", OTHER: "All else"}


def sides(a: Evidence, b: Evidence) -> list[str]:
    """What A and B are, a line each."""
    return [f"{name}: {_described(evidence)}" for name, evidence in (("A", a), ("B", b))]


def summary(found: list[Change], tolerance: float) -> list[str]:
    """A sentence for each kind of metric, and what was left out."""
    of = {kind: Counter(change.verdict for change in found if change.kind == kind and change.metric) for kind in TITLES}
    said, quality, size = [], of[QUALITY], of[SIZE]
    differ = sum(change.p is not None for change in found)
    judged = {
        kind: f"{of[kind][BETTER]} better, {of[kind][WORSE]} worse, {of[kind][SAME]} the same"
        for kind in (QUALITY, SIZE)
    }
    untested = (
        f"; {quality[NOT_JUDGED]} differ and were not judged, having no results of each query"
        if quality[NOT_JUDGED]
        else ""
    )
    said.append(f"Quality: {judged[QUALITY]} (of these {differ} differ in some query, and were tested){untested}.")
    said.append(f"Sizes of files: {judged[SIZE]} (within {100 * tolerance:g} %).")
    if size[OTHER_DATA] + quality[OTHER_DATA]:
        said.append(
            f"{size[OTHER_DATA] + quality[OTHER_DATA]} qualities and sizes are of other data and were not compared."
        )
    ratios = [
        change.ratio for change in found if change.kind == SPEED and change.verdict == NOT_JUDGED and change.ratio
    ]
    if ratios:
        spread = f"{times(min(ratios))} to {times(max(ratios))}, median {times(statistics.median(ratios))}"
        said.append(
            f"Speed and memory on the same machine: {len(ratios)} ratios of B to A, {spread}; shown, not judged."
        )
    if apart := of[SPEED][OTHER_MACHINE]:
        said.append(f"{apart} rates, times and amounts of memory are of different machines and were not compared.")
    for verdict in (ONLY_A, ONLY_B):
        whole = [change for change in found if change.verdict == verdict and not change.metric]
        if whole or any(counts[verdict] for counts in of.values()):
            ended = sum(bool(change.why) for change in whole)
            how = f", {ended} of them ended badly on one side" if ended else ""
            parts = sum(counts[verdict] for counts in of.values())
            said.append(f"Only in {verdict[-1]}: {len(whole)} points{how}; {parts} metrics of points of both.")
    return said


def tables(found: list[Change], tolerance: float, level: float) -> list[Table]:
    """A table for each kind of metric, and one of the points that only one side has."""
    made = []
    for kind, title in TITLES.items():
        of_kind = [change for change in found if change.kind == kind and change.metric]
        share = kind == QUALITY
        value = percent if share else significant
        columns = (
            Column("what", "Measured"), Column("metric", "Metric, %" if share else "Metric"), Column("a", "A", value), Column("b", "B", value),
            Column("change", "B − A, points" if share else "B / A", points if share else times), Column("p", "p (Holm)", _p), Column("verdict", "B is"),
            Column("why", "Noted"),
        )  # fmt: skip
        columns = tuple(column for column in columns if share or column.key != "p")
        made.append(
            Table(
                f"compare_{kind}", title, columns, [_row(change) for change in of_kind], _notes(kind, tolerance, level)
            )
        )
    whole = [change for change in found if not change.metric]
    columns = (Column("what", "Measured"), Column("verdict", "Is"), Column("why", "Ended"))
    rows = [
        {"what": Cell(change.what), "verdict": Cell(change.verdict), "why": Cell(change.why), "points": change.points}
        for change in whole
    ]
    return [*made, Table("compare_only", "Points of one side only", columns, rows)]


def regressions(found: list[Change], kinds: set[str]) -> list[Change]:
    """What fails: worse quality, larger files, points of A that B does not have, as `kinds` says."""
    worse = [change for change in found if change.verdict == WORSE and change.kind in kinds]
    return worse + [change for change in found if MISSING in kinds and change.verdict == ONLY_A]


def _row(change: Change) -> dict[str, Cell]:
    known = METRICS.get(change.metric)
    cells = {
        "what": Cell(change.what),
        "metric": Cell(
            (known.label if known else change.metric)
            + (f" ({known.unit})" if known and known.unit not in ("", "share") else "")
        ),
        "verdict": Cell(change.verdict),
        "why": Cell(
            change.why or "; ".join(f"{side}: {note}" for side, note in zip("AB", change.notes, strict=True) if note)
        ),
    }
    for side, value in (("a", change.a), ("b", change.b)):
        cells[side] = Cell(missing="–") if value is None else Cell(value, points=change.points)
    e = change.difference
    if e is not None:
        n = f"{e.queries:,} queries of {e.groups:,} images"
        cells["change"] = Cell(e.value, e.low, e.high, n=n, points=change.points)
        cells["p"] = Cell("–") if change.p is None else Cell(change.p, points=change.points)
    elif change.kind == QUALITY:
        cells["change"] = (
            Cell(change.b - change.a, points=change.points) if change.verdict in (SAME, NOT_JUDGED) else Cell("–")
        )
        cells["p"] = Cell("–")
    else:
        cells["change"] = Cell("–") if change.ratio is None else Cell(change.ratio, points=change.points)
    return cells


def _notes(kind: str, tolerance: float, level: float) -> tuple[str, ...]:
    return {
        QUALITY: (
            f"Better, worse: significant at {level:g} by an exact paired test over the images' queries, after Holm's correction over all comparisons in which "
            "any query differs. Same: no more than chance would do. Not judged: the results of each query are not in the records, or not of the same queries. "
            "Intervals are 95% intervals of one comparison. The test is over queries: another training could differ by as much; compare several seeds for that.",
        ),
        SIZE: (f"Same: within {100 * tolerance:g} %.",),
        SPEED: ("Never judged: how far repeated rounds of one machine lie apart stands in the last column, where it was recorded; between machines there is no ratio.",),
        OTHER: ("Neither a quality nor a size; shown, and not judged.",),
    }[kind]  # fmt: skip


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _described(evidence: Evidence) -> str:
    rows = evidence.all
    commits = sorted(
        {commit[:12] + ("+changes" if commit.endswith("+changes") else "") for commit in rows.git_commit if commit}
    )
    machines = sorted(
        {
            f"{row.cpu or 'unknown CPU'}, {integer(row.cores)} cores, {integer(row.memory_gb)} GiB{f', {row.gpu}' if row.gpu else ''}"
            for row in rows.drop_duplicates(["machine_id"]).itertuples()
        }
    )
    return clean(
        f"{evidence.store.folder}: {rows.point_id.nunique():,} points, commit {', '.join(commits) or 'unknown'}, {'; '.join(machines)}"
    )


def _printed(table: Table, everything: bool) -> str:
    """The rows worth a look, the worst first, or all, as plain text; "" where there are none."""
    shown = table.rows
    if not everything:
        shown = sorted(
            (row for row in shown if row["verdict"].value in LOOKED_AT),
            key=lambda row: (
                LOOKED_AT.index(row["verdict"].value),
                row["p"].value if "p" in row and is_number(row["p"]) else 0.0,
            ),
        )
    if not shown:
        return ""
    more = 0 if everything else max(0, len(shown) - MOST_PRINTED)
    part = replace(table, rows=shown[: len(shown) - more])
    rest = f"\n... and {more} more: --all prints them, --out writes them" if more else ""
    return f"\n{table.caption}\n{pd.DataFrame(part.texts(), columns=part.headings()).to_string(index=False)}{rest}"


def _write(folder: Path, lines: list[str], made: list[Table]) -> None:
    """compare.md with everything, and each table as CSV."""
    with atomic_folder(folder) as partial:
        text = (
            "# What changed\n\n"
            + "\n".join(f"- {clean(line)}" for line in lines)
            + "\n\n"
            + "\n".join(table.to_markdown() for table in made)
        )
        (partial / "compare.md").write_text(text, encoding="utf-8")
        for table in made:
            (partial / f"{table.name}.csv").write_text(table.to_csv(), encoding="utf-8")


def main(arguments) -> None:
    kinds = {kind for kind in arguments.fail_on.split(",") if kind}
    if unknown := sorted(kinds - {QUALITY, SIZE, MISSING}):
        raise InputError(
            f"--fail-on: unknown kind '{unknown[0]}'; expected {QUALITY}, {SIZE} or {MISSING}, separated by commas"
        )
    if not arguments.tolerance >= 0 or not 0 < arguments.level < 1:
        raise InputError("expected a --tolerance of at least 0 and a --level between 0 and 1")
    both = [Evidence(open_records(folder)) for folder in (arguments.a, arguments.b)]
    found = changes(*both, arguments.tolerance, arguments.level)
    if not any(change.a is not None and change.b is not None for change in found):
        raise InputError(f"{arguments.a} and {arguments.b} have no measured point in common: nothing can be compared")
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
    flags = cli.parser(
        "What changed between two sets of records, with a test. Exit code 1 on a regression that --fail-on names, 2 for bad input."
    )
    flags.add_argument("a", type=Path, metavar="A", help="the records before: a home, a folder of records, or a bundle")
    flags.add_argument("b", type=Path, metavar="B", help="the records after")
    flags.add_argument(
        "--fail-on", default="", help="kinds of regression that fail, separated by commas: quality, size, missing"
    )
    flags.add_argument(
        "--tolerance",
        type=float,
        default=EQUAL_RATIO,
        help="share by which a file may grow or shrink and count as the same",
    )
    flags.add_argument("--level", type=float, default=0.05, help="chance of any false alarm over all tests of quality")
    flags.add_argument(
        "--out", type=Path, help="folder to write with everything, as Markdown and CSV; what stands there is replaced"
    )
    flags.add_argument(
        "--all", action="store_true", help="print every row, not only what is better, worse or on one side only"
    )
    return flags
