"""Pictures and heat maps that stand in the records, as a page can show them. Whatever is stored, what comes out is a picture or nothing."""

import base64
import io
import math

import numpy as np
import pandas as pd
from PIL import Image

from bench.store.records import EXAMPLES_SCHEMA
from bench.tasks.lexicon_views.heat import HOT, heat_map, shares
from reports.records.evidence import Evidence, parsed
from reports.render.tables import clean, significant

LEXICONS_SHOWN = 5
LARGEST_IMAGE = 400_000  # bytes: a page of ten queries must stay small
MOST_TOKENS = 4096  # of a heat map
HOTTEST = 0.6  # opacity of the highest logit
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def examples_of(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, object] | None:
    """The examples of the newest point of the lowest seed that has them, with all columns, and the point's row."""
    filters = evidence.retrieval() | evidence.operating_point(variant)
    rows = evidence.matching(variant, "recall@1", **filters)
    for row in rows.sort_values(["seed", "started"], ascending=[True, False]).itertuples():
        examples = evidence.store.examples(row.point_id)
        if examples is not None and len(examples):
            return examples.reindex(columns=EXAMPLES_SCHEMA.names).assign(query_id=examples.query_id.astype(str)), row
    return None


def picture(item) -> dict:
    """A row of the examples: the picture, the lexicons that matched, and its heat maps."""
    lexicons = lexicons_of(item.lexicons)
    score = float(item.score) if pd.notna(item.score) else None
    return {
        "rank": int(item.rank) if pd.notna(item.rank) else None,
        "relevant": bool(item.relevant),
        "image": data_uri(item.image),
        "name": clean(item.image_id),
        "score": "" if score is None else f"{score:.3g}",
        "lexicons": lexicons[:LEXICONS_SHOWN],
        "more": max(0, len(lexicons) - LEXICONS_SHOWN),
        "heat_maps": heat_maps(item.heat_maps, {lexicon["name"]: lexicon for lexicon in lexicons}),
    }


def lexicons_of(stored) -> list[dict]:
    """The lexicons that matched, from their JSON: name, weight in the query and in the picture, share of the score; those that are none are left out."""
    entries = parsed(stored)
    return [
        {"name": clean(name), "query": _weight(query), "picture": _weight(document), "share": f"{100 * share:.0f}"}
        for name, query, document, share in filter(_is_match, entries if isinstance(entries, list) else [])
    ]


def _is_match(entry) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in entry[1:])
    )


def _weight(value: float) -> str:
    """An impact is a whole number."""
    return f"{value:.0f}" if value == round(value) else significant(value)


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


def heat_maps(stored, matched: dict[str, dict]) -> list[dict]:
    """Heat maps of a picture, from their JSON; those that are none are left out.

    Each: `lexicon`, and its entry of `matched` (None where it has none); `side` (patches in a row); `image` (side x side pixels, red as opaque as
    the logit is high); `token` (the place of the winning token, from 1); `row` and `column` of its patch, from 1, or None where it is no patch.
    """
    entries = parsed(stored)
    drawn = [_drawn(*entry) for entry in entries if _is_heat_map(entry)] if isinstance(entries, list) else []
    return [heat | {"match": matched.get(heat["lexicon"])} for heat in drawn]


def _is_heat_map(entry) -> bool:
    if not (
        isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], list) and 0 < len(entry[2]) <= MOST_TOKENS
    ):
        return False
    numbers = all(isinstance(logit, int | float) and math.isfinite(logit) for logit in entry[2])
    return numbers and type(entry[1]) is int and 0 <= entry[1] < len(entry[2])


def _drawn(lexicon, first_pooled: int, logits: list[float]) -> dict:
    heat = heat_map(np.array(logits, np.float64), first_pooled)
    side = len(heat.patches_HW)
    colours_HWC = np.empty((side, side, 4), np.uint8)
    colours_HWC[..., :3], colours_HWC[..., 3] = HOT, np.rint(255 * HOTTEST * shares(heat.patches_HW))
    stream = io.BytesIO()
    Image.fromarray(colours_HWC, "RGBA").save(stream, "PNG")
    row, column = (None, None) if heat.patch is None else (place + 1 for place in heat.patch)
    token = {"token": heat.token + 1, "row": row, "column": column}
    return {"lexicon": clean(lexicon), "side": side, "image": data_uri(stream.getvalue())} | token
