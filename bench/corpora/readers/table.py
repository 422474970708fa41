"""Reads text columns of a CSV, TSV, JSON or Parquet file row by row, unchanged: "NA" and "1e5" stay text."""

import contextlib
import csv
import itertools
import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from bench.corpora.readers import json_table
from bench.corpora.readers.left_out import LeftOut, check_boolean
from bench.corpora.readers.local import check_uncompressed
from models.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": ""}
"""Suffix -> usual delimiter. Where the header has none, csv.Sniffer finds one of `SEPARATORS` in it."""
SEPARATORS = (",", ";", "|", "\t")
PARQUET = ".parquet"
HEAD_BYTES, MAX_SNIFFED = 1 << 16, 4096
SHORT = reprlib.Repr()  # the first line of a file that is not a table can be arbitrarily long
SHORT.maxlist, SHORT.maxstring = 20, 60


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    quoted: whether `"` around a value is CSV quoting; if not, it is a plain character, and a value ends with its line.
    separator: the delimiter, one of `SEPARATORS`; None: the usual one of the suffix if the header has it, else the one
    that csv.Sniffer finds in the header. Raises InputError for another separator, and for quoted if not a boolean.
    """

    quoted: bool = True
    separator: str | None = None

    def __post_init__(self):
        check_boolean("quoted", self.quoted)
        if self.separator is not None and self.separator not in SEPARATORS:
            raise InputError(f"separator: {self.separator!r}; expected one of , ; | or a tab, as '\";\"' or '\"\\t\"'")


PLAIN = Dialect()


def header(file: Path, dialect: Dialect = PLAIN) -> list[str]:
    """The column names of a table, without spaces around them.

    Raises InputError if the file is missing, compressed, has another suffix, or has no header.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected a table of image paths and captions")
    check_uncompressed(file, _head(file))
    if file.suffix.lower() == PARQUET:
        with open_parquet(file) as table:
            return table.schema_arrow.names
    if file.suffix.lower() in json_table.SUFFIXES:
        return json_table.header(file)
    if file.suffix.lower() not in DELIMITERS:
        known = ", ".join((*DELIMITERS, *json_table.SUFFIXES))
        raise InputError(f"{file}: expected a name that ends in {known} or {PARQUET}")
    first = next(_lines(file, dialect), None)
    if first is None:
        raise InputError(f"{file}: empty; expected column names in the first line")
    return first[1]


def shortened(names: Sequence[str]) -> str:
    """Column names for a message."""
    return SHORT.repr(list(names))[1:-1]


def rows(
    file: Path,
    columns: Sequence[str],
    dialect: Dialect = PLAIN,
    left_out: LeftOut | None = None,
    optional: Sequence[str] = (),
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yields (number, values of `columns`) per row. The number is its last line, or, in Parquet and JSON
    lists, the row from 1.

    A list of texts in Parquet or JSON gives a row for each of them.

    left_out: rows with too few values, and empty values of Parquet or JSON, go there; None: they raise InputError.
    optional: columns whose empty values are "".

    If the header has spaces around its names, as in "path | caption", they are removed around all values.

    Raises InputError with file and row for a missing or ambiguous column, a row with too many values, text that is
    not UTF-8, an unclosed quote, and, in Parquet and JSON, for values that are not text.
    """
    names = header(file, dialect)
    for column in columns:
        if names.count(column) != 1:
            raise InputError(
                f"{file}: {names.count(column)} columns named {column!r}, expected one; columns: {shortened(names)}"
            )
    if file.suffix.lower() == PARQUET or file.suffix.lower() in json_table.SUFFIXES:
        json = file.suffix.lower() != PARQUET
        found = json_table.rows(file, columns, left_out) if json else _parquet_rows(file, columns)
        places = {columns.index(column) for column in optional}
        filled = ((number, [v or [""] if at in places else v for at, v in enumerate(row)]) for number, row in found)
        yield from _each_text(file, filled, columns, left_out)
        return
    places = [names.index(column) for column in columns]
    for line, values in itertools.islice(_lines(file, dialect), 1, None):
        if len(values) == len(names):
            yield line, tuple(values[place] for place in places)
            continue
        fault = f"line {line} has {len(values)} values, expected {len(names)} as in the header"
        if left_out is None or len(values) > len(names):
            raise InputError(f"{file}: {fault}")
        left_out.add(fault)


def _each_text(
    file: Path, found: Iterable[tuple[int, Sequence[list[str]]]], columns: Sequence[str], left_out: LeftOut | None
) -> Iterator[tuple[int, tuple[str, ...]]]:
    for number, row in found:
        if all(row):
            yield from ((number, each) for each in itertools.product(*row))
            continue
        fault = f"row {number}: {columns[[bool(texts) for texts in row].index(False)]!r} is empty"
        if left_out is None:
            raise InputError(f"{file}: {fault}")
        left_out.add(fault)


def _head(file: Path) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(HEAD_BYTES)


def _lines(file: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    names = re.split(r"[\r\n]", _head(file).decode("utf-8-sig", "replace").lstrip("\r\n"), maxsplit=1)[0]
    delimiter = dialect.separator or _delimiter(file, names[:MAX_SNIFFED])
    quoting = csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE
    padded = any(name != name.strip() for name in next(csv.reader([names], delimiter=delimiter, quoting=quoting), []))
    with open(file, encoding="utf-8-sig", newline="") as stream:
        form = {"delimiter": delimiter, "quoting": quoting, "skipinitialspace": padded}
        reader = csv.reader(stream, **form, strict=True)
        try:
            for values in reader:
                if values:
                    yield reader.line_num, [value.strip() for value in values] if padded else values
        except csv.Error as error:
            remedy = "if quotes are plain characters, give quoted: false"
            raise InputError(f"{file}: line {reader.line_num}: {error}; {remedy}") from None
        except UnicodeDecodeError as error:
            where = f"line {_undecodable(file)}: not UTF-8 ({error.reason})"
            raise InputError(f"{file}: {where}; save the file as UTF-8") from None


def _undecodable(file: Path) -> int:
    """Number of the first line that is not UTF-8, from 1."""
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError:
                return number
    return 1


def _delimiter(file: Path, names: str) -> str:
    usual = DELIMITERS[file.suffix.lower()]
    if usual and usual in names:
        return usual
    try:
        return csv.Sniffer().sniff(names, "".join(SEPARATORS)).delimiter
    except csv.Error:  # no separator: a single column
        return usual or ","


@contextlib.contextmanager
def open_parquet(file: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    """An open Parquet file. Raises InputError for what Arrow raises on damaged bytes, on opening or at any row."""
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            yield table
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        if isinstance(error, OSError) and error.errno:
            raise  # an error of the disk
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(f"{file}: not a valid Parquet file ({reason})") from None


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[list[str], ...]]]:
    with open_parquet(file) as table:
        numbers = itertools.count(1)
        for batch in table.iter_batches(columns=list(columns)):
            values = [_as_text(file, column, batch.column(column)) for column in columns]
            yield from ((next(numbers), row) for row in zip(*values, strict=True))


def _as_text(file: Path, column: str, values: pyarrow.Array) -> list[list[str]]:
    """The texts of each row of a Parquet column: one, those of a list, or none for a null."""
    if pyarrow.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    lists = pyarrow.types.is_list(values.type) or pyarrow.types.is_large_list(values.type)
    kind = values.type.value_type if lists else values.type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        inside = pyarrow.types.is_struct(kind) or pyarrow.types.is_binary(kind)
        remedy = "; for images inside Parquet files use the corpus parquet" if inside else ""
        raise InputError(f"{file}: column {column!r} holds {values.type}, expected text{remedy}")
    rows = values.to_pylist()
    if lists:
        return [[text for text in texts or () if text is not None] for texts in rows]
    return [[] if text is None else [text] for text in rows]
