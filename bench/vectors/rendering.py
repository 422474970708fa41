"""Pictures of a corpus in batches that are always cut at the same places."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.errors import InputError

BATCH = 128
Span = tuple[str, int, int]
"""Images first..last-1 of a split."""


@dataclass(frozen=True)
class Pictures:
    """ids: of each picture; of_size: uint8 (B, P, P, 3) by P, one for each size asked for."""

    ids: list[str]
    of_size: dict[int, np.ndarray]


def batch_spans(slices: Sequence[tuple[str, int]], start: int = 0) -> Iterator[list[Span]]:
    """What each batch of 128 is made of, the last one shorter: the images of `slices` (split, count) one after the other, from `start` on."""
    ends = list(itertools.accumulate(count for _, count in slices))
    places = [(split, end - count, end) for (split, count), end in zip(slices, ends, strict=True)]
    for first in range(start, ends[-1], BATCH):
        last = first + BATCH
        spans = ((split, max(first, begin) - begin, min(last, end) - begin) for split, begin, end in places)
        yield [(split, begin, end) for split, begin, end in spans if begin < end]


def render(corpus, spans: Sequence[Span], sizes: set[int]) -> Pictures:
    """The pictures of a batch, squeezed to P x P pixels (bicubic) where the corpus has other sizes.

    Raises InputError when a split has too few images.
    """
    ids, of_size = [], {pixels: [] for pixels in sizes}
    for split, first, last in spans:
        before = len(ids)
        for image_id, picture in corpus.images(split, first, last):
            ids.append(image_id)
            for pixels, pictures in of_size.items():
                pictures.append(_resized(picture, pixels))
        if len(ids) - before != last - first:
            raise InputError(
                f"corpus {corpus.name}: split {split} has {first + len(ids) - before} images, expected at least {last}"
            )
    return Pictures(ids, {pixels: np.stack(pictures) for pixels, pictures in of_size.items()})


def _resized(picture: np.ndarray, pixels: int) -> np.ndarray:
    if picture.shape == (pixels, pixels, 3):
        return picture
    return np.asarray(Image.fromarray(picture).convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC))
