"""From a list of pictures and captions to the files: every file is looked for when the corpus is opened, not hours later."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.corpora.readers.stored import Place, Stored, in_order
from models.errors import InputError


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture as an annotation file lists it. path: relative to the root, or absolute."""

    split: str
    image_id: str
    path: str
    captions: tuple[tuple[str, str], ...]


def given_path(key: str, value) -> Path:
    """A path from a corpus's parameters, with `~` resolved. Raises InputError."""
    if not isinstance(value, str | Path) or not str(value):
        raise InputError(f"{key}: {value!r} is not a path")
    return Path(value).expanduser()


def located(listed: Iterable[Listed], root: Path, annotations: Path) -> tuple[dict[str, list[Stored]], str]:
    """The pictures of each split with the size of their files, and the sha256 over ids, paths, sizes and captions.

    Raises InputError when there is no picture at all, when a file is missing (the first, and how many), and when an id of a picture or a
    caption comes twice.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the pictures named in {annotations}")
    splits: dict[str, list[Stored]] = {}
    images, captions, missing, digest = set(), set(), [], hashlib.sha256()
    for item in listed:
        place = os.path.join(root, item.path)
        size = 0
        try:
            size = os.stat(place).st_size
            if not os.path.isfile(place):
                missing.append((place, "not a file"))
        except OSError as error:
            missing.append((place, error.strerror))
        except ValueError as error:  # a NUL in the name
            missing.append((place, str(error)))
        _once(images, item.image_id, "picture", annotations)
        for caption_id, _ in item.captions:
            _once(captions, caption_id, "caption", annotations)
        digest.update(
            repr((item.split, item.image_id, item.path, size, item.captions)).encode("utf-8", "surrogatepass")
        )
        splits.setdefault(item.split, []).append(Stored(item.image_id, item.captions, Place(place, size)))
    if missing:
        (place, why), count = (
            missing[0],
            f"{len(missing)} of {len(images)} pictures named in {annotations} cannot be found",
        )
        raise InputError(f"{place if place.isprintable() else ascii(place)}: {why}; {count}")
    if not splits:
        raise InputError(f"{annotations}: names no pictures")
    return in_order(splits), digest.hexdigest()


def _once(seen: set, value: str, what: str, annotations: Path) -> None:
    if value in seen:
        raise InputError(
            f"{annotations}: the {what} {value!r} comes twice; expected ids that are unique in the whole corpus"
        )
    seen.add(value)
