"""Images with one class each: of a corpus, labelled by its own facts, or of a folder with one sub-folder per class."""

import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.corpora import data_id
from bench.corpora.scenes.columns import COLOURS, TIMES
from bench.store import config
from bench.vectors.batches import batches, render
from bench.vectors.statistics import evenly
from models.errors import InputError
from models.files import sha256

log = logging.getLogger(__name__)

SEARCHED = 50  # scenes searched per image wanted, before a kind of class is measured on fewer images
# Those of torchvision's ImageFolder, and of the other formats that `decode` reads:
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
EXTENSIONS += (".gif", ".avif", ".heic", ".heif")

Numbered = Iterable[tuple[int, np.ndarray]]
"""Images (P, P, 3) uint8, each with its number."""


@dataclass(frozen=True)
class Labelled:
    """Images with one class each.

    kind: what the classes are, such as "concept". numbers: (N,) int64, ascending, of each image in its source; ids:
    N strings; labels: (N,) int64, indexes into `classes`.
    """

    kind: str
    classes: list[str]
    numbers: np.ndarray
    ids: list[str]
    labels: np.ndarray


class FactsOf:
    """Images of a corpus, labelled by the corpus's own facts. Raises InputError if it has no facts."""

    def __init__(self, corpus):
        if not hasattr(corpus, "facts"):
            raise InputError(
                f"corpus {corpus.name}: has no facts about its images; expected scenes, or --folder with a sub-folder "
                "per class"
            )
        self.corpus, self.name, self.fingerprint = corpus, corpus.name, data_id(corpus)

    def labelled(self, split: str, images: int) -> list[Labelled]:
        """Per kind of class, the first `images` scenes with a label of that kind, from the first 50 x `images` scenes.

        A kind may have fewer; a kind without any scene is left out with a warning.
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
            log.warning("zero-shot: no scene of %s has a %s; not measured", split, kind)
            del found[kind]
        return [
            _labelled(kind, classes[kind], scenes, lambda i: corpus.image_id(split, i))
            for kind, scenes in found.items()
        ]

    def images(self, split: str, numbers: list[int], pixels: int) -> Numbered:
        """The images with these numbers."""
        for batch in batches(numbers):
            spans = [(split, number, number + 1) for number in batch]
            yield from zip(batch, render(self.corpus, spans, {pixels}).of_size[pixels], strict=True)


class ImageFolder:
    """A folder with one sub-folder per class, images at any depth below it, as for torchvision's `ImageFolder`.

    The name of a class is that of its sub-folder, underscores replaced by spaces. Files with other endings than
    `EXTENSIONS` are left out with a warning that counts them. Raises InputError for fewer than two classes and for a
    class without image files.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.name = f"folder:{self.folder.resolve().name}"
        if not self.folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected a folder with one sub-folder of images per class")
        inside = sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        self.classes = [path.name.replace("_", " ") for path in inside]
        if len(set(self.classes)) < max(2, len(inside)):
            raise InputError(
                f"{folder}: {len(inside)} sub-folders; expected at least two, one per class, with different names"
            )
        self.files, self.labels = [], []
        others = []
        for label, path in enumerate(inside):
            files = sorted(file for file in path.rglob("*") if file.is_file())
            others += [file for file in files if file.suffix.lower() not in EXTENSIONS and file.name[0] != "."]
            files = [file for file in files if file.suffix.lower() in EXTENSIONS]
            if not files:
                raise InputError(f"{path}: no images; expected files that end in {', '.join(EXTENSIONS)}")
            self.files += files
            self.labels += [label] * len(files)
        if others:
            log.warning(
                "%s: left out, not images by their endings: %d files, such as %s", folder, len(others), others[0]
            )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the names and contents of all files."""
        return config.fingerprint([[self._id(number), sha256(file)] for number, file in enumerate(self.files)])

    def labelled(self, split: str, images: int | None) -> list[Labelled]:
        """`images` images, evenly spaced through all of them (None: all). split: not used."""
        which = evenly(len(self.files), len(self.files) if images is None else images)
        return [_labelled("folder", self.classes, [(i, self.labels[i]) for i in which], self._id)]

    def images(self, split: str, numbers: list[int], pixels: int) -> Numbered:
        """The images with these numbers; files that cannot be decoded are left out with a warning that names them."""
        from bench.corpora.readers.decode import BrokenImage, decode

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
