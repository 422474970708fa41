"""Training data on disk: a slice of a corpus as arrays that every variant maps into memory.

Decoded images, tokenised captions and the tokenizer are in `<home>/data/<data id>/`, written once and shared by all
variants and seeds, so that all of them train on the same bytes. A batch is a function of seed and step, so a
resumed run sees the batches that it would have seen. torch is imported only when a batch is made.
"""

import functools
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablations.config import DataConfig
from bench.corpora import Corpus, open_corpus
from bench.store import cli
from bench.store.config import code_fingerprint, fingerprint
from models.config import TextConfig
from models.errors import InputError
from models.files import atomic_folder, mapped_array, sha256
from models.tokenizer import LEXICON, LexiconTokenizer

if TYPE_CHECKING:
    from models.batch import Batch

log = logging.getLogger(__name__)

TOKENIZER, DESCRIPTION = "tokenizer.json", "meta.json"
IDF_ROWS = 100_000  # captions that are counted at a time
TOKENIZER_CAPTIONS = 50_000
"""Captions that the vocabulary is learned from; more make no difference to vocabularies of a few thousand."""


@dataclass(frozen=True)
class TokenStates:
    """States of a frozen text encoder for captions, without padding: caption c has rows `first_C1[c]` to
    `first_C1[c + 1]` (exclusive) of `states_TX`, float16, memory-mapped."""

    states_TX: np.ndarray
    first_C1: np.ndarray

    def of(self, captions_B: np.ndarray, length: int) -> np.ndarray:
        """The states of captions, float16 (B, length, X), with zeros at padding."""
        states_BLX = np.zeros((len(captions_B), length, self.states_TX.shape[1]), np.float16)
        for states_LX, caption in zip(states_BLX, captions_B, strict=True):
            rows_LX = self.states_TX[self.first_C1[caption] : self.first_C1[caption + 1]]
            states_LX[: len(rows_LX)] = rows_LX
        return states_BLX


@dataclass(frozen=True)
class TrainingData:
    """Memory-mapped image-caption pairs.

    `images_NHWC` uint8; `tokens_CL` int32 token ids and `words_CL` uint8 word numbers of all captions. The captions
    of image n are rows `first_N1[n]` to `first_N1[n + 1]` (exclusive).
    `image_states_NLX`, `text_states`: states of frozen encoders; batches then have them, and no pixels.
    """

    id: str
    images_NHWC: np.ndarray
    tokens_CL: np.ndarray
    words_CL: np.ndarray
    first_N1: np.ndarray
    tokenizer: LexiconTokenizer
    image_states_NLX: np.ndarray | None = None
    text_states: TokenStates | None = None

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def batch(self, step: int, size: int, seed: int, part: int = 0, parts: int = 1, seen: int | None = None) -> "Batch":
        """The pairs of a step: images in an order shuffled in each epoch, one random caption of each.

        Of the `size` pairs only the `part`-th of `parts` equal slices; its captions are padded to the longest of
        the whole batch. `seen`: pairs of all earlier steps, if those had batches of another size.
        """
        import torch

        from models.batch import Batch

        positions_B = (step * size if seen is None else seen) + np.arange(size)
        epochs_B = positions_B // len(self)
        orders = {epoch: _order(len(self), int(epoch), seed) for epoch in np.unique(epochs_B)}
        rows_B = np.array(
            [orders[epoch][position % len(self)] for epoch, position in zip(epochs_B, positions_B, strict=True)]
        )
        draws_B = np.random.default_rng((seed, step)).random(size)
        counts_B = self.first_N1[rows_B + 1] - self.first_N1[rows_B]
        captions_B = self.first_N1[rows_B] + (draws_B * counts_B).astype(np.int64)
        tokens_BL = self.tokens_CL[captions_B].astype(np.int64)
        longest = int((tokens_BL != self.tokenizer.pad_id).sum(axis=1).max())
        own = slice(part * (size // parts), (part + 1) * (size // parts))
        image_states, text_states = self.image_states_NLX, self.text_states
        of_text = None if text_states is None else torch.from_numpy(text_states.of(captions_B[own], longest))
        return Batch(
            torch.from_numpy(self.images_NHWC[rows_B[own]]) if image_states is None else None,
            torch.from_numpy(tokens_BL[own, :longest]),
            torch.from_numpy(self.words_CL[captions_B[own]][:, :longest]),
            torch.from_numpy(self._all_captions(rows_B)[own]),
            size // parts,
            image_states_BLX=None if image_states is None else torch.from_numpy(image_states[rows_B[own]]),
            text_states_BLX=of_text,
        )

    def _all_captions(self, rows_B: np.ndarray) -> np.ndarray:
        """Token ids of all captions of images, int64 (B, M), one image a row."""
        first_B, counts_B = self.first_N1[rows_B], np.diff(self.first_N1)[rows_B]
        places_BC = np.minimum(np.arange(counts_B.max()), counts_B[:, None] - 1)
        tokens_BCL = self.tokens_CL[first_B[:, None] + places_BC].astype(np.int64)
        tokens_BCL[np.arange(counts_B.max()) >= counts_B[:, None]] = self.tokenizer.pad_id
        return tokens_BCL.reshape(len(rows_B), -1)

    def idf(self) -> np.ndarray:
        """(V,) float32: log((1 + C) / (1 + captions with the lexicon)), of the C training captions."""
        captions = np.zeros(len(self.tokenizer) + 1, np.int64)
        for first in range(0, len(self.tokens_CL), IDF_ROWS):
            tokens_cL = np.sort(self.tokens_CL[first : first + IDF_ROWS], axis=1)
            is_new_cL = np.diff(tokens_cL, axis=1, prepend=-1) > 0
            captions += np.bincount(tokens_cL[is_new_cL], minlength=len(captions))
        documents_V = captions[self.tokenizer.lexicon_V]
        return np.log((1 + len(self.tokens_CL)) / (1 + documents_V)).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _order(size: int, epoch: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def data_id(corpus: Corpus, config: DataConfig, text: TextConfig, tokenizer: LexiconTokenizer | None = None) -> str:
    """Hash of everything that decides the arrays."""
    lexicon = [text.vocabulary, text.max_tokens, TOKENIZER_CAPTIONS]
    if tokenizer is not None:
        lexicon = [text.max_tokens, tokenizer.fingerprint]
    if text.lexicon_min_count:
        lexicon.append(text.lexicon_min_count)
    code = code_fingerprint("models.tokenizer", "ablations.data")
    return fingerprint([corpus.fingerprint, config.train_images, *lexicon, code])


def prepare_tokenizer(
    home: Path, config: DataConfig, text: TextConfig, tokenizer: LexiconTokenizer | None = None, force: bool = False
) -> tuple[str, LexiconTokenizer]:
    """The id of the training data of a corpus slice, and its tokenizer; makes the data if missing. Raises InputError.

    tokenizer: defines the lexicon; None learns one from the captions.
    """
    corpus = open_corpus(config.corpus)
    identity = data_id(corpus, config, text, tokenizer)
    folder = Path(home) / "data" / identity
    if force or not folder.exists():
        _write(folder, corpus, config, text, tokenizer)
    _check(folder, [TOKENIZER, LEXICON])
    return identity, LexiconTokenizer.load(folder / TOKENIZER, text.max_tokens)


def open_data(home: Path, identity: str, text: TextConfig) -> TrainingData:
    """Maps training data that exists, after a check of all files. Raises InputError for a broken one."""
    folder = Path(home) / "data" / identity
    _check(folder)
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "tokens", "words", "first")]
    tokenizer = LexiconTokenizer.load(folder / TOKENIZER, text.max_tokens)
    return TrainingData(identity, *arrays[:3], np.asarray(arrays[3]), tokenizer)


def prepare(
    home: Path, config: DataConfig, text: TextConfig, force: bool = False, tokenizer: LexiconTokenizer | None = None
) -> TrainingData:
    """The training data of a corpus slice, made if missing. Arguments and errors as in `prepare_tokenizer`."""
    return open_data(home, prepare_tokenizer(home, config, text, tokenizer, force)[0], text)


def _write(
    folder: Path, corpus: Corpus, config: DataConfig, text: TextConfig, tokenizer: LexiconTokenizer | None
) -> None:
    log.info("data %s: %d train images of %s", folder.name, config.train_images, corpus.name)
    with atomic_folder(folder) as part:
        row = _write_images(part / "images.npy", corpus, config.train_images)
        captions, counts_N = _captions(corpus, row)
        if tokenizer is None:
            stride = max(len(captions) // TOKENIZER_CAPTIONS, 1)
            tokenizer = LexiconTokenizer.train(captions[::stride], text.vocabulary, text.max_tokens)
        tokens_CL, words_CL = tokenizer.encode(captions)
        if text.lexicon_min_count and not tokenizer.is_part:
            tokenizer = tokenizer.of_captions(tokens_CL, text.lexicon_min_count)
        tokenizer.save(part / TOKENIZER)
        np.save(part / "tokens.npy", tokens_CL)
        np.save(part / "words.npy", words_CL)
        np.save(part / "first.npy", np.concatenate([[0], counts_N.cumsum()]))
        sums = {file.name: sha256(file) for file in sorted(part.iterdir())}
        (part / DESCRIPTION).write_text(
            json.dumps({"corpus": corpus.name, "fingerprint": corpus.fingerprint, "sha256": sums})
        )


def _write_images(file: Path, corpus: Corpus, count: int) -> dict[str, int]:
    """Writes the first `count` images of train; returns the row of each image id."""
    row, images = {}, None
    stream = corpus.images("train", 0, count)
    for index, (image_id, image_HWC) in enumerate(
        cli.progress(stream, total=count, desc="rendering train", unit="image")
    ):
        if images is None:
            images = mapped_array(file, np.uint8, (count, *image_HWC.shape))
        images[index] = image_HWC
        row[image_id] = index
    if len(row) != count:
        raise InputError(f"data.train_images: {count} requested, but corpus {corpus.name} has {len(row)} train images")
    images.flush()
    return row


def _captions(corpus: Corpus, row: dict[str, int]) -> tuple[list[str], np.ndarray]:
    """All captions of the images in `row`, in the order of the images, and the number of captions of each image."""
    captions, counts_N, last = [], np.zeros(len(row), np.int64), -1
    for _, caption, image_id in corpus.captions("train", 0, len(row)):
        index = row[image_id]
        if index < last:
            raise InputError(
                f"corpus {corpus.name}: expected captions in the order of their images, "
                f"but those of {image_id} are out of order"
            )
        last = index
        counts_N[index] += 1
        captions.append(caption)
    if not counts_N.all():
        raise InputError(f"corpus {corpus.name}: image number {int(counts_N.argmin())} of train has no caption")
    return captions, counts_N


def _check(folder: Path, names: list[str] | None = None) -> None:
    """Compares files (None: all) with the checksums in the description. Raises InputError for one that differs."""
    try:
        sums = dict(json.loads((folder / DESCRIPTION).read_text())["sha256"])
        sums = {name: sums[name] for name in sums if names is None or name in names}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder / DESCRIPTION}: missing or broken; remove the folder to make the data again"
        ) from None
    for name, expected in sums.items():
        if not (folder / name).is_file() or _checksum(folder / name) != expected:
            raise InputError(
                f"{folder / name}: missing, truncated or changed since it was written; "
                "remove the folder to make the data again"
            )


def _checksum(file: Path) -> str:
    about = file.stat()
    return _checksum_of_version(file, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=64)
def _checksum_of_version(file: Path, changed: int, size: int) -> str:
    """Cached, since all variants of a command open the same images, which take a second to read."""
    return sha256(file)
