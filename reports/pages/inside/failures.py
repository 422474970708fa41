"""Queries with the largest rank gap between the two models, in both directions, selected by `bench.tasks.rank_gap`."""

import math

import pandas as pd

from bench.store.records import EXAMPLES_SCHEMA
from bench.tasks.rank_gap import RANK_GAP, SHOWN, furthest, paired
from reports.pages import Section
from reports.pages.inside.examples import rank_gap_examples, shown
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer

TITLE = "Largest disagreements"
NOT_KEPT = "not kept with the records"
NOT_RETRIEVED = "not retrieved"


def section(evidence: Evidence) -> Section:
    r = evidence.reading
    names = (r.reference, r.baseline)
    sides = {name: _ranks(evidence, name) for name in names}
    missing = [name for name, found in sides.items() if found is None]
    if missing:
        return Section("failures", TITLE, data={"missing": missing}, folder="inside")
    (ours, our_row), (theirs, their_row) = sides.values()
    both = paired(ours, theirs, our_row.depth, their_row.depth)
    examples = {name: _examples(evidence, name, row.point_id) for name, (_, row) in sides.items()}
    texts = {row.query_id: str(row.query) for found in examples.values() for row in found.itertuples()}
    directions = []
    for key, lower, other in (("reference", *names), ("baseline", *reversed(names))):
        worst = furthest(both, lower == r.reference)
        if len(worst):
            caption = f"{lower} ranks the relevant image lower than {other}: the {len(worst)} largest rank gaps"
            made = _table(evidence, f"failures_{key}", caption, worst, texts)
            directions.append((made, _cases(worst, examples, texts)))
    cases = [case for _, of_direction in directions for case in of_direction]
    hit, hit_baseline = both["first"] <= 1, both["first_baseline"] <= 1
    data = {
        "missing": [],
        "directions": [{"table": made.name, "cases": of_direction} for made, of_direction in directions],
        "counts": {
            "both": int((hit & hit_baseline).sum()),
            "reference": int((hit & ~hit_baseline).sum()),
            "baseline": int((~hit & hit_baseline).sum()),
            "neither": int((~hit & ~hit_baseline).sum()),
        },
        "queries": len(both),
        "shown": SHOWN,
        "without": sum(not case["images"] for case in cases),
        "cases": len(cases),
        "heated": sum(bool(image["heat_maps"]) for case in cases for image in case["images"]),
        "lexicon": [name for name in names if evidence.kinds.get(name) == "lexicon"],
    }
    return Section("failures", TITLE, [made for made, _ in directions], data=data, folder="inside")


def _ranks(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, object] | None:
    """First ranks of the lowest seed at the operating point, and the row of the point; None if not kept."""
    at = evidence.retrieval() | evidence.operating_point(variant)
    for row in evidence.measured(variant, "recall@1", **at).itertuples():
        queries = evidence.queries(row.point_id)
        if queries is not None and "first" in queries:
            return queries.assign(query_id=queries.query_id.astype(str)), row
    return None


def _examples(evidence: Evidence, variant: str, recall_point: str) -> pd.DataFrame:
    found = rank_gap_examples(evidence, variant, recall_point)
    return pd.DataFrame(columns=EXAMPLES_SCHEMA.names) if found is None else found


def _cases(worst: pd.DataFrame, examples: dict[str, pd.DataFrame], texts: dict[str, str]) -> list[dict]:
    """Caption and images of each query: the relevant image, and the first result of each model; if they were kept."""
    cases = []
    for row in worst.itertuples():
        mine = {
            name: found[(found.chosen == RANK_GAP) & (found.query_id == row.query_id)]
            for name, found in examples.items()
        }
        relevant = [item for found in mine.values() for item in found.itertuples() if item.relevant]
        first = {
            name: item for name, found in mine.items() for item in found[found["rank"].eq(1).fillna(False)].itertuples()
        }  # a null rank: not retrieved
        ranks = [(name, _rank(rank)) for name, rank in zip(examples, (row.first, row.first_baseline), strict=True)]
        images = [{"label": "Relevant image", "ranks": ranks} | shown(relevant[0])] if relevant else []
        images += [{"label": f"First result of {name}", "ranks": []} | shown(item) for name, item in first.items()]
        cases.append({"id": row.query_id, "text": texts.get(row.query_id), "images": images})
    return cases


def _table(evidence: Evidence, name: str, caption: str, worst: pd.DataFrame, texts: dict[str, str]) -> Table:
    r = evidence.reading
    rows = [
        {
            "query": Cell(row.query_id),
            "text": Cell(texts[row.query_id]) if row.query_id in texts else Cell(missing=NOT_KEPT),
            "image": Cell(str(row.group)),
            "reference": _cell(row.first),
            "baseline": _cell(row.first_baseline),
            "gap": Cell(row.apart),
        }
        for row in worst.itertuples()
    ]
    columns = (
        Column("query", "Query"),
        Column("text", "Caption"),
        Column("image", "Relevant image"),
        Column("reference", r.reference, integer, "Rank of the relevant image"),
        Column("baseline", r.baseline, integer, "Rank of the relevant image"),
        Column("gap", "Rank gap", integer),
    )
    return Table(name, caption, columns, rows)


def _cell(first: float) -> Cell:
    return Cell(missing=NOT_RETRIEVED) if math.isinf(first) else Cell(float(first))


def _rank(first: float) -> str:
    return NOT_RETRIEVED if math.isinf(first) else f"rank {integer(first)}"
