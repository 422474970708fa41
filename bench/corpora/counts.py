"""The number of images asked for: a number, or all of a split."""

from bench.corpora import Corpus, check_split
from bench.store.progress import progress
from models.errors import InputError

ALL = "all"
"""In place of a number of images: all of a split."""


def count(corpus: Corpus, split: str, images: int | str) -> int:
    """The number of images asked for: `images`, or for "all" that of the whole split, which decodes it once.

    Raises InputError for an unknown split, and for all images of an endless or empty one.
    """
    check_split(corpus, split)
    if images != ALL:
        return images
    if _is_endless(corpus):
        raise InputError(f"--images all: corpus {corpus.name} is endless; give a number")
    found = sum(1 for _ in progress(corpus.images(split), desc=f"counting {split}", unit="image"))
    if not found:
        raise InputError(f"--images all: split {split} of corpus {corpus.name} has no image that can be decoded")
    return found


def _is_endless(corpus: Corpus) -> bool:
    return getattr(corpus, "endless", False)
