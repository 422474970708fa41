"""Images as words: the strongest lexicons of ten test images, their captions, and the results of typed words."""

import pandas as pd

from reports.pages import Section
from reports.pages.ablations.table import word_cells
from reports.pages.inside.examples import word_examples
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render import images
from reports.render.tables import clean, percent

MATCHED = 4  # matching words named below a result


def section(evidence: Evidence) -> Section:
    """The reference, and beside it the variant with the words of captions as a target, if it was measured."""
    kept = {name: word_examples(evidence, name) for name in (evidence.reading.reference, evidence.reading.words)}
    kept = {name: examples for name, examples in kept.items() if examples is not None}
    shown: dict[str, dict] = {}
    for name, examples in kept.items():
        for query_id in dict.fromkeys(examples.query_id):
            mine = examples[examples.query_id == query_id]
            for own in mine[mine.words.notna()].head(1).itertuples():
                of_image = shown.setdefault(own.image_id, _image(own))
                of_image["sides"].append({"variant": name} | _side(evidence, own, mine))
    data = {"has_truth": any(side["shown"] is not None for image in shown.values() for side in image["sides"])}
    data |= {"images": list(shown.values())[: evidence.reading.examples], "means": [_means(evidence, v) for v in kept]}
    return Section("words", "Images as words", data=data, folder="inside")


def _image(own) -> dict:
    captions = parsed(own.captions)
    captions = captions if isinstance(captions, list) else []
    about = {"name": clean(own.image_id), "image": images.data_uri(own.image), "score": "", "sides": []}
    return about | {"captions": [clean(text) for text in captions if isinstance(text, str)]}


def _side(evidence: Evidence, own, typed: pd.DataFrame) -> dict:
    """The lexicons of an image under one model, and what its first caption retrieves as typed words."""
    words, results = images.words(parsed(own.words)), typed[typed["rank"].notna()].sort_values("rank")
    return {
        "words": words,
        "said": sum(word["is_said"] for word in words),
        "shown": None if any(word["is_shown"] is None for word in words) else sum(word["is_shown"] for word in words),
        "query": clean(own.query),
        "rank": None if pd.isna(own.rank) else int(own.rank),
        "results": [
            {
                "rank": int(item.rank),
                "relevant": bool(item.relevant),
                "image": images.data_uri(item.image),
                "name": clean(item.image_id),
                "score": f"{item.score:.3g}",
                "matched": [lexicon["name"] for lexicon in images.lexicons(parsed(item.lexicons))][:MATCHED],
            }
            for item in results.head(evidence.reading.results).itertuples()
        ],
    }


def _means(evidence: Evidence, variant: str) -> dict[str, str]:
    """The measures of words over all test images, as text."""
    cells = word_cells(evidence, variant)
    texts = {key.removeprefix("words "): cell.missing or f"{percent(cell.value)} %" for key, cell in cells.items()}
    return {"variant": variant} | texts
