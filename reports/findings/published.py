"""Published values that pages print beside measured ones. They are no records and enter no comparison."""

from typing import NamedTuple


class Published(NamedTuple):
    """Values of a model on test of a corpus, as its source prints them, as shares. source: work, and how it scored."""

    corpus: str
    model: str
    values: dict[str, float]
    source: str


TEST_IMAGES = {"flickr8k": 1_000}
"""Images of test that published recall is over."""


def _recall(*percent: float) -> dict[str, float]:
    return {f"recall@{k}": value / 100 for k, value in zip((1, 5, 10), percent, strict=True)}


RECALL = (
    Published("flickr8k", "CLIP ViT-B/32, zero-shot", _recall(51.1, 77.9, 86.4), "as a public repository reports it"),
    Published("flickr8k", "CCA on VGG features", _recall(19.1, 45.3, 60.4), "Klein et al., 2015"),
)
"""Text to image."""

JUDGEMENTS = (
    Published(
        "flickr8k",
        "CLIPScore (CLIP ViT-B/32)",
        {"judgements_tau_c": 0.512, "judgements_tau_b": 0.344},
        "Hessel et al., 2021",  # arXiv 2104.08718
    ),
)


def of_corpus(published: tuple[Published, ...], names: set[str]) -> list[Published]:
    """Those of the corpora with these names."""
    return [one for one in published if one.corpus in names]
