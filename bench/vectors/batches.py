"""Batches of a corpus, cut at the same places in every run, with images at the sizes that models need."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from models.errors import InputError

Item = TypeVar("Item")
BATCH = 128
Span = tuple[str, int, int]
"""Images first..last-1 of a split."""


@dataclass(frozen=True)
class ImageBatch:
    """ids: of the B images. of_size: for each requested size P the images, uint8 (B, P, P, 3)."""

    ids: list[str]
    of_size: dict[int, np.ndarray]


def batches(items: Iterable[Item], size: int = BATCH) -> Iterator[list[Item]]:
    """Yields lists of `size` items; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def batch_spans(slices: Sequence[tuple[str, int]], start: int = 0) -> Iterator[list[Span]]:
    """Yields the spans of each batch of 128 images of `slices`, from image `start` on; the last may be shorter.

    slices: (split, count), concatenated in order.
    """
    ends = list(itertools.accumulate(count for _, count in slices))
    places = [(split, end - count, end) for (split, count), end in zip(slices, ends, strict=True)]
    for first in range(start, ends[-1], BATCH):
        last = first + BATCH
        spans = ((split, max(first, begin) - begin, min(last, end) - begin) for split, begin, end in places)
        yield [(split, begin, end) for split, begin, end in spans if begin < end]


def render(corpus, spans: Sequence[Span], sizes: set[int], asked: Mapping[str, int] | None = None) -> ImageBatch:
    """The images of the spans at each size, resized (bicubic, without crop) if the corpus has another size.

    asked: split -> number of images that the user asked for, of which the spans are a part. Raises InputError for a
    split with too few images.
    """
    ids, of_size = [], {pixels: [] for pixels in sizes}
    for split, first, last in spans:
        before = len(ids)
        for image_id, image in corpus.images(split, first, last):
            ids.append(image_id)
            for pixels, images in of_size.items():
                images.append(_resized(image, pixels))
        if first and len(ids) == before and not asked:  # nothing was read before `first` either
            raise InputError(f"corpus {corpus.name}: split {split} has no image {first}; the first is image 0")
        if len(ids) - before != last - first:
            found = first + len(ids) - before
            wanted = (asked or {}).get(split, last)
            remedy = f"; ask for at most {found}" if asked and found else ""
            raise InputError(
                f"corpus {corpus.name}: split {split} has {found} images, expected at least {wanted}{remedy}"
            )
    return ImageBatch(ids, {pixels: np.stack(images) for pixels, images in of_size.items()})


def _resized(image: np.ndarray, pixels: int) -> np.ndarray:
    if image.shape == (pixels, pixels, 3):
        return image
    return np.asarray(Image.fromarray(image).convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC))
