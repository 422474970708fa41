"""A folder of NAME.jpg with NAME.txt beside it, read as a table of paths and captions."""

import re
from collections.abc import Iterator
from pathlib import Path

from bench.corpora.readers.left_out import LeftOut
from models.errors import InputError

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif")
COLUMNS = ("path", "caption")
LINE_ENDS = re.compile(r"\r\n|\r|\n")


def lines_of(text: str) -> list[str]:
    """The captions of a NAME.txt: its lines that are not blank."""
    return [line for line in LINE_ENDS.split(text) if line.strip()]


def rows(folder: Path, left_out: LeftOut) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yields (number of the image, (path below the folder, caption)), ordered by path; hidden files are ignored.

    Images without text go to `left_out`. Raises InputError for a text that is not UTF-8.
    """
    files = (path for path in folder.rglob("*") if path.suffix.lower().removeprefix(".") in IMAGES)
    for number, image in enumerate(sorted(path for path in files if not path.name.startswith(".")), 1):
        text = image.with_suffix(".txt")
        try:
            captions = lines_of(text.read_text(encoding="utf-8-sig")) if text.is_file() else []
        except UnicodeDecodeError as error:
            raise InputError(f"{text}: not UTF-8 ({error.reason})") from None
        path = image.relative_to(folder).as_posix()
        if not captions:
            left_out.add(
                f"{path}: no caption in {text.name}" if text.is_file() else f"{path}: no {text.name} beside it"
            )
        yield from ((number, (path, caption)) for caption in captions)
