"""Training data on disk: a slice of a corpus as arrays that every variant maps into memory.

Decoded pictures, tokenised captions and the tokenizer lie in `<home>/data/<data id>/`, written once and shared by all
variants and seeds, so all of them see the same bytes. A step's batch depends on the seed and the step alone: a run that was
killed goes on with the batches it would have seen.
"""

import functools
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ablations.config import DataConfig
from bench.corpora import Corpus, open_corpus
from bench.store import cli
from bench.store.config import code_fingerprint, fingerprint
from models.config import TextConfig
from models.errors import InputError
from models.files import atomic_folder, mapped_array, sha256
from models.objective import Batch
from models.tokenizer import LexiconTokenizer

log = logging.getLogger(__name__)

TOKENIZER_CAPTIONS = 50_000
"""Captions that the vocabulary is learned from; more change nothing at vocabularies of a few thousand."""


@dataclass(frozen=True)
class TrainingData:
    """Memory-mapped pairs: uint8 images (N, H, W, 3); token ids and word numbers (C, L) of all captions; image n's captions are rows first[n]..first[n+1]."""

    id: str
    images_NHWC: np.ndarray
    tokens_CL: np.ndarray
    words_CL: np.ndarray
    first_N1: np.ndarray
    tokenizer: LexiconTokenizer

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def batch(self, step: int, size: int, seed: int, part: int = 0, parts: int = 1, seen: int | None = None) -> Batch:
        """The pairs of a step: images in an order shuffled anew each epoch, one random caption of each.

        Of `size` pairs only those of a `part`, the part-th of `parts` equal slices; their captions are as long as the longest of all.
        `seen`: pairs of the steps before, where those had batches of another size.
        """
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
        return Batch(
            torch.from_numpy(self.images_NHWC[rows_B[own]]),
            torch.from_numpy(tokens_BL[own, :longest]),
            torch.from_numpy(self.words_CL[captions_B[own]][:, :longest]),
        )


@functools.lru_cache(maxsize=4)
def _order(size: int, epoch: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def data_id(corpus: Corpus, config: DataConfig, text: TextConfig, tokenizer: LexiconTokenizer | None = None) -> str:
    """Hash of all that makes the arrays."""
    made_of = [
        corpus.fingerprint,
        config.train_images,
        *(
            [text.vocabulary, text.max_tokens, TOKENIZER_CAPTIONS]
            if tokenizer is None
            else [text.max_tokens, tokenizer.fingerprint]
        ),
        code_fingerprint("models.tokenizer", "ablations.data"),
    ]
    return fingerprint(made_of)


def prepare(
    home: Path, config: DataConfig, text: TextConfig, force: bool = False, tokenizer: LexiconTokenizer | None = None
) -> TrainingData:
    """Open the training data of a corpus slice, making it first where it is not there. Raises InputError for broken files.

    `tokenizer`: whose vocabulary is the lexicon; None learns one from the captions.
    """
    corpus = open_corpus(config.corpus)
    identity = data_id(corpus, config, text, tokenizer)
    folder = Path(home) / "data" / identity
    if force or not folder.exists():
        _write(folder, corpus, config, text, tokenizer)
    return _open(folder, identity, text)


def _write(
    folder: Path, corpus: Corpus, config: DataConfig, text: TextConfig, tokenizer: LexiconTokenizer | None
) -> None:
    log.info("data %s: %d train images of %s", folder.name, config.train_images, corpus.name)
    captions: list[str] = []
    counts_N = np.zeros(config.train_images, np.int64)
    with atomic_folder(folder) as part:
        position = {}
        images = None
        stream = corpus.images("train", 0, config.train_images)
        for index, (image_id, image_HWC) in enumerate(
            cli.progress(stream, total=config.train_images, desc="rendering train", unit="image")
        ):
            if images is None:
                images = mapped_array(part / "images.npy", np.uint8, (config.train_images, *image_HWC.shape))
            images[index] = image_HWC
            position[image_id] = index
        if len(position) != config.train_images:
            raise InputError(
                f"data.train_images: {config.train_images} asked for, but {corpus.name} has {len(position)} train images"
            )
        images.flush()
        last = -1
        for _, caption, image_id in corpus.captions("train", 0, config.train_images):
            index = position[image_id]
            if index < last:
                raise InputError(
                    f"corpus {corpus.name}: captions must come in the order of their images, but {image_id} came late"
                )
            last = index
            counts_N[index] += 1
            captions.append(caption)
        if not counts_N.all():
            raise InputError(f"corpus {corpus.name}: image number {int(counts_N.argmin())} of train has no caption")
        if tokenizer is None:
            stride = max(len(captions) // TOKENIZER_CAPTIONS, 1)
            tokenizer = LexiconTokenizer.train(captions[::stride], text.vocabulary, text.max_tokens)
        tokenizer.save(part / "tokenizer.json")
        tokens_CL, words_CL = tokenizer.encode(captions)
        np.save(part / "tokens.npy", tokens_CL)
        np.save(part / "words.npy", words_CL)
        np.save(part / "first.npy", np.concatenate([[0], counts_N.cumsum()]))
        sums = {file.name: sha256(file) for file in sorted(part.iterdir())}
        (part / "meta.json").write_text(
            json.dumps({"corpus": corpus.name, "fingerprint": corpus.fingerprint, "sha256": sums})
        )


def _checksum(file: Path) -> str:
    about = file.stat()
    return _checksum_of(file, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=64)
def _checksum_of(file: Path, changed: int, size: int) -> str:
    """Of a file as it was when it last changed: all variants of a command open the same pictures, which take a second to read."""
    return sha256(file)


def _open(folder: Path, identity: str, text: TextConfig) -> TrainingData:
    try:
        sums = dict(json.loads((folder / "meta.json").read_text())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder / 'meta.json'}: missing or broken; remove the folder to make the data again"
        ) from None
    for name, expected in sums.items():
        if not (folder / name).is_file() or _checksum(folder / name) != expected:
            raise InputError(
                f"{folder / name}: missing, truncated or changed since it was written; remove the folder to make the data again"
            )
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "tokens", "words", "first")]
    return TrainingData(
        identity, *arrays[:3], np.asarray(arrays[3]), LexiconTokenizer.load(folder / "tokenizer.json", text.max_tokens)
    )
