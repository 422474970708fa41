"""The first page: reference against baseline, losses first; which parts matter; limits of the records."""

from reports.findings import answer, comparisons
from reports.findings.verdict import LOSES, OPEN, ORDER, WINS
from reports.pages import Section, limits
from reports.pages.ablations import table as ablations
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer, percent, points

WORDS = {LOSES: "loses", OPEN: "open", WINS: "wins"}


def section(evidence: Evidence) -> Section:
    found = answer.findings(evidence)
    data = {
        "counts": {verdict: sum(one.verdict == verdict for one in found) for verdict in ORDER},
        "tiles": [one for one in found if one.headline],
        "missing": limits.not_measured(evidence),
        "caveats": limits.caveats(evidence),
    }
    tables = [table(evidence, found), parts(evidence), *words(evidence)]
    return Section("answer", "The answer", tables=tables, data=data)


def table(evidence: Evidence, found: list[answer.Finding]) -> Table:
    """One row for each comparison, losses first."""
    r = evidence.reading
    rows = [
        {
            "what": Cell(one.what), "over": Cell(one.over or "–"), "verdict": Cell(WORDS[one.verdict]),
            "reference": one.reference, "baseline": one.baseline, "difference": one.difference, "how": Cell(one.how),
        }
        for one in found
    ]  # fmt: skip
    columns = (
        Column("what", "Compared"),
        Column("verdict", f"Verdict for {r.reference}"),
        Column("difference", "Difference, points or times"),
        Column("reference", r.reference),
        Column("baseline", r.baseline),
        Column("over", "Gallery"),
        Column("how", "Searched by"),
    )
    notes = (
        "Shares in %: difference in points with its 95% interval, paired by query and seed. Rates and sizes: how many "
        f"times better {r.reference} is; below 1× it is worse. They have no interval; within 5% they count as equal.",
        "At equal R@1: the fastest, or smallest, search of each side at the highest R@1 that both sides reach. "
        "Worst top-k: each top-k against the fastest dense search of equal R@1, or the smallest store; lowest ratio.",
    )
    return Table("answer", f"{r.reference} against {r.baseline}, losses first", columns, rows, notes)


def parts(evidence: Evidence) -> Table:
    """Differences of the ablations to the reference: significant gains of an ablation first, then its losses."""
    reference, tests = evidence.reading.reference, comparisons.tests(evidence)
    minus, rows = f"Minus {reference}, points", []
    for variant in comparisons.ablations(evidence):
        mine = [test for metric in comparisons.TESTED if (test := tests.get((variant, metric)))]
        clear = [test.estimate.value for test in mine if test.significant]
        group = 3 if not mine else 2 if not clear else 1 if min(clear) < 0 else 0
        cells = {metric: comparisons.difference_cell(evidence, variant, metric) for metric in comparisons.TESTED}
        rows.append((group, -abs(mine[0].estimate.value) if mine else 0.0, variant, cells))
    made = [
        {"variant": Cell(variant), "seeds": Cell(len(evidence.seeds(variant)))} | cells
        for *_, variant, cells in sorted(rows, key=lambda row: row[:3])
    ]
    columns = (
        Column("variant", "Ablation"),
        Column("seeds", "Seeds", integer),
        *(Column(metric, metric.replace("recall", "R"), points, minus) for metric in comparisons.TESTED),
    )
    notes = (
        f"{comparisons.SIGNIFICANT} significant after Holm's correction; detects: the least difference that the test "
        "finds with a probability of 80%. Nothing is tested with fewer than three seeds.",
    )
    return Table("answer_parts", f"Ablations against {reference}, those better than it first", columns, made, notes)


def words(evidence: Evidence) -> list[Table]:
    """R@1 of every variant beside the measures of words; no table without any measurement of them."""
    r1 = Column("recall@1", "R@1, text to image, %", percent)
    columns = (Column("variant", "Variant"), Column("seeds", "Seeds", integer), r1)
    rows = [
        {
            "variant": Cell(variant),
            "seeds": Cell(len(evidence.seeds(variant))),
            r1.key: evidence.cell(variant, r1.key, **evidence.retrieval() | evidence.operating_point(variant)),
        }
        | ablations.word_cells(evidence, variant)
        for variant in evidence.variants
    ]
    notes = (
        "Words of an image's captions: the share of its weight on them, and of images whose strongest lexicon is one. "
        "Typed words: the caption's words as the query, without the text encoder. Dense vectors have no words.",
    )
    words = tuple(ablations.word_columns(evidence.reading))
    made = Table("answer_words", "R@1 beside the words of an image", (*columns, *words), rows, notes)
    made = made.measured(ablations.WORDS)
    return [made] if len(made.columns) > len(columns) else []
