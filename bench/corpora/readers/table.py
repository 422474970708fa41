"""Columns of text from a CSV, TSV or Parquet file, row by row, as they are: no value is taken for a missing one, a number or a date."""

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
SHORT = reprlib.Repr()  # a file that is no table can have a first line without end
SHORT.maxlist, SHORT.maxstring = 20, 60


def header(file: Path, quoted: bool = True) -> list[str]:
    """The names of a table's columns; `quoted` as in `rows`. Raises InputError when the file is missing, of another kind, or has no header."""
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected a table of picture paths and captions")
    if file.suffix.lower() == PARQUET:
        with _parquet(file) as table:
            return table.schema_arrow.names
    if file.suffix.lower() not in DELIMITERS:
        raise InputError(f"{file}: expected a name that ends in {', '.join(DELIMITERS)} or {PARQUET}")
    first = next(_lines(file, quoted), None)
    if first is None:
        raise InputError(f"{file}: empty; expected a first line with the names of the columns")
    return first[1]


def listed(names: Sequence[str]) -> str:
    """Names of columns for a message."""
    return SHORT.repr(list(names))[1:-1]


def rows(file: Path, columns: Sequence[str], quoted: bool = True) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(number, values of `columns`) of each row; the number is that of the row's last line, or, in Parquet, of the row from 1 on.

    quoted: whether `"` around a value is CSV's quoting; if not, it is a character like any other, and a value ends with its line.
    Raises InputError, naming file and row, for columns that are not there, a row of another length, text that is not UTF-8, a quote that
    does not end, and, in Parquet, for values that are no text.
    """
    names = header(file, quoted)
    for column in columns:
        if names.count(column) != 1:
            raise InputError(f"{file}: {names.count(column)} columns named {column!r}; it has {listed(names)}")
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
            raise InputError(
                f"{file}: line {reader.line_num}: {error}; if quotes are plain characters, give quoted: false"
            ) from None
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 after line {reader.line_num} ({error.reason})") from None


@contextlib.contextmanager
def _parquet(file: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    """An open file. Raises InputError for whatever Arrow raises on damaged bytes while it is open: at once, or at any row."""
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            yield table
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # UnicodeDecodeError among the last
        if isinstance(error, OSError) and error.errno:
            raise  # of the disk
        raise InputError(
            f"{file}: not a whole Parquet file ({(str(error).splitlines() or ['no reason given'])[0]})"
        ) from None


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    with _parquet(file) as table:
        number = itertools.count(1)
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
                at = next(number)
                if None in row:
                    raise InputError(f"{file}: row {at} has no {columns[row.index(None)]!r}")
                yield at, row
