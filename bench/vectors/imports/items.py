"""What belongs to the items of an import: their ids, and for queries the id of the relevant document."""

from collections.abc import Sequence
from pathlib import Path

from bench.vectors.imports.checks import SAMPLE
from bench.vectors.imports.text import read_lines
from bench.vectors.read import open_vectors
from models.errors import InputError, nearest
from models.files import read_json


def entries(file: Path, count: int) -> list[str]:
    """One entry for each of `count` items. Raises InputError for another number of lines."""
    lines = read_lines(file)
    if len(lines) != count:
        raise InputError(f"{file}: {len(lines):,} lines; expected {count:,}, one for each vector")
    return lines


def read_vocabulary(source: Path) -> list[str]:
    """Tokens of a folder of vectors, of a file with one a line, or of a tokenizer's vocab.json. Raises InputError."""
    if source.is_dir():
        if (vocabulary := open_vectors(source, check=False).vocabulary) is None:
            raise InputError(f"{source}: these vectors have no vocabulary")
        return vocabulary
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


def relevant_documents(qrels: Path, ids: Sequence[str]) -> tuple[list[str], int]:
    """For each query the id of its relevant document, by TREC qrels.

    Returns also the number of judged queries that are not in `ids`. A line is `query 0 document grade`; a document is
    relevant if its grade is above 0. Raises InputError for a query with no relevant document or with several, which
    need documents with common `--groups`.
    """
    wanted, found, others = set(ids), {}, set()
    for number, line in enumerate(read_lines(qrels), 1):
        query, document, grade = _judgement(line, f"{qrels}: line {number}")
        if query not in wanted:
            others.add(query)
        elif grade > 0 and (first := found.setdefault(query, document)) != document:
            several = f"'{document}' is a second relevant document of query '{query}', beside '{first}'"
            expected = "expected one a query; documents that are relevant together can share --groups"
            raise InputError(f"{qrels}: line {number}: {several}; {expected}")
    if lost := [row for row, query in enumerate(ids) if query not in found]:
        named = ", ".join(f"row {row} ('{ids[row]}')" for row in lost[:SAMPLE])
        near = nearest(ids[lost[0]], sorted(others)[:1000], listed=False) if others else ""
        raise InputError(f"{qrels}: {len(lost):,} of {len(ids):,} queries have no relevant document: {named}{near}")
    return [found[query] for query in ids], len(others)


def _judgement(line: str, where: str) -> tuple[str, str, float]:
    columns = line.split()
    try:
        query, _, document, grade = columns
        return query, document, float(grade)
    except ValueError:
        raise InputError(f"{where}: {line[:60]!r}; expected 'query 0 document grade'") from None
