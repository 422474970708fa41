"""The readers of vectors by the names of their files, and the reader of dense ones.

A reader has `kind`, `count`, `dimension`, `vocabulary` and `ids` (or None); its `batches()` yields the rows in order.
Errors name the file and the row (from 0) or line (from 1).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.vectors.imports.checks import check_dense
from bench.vectors.imports.csr import CsrFiles
from bench.vectors.imports.jsonl import JsonFiles
from bench.vectors.read import load_mapped
from models.errors import InputError

ROWS = 8_192  # of a batch


class DenseFiles:
    """Shards of (N, D) float16, float32 or float64, memory-mapped."""

    kind, vocabulary, ids = "dense", None, None

    def __init__(self, files: Sequence[Path]):
        self.arrays = {file: self._open(file) for file in files}
        self.count = sum(len(array) for array in self.arrays.values())
        self.dimension = self.arrays[files[0]].shape[1]
        for file, array in self.arrays.items():
            if array.shape[1] != self.dimension:
                raise InputError(
                    f"{file}: vectors of length {array.shape[1]}; expected {self.dimension} as in {files[0]}"
                )

    @staticmethod
    def _open(file: Path) -> np.ndarray:
        expected = "expected a .npy file of (N, D) float16, float32 or float64"
        if file.is_file():
            with file.open("rb") as opened:
                if opened.read(6) != b"\x93NUMPY":
                    raise InputError(f"{file}: not a .npy file; {expected}")
        array = load_mapped(file)
        if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8) or not array.size:
            raise InputError(f"{file}: {array.dtype} of shape {array.shape}; {expected}")
        return array

    def batches(self) -> Iterator[np.ndarray]:
        """Float32 rows. Raises InputError for a value that is not finite, as float32 either."""
        for file, array in self.arrays.items():
            for start in range(0, len(array), ROWS):
                with np.errstate(over="ignore"):
                    rows = np.asarray(array[start : start + ROWS], np.float32)
                check_dense(rows, str(file), start)
                yield rows


def open_files(dense: Sequence[Path], lexicon: Sequence[Path], vocabulary: list[str] | None, known_only: bool):
    """The reader of the files. Raises InputError for a missing file, another suffix, or files of several kinds."""
    for file in (*dense, *lexicon):
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    if dense:
        return DenseFiles(dense)
    suffixes = {_suffix(file) for file in lexicon}
    if suffixes == {".npz"}:
        return CsrFiles(lexicon, vocabulary)
    if suffixes == {".jsonl"}:
        return JsonFiles(lexicon, vocabulary, known_only)
    raise InputError(
        f"--lexicon {' '.join(map(str, lexicon))}: expected .npz files (SciPy CSR), or .jsonl files (.gz too)"
    )


def _suffix(file: Path) -> str:
    name = file.name.removesuffix(".gz")
    return ".jsonl" if name.endswith((".jsonl", ".json")) else Path(name).suffix if name == file.name else ""
