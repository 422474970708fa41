"""Lexicon vectors of a .ciff file, the Common Index File Format of Lin et al., 2020 (arXiv 2003.08276).

PISA, Anserini, Terrier and OldDog exchange indexes in it. A file is a Header, its posting lists and its document
records: protobuf messages, each after its length. They are few and simple, so they are read from the bytes, without
the protobuf runtime, whose versions conflict between such tools.

    Header        2: number of posting lists, 3: number of document records
    PostingsList  1: term, 2: document frequency, 4: postings, each 1: gap to the document before, 2: tf
    DocRecord     1: document number, 2: id of the document in its collection
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.sparse as sp

from models.errors import InputError, one_line

ROWS = 65_536  # of a batch
HEADER_BYTES, MESSAGE_BYTES = 1 << 20, (1 << 31) - 1  # longest; protobuf itself allows 2 GiB
VARINT_BYTES = 10
POSTING, GAP, TF = 0x22, 0x08, 0x10
"""Tags of a posting in its list and of its two values: field number x 8 + wire type."""


class CiffFile:
    """The documents of one index: weights are the tf of postings, ids the collection's own. .gz too.

    An index is sorted by term, vectors by document, so all postings are in memory: 16 bytes each, twice for a moment.
    """

    kind, unknown = "lexicon", 0

    def __init__(self, files: Sequence[Path]):
        if len(files) != 1:
            raise InputError(f"--lexicon: {len(files)} .ciff files; expected one, which holds a whole index")
        self.file = files[0]
        try:
            with gzip.open(self.file) if self.file.suffix == ".gz" else self.file.open("rb") as stream:
                self._read(stream)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{self.file}: not a valid .gz file ({one_line(error)})") from None
        except (_Broken, UnicodeDecodeError) as error:
            raise InputError(f"{self.file}: {error}; expected a whole .ciff file (Common Index File Format)") from None
        self.count, self.dimension = self._rows.shape

    def batches(self) -> Iterator[sp.csr_array]:
        """Rows of float32 weights."""
        for start in range(0, self.count, ROWS):
            yield self._rows[start : start + ROWS]

    def _read(self, stream: BinaryIO) -> None:
        lists, documents = _header(stream)
        terms, places, weights, lengths = {}, [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
        for number in range(lists):
            term, of_list, tf = _posting_list(_message(stream, f"posting list {number + 1:,} of {lists:,}"), number)
            if terms.setdefault(term, number) != number:
                raise _Broken(f"posting lists {terms[term]} and {number} are of the same term '{term}'")
            places.append(of_list)
            weights.append(tf)
            lengths.append(len(tf))
        numbers, self.ids = self._records(stream, documents)
        if left := stream.read(1):
            raise _Broken(f"more bytes after the last document record (the first is {left[0]})")
        if not lists:
            raise _Broken("no posting lists")
        columns, places, weights = np.repeat(np.arange(lists), lengths), np.concatenate(places), np.concatenate(weights)
        order = np.argsort(numbers, kind="stable")
        found = np.minimum(np.searchsorted(numbers, places, sorter=order), documents - 1)
        rows = order[found]
        if (lost := numbers[rows] != places).any():
            first = int(np.argmax(lost))
            raise _Broken(f"term '{list(terms)[columns[first]]}': no record of its document {places[first]}")
        self.vocabulary, self.zeros = list(terms), int((weights == 0).sum())
        self._rows = sp.csr_array((weights.astype(np.float32), (rows, columns)), shape=(documents, lists))

    @staticmethod
    def _records(stream: BinaryIO, documents: int) -> tuple[np.ndarray, list[str]]:
        """Numbers and ids of the documents, in the order of the file."""
        ids: dict[int, str] = {}
        for record in range(documents):
            found = dict(_fields(_message(stream, f"document record {record + 1:,} of {documents:,}")))
            number, name = _number(found.get(1, 0)), _text(found.get(2, b""))
            if not name.strip() or "\0" in name:
                raise _Broken(f"document record {record} has no id")
            if number in ids:
                raise _Broken(f"document record {record}: document {number} twice")
            ids[number] = name
        return np.fromiter(ids, np.int64, documents), list(ids.values())


class _Broken(ValueError):
    """What is wrong with the content of a file."""


def _header(stream: BinaryIO) -> tuple[int, int]:
    """Number of posting lists and of document records."""
    start = stream.peek(2)[:2]
    if start == b"\x1f\x8b":
        raise _Broken("compressed by gzip, so its name must end in .ciff.gz")
    try:
        found = dict(_fields(_message(stream, "header", HEADER_BYTES)))
        lists, documents = _number(found.get(2, 0)), _number(found.get(3, 0))
    except (_Broken, UnicodeDecodeError) as error:
        raise _Broken(f"no header ({error})") from None
    if not documents:
        raise _Broken(f"header of {lists:,} posting lists and no document records")
    return lists, documents


def _message(stream: BinaryIO, what: str, longest: int = MESSAGE_BYTES) -> bytes:
    length = shift = 0
    for _ in range(VARINT_BYTES):
        if not (byte := stream.read(1)):
            raise _Broken(f"ends before {what}")
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            break
    if length > longest:
        raise _Broken(f"{what} of {length:,} bytes")
    message = stream.read(length)
    if len(message) != length:
        raise _Broken(f"ends within {what}")
    return message


def _posting_list(message: bytes, number: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Term, document numbers and tf of a list, both int64."""
    fields, at = {}, 0
    while at < len(message) and message[at] != POSTING:
        field, value, at = _field(message, at)
        fields[field] = value
    term = _text(fields.get(1, b""))
    postings = _canonical(message, at)
    if postings is None:
        parts = [dict(_fields(_bytes(value))) for field, value in _fields(message[at:]) if field == 4]
        postings = np.array([[_number(part.get(1, 0)), _number(part.get(2, 0))] for part in parts], np.int64)
    gaps, tf = postings.reshape(-1, 2).T
    if 2 in fields and fields[2] != len(tf):
        raise _Broken(
            f"posting list {number} ('{term[:40]}'): {len(tf)} postings, but a document frequency of {fields[2]}"
        )
    if (gaps[1:] < 1).any():
        raise _Broken(f"posting list {number} ('{term[:40]}'): document numbers do not ascend")
    if (gaps > MESSAGE_BYTES).any() or (tf > MESSAGE_BYTES).any():
        raise _Broken(f"posting list {number} ('{term[:40]}'): a negative document number or tf")
    return term, np.cumsum(gaps), tf


def _canonical(message: bytes, at: int) -> np.ndarray | None:
    """Gaps and tf, (postings, 2), if all postings but the first hold exactly both values, as writers do; else None.

    Then all that follows is varints, six a posting, which are decoded at once: a hundred times faster than one by one.
    """
    if at == len(message):
        return np.zeros((0, 2), np.int64)
    length, start = _varint(message, at + 1)  # the first gap may be 0, which protobuf leaves out
    first = dict(_fields(message[start : start + length]))
    if start + length > len(message) or not all(isinstance(value, int) for value in first.values()):
        return None
    raw = np.frombuffer(message, np.uint8, offset=start + length)
    ends = np.flatnonzero(raw < 0x80)
    if len(ends) % 6 or (len(raw) and raw[-1] >= 0x80):
        return None
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    lengths = ends + 1 - starts
    if not len(ends):
        values = np.zeros((0, 6), np.int64)
    elif lengths.max() > 5:
        return None
    else:
        shifts = 7 * (np.arange(len(raw)) - np.repeat(starts, lengths))
        values = np.add.reduceat((raw & 0x7F).astype(np.int64) << shifts, starts).reshape(-1, 6)
    told = lengths.reshape(-1, 6)[:, 2:].sum(axis=1)
    if not ((values[:, [0, 2, 4]] == [POSTING, GAP, TF]).all() and (values[:, 1] == told).all()):
        return None
    return np.vstack([[[first.get(1, 0), first.get(2, 0)]], values[:, [3, 5]]])


# --- protobuf ---------------------------------------------------------------------------------------------------------


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: an integer, or the bytes of a string, a message or a fixed-width number."""
    at = 0
    while at < len(message):
        number, value, at = _field(message, at)
        yield number, value


def _field(message: bytes, at: int) -> tuple[int, int | bytes, int]:
    """Number, value and end of the field that starts at a place."""
    tag, at = _varint(message, at)
    number, wire = tag >> 3, tag & 7
    if wire == 0:
        value, at = _varint(message, at)
        return number, value, at
    if wire == 2:
        length, at = _varint(message, at)
    elif wire in (1, 5):
        length = 8 if wire == 1 else 4
    else:
        raise _Broken(f"a field of wire type {wire}")
    if not number or at + length > len(message):
        raise _Broken("a field that ends outside its message")
    return number, message[at : at + length], at + length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[at : at + VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _Broken("a number that ends outside its message")


def _number(value: int | bytes) -> int:
    if not isinstance(value, int) or value > MESSAGE_BYTES:
        raise _Broken("a negative number, or text in place of one")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _Broken("a number in place of text or of a posting")
    return value
