"""Example results of a variant: the kept rows of the examples sidecars, and each as values for a template.

Examples selected by rank gap belong to points of the task "disagreement", whose knobs name the recall point. Records
of earlier versions hold them in the sidecar of the recall point.
"""

import pandas as pd

from bench.store.records import EXAMPLES_SCHEMA
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render import images
from reports.render.tables import clean

DISAGREEMENT = "disagreement"
LEXICONS_SHOWN = 5


def recall_examples(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, object] | None:
    """Examples at the operating point, of the lowest seed that has any, with all columns; and the row of the point."""
    filters = evidence.retrieval() | evidence.operating_point(variant)
    rows = evidence.matching(variant, "recall@1", **filters)
    for row in rows.sort_values(["seed", "started"], ascending=[True, False]).itertuples():
        examples = _of_point(evidence, row.point_id)
        if examples is not None:
            return examples, row
    return None


def rank_gap_examples(evidence: Evidence, variant: str, recall_point: str) -> pd.DataFrame | None:
    """Examples of the newest disagreement point of a recall point; without one, those at the operating point."""
    rows = evidence.rows[(evidence.rows.task == DISAGREEMENT) & (evidence.rows.variant == variant)]
    mine = rows.knobs.map(lambda knobs: (parsed(knobs) or {}).get("recall") == recall_point).astype(bool)
    rows = rows[mine & (rows.status == "ok")].drop_duplicates("point_id")
    for point_id in rows.sort_values("started", ascending=False).point_id:
        examples = _of_point(evidence, point_id)
        if examples is not None:
            return examples
    found = recall_examples(evidence, variant)
    return None if found is None else found[0]


def word_examples(evidence: Evidence, variant: str) -> pd.DataFrame | None:
    """Images with their words and typed-word results, of the lowest seed that has any; None if none were kept."""
    at = {"task": "sparsity", "split": "test", "top_k": evidence.reading.top_k}
    rows = evidence.matching(variant, "active_mean", **at)
    for point_id in rows.sort_values(["seed", "started"], ascending=[True, False]).point_id:
        examples = _of_point(evidence, point_id)
        if examples is not None and examples.words.notna().any():
            return examples
    return None


def shown(item) -> dict:
    """A row of the examples for a template: the image, the matching lexicons, and its heat maps."""
    lexicons = images.lexicons(parsed(item.lexicons))
    score = float(item.score) if pd.notna(item.score) else None
    return {
        "rank": int(item.rank) if pd.notna(item.rank) else None,
        "relevant": bool(item.relevant),
        "image": images.data_uri(item.image),
        "name": clean(item.image_id),
        "score": "" if score is None else f"{score:.3g}",
        "lexicons": lexicons[:LEXICONS_SHOWN],
        "more": max(0, len(lexicons) - LEXICONS_SHOWN),
        "heat_maps": images.heat_maps(parsed(item.heat_maps), {lexicon["name"]: lexicon for lexicon in lexicons}),
    }


def _of_point(evidence: Evidence, point_id: str) -> pd.DataFrame | None:
    examples = evidence.store.examples(point_id)
    if examples is None or not len(examples):
        return None
    return examples.reindex(columns=EXAMPLES_SCHEMA.names).assign(query_id=examples.query_id.astype(str))
