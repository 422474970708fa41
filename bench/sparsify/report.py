"""The page of a run, `report.md`, from the values of `report.json`, and the table of several runs.

Where a compressed dense index, or units that are not words, reach more than lexicons of words, the page says it first.
"""

import html
from collections.abc import Iterable, Mapping, Sequence

DIRECTIONS = {"text_to_image": "text to image", "image_to_text": "image to text"}
KEPT = ("16", "32", "64", "all")
MAIN = "32"


def page(report: Mapping) -> str:
    """The page as Markdown."""
    found = report["measured"]
    title = f"# {report['objective']}: {found['dimension']['dense']} dense dimensions as lexicons"
    given, lexicons = found["given"], found["dimension"]["lexicons"]
    about = (
        f"{given['images']:,} images and {given['texts']:,} texts, {lexicons:,} lexicons, "
        f"{found['active']['image']:.0f} in an image and {found['active']['text']:.0f} in a text. "
        f"Held out: {found['images']:,} images, {found['texts']:,} texts. "
        f"Training: {report['train_seconds']:.0f} s of CPU, seed {report['seed']}."
    )
    parts = [title, verdict(found), about, "## Recall, held-out part", _recall_table(found["recall"])]
    parts += [
        "R@K is Success@K. Rows of lexicons: 8-bit impacts of the strongest lexicons of a document. PQ and RaBitQ: the "
        "dense vectors compressed, with exact search over the codes."
    ]
    parts += [f"## Index of all images, threads: {report['threads']}", _index_table(found)]
    if "words" in found:
        parts += ["## Words", _words_table(found)]
    parts += ["## Ten images", *_images(found["shown"])]
    return "\n\n".join(parts) + "\n"


def verdict(found: Mapping) -> str:
    """What is kept of dense R@1, and first whether compressed dense vectors of about the same bytes are better."""
    recall, image = found["recall"], "text_to_image"
    dense, sparse = recall["dense"][image]["R@1"], recall[MAIN][image]["R@1"]
    others = {name: row[image]["R@1"] for name, row in recall.items() if "bytes" in name}
    better = {name: value for name, value in others.items() if value > sparse}
    share = f" ({sparse / dense:.0%})" if dense else ""
    line = f"With 32 lexicons an image, R@1 is {percent(sparse)} of {percent(dense)} dense{share}, text to image."
    if better:
        names = "; ".join(f"{name}: {percent(value)}" for name, value in better.items())
        return f"**Compressed dense vectors reach more R@1 than the lexicons: {names}.** {line}"
    return line


def percent(share: float) -> str:
    """A share as per cent with one digit."""
    return f"{100 * share:.1f}%"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns but the first are right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _recall_table(recall: Mapping) -> str:
    head = ["vectors", *(f"{name}, R@{k}" for name in DIRECTIONS.values() for k in (1, 5, 10))]
    rows = []
    for name, row in recall.items():
        label = f"{name} lexicons" if name in KEPT else name
        cells = [row[direction].get(f"R@{k}") for direction in DIRECTIONS for k in (1, 5, 10)]
        rows.append([label, *("-" if value is None else percent(value) for value in cells)])
    return table(head, rows)


def _index_table(found: Mapping) -> str:
    rows, count = [], found["given"]["images"]
    for name, one in found["index"].items():
        rates = one["qps"]
        each = f"{one['bytes'] / count:,.1f}"
        rows.append([name, f"{one['bytes']:,}", each, f"{rates['single']:,.0f}", f"{rates['batched']:,.0f}"])
    return table(["engine", "bytes", "bytes an image", "queries/s, one at a time", "queries/s, batched"], rows)


def _words_table(found: Mapping) -> str:
    words, typed = found["words"], found["typed"]
    rows = [[f"weight of an image on words of its captions, {k}", percent(words["image"][k])] for k in KEPT]
    rows += [
        ["the same, 32, without words of more than a tenth of all captions (a, of)", percent(words["content"])],
        ["weight of a text on its own words", percent(words["text"])],
        ["images whose strongest lexicon is a caption word", percent(words["strongest_is_word"])],
        ["R@1 of typed words (no text encoder), 32 lexicons", percent(typed["R@1"])],
    ]
    return table(["measure", "value"], rows)


def _images(shown: Iterable[Mapping]) -> Iterable[str]:
    for one in shown:
        words = ", ".join(
            f"**{_plain(name)}** {weight:.2f}" if has else f"{_plain(name)} {weight:.2f}"
            for name, weight, has in one["lexicons"]
        )
        yield f"`{one['image']}`: {_plain(one['captions'][0]) if one['captions'] else 'no caption'}"
        yield f"> {words or 'no lexicon'}"
    yield "Bold: a word of one of its captions."


def _plain(text: str) -> str:
    """Text without Markdown or HTML of its own."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]#|" else letter for letter in html.escape(text, quote=False))
