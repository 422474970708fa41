"""Pictures with one class each: those of a corpus by its own facts, and a folder with one sub-folder for each class."""

import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.corpora.readers.decode import BrokenImage, decode
from bench.corpora.scenes.layout import COLOURS, TIMES
from bench.store import config
from bench.tasks.timing import evenly
from bench.vectors.encode_pass import batches
from bench.vectors.rendering import render
from models.errors import InputError
from models.files import sha256

log = logging.getLogger(__name__)

SEARCHED = 50  # scenes looked at for each one asked for, before a kind of class is measured on fewer
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as torchvision's ImageFolder

Numbered = Iterable[tuple[int, np.ndarray]]
"""Pictures (P, P, 3) uint8, each with its number."""


@dataclass(frozen=True)
class Labelled:
    """Pictures with one class each. `kind` says what the classes are.

    numbers: (N,) int64, ascending, of each picture in its source; ids: N strings; labels: (N,) int64, places in `classes`.
    """

    kind: str
    classes: list[str]
    numbers: np.ndarray
    ids: list[str]
    labels: np.ndarray


class FactsOf:
    """Pictures of a corpus, labelled by the corpus's own facts. Raises InputError when it has none."""

    def __init__(self, corpus):
        if not hasattr(corpus, "facts"):
            raise InputError(
                f"corpus {corpus.name}: nothing says what its pictures show; expected scenes, or --folder with a sub-folder per class"
            )
        self.corpus, self.name, self.fingerprint = corpus, corpus.name, corpus.fingerprint

    def labelled(self, split: str, images: int) -> list[Labelled]:
        """For each kind of class the first `images` scenes that have one; a kind without any is left out with a warning.

        A kind with fewer among the first 50 x `images` scenes has those.
        """
        corpus = self.corpus
        classes = {
            "concept": list(corpus.concepts),
            "place": list(corpus.pack.places),
            "time": list(TIMES),
            "colour": list(COLOURS),
        }
        places = {kind: {name: place for place, name in enumerate(names)} for kind, names in classes.items()}
        found = {kind: [] for kind in classes}
        for i in range(SEARCHED * images):
            scene = corpus.facts(split, i)
            (only,) = scene.groups if len(scene.groups) == 1 else (None,)
            names = {"place": scene.place, "time": scene.time} | (
                {"concept": only.concept, "colour": only.colour} if only else {}
            )
            for kind, name in names.items():
                if name is not None and len(found[kind]) < images:
                    found[kind].append((i, places[kind][name]))
            if all(len(scenes) == images for scenes in found.values()):
                break
        for kind in [kind for kind, scenes in found.items() if not scenes]:
            log.warning("zero-shot: no scene of %s has a %s, so it is not measured", split, kind)
            del found[kind]
        return [
            _labelled(kind, classes[kind], scenes, lambda i: corpus.image_id(split, i))
            for kind, scenes in found.items()
        ]

    def pictures(self, split: str, numbers: list[int], pixels: int) -> Numbered:
        for batch in batches(numbers):
            spans = [(split, number, number + 1) for number in batch]
            yield from zip(batch, render(self.corpus, spans, {pixels}).of_size[pixels], strict=True)


class ImageFolder:
    """A folder with one sub-folder of pictures for each class, at any depth below it, as torchvision's class of that name reads it.

    The name of a class is that of its sub-folder, with spaces for underscores. Raises InputError when there are fewer than two classes,
    or a class without files that are pictures by their names.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.name = f"folder:{self.folder.resolve().name}"
        if not self.folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected one with a sub-folder of pictures for each class")
        inside = sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        self.classes = [path.name.replace("_", " ") for path in inside]
        if len(set(self.classes)) < max(2, len(inside)):
            raise InputError(
                f"{folder}: {len(inside)} sub-folders; expected at least two, one for each class, with different names"
            )
        self.files, self.labels = [], []
        for label, path in enumerate(inside):
            pictures = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
            if not pictures:
                raise InputError(f"{path}: no pictures; expected files that end in {', '.join(EXTENSIONS)}")
            self.files += pictures
            self.labels += [label] * len(pictures)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the names and the content of all files."""
        return config.fingerprint([[self._id(number), sha256(file)] for number, file in enumerate(self.files)])

    def labelled(self, split: str, images: int | None) -> list[Labelled]:
        """So many pictures, evenly spaced through all (None: all)."""
        which = evenly(len(self.files), len(self.files) if images is None else images)
        return [_labelled("folder", self.classes, [(i, self.labels[i]) for i in which], self._id)]

    def pictures(self, split: str, numbers: list[int], pixels: int) -> Numbered:
        """Those that can be decoded; the others are named in a warning."""
        for number in numbers:
            try:
                yield number, decode(self.files[number].read_bytes(), str(self.files[number]), pixels)
            except BrokenImage as error:
                log.warning("left out: %s", error)

    def _id(self, number: int) -> str:
        return self.files[number].relative_to(self.folder).as_posix()


def _labelled(kind: str, classes: list[str], numbered: list[tuple[int, int]], id_of: Callable[[int], str]) -> Labelled:
    numbers, labels = np.array(numbered, np.int64).reshape(-1, 2).T
    return Labelled(kind, classes, numbers, [id_of(number) for number in numbers.tolist()], labels)
