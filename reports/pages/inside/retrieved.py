"""Results of each model for ten queries, the matching lexicons, and the patches that activated them."""

import hashlib
import math

import pandas as pd

from bench.tasks.rank_gap import RANK_GAP
from reports.pages import Section
from reports.pages.inside.examples import recall_examples, shown
from reports.records.evidence import Evidence


def section(evidence: Evidence) -> Section:
    r = evidence.reading
    sides = {name: _evenly_spaced(evidence, name) for name in (r.reference, r.baseline)}
    present = {name: found for name, found in sides.items() if found is not None}
    shared = set.intersection(*(set(found[0].query_id) for found in present.values())) if present else set()
    ids = dict.fromkeys(query_id for examples, _ in present.values() for query_id in examples.query_id)
    chosen = [query_id for query_id in ids if query_id in shared]
    if len(chosen) > r.examples:
        chosen = sorted(chosen, key=lambda query_id: hashlib.sha256(query_id.encode()).hexdigest())[: r.examples]
    texts = {row.query_id: str(row.query) for examples, _ in present.values() for row in examples.itertuples()}
    queries = [
        {
            "id": query_id,
            "text": texts[query_id],
            "sides": [_side(evidence, name, *present[name], query_id) for name in present],
        }
        for query_id in chosen
    ]
    heated = [any(image["heat_maps"] for side in query["sides"] for image in side["images"]) for query in queries]
    data = {
        "queries": queries,
        "of": len(shared),
        "all": len(shared) <= r.examples,
        "missing": [name for name in sides if name not in present],
        "with_heat": sum(heated),
        "lexicon": [name for name in present if evidence.kinds.get(name) == "lexicon"],
    }
    return Section("retrieved", "Ten queries", data=data, folder="inside")


def _evenly_spaced(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, object] | None:
    """Examples of queries evenly spaced through the list, and the row of their point."""
    found = recall_examples(evidence, variant)
    if found is None:
        return None
    examples = found[0][found[0].chosen != RANK_GAP]
    return (examples, found[1]) if len(examples) else None


def _side(evidence: Evidence, name: str, examples: pd.DataFrame, row, query_id: str) -> dict:
    mine = examples[examples.query_id == query_id].sort_values("rank")
    queries = evidence.queries(row.point_id)
    first = math.inf
    if queries is not None and "first" in queries:
        found = queries[queries.query_id == query_id]
        first = float(found["first"].iloc[0]) if len(found) else math.inf
    relevant = mine[mine.relevant.astype(bool)]
    if len(relevant):
        first = min(first, float(relevant["rank"].iloc[0]))
    return {
        "variant": name,
        "rank": None if math.isinf(first) else int(first),
        "depth": "results" if pd.isna(row.depth) else f"{row.depth:,.0f}",
        "images": [shown(item) for item in mine.head(evidence.reading.results).itertuples()],
    }
