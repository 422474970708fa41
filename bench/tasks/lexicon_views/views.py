"""Lexicon views: which lexicons a picture and a text have, why the two match, and which patches of the picture fired each lexicon.

`lexlip-bench views --checkpoint FOLDER --corpus scenes --image 3 --text "two red balloons over a lake" --out views.html` writes a page
without scripts that holds its pictures itself; with `--out views.json` the same as JSON.

`bench.tasks.lexicon_views.heat` says what a heat map is.
"""

import base64
import hashlib
import io
import json
from pathlib import Path

import jinja2
import numpy as np
import torch
from markupsafe import Markup
from PIL import Image, ImageDraw

from bench.corpora import open_corpus, read_spec
from bench.corpora.readers.decode import decode
from bench.store import cli
from bench.tasks.lexicon_views.heat import HOT, WINNER, HeatMap, heat_map, shares
from bench.vectors.encode import Encoder
from bench.vectors.rendering import render
from models.errors import InputError
from models.files import atomic_file
from models.towers.transformer import as_images

SHOWN = 192  # pixels of a picture on the page
DIMMED = 0.6  # how far the picture under a heat map is faded to grey


def top_lexicons(weights_V: np.ndarray, vocabulary: list[str], count: int | None = None) -> list[tuple[str, float]]:
    """The strongest `count` lexicons (None: all) with their weights; only positive ones, of equal weights the lower id first."""
    order = [v for v in np.argsort(-weights_V, kind="stable")[:count] if weights_V[v] > 0]
    return [(vocabulary[v], float(weights_V[v])) for v in order]


def matched(
    image_V: np.ndarray, text_V: np.ndarray, vocabulary: list[str]
) -> list[tuple[str, float, float, float, float]]:
    """Every lexicon that both have: (lexicon, image weight, text weight, their product, its share of the score), the largest product first.

    The products add up to the score, the dot product of the two vectors (V,); the shares to 1. Empty when they share none.
    """
    products_V = image_V.astype(np.float64) * text_V
    order, score = np.argsort(-products_V, kind="stable"), products_V.sum()
    shared = [v for v in order if products_V[v] > 0]
    return [
        (vocabulary[v], float(image_V[v]), float(text_V[v]), float(products_V[v]), float(products_V[v] / score))
        for v in shared
    ]


@torch.inference_mode()
def read_image(model, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 (P, P, 3) to its L2-normalised lexicon weights (V,) and the head's logits at each of its tokens (L, V), float32."""
    images_BHWC = as_images(picture[None].copy(), model.pixels, next(model.parameters()).device)
    hidden_BLD, pooled = model.image_states(images_BHWC)
    weights_BV = torch.nn.functional.normalize(pooled.weights_BV, dim=-1)
    return weights_BV[0].float().cpu().numpy(), model.image.head(hidden_BLD)[0].float().cpu().numpy()


def view(encoder: Encoder, picture: np.ndarray, text: str, count: int) -> dict:
    """Everything about a picture and a text, as plain values for JSON: their `count` strongest lexicons, the match, and heat maps of the
    lexicons that matched most and of the picture's strongest. Raises InputError for a model of dense vectors."""
    if encoder.kind != "lexicon":
        raise InputError(
            f"{encoder.source}: a model of {encoder.kind} vectors, which have no lexicons; expected one of lexicon vectors"
        )
    model, vocabulary = encoder.model, encoder.vocabulary
    image_V, logits_LV = read_image(model, picture)
    text_V = encoder.texts([text])[0]
    sides = {
        name: {
            "active": int((weights_V > 0).sum()),
            "lexicons": _rows(("lexicon", "weight"), top_lexicons(weights_V, vocabulary, count)),
        }
        for name, weights_V in (("image", image_V), ("text", text_V))
    }
    pairs = matched(image_V, text_V, vocabulary)
    shown_V = dict.fromkeys(
        np.argsort(-image_V.astype(np.float64) * text_V, kind="stable")[: min(count, len(pairs))].tolist()
    )
    shown_V |= dict.fromkeys(v for v in np.argsort(-image_V, kind="stable")[:count].tolist() if image_V[v] > 0)
    return sides | {
        "match": {
            "score": float(image_V.astype(np.float64) @ text_V),
            "lexicons": _rows(("lexicon", "image", "text", "product", "share"), pairs),
        },
        "heat_maps": [
            {"lexicon": vocabulary[v], "weight": float(image_V[v])}
            | _plain(heat_map(logits_LV[:, v], int(model.content_only)))
            for v in shown_V
        ],
    }


def _rows(names: tuple[str, ...], rows: list[tuple]) -> list[dict]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def _plain(heat: HeatMap) -> dict:
    """The trap for readers of the JSON: `token` counts the tokens before the patches, `patch` is [row, column] or null."""
    return {
        "token": heat.token,
        "patch": None if heat.patch is None else list(heat.patch),
        "patches": heat.patches_HW.tolist(),
        "before": heat.before.tolist(),
    }


# --- the page ---------------------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem 1.25rem; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.sides { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8886; }
th:first-child { text-align: left; } tbody th { font-weight: 400; overflow-wrap: anywhere; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1rem; padding: 0; list-style: none; }
figure { margin: 0; } img { display: block; width: 12rem; height: 12rem; } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'sha256-{{ style_hash }}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Lexicon views</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
<h1>Lexicon views</h1>
<p>Picture <bdi>{{ about.image }}</bdi>{% if about.corpus %} of <bdi>{{ about.corpus }}</bdi>, {{ about.split }}{% endif %}; model {{ about.checkpoint }}.</p>
<div class="sides">
<figure><img src="{{ picture }}" alt="the picture"></figure>
{% for side, title in ((image, "The picture"), (text, "The text")) %}
<table>
<caption>{{ title }}: {{ side.lexicons | length }} of {{ side.active }} lexicons</caption>
<thead><tr><th scope="col">lexicon</th><th scope="col">weight</th></tr></thead>
<tbody>
{% for row in side.lexicons %}<tr><th scope="row"><bdi>{{ row.lexicon }}</bdi></th><td>{{ "%.3f" | format(row.weight) }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
</div>
<p>The text: “<bdi>{{ about.text }}</bdi>”</p>
<h2>Why they match: score {{ "%.3f" | format(match.score) }}</h2>
{% if match.lexicons %}
<table>
<thead><tr><th scope="col">lexicon</th><th scope="col">picture</th><th scope="col">text</th><th scope="col">product</th><th scope="col">share of the score</th></tr></thead>
<tbody>
{% for row in match.lexicons %}<tr><th scope="row"><bdi>{{ row.lexicon }}</bdi></th><td>{{ "%.3f" | format(row.image) }}</td><td>{{ "%.3f" | format(row.text) }}</td><td>{{ "%.4f" | format(row.product) }}</td><td>{{ "%.1f" | format(100 * row.share) }}%</td></tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>They share no lexicon.</p>
{% endif %}
<h2>Which patches fired a lexicon</h2>
<p>Redness is the positive logit, from none to the highest over the patches of that lexicon; the frame is the token that won over all others.</p>
<ul class="maps">
{% for map in heat_maps %}
<li><figure><img src="{{ map.png }}" alt="heat map of {{ map.lexicon }}">
<figcaption><b><bdi>{{ map.lexicon }}</bdi></b>, weight {{ "%.3f" | format(map.weight) }}: {% if map.patch %}patch in row {{ map.patch[0] + 1 }}, column {{ map.patch[1] + 1 }}{% else %}token {{ map.token + 1 }}, which is no patch{% endif %}</figcaption></figure></li>
{% endfor %}
</ul>
</body>
</html>
"""


def heat_png(picture: np.ndarray, patches_HW: np.ndarray, patch: tuple[int, int] | None) -> bytes:
    """A PNG of the picture, faded, with red where the positive logits are, and a frame around the winning patch."""
    heat_HW = np.rint(255 * shares(patches_HW)).astype(np.uint8)
    mask = Image.fromarray(heat_HW).resize((SHOWN, SHOWN), Image.Resampling.NEAREST)
    under = Image.fromarray(picture).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    under = Image.blend(under, under.convert("L").convert("RGB"), DIMMED)
    shown = Image.composite(Image.blend(under, Image.new("RGB", under.size, HOT), 0.75), under, mask)
    if patch is not None:
        (row, column), (height, width) = patch, patches_HW.shape
        box = (
            column * SHOWN // width,
            row * SHOWN // height,
            (column + 1) * SHOWN // width - 1,
            (row + 1) * SHOWN // height - 1,
        )
        ImageDraw.Draw(shown).rectangle(box, outline=WINNER, width=2)
    return _png(shown)


def page(about: dict, seen: dict, picture: np.ndarray) -> str:
    """The HTML page of a `view`; about: image, corpus, split, text and checkpoint. Everything in it is escaped, and no script can run."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    maps = [
        seen_map | {"png": _data_uri(heat_png(picture, np.array(seen_map["patches"]), seen_map["patch"]))}
        for seen_map in seen["heat_maps"]
    ]
    return environment.from_string(PAGE).render(
        **seen | {"heat_maps": maps},
        about=about,
        picture=_data_uri(_png(Image.fromarray(picture))),
        style=Markup(STYLE),  # ours, and named by its hash in the policy
        style_hash=base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode(),
    )


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


# --- lexlip-bench views --------------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Writes the views of one picture and one text."""
    if arguments.out.suffix not in (".html", ".json"):
        raise InputError(f"--out {arguments.out}: expected a name that ends in .html or .json")
    if arguments.count < 1:
        raise InputError(f"--count {arguments.count}: expected at least 1")
    encoder = Encoder(arguments.checkpoint)
    about = {"image": arguments.image, "corpus": "", "split": "", "text": arguments.text, "checkpoint": encoder.id}
    pixels = encoder.model.pixels
    if arguments.image.isdecimal():
        corpus, number = open_corpus(read_spec(arguments.corpus)), int(arguments.image)
        rendered = render(corpus, [(arguments.split, number, number + 1)], {pixels})
        picture = rendered.of_size[pixels][0]
        about |= {"image": rendered.ids[0], "corpus": corpus.name, "split": arguments.split}
    else:
        picture = decode(Path(arguments.image).read_bytes(), arguments.image, pixels)
    seen = view(encoder, picture, arguments.text, arguments.count)
    with atomic_file(arguments.out) as partial:
        as_json = arguments.out.suffix == ".json"
        made = (
            json.dumps({"about": about} | seen, ensure_ascii=False, allow_nan=False)
            if as_json
            else page(about, seen, picture)
        )
        partial.write_text(made, encoding="utf-8")
    print(arguments.out)


def parser():
    flags = cli.parser("Lexicons of a picture and a text, why they match, and which patches fired each lexicon.")
    flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder of a lexicon model")
    cli.add_corpus(flags, images=None)
    flags.add_argument("--image", required=True, help="number of an image of the split, or a picture file")
    flags.add_argument("--text", required=True)
    flags.add_argument(
        "--count",
        type=int,
        default=12,
        help="lexicons shown of the picture, of the text, and as heat maps of their match",
    )
    flags.add_argument("--out", type=Path, required=True, help="page (.html) or data (.json) to write")
    return flags
