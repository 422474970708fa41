"""Look inside: what each model returns for ten queries, the lexicons that matched, and which patches fired them."""

import hashlib
import math

import pandas as pd

from bench.tasks.rank_gap import RANK_GAP
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.pictures import examples_of, picture


def section(evidence: Evidence) -> Section:
    r = evidence.reading
    sides = {name: _evenly_spaced(evidence, name) for name in (r.reference, r.baseline)}
    present = {name: found for name, found in sides.items() if found is not None}
    shared = set.intersection(*(set(found[0].query_id) for found in present.values())) if present else set()
    chosen = list(
        dict.fromkeys(query_id for found in present.values() for query_id in found[0].query_id if query_id in shared)
    )
    if len(chosen) > r.examples:
        chosen = sorted(chosen, key=lambda query_id: hashlib.sha256(query_id.encode()).hexdigest())[: r.examples]
    queries = [
        {
            "id": query_id,
            "text": str(next(iter(present.values()))[0].query("query_id == @query_id")["query"].iloc[0]),
            "sides": [_side(evidence, name, *present[name], query_id) for name in present],
        }
        for query_id in chosen
    ]
    with_heat = [
        query for query in queries if any(shown["heat_maps"] for side in query["sides"] for shown in side["pictures"])
    ]
    data = {
        "queries": queries,
        "of": len(shared),
        "all": len(shared) <= r.examples,
        "missing": [name for name in sides if name not in present],
        "with_heat": len(with_heat),
        "lexicon": [name for name in present if evidence.kinds.get(name) == "lexicon"],
    }
    return Section("retrieved", "Look inside: ten queries", data=data)


def _evenly_spaced(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, object] | None:
    """The examples that were not chosen for what came of them."""
    found = examples_of(evidence, variant)
    if found is None:
        return None
    examples = found[0][found[0].chosen != RANK_GAP]
    return (examples, found[1]) if len(examples) else None


def _side(evidence: Evidence, variant: str, examples: pd.DataFrame, row, query_id: str) -> dict:
    mine = examples[examples.query_id == query_id].sort_values("rank")
    queries = evidence.queries(row.point_id)
    first = math.inf
    if queries is not None and "first" in queries:
        found = queries[queries.query_id == query_id]
        first = float(found["first"].iloc[0]) if len(found) else math.inf
    relevant = mine[mine.relevant.astype(bool)]
    if len(relevant):
        first = min(first, float(relevant["rank"].iloc[0]))
    shown = [picture(item) for item in mine.head(evidence.reading.pictures).itertuples()]
    return {
        "variant": variant,
        "rank": None if math.isinf(first) else int(first),
        "depth": "results" if pd.isna(row.depth) else f"{row.depth:,.0f}",
        "pictures": shown,
        "kind": evidence.kinds.get(variant),
    }
