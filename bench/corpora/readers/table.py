"""Reads text columns of a CSV, TSV or Parquet file row by row, unchanged: "NA" and "1e5" stay text."""

import contextlib
import csv
import itertools
import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from models.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
SHORT = reprlib.Repr()  # the first line of a file that is not a table can be arbitrarily long
SHORT.maxlist, SHORT.maxstring = 20, 60


def header(file: Path, quoted: bool = True) -> list[str]:
    """The column names of a table; `quoted` as in `rows`.

    Raises InputError if the file is missing, has another suffix, or has no header.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected a table of image paths and captions")
    if file.suffix.lower() == PARQUET:
        with _parquet(file) as table:
            return table.schema_arrow.names
    if file.suffix.lower() not in DELIMITERS:
        raise InputError(f"{file}: expected a name that ends in {', '.join(DELIMITERS)} or {PARQUET}")
    first = next(_lines(file, quoted), None)
    if first is None:
        raise InputError(f"{file}: empty; expected column names in the first line")
    return first[1]


def shortened(names: Sequence[str]) -> str:
    """Column names for a message."""
    return SHORT.repr(list(names))[1:-1]


def rows(file: Path, columns: Sequence[str], quoted: bool = True) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yields (number, values of `columns`) per row. The number is its last line, or, in Parquet, the row from 1.

    quoted: whether `"` around a value is CSV quoting; if not, it is a plain character, and a value ends with its
    line. Raises InputError with file and row for a missing or ambiguous column, a row of another length, text that is
    not UTF-8, an unclosed quote, and, in Parquet, for values that are not text.
    """
    names = header(file, quoted)
    for column in columns:
        if names.count(column) != 1:
            raise InputError(
                f"{file}: {names.count(column)} columns named {column!r}, expected one; columns: {shortened(names)}"
            )
    if file.suffix.lower() == PARQUET:
        yield from _parquet_rows(file, columns)
        return
    places = [names.index(column) for column in columns]
    for line, values in itertools.islice(_lines(file, quoted), 1, None):
        if len(values) != len(names):
            raise InputError(f"{file}: line {line} has {len(values)} values, expected {len(names)} as in the header")
        yield line, tuple(values[place] for place in places)


def _lines(file: Path, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    with open(file, encoding="utf-8-sig", newline="") as stream:
        quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        reader = csv.reader(stream, delimiter=DELIMITERS[file.suffix.lower()], quoting=quoting, strict=True)
        try:
            yield from ((reader.line_num, values) for values in reader if values)
        except csv.Error as error:
            remedy = "if quotes are plain characters, give quoted: false"
            raise InputError(f"{file}: line {reader.line_num}: {error}; {remedy}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 after line {reader.line_num} ({error.reason})") from None


@contextlib.contextmanager
def _parquet(file: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    """An open Parquet file. Raises InputError for what Arrow raises on damaged bytes, on opening or at any row."""
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            yield table
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        if isinstance(error, OSError) and error.errno:
            raise  # an error of the disk
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(f"{file}: not a valid Parquet file ({reason})") from None


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    with _parquet(file) as table:
        numbers = itertools.count(1)
        for batch in table.iter_batches(columns=list(columns)):
            values = []
            for column in columns:
                of_column = batch.column(column)
                if pyarrow.types.is_dictionary(of_column.type):
                    of_column = of_column.dictionary_decode()
                if not (pyarrow.types.is_string(of_column.type) or pyarrow.types.is_large_string(of_column.type)):
                    raise InputError(f"{file}: column {column!r} holds {of_column.type}, expected text")
                values.append(of_column.to_pylist())
            for row in zip(*values, strict=True):
                number = next(numbers)
                if None in row:
                    raise InputError(f"{file}: row {number}: {columns[row.index(None)]!r} is empty")
                yield number, row
