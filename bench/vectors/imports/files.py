"""The readers of vectors by the names of their files, and the reader of dense ones.

A reader has `kind`, `count`, `dimension`, `vocabulary` and `ids` (or None); its `batches()` yields the rows in order.
Errors name the file and the row (from 0) or line (from 1).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.vectors.imports.checks import check_dense
from bench.vectors.imports.ciff import CiffFile
from bench.vectors.imports.csr import CsrFiles
from bench.vectors.imports.jsonl import JsonFiles
from bench.vectors.imports.matched import Matched
from bench.vectors.read import Vectors, load_mapped
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


def open_files(
    dense: Sequence[Path],
    lexicon: Sequence[Path],
    vocabulary: list[str] | None = None,
    documents: Vectors | None = None,
):
    """The reader of the files. Raises InputError for a missing file, another suffix, or files of several kinds.

    vocabulary: tokens of the lexicons of .npz files, or the only ones of .jsonl files.
    documents: imported vectors that these search, whose vocabulary tokens are matched with. Tokens that they do not
    have are left out and counted.
    """
    for file in (*dense, *lexicon):
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    if dense:
        return DenseFiles(dense)
    suffixes = {_suffix(file) for file in lexicon}
    of_documents = documents and documents.vocabulary
    if suffixes == {".npz"}:
        reader = CsrFiles(lexicon, of_documents if vocabulary is None else vocabulary)
        return reader if vocabulary is None else _matched(reader, documents)
    if suffixes == {".jsonl"}:
        return _matched(JsonFiles(lexicon, vocabulary), documents)
    if suffixes == {".ciff"}:
        if vocabulary is not None:
            raise InputError(f"--vocabulary: {lexicon[0]} has a vocabulary of its own; expected it with .npz or .jsonl")
        return _matched(CiffFile(lexicon), documents)
    expected = "expected .npz files (SciPy CSR), .jsonl files, or one .ciff file (the last two also as .gz)"
    raise InputError(f"--lexicon {' '.join(map(str, lexicon))}: {expected}")


def _matched(reader, documents: Vectors | None):
    """A reader with a vocabulary, over that of the documents."""
    if documents is None:
        return reader
    if documents.vocabulary is None:
        raise InputError(f"{documents.folder}: these documents have no vocabulary to match tokens with")
    return Matched(reader, documents.vocabulary, documents.folder)


def _suffix(file: Path) -> str:
    name = file.name.removesuffix(".gz")
    known = {".jsonl": ".jsonl", ".json": ".jsonl", ".ciff": ".ciff"}
    return known.get(Path(name).suffix, Path(name).suffix if name == file.name else "")
