"""Format of vectors on disk: a folder of `.npy` shards and `meta.json`, which `write` writes and `read` opens.

00000.values.npy       dense vectors: float32 (rows, D)
00000.indptr.npy       lexicon vectors, CSR: int64 (rows + 1,)
00000.lexicons.npy     int32 (nnz,), ascending in each row
00000.weights.npy      float32 (nnz,), positive
00000.ids.npy          UTF-8 bytes of fixed width; likewise groups, the id of each item's image
vocabulary.json        V strings, for lexicon vectors
qrels.json             of queries with several relevant documents: their ids and grades
meta.json              kind, dimension, count, origin of the vectors; per file its shape, dtype, size and SHA-256
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy

from models.files import BrokenFileError, sha256

FORMAT = 1
PARTS = {"dense": ("values",), "lexicon": ("indptr", "lexicons", "weights")}
SHARD_ROWS = 65_536
NPY_HEADER = 128  # bytes of a .npy file before its values
REMEDY = "encode again (--force)"


def check_size(folder: Path, entry: dict) -> Path:
    """The path of a file of a shard. Raises BrokenFileError if it is missing or its size is not that of `meta.json`."""
    path = folder / entry["name"]
    size = path.stat().st_size if path.exists() else -1
    if size != entry["bytes"]:
        found = "missing" if size < 0 else f"{size} bytes"
        raise BrokenFileError(f"{path}: {found}, expected {entry['bytes']} bytes; {REMEDY}")
    return path


def check_content(folder: Path, entry: dict) -> None:
    """Reads a file of a shard. Raises BrokenFileError if it is missing or its SHA-256 is not that of `meta.json`."""
    if sha256(check_size(folder, entry)) != entry["sha256"]:
        raise BrokenFileError(f"{folder / entry['name']}: changed since it was written (SHA-256 differs); {REMEDY}")


def to_csr(rows) -> "scipy.sparse.csr_array":
    """A dense or sparse matrix as CSR with ascending lexicons and without zeros; float32 unless unsigned integers.

    Raises ValueError for a negative or non-finite weight.
    """
    csr = scipy.sparse.csr_array(rows)
    if csr.dtype.kind != "u":
        csr = csr.astype(np.float32, copy=False)
    if csr.nnz and not (np.isfinite(csr.data).all() and csr.data.min() >= 0):
        raise ValueError("lexicon weights must be finite and not negative")
    if csr.nnz and not csr.data.all():
        csr = csr.copy()
        csr.eliminate_zeros()
    csr.sum_duplicates()
    return csr


def sorted_csr(data, indices, indptr, dimension: int) -> "scipy.sparse.csr_array":
    """A CSR array (N, dimension) of rows whose indices are sorted and unique already.

    Pointers become int32 if they fit: scipy copies int32 indices to the type of the pointers, twice as large otherwise.
    """
    if len(indices) <= np.iinfo(np.int32).max:
        indptr = np.asarray(indptr).astype(np.int32, copy=False)
    csr = scipy.sparse.csr_array((data, indices, indptr), shape=(len(indptr) - 1, dimension), copy=False)
    csr.has_sorted_indices = csr.has_canonical_format = True
    return csr


def mapped_csr(data, indices, indptr, dimension: int) -> "scipy.sparse.csr_array":
    """As `sorted_csr`, for memory-mapped parts and views of them, without a copy.

    Traps: the constructor of scipy copies a view that is small beside its base; assigning the parts does not. It also
    copies int32 indices to the type of the pointers, so the pointers become int32 here if they fit.
    """
    if len(indices) <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32, copy=False)
    csr = scipy.sparse.csr_array((len(indptr) - 1, dimension), dtype=data.dtype)
    csr.data, csr.indices, csr.indptr = data, indices, indptr
    csr.has_sorted_indices = csr.has_canonical_format = True
    return csr


def encode_strings(strings: Sequence[str]) -> np.ndarray:
    """Strings as UTF-8 bytes of fixed width, (N,)."""
    return np.array([str(s).encode() for s in strings], dtype=np.bytes_)
