"""Corpora: streams of images and captions. `open_corpus` builds one by name; a new corpus is a file and a line in `CORPORA`."""

import inspect
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from bench.corpora.pictures import Pictures
from bench.corpora.readers.folder import Folder
from bench.corpora.readers.karpathy import Coco, Flickr30k
from bench.corpora.readers.stored import StoredCorpus
from bench.corpora.readers.webdataset import WebDataset
from bench.corpora.scenes.corpus import Scenes
from bench.store.config import parse_yaml
from models.errors import InputError, nearest


@runtime_checkable
class Corpus(Protocol):
    """Image-caption pairs in splits. Several captions per image are normal."""

    name: str
    fingerprint: str  # sha256 over everything that decides what the corpus yields
    splits: tuple[str, ...]

    def images(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """(image_id, uint8 (H, W, 3))."""
        ...

    def captions(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, str, str]]:
        """(caption_id, text, image_id)."""
        ...


CORPORA = {corpus.name: corpus for corpus in (Scenes, Pictures, Coco, Flickr30k, Folder, WebDataset)}


def read_spec(text: str) -> str | dict:
    """What a command line says of a corpus: its name, or a mapping such as `{name: scenes, concepts: 200}`. Raises InputError."""
    return parse_yaml(text, f"--corpus {text}") if text.startswith("{") else text


def open_corpus(spec: dict | str) -> Corpus:
    """Build a corpus from its name, or from a dict of `name` and its parameters: {"name": "scenes", "pixels": 64, "concepts": 200}.

    Raises InputError for an unknown name or parameter, naming the nearest known one, and for a parameter that is missing.
    """
    parameters = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = parameters.pop("name", None)
    if not isinstance(name, str) or name not in CORPORA:
        raise InputError(f"corpus: {name!r} is unknown{nearest(str(name), CORPORA)}")
    known = inspect.signature(CORPORA[name]).parameters
    for key in parameters:
        if key not in known:
            raise InputError(f"corpus {name}: {key!r} is unknown{nearest(str(key), known)}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in parameters:
            raise InputError(f"corpus {name}: {key} is missing; give it as '{{name: {name}, {key}: ...}}'")
    corpus = CORPORA[name](**parameters)
    if isinstance(corpus, StoredCorpus):
        corpus.spec = spec
    return corpus


def check_split(corpus, split: str) -> None:
    """Raises InputError for a split that the corpus does not have, naming the nearest."""
    if split not in corpus.splits:
        raise InputError(f"corpus {corpus.name}: unknown split '{split}'{nearest(str(split), corpus.splits)}")
