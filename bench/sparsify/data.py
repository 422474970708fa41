"""Dense vectors and captions of a user: which text belongs to which image, which part is held out, which words occur.

The captions file (CSV, TSV, text, JSON or Parquet) has a row for each text vector, in order. Image i of the image
vectors is the i-th distinct path of the file, in the order in which paths first occur. A row without a path is a text
without an image. The rows of split `test` are held out and those of `train` are trained on; without a column `split`,
the hash of the path decides (`bench.corpora.readers.stored.hash_split`), and texts without an image are trained on.
"""

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy

from bench.tasks.words import caption_tokens
from bench.vectors.imports.checks import check_dense
from bench.vectors.imports.files import DenseFiles
from models.errors import InputError
from models.tokenizer import LexiconTokenizer

log = logging.getLogger(__name__)
ROWS = 4_096
TEST, TRAIN = "test", "train"
LEARNED_TOKENS = 8_192
LONGEST = 64  # tokens of a caption
NONE = -1


@dataclass(frozen=True)
class Pairs:
    """Dense vectors of images (N, D) and texts (M, D), memory-mapped.

    image_of_M: int64, image of each text, -1 for none. texts: M captions. image_ids: N. held_N, held_M: bool, whether
    it is held out; used_M: whether a text is trained on.
    """

    images_ND: np.ndarray
    texts_MD: np.ndarray
    texts: list[str]
    image_of_M: np.ndarray
    image_ids: list[str]
    held_N: np.ndarray
    held_M: np.ndarray
    used_M: np.ndarray

    @property
    def dimension(self) -> int:
        """D."""
        return self.images_ND.shape[1]

    @functools.cached_property
    def text_ids(self) -> list[str]:
        """IMAGE#n of each text; text#row of one without an image."""
        seen: dict[int, int] = {}
        names = []
        for row, image in enumerate(self.image_of_M.tolist()):
            number = seen[image] = seen.get(image, NONE) + 1
            names.append(f"text#{row}" if image == NONE else f"{self.image_ids[image]}#{number}")
        return names

    @functools.cached_property
    def pairs(self) -> np.ndarray:
        """Rows of the texts that are trained on and have an image, int64."""
        return np.flatnonzero(self.used_M & (self.image_of_M != NONE))

    @functools.cached_property
    def unpaired(self) -> np.ndarray:
        """Rows of the texts that are trained on and have no image, int64."""
        return np.flatnonzero(self.used_M & (self.image_of_M == NONE))


def open_dense(file: Path) -> np.ndarray:
    """A .npy file of (N, D) floats, memory-mapped. Raises InputError for another array."""
    reader = DenseFiles([_present(file)])
    return reader.arrays[file]


def rows_of(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Float32 rows of a mapped array, in the order asked for; the file is read in ascending order."""
    order = np.argsort(rows, kind="stable")
    found = np.empty((len(rows), values.shape[1]), np.float32)
    found[order] = values[rows[order]]
    return found


def read_pairs(images: np.ndarray, texts: np.ndarray, captions: Path, names: tuple[str, str]) -> Pairs:
    """The pairs of a captions file. names: of the vectors' files, for messages. Raises InputError."""
    if images.shape[1] != texts.shape[1]:
        raise InputError(f"{names[1]}: vectors of length {texts.shape[1]}; expected {images.shape[1]} as in {names[0]}")
    rows = read_captions(captions)
    if len(rows) != len(texts):
        raise InputError(f"{captions}: {len(rows):,} rows; expected {len(texts):,}, one for each vector of {names[1]}")
    places = {path: place for place, path in enumerate(dict.fromkeys(row.path for row in rows if row.path))}
    if len(places) != len(images):
        expected = f"expected {len(images):,}, one for each vector of {names[0]}"
        raise InputError(f"{captions}: {len(places):,} distinct paths; {expected}")
    image_of_M = np.array([places.get(row.path, NONE) for row in rows], np.int64)
    splits = np.array([row.split for row in rows])
    held_M, used_M = (splits == TEST) & (image_of_M != NONE), splits == TRAIN
    held_N = np.zeros(len(images), bool)
    held_N[image_of_M[held_M]] = True
    if (mixed := used_M & (image_of_M != NONE) & held_N[image_of_M]).any():
        raise InputError(f"{captions}: {rows[int(np.argmax(mixed))].path!r} is in the splits {TRAIN} and {TEST}")
    found = Pairs(images, texts, [row.caption for row in rows], image_of_M, list(places), held_N, held_M, used_M)
    for what, count in (("pairs trained on", len(found.pairs)), ("images held out", int(held_N.sum()))):
        if count < 2:
            expected = f"expected at least 2: give a column split with {TRAIN} and {TEST}"
            raise InputError(f"{captions}: {what}: {count}; {expected}")
    if unused := int((~used_M & ~held_M).sum()):
        log.warning("%s: %d rows are neither of split %s nor images of %s: not used", captions, unused, TRAIN, TEST)
    return found


class Row(NamedTuple):
    """A row of the captions file. path: "" for a text without an image. split: given, or by the hash of the path."""

    path: str
    caption: str
    split: str


def read_captions(file: Path) -> list[Row]:
    """The rows of a captions file. Raises InputError for missing columns."""
    from bench.corpora.readers import table
    from bench.corpora.readers.folder import CAPTIONS, PATHS, SPLIT
    from bench.corpora.readers.stored import hash_split

    header = table.header(_present(file))
    columns = [_one(file, header, PATHS, "a path"), _one(file, header, CAPTIONS, "a caption")]
    if SPLIT in header:
        columns.append(SPLIT)
    found = []
    for _, (path, caption, *split) in table.rows(file, columns, optional=columns[:1]):
        path = path.strip()
        held_out = path and hash_split(path) == TEST
        found.append(Row(path, caption, split[0] if split else TEST if held_out else TRAIN))
    return found


def _one(captions: Path, header: list[str], usual: tuple[str, ...], what: str) -> str:
    found = [name for name in usual if name in header]
    if len(found) != 1:
        raise InputError(f"{captions}: columns {', '.join(header)}; expected one for {what}: {', '.join(usual)}")
    return found[0]


def _present(file: Path) -> Path:
    if not file.is_file():
        raise InputError(f"{file}: {'a folder; expected a file' if file.is_dir() else 'no such file'}")
    return file


# --- words ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """The lexicons of the captions. tokens_MV, image_tokens_NV: how often each occurs in a text, and in an image's
    captions, CSR. idf_V: log((1 + C) / (1 + captions with it)) over the C texts trained on."""

    tokenizer: LexiconTokenizer
    tokens_MV: "scipy.sparse.csr_array"
    image_tokens_NV: "scipy.sparse.csr_array"
    idf_V: np.ndarray


def lexicon_tokenizer(pairs: Pairs, tokenizer: LexiconTokenizer | None, least: int) -> LexiconTokenizer:
    """The tokenizer whose lexicons are the tokens that occur at least `least` times in the texts trained on.

    tokenizer: of a pre-trained BERT; None: learned from the texts trained on.
    """
    used = [pairs.texts[row] for row in np.flatnonzero(pairs.used_M)]
    tokenizer = tokenizer or LexiconTokenizer.train(used, LEARNED_TOKENS, LONGEST)
    tokens_CL = tokenizer.encode(used)[0]
    try:
        return tokenizer.of_captions(tokens_CL, least)
    except InputError:
        raise InputError(f"--min-count {least}: no token occurs as often in the captions trained on") from None


def read_words(pairs: Pairs, tokenizer: LexiconTokenizer) -> Words:
    """The words of all texts, over the lexicons of a tokenizer."""
    tokens_MV = caption_tokens(tokenizer, enumerate(pairs.texts), len(pairs.texts))
    owned = np.flatnonzero(pairs.image_of_M != NONE)
    at, shape = (pairs.image_of_M[owned], owned), (len(pairs.image_ids), len(pairs.texts))
    owners_NM = scipy.sparse.csr_array((np.ones(len(owned), np.float32), at), shape=shape)
    used_MV = tokens_MV[np.flatnonzero(pairs.used_M)]
    documents_V = np.bincount(used_MV.indices, minlength=used_MV.shape[1])
    idf_V = np.log((1 + used_MV.shape[0]) / (1 + documents_V)).astype(np.float32)
    return Words(tokenizer, tokens_MV, scipy.sparse.csr_array(owners_NM @ tokens_MV), idf_V)


def means(pairs: Pairs) -> dict[str, np.ndarray]:
    """Mean of the L2-normalised vectors trained on, (D,) float32, of each side."""
    used = {"image": (pairs.images_ND, np.unique(pairs.image_of_M[pairs.pairs]))}
    used["text"] = (pairs.texts_MD, np.flatnonzero(pairs.used_M))
    return {side: _sum(values, rows) / len(rows) for side, (values, rows) in used.items()}


def _sum(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    total = np.zeros(values.shape[1], np.float64)
    for part in _parts(rows):
        total += normalised(rows_of(values, part)).sum(axis=0, dtype=np.float64)
    return total.astype(np.float32)


def word_vectors(pairs: Pairs, words: Words, mean_D: np.ndarray) -> np.ndarray:
    """(V, D) float32, unit length: the mean of the centred vectors of the texts trained on that have the word.

    A text of n words counts 1/n for each: the vector of a long caption says less of each of its words.
    """
    total_VD = np.zeros((words.tokens_MV.shape[1], pairs.dimension), np.float64)
    for part in _parts(np.flatnonzero(pairs.used_M)):
        has_mV = (words.tokens_MV[part] > 0).astype(np.float32)
        share_m = 1 / np.maximum(np.diff(has_mV.indptr), 1)
        centred_mD = normalised(rows_of(pairs.texts_MD, part)) - mean_D
        total_VD += has_mV.T @ (share_m[:, None] * centred_mD)
    return normalised(total_VD).astype(np.float32)


def normalised(values: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norms; a row of zeros stays."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def check_finite(pairs: Pairs, names: tuple[str, str]) -> None:
    """Reads all vectors once. Raises InputError, with the file and row, for a value that is not finite."""
    for values, name in zip((pairs.images_ND, pairs.texts_MD), names, strict=True):
        for start in range(0, len(values), ROWS):
            check_dense(np.asarray(values[start : start + ROWS], np.float32), name, start)


def _parts(rows: np.ndarray):
    return (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))
