"""Lexicon vectors of .npz files (SciPy CSR), decompressed as they are read: memory is that of a batch and of indptr."""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.vectors.imports.checks import check_csr
from models.errors import InputError, one_line

ROWS, WEIGHTS = 65_536, 1 << 21  # of a batch, at most
PARTS = ("format", "shape", "indptr", "indices", "data")
EXPECTED = "expected what scipy.sparse.save_npz(file, matrix.tocsr()) writes"
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, KeyError, NotImplementedError),
    *(RuntimeError, MemoryError, OverflowError, SyntaxError, struct.error, tokenize.TokenError),
)
"""What a broken archive raises, by the byte that is broken."""


class CsrFiles:
    """Shards of CSR arrays as `scipy.sparse.save_npz` writes them, decompressed as they are read."""

    kind, ids = "lexicon", None

    def __init__(self, files: Sequence[Path], vocabulary: list[str] | None = None):
        self.files, self.vocabulary, self.zeros = list(files), vocabulary, 0
        shapes = {file: self._shape(file) for file in files}
        self.count, self.dimension = sum(rows for rows, _ in shapes.values()), shapes[files[0]][1]
        for file, (_, lexicons) in shapes.items():
            if lexicons != self.dimension:
                raise InputError(f"{file}: vectors of length {lexicons}; expected {self.dimension} as in {files[0]}")
        if vocabulary is not None and len(vocabulary) != self.dimension:
            raise InputError(f"{files[0]}: {self.dimension} lexicons; expected {len(vocabulary)}, as in the vocabulary")

    def _shape(self, file: Path) -> tuple[int, int]:
        with _broken(file), zipfile.ZipFile(file) as archive:
            return _pointers(archive, file)[1]

    def batches(self) -> Iterator[sp.csr_array]:
        """Rows of float32 weights, sorted by lexicon. Raises InputError for an impossible weight or lexicon."""
        for file in self.files:
            with _broken(file), zipfile.ZipFile(file) as archive:
                indptr, (rows, _) = _pointers(archive, file)
                with _Array(archive, "indices", "iu", file) as indices, _Array(archive, "data", "fiu", file) as data:
                    if not (indices.count == data.count == indptr[-1]):
                        found = f"{indptr[-1]}, {indices.count} and {data.count}"
                        raise InputError(f"{file}: {found} weights by indptr, indices and data; expected the same")
                    start = 0
                    while start < rows:
                        stop = int(np.searchsorted(indptr, indptr[start] + WEIGHTS, side="right")) - 1
                        stop = min(rows, start + ROWS, max(start + 1, stop))
                        yield self._rows(file, indptr[start : stop + 1], indices, data, start)
                        start = stop

    def _rows(self, file: Path, indptr: np.ndarray, indices: "_Array", data: "_Array", start: int) -> sp.csr_array:
        count = int(indptr[-1] - indptr[0])
        lexicons, weights = indices.read(count).astype(np.int64), data.read(count)
        with np.errstate(over="ignore"):
            weights = weights.astype(np.float32)
        pointers = indptr - indptr[0]
        check_csr(weights, lexicons, pointers, self.dimension, str(file), start)
        self.zeros += int((weights == 0).sum())
        return sp.csr_array((weights, lexicons, pointers), shape=(len(pointers) - 1, self.dimension))


class _broken:
    """Turns what a broken archive raises into an InputError that names it."""

    def __init__(self, file: Path):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        of_the_machine = isinstance(error, OSError) and error.errno is not None
        if isinstance(error, BROKEN) and not of_the_machine:
            raise InputError(f"{self.file}: not a valid .npz file ({one_line(error)}); {EXPECTED}") from None


class _Array:
    """A one-dimensional array of an archive, read part by part. kinds: of its dtype."""

    def __init__(self, archive: zipfile.ZipFile, name: str, kinds: str, file: Path):
        info = archive.getinfo(f"{name}.npy")
        self._stream, self._about = archive.open(info), f"{file}: {name}"
        version = np.lib.format.read_magic(self._stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        self.shape, _, self.dtype = read_header[version](self._stream)
        self.count = math.prod(self.shape)
        if self.dtype.kind not in kinds or len(self.shape) > 1:
            names = {"f": "floats", "i": "integers", "u": "unsigned integers", "S": "bytes", "U": "text"}
            expected = " or ".join(names[kind] for kind in kinds)
            raise InputError(f"{self._about}: {self.dtype} of shape {self.shape}; expected a list of {expected}")
        if self._stream.tell() + self.count * self.dtype.itemsize != info.file_size:
            raise InputError(f"{self._about}: {info.file_size} bytes; expected {self.count} values of {self.dtype}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()

    def read(self, count: int) -> np.ndarray:
        """The next `count` values."""
        data = self._stream.read(count * self.dtype.itemsize)
        if len(data) != count * self.dtype.itemsize:
            raise InputError(f"{self._about}: ends early")
        return np.frombuffer(data, self.dtype)


def _whole(archive: zipfile.ZipFile, name: str, kinds: str, file: Path) -> np.ndarray:
    with _Array(archive, name, kinds, file) as array:
        return array.read(array.count)


def _pointers(archive: zipfile.ZipFile, file: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """indptr (int64) and the shape of a CSR archive. Raises InputError for another layout."""
    missing = [name for name in PARTS if f"{name}.npy" not in archive.namelist()]
    if missing and "format" in missing:
        raise InputError(f"{file}: not a sparse matrix (no '{missing[0]}'); {EXPECTED}")
    layout = _whole(archive, "format", "SU", file)
    layout = layout[0].decode("ascii", "replace") if layout.dtype.kind == "S" else str(layout[0])
    if layout != "csr" or missing:
        raise InputError(f"{file}: a matrix of layout {layout!r}; {EXPECTED}")
    shape, indptr = _whole(archive, "shape", "iu", file), _whole(archive, "indptr", "iu", file).astype(np.int64)
    if len(shape) != 2 or min(shape) < 1 or max(shape) >= 2**31 or len(indptr) != shape[0] + 1 or indptr[0] != 0:
        raise InputError(f"{file}: shape {shape.tolist()} with {len(indptr)} row pointers; {EXPECTED}")
    if (np.diff(indptr) < 0).any():
        raise InputError(f"{file}: row {int(np.argmax(np.diff(indptr) < 0))}: the row pointers fall; {EXPECTED}")
    return indptr, (int(shape[0]), int(shape[1]))
