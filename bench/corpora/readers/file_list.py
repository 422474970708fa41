"""Finds the files of the images that an annotation file lists. Missing ones are left out when the corpus opens."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.corpora.readers.left_out import LeftOut
from bench.corpora.readers.local import URL, check_local
from bench.corpora.readers.stored import Location, StoredImage, ordered_splits
from models.errors import InputError


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image of an annotation file. path: relative to the root, or absolute. captions: each a (caption_id, text).

    split: None if it has no given one.
    """

    split: str | None
    image_id: str
    path: str
    captions: tuple[tuple[str, str], ...]


def given_path(key: str, value) -> Path:
    """A path given as a parameter of a corpus, with `~` expanded. Raises InputError for a URL too."""
    if not isinstance(value, str | Path) or not str(value):
        raise InputError(f"{key}: {value!r} is not a path")
    check_local(key, str(value))
    return Path(value).expanduser()


def below(root: Path, path: str) -> str:
    """The normalised path; one inside `root`, even if given from the root of the disk, is relative to it.

    So a data set has the same ids, splits and fingerprint wherever it lies.
    """
    normal = os.path.normpath(path)
    if not os.path.isabs(normal):
        return normal
    start = os.path.abspath(root)
    return os.path.relpath(normal, start) if os.path.commonpath([normal, start]) == start else normal


def locate(
    listed: Iterable[ListedImage], root: Path, annotations: Path, left_out: LeftOut
) -> tuple[dict[str, list[StoredImage]], str]:
    """The images of each split with the size of their files, and the sha256 over ids, paths, sizes and captions.

    Images whose file is missing go to `left_out`. Raises InputError if it refuses them, if no image is listed or
    left, and for a duplicate image or caption id.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the images named in {annotations}")
    splits: dict[str, list[StoredImage]] = {}
    images, captions, digest = set(), set(), hashlib.sha256()
    for item in listed:
        file = os.path.join(root, item.path)
        size, fault = (0, "a URL, not a file") if URL.match(item.path) else _size(file)
        _check_unique(images, item.image_id, "image", annotations)
        for caption_id, _ in item.captions:
            _check_unique(captions, caption_id, "caption", annotations)
        if fault:
            left_out.add(f"{file}: {fault}")
            continue
        described = repr((item.split, item.image_id, item.path, size, item.captions))
        digest.update(described.encode("utf-8", "surrogatepass"))
        splits.setdefault(item.split, []).append(StoredImage(item.image_id, item.captions, Location(file, size)))
    left_out.report(sum(map(len, splits.values())))
    if not splits:
        raise InputError(f"{annotations}: lists no images")
    return ordered_splits(splits), digest.hexdigest()


def _size(file: str) -> tuple[int, str]:
    """Size of a file, and the reason why it cannot be used, or ""."""
    try:
        size = os.stat(file).st_size
        return size, "" if os.path.isfile(file) else "not a file"
    except OSError as error:
        return 0, error.strerror
    except ValueError as error:  # a NUL in the name
        return 0, str(error)


def _check_unique(seen: set, value: str, what: str, annotations: Path) -> None:
    if value in seen:
        raise InputError(f"{annotations}: duplicate {what} id {value!r}; expected unique ids in the whole corpus")
    seen.add(value)
