"""What belongs to the items of an import: an entry for each, and the tokens of the lexicons."""

from pathlib import Path

from bench.vectors.imports.text import read_lines
from models.errors import InputError
from models.files import read_json


def entries(file: Path, count: int) -> list[str]:
    """One entry for each of `count` items. Raises InputError for another number of lines."""
    lines = read_lines(file)
    if len(lines) != count:
        raise InputError(f"{file}: {len(lines):,} lines; expected {count:,}, one for each vector")
    return lines


def read_vocabulary(source: Path) -> list[str]:
    """Tokens of a file with one a line, or of a tokenizer's vocab.json. Raises InputError."""
    if source.is_dir():
        raise InputError(f"--vocabulary {source}: a folder; expected a file of tokens, or --documents {source}")
    if source.suffix == ".json":
        found = read_json(source)
        if isinstance(found, dict) and sorted(map(repr, found.values())) == sorted(map(repr, range(len(found)))):
            return sorted(found, key=found.get)
        raise InputError(f'{source}: expected {{"token": number, ...}} with the numbers from 0, as vocab.json')
    tokens = read_lines(source)
    seen: dict[str, int] = {}
    for number, token in enumerate(tokens, 1):
        if (first := seen.setdefault(token, number)) != number:
            raise InputError(f"{source}: lines {first} and {number} are the same token '{token}'")
    return tokens
