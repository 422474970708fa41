"""Text files with one entry a line."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from models.errors import InputError, one_line


def text_lines(file: Path) -> Iterator[bytes]:
    """The lines of a file, of a .gz file too. Raises InputError for a broken one."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{file}: not a valid .gz file ({one_line(error)})") from None


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file without spaces around them. Raises InputError for an empty line, which has no id."""
    made = []
    for number, line in enumerate(text_lines(file), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip(" \t\r\n")
        except UnicodeDecodeError:
            raise InputError(f"{file}: line {number}: not UTF-8") from None
        if not text or "\0" in text:
            raise InputError(
                f"{file}: line {number}: {'empty' if not text else 'a zero byte'}; expected one entry a line"
            )
        made.append(text)
    return made
