"""Images, matching lexicons and heat maps of the records as a page can show them; anything malformed is left out."""

import base64
import io
import math

import numpy as np

from bench.tasks.views.heat import HOT, heat_map, shares
from reports.render.tables import clean

LARGEST_IMAGE = 400_000  # bytes: a page of ten queries must stay small
MOST_TOKENS = 4096  # of a heat map
HOTTEST = 0.6  # opacity of the highest logit
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def lexicons(entries) -> list[dict]:
    """Matching lexicons from parsed JSON: name, and share of the score."""
    entries = entries if isinstance(entries, list) else []
    return [{"name": clean(name), "share": float(share)} for name, *_, share in filter(_is_match, entries)]


def words(entries) -> list[dict]:
    """Lexicons of an image from parsed JSON: name, width of its bar in % of the largest, `is_said`: a word of its
    captions, `is_shown`: a word for what it shows (None: unknown).
    """
    found = list(filter(_is_word, entries if isinstance(entries, list) else []))
    largest = max((entry[1] for entry in found), default=1)
    return [
        {
            "name": clean(name),
            "width": bar(weight, largest),
            "is_said": said > 0,
            "is_shown": None if shows is None else shows > 0,
        }
        for name, weight, said, shows in found
    ]


def bar(value: float, largest: float) -> str:
    """Width of a bar, in % of the largest."""
    return f"{100 * value / largest:.0f}" if largest > 0 else "0"


def _is_word(entry) -> bool:
    if not isinstance(entry, list) or len(entry) != 4 or not isinstance(entry[0], str):
        return False
    numbers = entry[1:3] if entry[3] is None else entry[1:]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in numbers) and entry[1] > 0


def _is_match(entry) -> bool:
    if not isinstance(entry, list) or len(entry) != 4:
        return False
    return all(isinstance(value, int | float) and math.isfinite(value) for value in entry[1:])


def data_uri(image) -> str:
    """An image as a data URI; "" for bytes of an unknown format, or too many."""
    if not isinstance(image, bytes) or len(image) > LARGEST_IMAGE:
        return ""
    kind = next((kind for signature, kind in SIGNATURES.items() if image.startswith(signature)), "")
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        kind = "image/webp"
    return f"data:{kind};base64,{base64.b64encode(image).decode()}" if kind else ""


def heat_maps(entries, matched: dict[str, dict]) -> list[dict]:
    """Heat maps from parsed JSON.

    Keys: lexicon; match (its entry of `matched` or None); side (patches in a row); image (side x side pixels as a data
    URI, red with the opacity of the logit); token (winning token, from 1); row and column of its patch, from 1, or
    None.
    """
    drawn = [_drawn(*entry) for entry in entries if _is_heat_map(entry)] if isinstance(entries, list) else []
    return [heat | {"match": matched.get(heat["lexicon"])} for heat in drawn]


def _is_heat_map(entry) -> bool:
    if not isinstance(entry, list) or len(entry) != 3 or not isinstance(entry[2], list):
        return False
    if not 0 < len(entry[2]) <= MOST_TOKENS:
        return False
    numbers = all(isinstance(logit, int | float) and math.isfinite(logit) for logit in entry[2])
    return numbers and type(entry[1]) is int and 0 <= entry[1] < len(entry[2])


def _drawn(lexicon, first_pooled: int, logits: list[float]) -> dict:
    from PIL import Image

    heat = heat_map(np.array(logits, np.float64), first_pooled)
    side = len(heat.patches_HW)
    colours_HWC = np.empty((side, side, 4), np.uint8)
    colours_HWC[..., :3], colours_HWC[..., 3] = HOT, np.rint(255 * HOTTEST * shares(heat.patches_HW))
    stream = io.BytesIO()
    Image.fromarray(colours_HWC, "RGBA").save(stream, "PNG")
    row, column = (None, None) if heat.patch is None else (place + 1 for place in heat.patch)
    token = {"token": heat.token + 1, "row": row, "column": column}
    return {"lexicon": clean(lexicon), "side": side, "image": data_uri(stream.getvalue())} | token
