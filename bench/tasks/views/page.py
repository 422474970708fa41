"""The HTML page of a lexicon view: self-contained, no scripts."""

import base64
import hashlib
import io

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from bench.tasks.views.heat import HOT, WINNER, shares

SHOWN = 192  # pixels of an image on the page
DIMMED = 0.6  # share of grey in the image under a heat map
STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem 1.25rem; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.sides { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8886; }
th:first-child { text-align: left; } tbody th { font-weight: 400; overflow-wrap: anywhere; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1rem; padding: 0; }
.maps { list-style: none; } figure { margin: 0; } img { display: block; width: 12rem; height: 12rem; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Lexicon view</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
<h1>Lexicon view</h1>
<p>Image <bdi>{{ about.image }}</bdi>
{%- if about.corpus %} of <bdi>{{ about.corpus }}</bdi>, {{ about.split }}{% endif %}; model {{ about.checkpoint }}.</p>
<div class="sides">
<figure><img src="{{ picture }}" alt="the image"></figure>
{% for side, title in ((image, "The image"), (text, "The text")) %}
<table>
<caption>{{ title }}: {{ side.lexicons | length }} of {{ side.active }} lexicons</caption>
<thead><tr><th scope="col">lexicon</th><th scope="col">weight</th></tr></thead>
<tbody>
{% for row in side.lexicons %}
<tr><th scope="row"><bdi>{{ row.lexicon }}</bdi></th><td>{{ "%.3f" | format(row.weight) }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
</div>
<p>The text: “<bdi>{{ about.text }}</bdi>”</p>
<h2>Why they match: score {{ "%.3f" | format(match.score) }}</h2>
{% if match.lexicons %}
<table>
<thead><tr><th scope="col">lexicon</th><th scope="col">image</th><th scope="col">text</th><th scope="col">product</th>
<th scope="col">share of the score</th></tr></thead>
<tbody>
{% for row in match.lexicons %}
<tr><th scope="row"><bdi>{{ row.lexicon }}</bdi></th><td>{{ "%.3f" | format(row.image) }}</td>
<td>{{ "%.3f" | format(row.text) }}</td><td>{{ "%.4f" | format(row.product) }}</td>
<td>{{ "%.1f" | format(100 * row.share) }}%</td></tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>They share no lexicon.</p>
{% endif %}
<h2>Which patches activated a lexicon</h2>
<p>Redness is the positive logit, relative to the highest over the patches of that lexicon; the frame marks the token
with the highest logit.</p>
<ul class="maps">
{% for map in heat_maps %}
<li><figure><img src="{{ map.png }}" alt="heat map of {{ map.lexicon }}">
<figcaption><b><bdi>{{ map.lexicon }}</bdi></b>, weight {{ "%.3f" | format(map.weight) }}:
{% if map.patch %}patch in row {{ map.patch[0] + 1 }}, column {{ map.patch[1] + 1 }}
{%- else %}token {{ map.token + 1 }}, not a patch{% endif %}</figcaption></figure></li>
{% endfor %}
</ul>
</body>
</html>
"""


def page(about: dict, seen: dict, image: np.ndarray) -> str:
    """The page of a `bench.tasks.views.lexicons.view`. All values are escaped, and no script can run.

    about: image, corpus, split, text and checkpoint. image: uint8 (P, P, 3).
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    maps = [
        heat | {"png": _data_uri(heat_png(image, np.array(heat["patches"]), heat["patch"]))}
        for heat in seen["heat_maps"]
    ]
    style_hash = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    values = {"about": about, "picture": _data_uri(_png(Image.fromarray(image)))}
    values |= {"policy": Markup(POLICY.format(style_hash)), "style": Markup(STYLE)}  # ours; the hash permits it
    return environment.from_string(PAGE).render(**seen | {"heat_maps": maps} | values)


def heat_png(image: np.ndarray, patches_HW: np.ndarray, patch: tuple[int, int] | None) -> bytes:
    """PNG of the image, faded, with red where logits are positive and a frame around the winning patch."""
    heat_HW = np.rint(255 * shares(patches_HW)).astype(np.uint8)
    mask = Image.fromarray(heat_HW).resize((SHOWN, SHOWN), Image.Resampling.NEAREST)
    under = Image.fromarray(image).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    under = Image.blend(under, under.convert("L").convert("RGB"), DIMMED)
    shown = Image.composite(Image.blend(under, Image.new("RGB", under.size, HOT), 0.75), under, mask)
    if patch is not None:
        (row, column), (height, width) = patch, patches_HW.shape
        left, top = column * SHOWN // width, row * SHOWN // height
        right, bottom = (column + 1) * SHOWN // width - 1, (row + 1) * SHOWN // height - 1
        ImageDraw.Draw(shown).rectangle((left, top, right, bottom), outline=WINNER, width=2)
    return _png(shown)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
