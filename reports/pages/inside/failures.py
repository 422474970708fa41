"""Where the two models disagree most, chosen by rule (`bench.tasks.rank_gap`): the largest differences of rank, both ways, with what each put first."""

import math

import pandas as pd

from bench.store.records import EXAMPLES_SCHEMA
from bench.tasks.rank_gap import RANK_GAP, SHOWN, furthest, paired
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.pictures import examples_of, picture
from reports.render.tables import Cell, Column, Table, integer

NOT_KEPT = "not kept with the records"
NOT_RETRIEVED = "not retrieved"


def section(evidence: Evidence) -> Section:
    r = evidence.reading
    names = (r.reference, r.baseline)
    sides = {name: _ranks(evidence, name) for name in names}
    missing = [name for name, found in sides.items() if found is None]
    if missing:
        return Section("failures", "Where they disagree most", data={"missing": missing})
    (ours, depth), (theirs, other_depth) = sides.values()
    both = paired(ours, theirs, depth, other_depth)
    examples = {name: _examples(evidence, name) for name in names}
    texts = {row.query_id: str(row.query) for found in examples.values() for row in found.itertuples()}
    ways = []
    for key, lower, other in (("reference", *names), ("baseline", *reversed(names))):
        worst = furthest(both, lower == r.reference)
        if len(worst):
            caption = f"{lower} ranks the right picture lower than {other}: the {len(worst)} largest differences"
            ways.append((_table(evidence, f"failures_{key}", caption, worst, texts), _cases(worst, examples, texts)))
    cases = [case for _, of_way in ways for case in of_way]
    hit, hit_baseline = both["first"] <= 1, both["first_baseline"] <= 1
    counts = {
        "both": int((hit & hit_baseline).sum()), "reference": int((hit & ~hit_baseline).sum()), "baseline": int((~hit & hit_baseline).sum()),
        "neither": int((~hit & ~hit_baseline).sum()),
    }  # fmt: skip
    data = {
        "missing": [],
        "ways": [{"table": table.name, "cases": of_way} for table, of_way in ways],
        "counts": counts,
        "queries": len(both),
        "shown": SHOWN,
        "without": sum(not case["pictures"] for case in cases),
        "cases": len(cases),
        "heated": sum(bool(shown["heat_maps"]) for case in cases for shown in case["pictures"]),
        "lexicon": [name for name in names if evidence.kinds.get(name) == "lexicon"],
    }
    return Section("failures", "Where they disagree most", tables=[table for table, _ in ways], data=data)


def _ranks(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, float] | None:
    """The first ranks of the lowest seed at the operating point, and how many results were asked for; None where they were not kept."""
    for row in evidence.measured(
        variant, "recall@1", **evidence.retrieval(), **evidence.operating_point(variant)
    ).itertuples():
        queries = evidence.queries(row.point_id)
        if queries is not None and "first" in queries:
            return queries.assign(query_id=queries.query_id.astype(str)), row.depth
    return None


def _examples(evidence: Evidence, variant: str) -> pd.DataFrame:
    """All examples that were kept; none is a table without rows."""
    found = examples_of(evidence, variant)
    return pd.DataFrame(columns=EXAMPLES_SCHEMA.names) if found is None else found[0]


def _cases(worst: pd.DataFrame, examples: dict[str, pd.DataFrame], texts: dict[str, str]) -> list[dict]:
    """Of each query its caption, and its pictures: the right one, and what each model put first. Without pictures where they were not kept."""
    cases = []
    for row in worst.itertuples():
        mine = {
            name: found[(found.chosen == RANK_GAP) & (found.query_id == row.query_id)]
            for name, found in examples.items()
        }
        right = [item for found in mine.values() for item in found.itertuples() if item.relevant]
        first = {
            name: item for name, found in mine.items() for item in found[found["rank"].eq(1).fillna(False)].itertuples()
        }  # null: not retrieved
        ranks = [(name, _rank(rank)) for name, rank in zip(examples, (row.first, row.first_baseline), strict=True)]
        pictures = [{"label": "The right picture", "ranks": ranks} | picture(right[0])] if right else []
        pictures += [{"label": f"{name} puts first", "ranks": []} | picture(item) for name, item in first.items()]
        cases.append({"id": row.query_id, "text": texts.get(row.query_id), "pictures": pictures})
    return cases


def _table(evidence: Evidence, name: str, caption: str, worst: pd.DataFrame, texts: dict[str, str]) -> Table:
    r = evidence.reading
    rows = [
        {
            "query": Cell(row.query_id), "image": Cell(str(row.group)), "text": Cell(texts[row.query_id]) if row.query_id in texts else Cell(missing=NOT_KEPT),
            "reference": _cell(row.first), "baseline": _cell(row.first_baseline), "gap": Cell(row.apart),
        }
        for row in worst.itertuples()
    ]  # fmt: skip
    columns = (
        Column("query", "Query"), Column("text", "Caption"), Column("image", "Its picture"), Column("reference", r.reference, integer, "Rank of the right picture"),
        Column("baseline", r.baseline, integer, "Rank of the right picture"), Column("gap", "Ranks apart", integer),
    )  # fmt: skip
    return Table(name, caption, columns, rows)


def _cell(first: float) -> Cell:
    return Cell(missing=NOT_RETRIEVED) if math.isinf(first) else Cell(float(first))


def _rank(first: float) -> str:
    return NOT_RETRIEVED if math.isinf(first) else f"rank {integer(first)}"
