"""Collection sizes as people write them: `250k`, `1M`."""

import re

from models.errors import InputError

SUFFIXES = {"": 1, "k": 10**3, "m": 10**6}
DECADES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def number(text: str) -> int:
    """`250k`, `1M` or `5000` as an integer. Raises InputError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip())
    value = float(found[1]) * SUFFIXES[found[2].lower()] if found else 0.0
    if not found or value < 1 or value % 1:
        raise InputError(f"{text!r}: expected a number of images such as 5000, 250k or 1M")
    return int(value)


def is_number(text: str) -> bool:
    """Whether `number` reads the text."""
    try:
        return bool(number(text))
    except InputError:
        return False


def sizes_up_to(largest: int) -> list[int]:
    """The powers of ten from 1,000 below `largest`, then `largest` itself."""
    return [size for size in DECADES if size < largest] + [largest]
