"""Corpora: streams of images and captions. `open_corpus` opens one by name.

A new corpus is a file with a class that follows `Corpus`, and a line in `CORPORA`. Importing this package imports no
corpus.
"""

import importlib
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from bench.store.config import parse_yaml
from models.errors import InputError, nearest

CORPORA = {
    "scenes": "bench.corpora.scenes.corpus:Scenes",
    "pictures": "bench.corpora.pictures:Pictures",
    "coco": "bench.corpora.readers.karpathy:Coco",
    "flickr30k": "bench.corpora.readers.karpathy:Flickr30k",
    "flickr8k": "bench.corpora.readers.flickr8k:Flickr8k",
    "folder": "bench.corpora.readers.folder:Folder",
    "parquet": "bench.corpora.readers.parquet:Parquet",
    "webdataset": "bench.corpora.readers.webdataset:WebDataset",
}
"""Name -> "module:Class". The class has the same `name`."""

WHOLE = "all"
"""The split of all images, of a corpus in the user's files that comes without splits."""
KEYWORD = inspect.Parameter.KEYWORD_ONLY
PATTERN = re.compile(r"[*?\[{]")
SHARD = (".tar", ".tar.gz", ".tgz")


@runtime_checkable
class Corpus(Protocol):
    """Image-caption pairs in splits; an image usually has several captions.

    name: what records call the data; `open_corpus` sets it to the title. fingerprint: sha256 of everything that
    decides the images and captions. data_id, where there is one: the same at any resolution (see `data_id`). Slices
    start..stop-1 count images, for captions too; stop=None reads to the end of the split (`scenes` has none, and says
    so by `endless = True`).

    Optional: `facts(split, i)` and `truth_words(split, i)`, what image i shows; `hard_negatives(split, start, stop)`.
    """

    name: str
    fingerprint: str
    splits: tuple[str, ...]

    def images(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (image_id, uint8 (H, W, 3)) of images start..stop-1."""
        ...

    def captions(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, str, str]]:
        """Yields (caption_id, text, image_id) of the captions of images start..stop-1."""
        ...


def read_spec(text: str | None) -> str | dict | None:
    """Parses `--corpus`: a name, a mapping such as `{name: scenes, concepts: 200}`, or None. Raises InputError."""
    return parse_yaml(text, f"--corpus {text}") if text and text.startswith("{") else text


def corpus_class(name: str) -> type:
    """The class of a corpus. Raises InputError for an unknown name, with the nearest known one."""
    if not isinstance(name, str) or name not in CORPORA:
        raise InputError(f"corpus: unknown name {name!r}{nearest(str(name), CORPORA)}")
    module, _, cls = CORPORA[name].partition(":")
    return getattr(importlib.import_module(module), cls)


def open_corpus(spec: dict | str) -> Corpus:
    """Opens a corpus from its name, or from a mapping of its name and parameters: {"name": "scenes", "concepts": 200}.

    Raises InputError for an unknown name or parameter (with the nearest known one) and for a missing parameter.
    """
    parameters = {"name": spec} if isinstance(spec, str) else dict(spec)
    _check_colons(parameters)
    name = parameters.pop("name", None)
    cls = corpus_class(name)
    title = parameters.pop("title", None)
    known = {**inspect.signature(cls).parameters, "title": inspect.Parameter("title", KEYWORD, default=None)}
    for key in parameters:
        if key not in known:
            raise InputError(f"corpus {name}: unknown parameter {key!r}{nearest(str(key), known)}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in parameters:
            raise InputError(f"corpus {name}: {key} is missing; give it as '{{name: {name}, {key}: ...}}'")
    if title is not None and not (
        isinstance(title, str) and title.isprintable() and title.strip() and ":" not in title
    ):
        raise InputError(f"corpus {name}: title {title!r}: expected a name on one line, without ':'")
    corpus = cls(**parameters)
    corpus.name = title_of(spec)
    corpus.spec = spec  # a process on another machine opens the corpus again from it
    return corpus


def title_of(spec: dict | str) -> str:
    """What records call a corpus: its `title`; without one, the stem of the table or the folder of the shards of a
    user's corpus, and the reader's name of any other. Reads no file.
    """
    if isinstance(spec, str):
        return spec
    name, given = str(spec.get("name", "")), spec.get("title")
    named_after = getattr(corpus_class(name), "named_after", None) if name in CORPORA else None
    if given or named_after not in spec:
        return str(given or name)
    return (_stem(spec[named_after]) or name).replace(":", "-")


def _stem(named_after) -> str:
    """The stem of one file; of patterns and several files, the name of the innermost folder that holds them all."""
    of_splits = named_after.values() if isinstance(named_after, dict) else [named_after]
    files = [str(file) for of in of_splits for file in ([of] if isinstance(of, str | Path) else of)]
    if len(files) == 1 and not PATTERN.search(files[0]) and not files[0].endswith(SHARD):
        return Path(files[0]).stem
    folders = [os.path.abspath(os.path.dirname(PATTERN.split(os.path.expanduser(file))[0])) for file in files]
    return Path(os.path.commonpath(folders)).name


def data_id(corpus) -> str:
    """Id of the images and captions in records. Unlike the fingerprint, it is the same at every resolution, so models
    of different resolutions are compared on one corpus.
    """
    return getattr(corpus, "data_id", corpus.fingerprint)


def _check_colons(tree: dict) -> None:
    """Raises InputError for `{name:folder}`, which YAML reads as a key without a value."""
    for key, value in tree.items():
        if isinstance(value, dict):
            _check_colons(value)
        elif value is None and ":" in str(key):
            raise InputError(f"corpus: {key!r}: expected a space after the colon: {str(key).replace(':', ': ', 1)}")


def chosen_split(corpus: Corpus, given: str | None = None) -> str:
    """The split that a command reads: the given one, else `all` of a corpus without another split, else test."""
    return given or (WHOLE if tuple(corpus.splits) == (WHOLE,) else "test")


def check_split(corpus: Corpus, split: str, images: int = 0) -> None:
    """Raises InputError for an unknown split, and for one that lists fewer than `images` images.

    The message has the sizes of all splits whose sizes are known. Nothing is decoded: a listed image may be broken.
    """
    hidden = getattr(corpus, "hidden_splits", ())
    known, sizes = (*corpus.splits, *hidden), getattr(corpus, "sizes", {})
    listed = f"; images listed: {', '.join(f'{name} {size:,}' for name, size in sizes.items())}" if sizes else ""
    if WHOLE in hidden:
        listed += f"; the split {WHOLE!r} has every image"
    elif split == WHOLE and split not in known and getattr(corpus, "can_be_whole", False):
        listed += "; for every image give split: all in the corpus"
    if split not in known:
        raise InputError(f"corpus {corpus.name}: unknown split {split!r}{nearest(str(split), known)}{listed}")
    if sizes.get(split, images) < images:
        found = f"corpus {corpus.name}: split {split} has {sizes[split]:,} images, expected at least {images:,}"
        raise InputError(f"{found}; set fewer images or another split{listed}")


def check_slice(corpus: Corpus, split: str, start: int, stop: int | None) -> None:
    """Raises InputError for an unknown split, and for a slice of images that is not 0 <= start <= stop."""
    check_split(corpus, split)
    if start < 0 or (stop is not None and stop < start):
        raise InputError(f"corpus {corpus.name}: images {start} to {stop} of {split}: expected 0 <= start <= stop")


def check_integer(key: str, value) -> None:
    """Raises InputError for a parameter of a corpus that is not an integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{key}: {value!r} is not an integer")
