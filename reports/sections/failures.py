"""Where the two models disagree most, chosen by rule: the largest differences of rank, both ways."""

import math

import pandas as pd

from reports.evidence import Evidence
from reports.sections import Section, retrieved
from reports.tables import Cell, Column, Table, integer

SHOWN = 5  # each way
NOT_KEPT = "not kept with the records"


def section(evidence: Evidence) -> Section:
    r = evidence.reading
    sides = {name: _ranks(evidence, name) for name in (r.reference, r.baseline)}
    missing = [name for name, found in sides.items() if found is None]
    if missing:
        return Section("failures", "Where they disagree most", data={"missing": missing, "tables": [], "kept": len(_texts(evidence))})
    (ours, depth), (theirs, other_depth) = sides.values()
    paired = ours.merge(theirs[["query_id", "first"]], on="query_id", suffixes=("", "_baseline"))
    paired = paired.assign(gap=_finite(paired["first"], depth) - _finite(paired["first_baseline"], other_depth))
    texts = _texts(evidence)
    kept = int(paired.query_id.isin(texts).sum())
    made = [
        _table(evidence, "failures_reference", f"{r.reference} ranks the right picture lower than {r.baseline}", paired, texts, -1),
        _table(evidence, "failures_baseline", f"{r.baseline} ranks the right picture lower than {r.reference}", paired, texts, 1),
    ]
    hit, hit_baseline = paired["first"] <= 1, paired["first_baseline"] <= 1
    counts = {
        "both": int((hit & hit_baseline).sum()), "reference": int((hit & ~hit_baseline).sum()), "baseline": int((~hit & hit_baseline).sum()),
        "neither": int((~hit & ~hit_baseline).sum()),
    }  # fmt: skip
    data = {
        "missing": [],
        "tables": [one.name for one in made if one.rows],
        "counts": counts,
        "queries": len(paired),
        "kept": kept,
    }
    return Section("failures", "Where they disagree most", tables=[one for one in made if one.rows], data=data)


def _ranks(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, float] | None:
    """The first ranks of the lowest seed at the operating point, and how many results were asked for; None where they were not kept."""
    for row in evidence.measured(variant, "recall@1", **evidence.retrieval(), **evidence.operating_point(variant)).itertuples():
        queries = evidence.queries(row.point_id)
        if queries is not None and "first" in queries:
            return queries.assign(query_id=queries.query_id.astype(str)), row.depth
    return None


def _finite(first: pd.Series, depth: float) -> pd.Series:
    """A picture that was not retrieved stands just below the last that was."""
    last = depth if depth == depth else first[first < math.inf].max()
    return first.where(first < math.inf, last + 1).astype(float)


def _texts(evidence: Evidence) -> dict[str, str]:
    """Query id -> caption, of the queries whose results were kept."""
    r = evidence.reading
    found = [retrieved.examples_of(evidence, name) for name in (r.reference, r.baseline)]
    return {str(row.query_id): str(row.query) for examples in found if examples for row in examples[0].itertuples()}


def _table(evidence: Evidence, name: str, caption: str, paired: pd.DataFrame, texts: dict[str, str], sign: int) -> Table:
    r = evidence.reading
    worst = paired.assign(order=sign * paired.gap).sort_values(["order", "query_id"])
    worst = worst[worst.order < 0].head(SHOWN)
    rows = [
        {
            "query": Cell(row.query_id), "image": Cell(str(row.group)), "text": Cell(texts[row.query_id]) if row.query_id in texts else Cell(missing=NOT_KEPT),
            "reference": _rank(row.first), "baseline": _rank(row.first_baseline), "gap": Cell(abs(row.gap)),
        }
        for row in worst.itertuples()
    ]  # fmt: skip
    columns = (
        Column("query", "Query"), Column("text", "Caption"), Column("image", "Its picture"), Column("reference", r.reference, integer, "Rank of the right picture"),
        Column("baseline", r.baseline, integer, "Rank of the right picture"), Column("gap", "Ranks apart", integer),
    )  # fmt: skip
    return Table(name, f"{caption}: the {len(rows)} largest differences", columns, rows)


def _rank(first: float) -> Cell:
    return Cell(missing="not retrieved") if math.isinf(first) else Cell(float(first))
