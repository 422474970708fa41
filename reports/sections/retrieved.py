"""Look inside: what each model returns for ten queries, and the lexicons that matched."""

import base64
import hashlib
import math

import pandas as pd

from reports.evidence import Evidence, parsed
from reports.sections import Section
from reports.tables import clean

LEXICONS_SHOWN = 5
LARGEST_IMAGE = 400_000  # bytes: a page of ten queries must stay small
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def section(evidence: Evidence) -> Section:
    r = evidence.reading
    sides = {name: examples_of(evidence, name) for name in (r.reference, r.baseline)}
    present = {name: found for name, found in sides.items() if found is not None}
    shared = set.intersection(*(set(found[0].query_id) for found in present.values())) if present else set()
    chosen = list(dict.fromkeys(query_id for found in present.values() for query_id in found[0].query_id if query_id in shared))
    if len(chosen) > r.examples:
        chosen = sorted(chosen, key=lambda query_id: hashlib.sha256(query_id.encode()).hexdigest())[: r.examples]
    queries = [
        {
            "id": clean(query_id),
            "text": clean(next(iter(present.values()))[0].query("query_id == @query_id")["query"].iloc[0]),
            "sides": [_side(evidence, name, *present[name], query_id) for name in present],
        }
        for query_id in chosen
    ]
    data = {
        "queries": queries,
        "of": len(shared),
        "all": len(shared) <= r.examples,
        "missing": [name for name in sides if name not in present],
    }
    return Section("retrieved", "Look inside: ten queries", data=data)


def examples_of(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, object] | None:
    """The examples of the newest point of the lowest seed that has them, and the point's row."""
    filters = evidence.retrieval() | evidence.operating_point(variant)
    rows = evidence.matching(variant, "recall@1", **filters)
    for row in rows.sort_values(["seed", "started"], ascending=[True, False]).itertuples():
        examples = evidence.store.examples(row.point_id)
        if examples is not None and len(examples):
            return examples.assign(query_id=examples.query_id.astype(str)), row
    return None


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
    shown = [_picture(item) for item in mine.head(evidence.reading.pictures).itertuples()]
    return {
        "variant": variant,
        "rank": None if math.isinf(first) else int(first),
        "depth": "results" if pd.isna(row.depth) else f"{row.depth:,.0f}",
        "pictures": shown,
        "kind": evidence.kinds.get(variant),
    }


def _picture(item) -> dict:
    matched = parsed(item.lexicons)
    lexicons = []
    for entry in matched if isinstance(matched, list) else []:
        if isinstance(entry, list) and len(entry) == 4 and isinstance(entry[3], int | float) and math.isfinite(entry[3]):
            lexicons.append({"name": clean(entry[0]), "share": f"{100 * entry[3]:.0f}"})
    score = float(item.score) if pd.notna(item.score) else None
    return {
        "rank": int(item.rank),
        "relevant": bool(item.relevant),
        "image": data_uri(item.image),
        "name": clean(item.image_id),
        "score": "" if score is None else f"{score:.3g}",
        "lexicons": lexicons[:LEXICONS_SHOWN],
        "more": max(0, len(lexicons) - LEXICONS_SHOWN),
    }


def data_uri(image) -> str:
    """An image as a data URI, "" when the bytes are not a picture of a known kind or are too many."""
    if not isinstance(image, bytes) or len(image) > LARGEST_IMAGE:
        return ""
    kind = (
        "image/webp"
        if image[:4] == b"RIFF" and image[8:12] == b"WEBP"
        else next((k for s, k in SIGNATURES.items() if image.startswith(s)), "")
    )
    return f"data:{kind};base64,{base64.b64encode(image).decode()}" if kind else ""
