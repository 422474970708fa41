"""Lexicon vectors for other tools: Anserini's JSON lines, the Common Index File Format, and SciPy CSR.

    documents.jsonl   {"id": ..., "contents": "", "vector": {token: impact}}: Anserini's JsonVectorCollection
    documents.ciff    an index whose tf are the impacts: PISA, Anserini, Terrier, OldDog
    documents.npz     float32 weights as encoded, scipy.sparse.load_npz; `vocabulary.txt` names the columns

The first two hold impacts, rint(100 x weight) of the top lexicons of each document, as the paper's engine.
`lexlip-bench import` reads all three.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy

from bench.vectors.impacts import Impacts
from bench.vectors.read import LexiconVectors
from models.errors import InputError
from models.files import atomic_file

FORMATS = ("jsonl", "ciff", "npz")
CIFF_VERSION = 1


def export(vectors: LexiconVectors, form: str, file: Path, top_k: int | None) -> None:
    """Writes the vectors in a format of `FORMATS`. top_k: lexicons of a document in the first two; None: all.

    Raises InputError for an unknown format.
    """
    writers = {"jsonl": _write_jsonl, "ciff": _write_ciff, "npz": _write_npz}
    if form not in writers:
        raise InputError(f"export format {form!r}; expected one of {', '.join(FORMATS)}")
    with atomic_file(file) as partial:
        writers[form](vectors, Impacts(vectors, top_k, 8), partial)


def _write_jsonl(vectors: LexiconVectors, impacts: Impacts, file: Path) -> None:
    first = 0
    with file.open("w", encoding="utf-8") as out:
        for shard in impacts.shards():
            for row in range(shard.shape[0]):
                at = slice(shard.indptr[row], shard.indptr[row + 1])
                tokens = (vectors.vocabulary[lexicon] for lexicon in shard.indices[at])
                vector = dict(zip(tokens, shard.data[at].tolist(), strict=True))
                line = {"id": vectors.ids[first + row], "contents": "", "vector": vector}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
            first += shard.shape[0]


def _write_npz(vectors: LexiconVectors, impacts: Impacts, file: Path) -> None:
    with file.open("wb") as out:
        scipy.sparse.save_npz(out, scipy.sparse.csr_array(vectors.to_scipy()))
    names = file.parent / "vocabulary.txt"
    with atomic_file(names) as partial:
        partial.write_text("".join(f"{token}\n" for token in vectors.vocabulary), encoding="utf-8")


# --- Common Index File Format (Lin et al., 2020): protobuf messages, each after its length ----------------------------


def _write_ciff(vectors: LexiconVectors, impacts: Impacts, file: Path) -> None:
    rows = impacts.to_scipy()
    columns, lengths = scipy.sparse.csc_array(rows), np.asarray(rows.sum(axis=1, dtype=np.int64)).ravel()
    used = np.flatnonzero(np.diff(columns.indptr))
    terms = sorted((vectors.vocabulary[lexicon].encode(), int(lexicon)) for lexicon in used)
    with file.open("wb") as out:
        header = {1: CIFF_VERSION, 2: len(terms), 3: vectors.count, 4: len(terms), 5: vectors.count}
        header |= {6: int(lengths.sum()), 8: b"lexlip-bench sparsify"}
        _write_message(out, _message(header) + _average(lengths.mean() if vectors.count else 0.0))
        for term, lexicon in terms:
            at = slice(columns.indptr[lexicon], columns.indptr[lexicon + 1])
            _write_message(out, b"".join(_postings(term, columns.indices[at], columns.data[at])))
        for number, (name, length) in enumerate(zip(vectors.ids, lengths.tolist(), strict=True)):
            _write_message(out, _message({1: number, 2: name.encode(), 3: length}))


def _postings(term: bytes, documents: np.ndarray, impacts: np.ndarray) -> Iterator[bytes]:
    """The parts of a PostingsList: term, document frequency, collection frequency, and gap and tf of each posting."""
    yield _message({1: term, 2: len(documents), 3: int(impacts.sum(dtype=np.int64))})
    gaps = np.diff(documents.astype(np.int64), prepend=0)
    for gap, impact in zip(gaps.tolist(), impacts.tolist(), strict=True):
        yield _field(4, b"\x08" + _varint(gap) + b"\x10" + _varint(impact))


def _average(value: float) -> bytes:
    """Field 7 of the header, the mean document length, a double."""
    return _varint(7 << 3 | 1) + np.float64(value).tobytes()


def _message(fields: dict[int, int | bytes]) -> bytes:
    return b"".join(_field(number, value) for number, value in fields.items())


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    return _varint(number << 3) + _varint(value)


def _write_message(out, message: bytes) -> None:
    out.write(_varint(len(message)) + message)


def _varint(value: int) -> bytes:
    parts = []
    while True:
        value, low = value >> 7, value & 0x7F
        parts.append(low | (0x80 if value else 0))
        if not value:
            return bytes(parts)
