"""Reads the graded judgements of Flickr8k (Hodosh, Young and Hockenmaier, 2013), which lie beside its captions.

    ExpertAnnotations.txt        image, caption id, three grades from 1 (unrelated) to 4 (describes it), one per expert
    CrowdFlowerAnnotations.txt   image, caption id, share of yes, number of yes, number of no

Columns are separated by tabs. Most captions were written for another image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import InputError

GRADES = range(1, 5)
ROUNDING = 1e-3  # between a share of yes and its counts


@dataclass(frozen=True)
class Kind:
    """A kind of judgements. variant: of Kendall's tau, "b" or "c", as CLIPScore has it (Hessel et al., 2021).

    own: whether captions of the image itself count; CLIPScore leaves them out of the experts' rows.
    """

    name: str
    file: str
    columns: str
    grades: Callable[[list[str]], tuple[float, ...]]
    variant: str
    own: bool

    @property
    def metric(self) -> str:
        """Name of the metric of the records."""
        return f"judgements_tau_{self.variant}"


def _expert(fields: list[str]) -> tuple[float, ...]:
    grades = tuple(int(field) for field in fields)
    if len(grades) != 3 or not set(grades) <= set(GRADES):
        raise ValueError
    return grades


def _crowd(fields: list[str]) -> tuple[float, ...]:
    share, yes, no = float(fields[0]), *map(int, fields[1:])
    if min(yes, no) < 0 or not abs(share - yes / (yes + no)) <= ROUNDING:
        raise ValueError
    return (share,)


EXPERT = Kind(
    "expert", "ExpertAnnotations.txt", "image, caption id and three grades from 1 to 4", _expert, "c", own=False
)
CROWD = Kind(
    "crowd",
    "CrowdFlowerAnnotations.txt",
    "image, caption id, share of yes, and the numbers of yes and no that it is made of",
    _crowd,
    "b",
    own=True,
)
KINDS = (EXPERT, CROWD)


@dataclass(frozen=True)
class Judgements:
    """All rows of a file: image ids, caption ids, and grades_NS, float64, with one column per judge."""

    kind: Kind
    file: Path
    images: list[str]
    captions: list[str]
    grades_NS: np.ndarray


def find(corpus) -> dict[Kind, Path]:
    """The files of judgements of a corpus, in its folders or in a folder in one; {} for a corpus without any."""
    spec = getattr(corpus, "spec", None)
    if not isinstance(spec, dict) or spec.get("name") != "flickr8k":
        return {}
    tops = dict.fromkeys(Path(spec[key]).expanduser() for key in ("annotations", "root") if spec.get(key))
    folders = [folder for top in tops if top.is_dir() for folder in (top, *sorted(filter(Path.is_dir, top.iterdir())))]
    found = {kind: [folder / kind.file for folder in folders if (folder / kind.file).is_file()] for kind in KINDS}
    return {kind: files[0] for kind, files in found.items() if files}


def read(kind: Kind, file: Path) -> Judgements:
    """Reads a file of judgements. Blank lines do not count.

    Raises InputError for a line in another format, a pair of image and caption that is judged twice, and a file without
    rows.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 ({error.reason})") from None
    first: dict[tuple[str, str], int] = {}
    grades = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        image, _, rest = line.rstrip("\r").partition("\t")
        caption, *fields = rest.split("\t")
        try:
            if not (image and caption):
                raise ValueError
            grades.append(kind.grades(fields))
        except (ValueError, ZeroDivisionError, IndexError):
            raise InputError(f"{file}: line {number}: expected {kind.columns}, separated by tabs") from None
        if (earlier := first.setdefault((image, caption), number)) != number:
            raise InputError(f"{file}: line {number}: the same image and caption as in line {earlier}; expected one")
    if not first:
        raise InputError(f"{file}: no rows; expected {kind.columns}, separated by tabs")
    images, captions = map(list, zip(*first, strict=True))
    return Judgements(kind, file, images, captions, np.array(grades, np.float64))


def check(corpus, required: bool = True) -> None:
    """Reads all judgements of a corpus, which takes a fraction of a second, before hours of work that need them.

    Raises InputError for a broken file, and if `required` for a corpus without any judgements.
    """
    found = find(corpus)
    if required and not found:
        expected = " or ".join(kind.file for kind in KINDS)
        raise InputError(f"corpus {corpus.name}: no graded judgements; expected flickr8k with {expected} in its folder")
    for kind, file in found.items():
        read(kind, file)
