"""Numbers of images: all of a split, and whether its splits have as many as a configuration asks for."""

import itertools
from collections.abc import Sequence

from bench.corpora import WHOLE, Corpus, check_split
from bench.store.progress import progress
from models.errors import InputError

ALL = "all"
"""In place of a number of images: all of a split."""


def count(corpus: Corpus, split: str, images: int | str) -> int:
    """The number of images asked for: `images`, or for "all" that of the whole split, which decodes it once.

    Raises InputError for an unknown split, and for all images of an endless or empty one.
    """
    check_split(corpus, split, 1 if images == ALL else images)
    if images != ALL:
        return images
    if _is_endless(corpus):
        raise InputError(f"--images all: corpus {corpus.name} is endless; give a number")
    found = sum(1 for _ in progress(corpus.images(split), desc=f"counting {split}", unit="image"))
    if not found:
        raise InputError(f"--images all: split {split} of corpus {corpus.name} has no image that can be decoded")
    return found


def check_splits(corpus: Corpus, needed: Sequence[tuple[str, str, int]]) -> None:
    """Compares the splits of a corpus with what a configuration asks for, before hours of work that need them.

    train is compared with the number of images listed, if known. Other splits are decoded up to the number asked for,
    since a broken image does not count. An endless corpus has every number.

    needed: (split, key of the configuration, number of images). Raises InputError, which names each missing or small
    split and what to set.
    """
    if tuple(corpus.splits) == (WHOLE,):
        raise InputError(
            f"corpus {corpus.name}: its only split is all, so a model would be measured on what it was trained on; "
            f"expected {', '.join(dict.fromkeys(split for split, _, _ in needed))}: leave split: all out of the corpus"
        )
    if missing := dict.fromkeys(split for split, _, _ in needed if split not in corpus.splits):
        raise InputError(
            f"corpus {corpus.name}: no split {' and no split '.join(missing)} (it has {', '.join(corpus.splits)}); "
            f"expected {', '.join(dict.fromkeys(split for split, _, _ in needed))}: name them so in the data, or name "
            "none, and 5% of the images become val and 5% test"
        )
    if _is_endless(corpus):
        return
    problems, fitting = [], {}
    for split, key, asked in needed:
        if (found := _found(corpus, split, asked)) < asked:
            problems.append(f"{key}: {asked} requested, but split {split} has {found} images")
            fitting[key] = min(found, fitting.get(key, found))
    if problems:
        settings = " ".join(f"{key}={found}" for key, found in fitting.items() if found)
        raise InputError(f"corpus {corpus.name}: {'; '.join(problems)}{'; set ' if settings else ''}{settings}")


def _found(corpus: Corpus, split: str, asked: int) -> int:
    """The number of images of a split, counted up to `asked`."""
    if split == "train":
        return getattr(corpus, "sizes", {}).get(split, asked)
    images = progress(corpus.images(split), total=asked, desc=f"checking {split}", unit="image")
    return sum(1 for _ in itertools.islice(images, asked))


def _is_endless(corpus: Corpus) -> bool:
    return getattr(corpus, "endless", False)
