"""Pairs of training captions and image vectors, from which the weights of a query table are learned.

Images are encoded once, to `<home>/vectors/`, and pruned as for the index. A batch is a function of seed and step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy

from bench.corpora.counts import ALL, count
from bench.store import cli, config
from bench.vectors.batches import batches
from bench.vectors.encode_pass import Run, encode_images
from bench.vectors.encoder import Encoder
from bench.vectors.format import SHARD_ROWS
from bench.vectors.impacts import prune
from bench.vectors.jobs import Job
from models.errors import InputError
from models.query_table.learn import LearnConfig, PairBatch
from models.query_table.table import distinct, word_of_T
from models.tokenizer import LexiconTokenizer

SPLIT = "train"
MOST_IMAGES = 20_000
"""Images learned from unless given: about 10 epochs of the default training."""


class Pairs:
    """Captions and images to learn from.

    words: (C, V) CSR, 1 where a caption has a lexicon as a token. images: (N, V) CSR. owners: (C,) image of each
    caption. Raises InputError for fewer than two images with captions.
    """

    def __init__(self, words: scipy.sparse.csr_array, images: scipy.sparse.csr_array, owners: np.ndarray):
        self.words, self.images, self.captions = words, images, np.argsort(owners, kind="stable")
        self.owned, self.first, self.counts = np.unique(owners[self.captions], return_index=True, return_counts=True)
        if len(self.owned) < 2:
            raise InputError(f"{len(self.owned)} images with captions to learn from; expected at least 2")

    def batch(self, step: int, learning: LearnConfig) -> PairBatch:
        """Distinct images, one random caption of each."""
        random = np.random.default_rng((learning.seed, step))
        chosen = random.choice(len(self.owned), min(learning.batch, len(self.owned)), replace=False)
        captions = self.captions[self.first[chosen] + random.integers(self.counts[chosen])]
        words, images = self.words[captions], self.images[self.owned[chosen]]
        lexicons = np.unique(words.indices).astype(np.int64)
        return PairBatch(lexicons, words[:, lexicons].toarray(), images[:, lexicons].toarray())

    def batches(self, learning: LearnConfig, label: str) -> Iterator[PairBatch]:
        """All batches of a training, with a progress bar."""
        for step in cli.progress(range(learning.steps), desc=label, unit="step"):
            yield self.batch(step, learning)


def images_to_learn_from(corpus, checkpoint: Path, asked: int | str | None) -> int:
    """The number of training images: as asked, or as many as the run trained on, at most `MOST_IMAGES`.

    A checkpoint without a `config.yaml` beside it counts as a run on `MOST_IMAGES`. Raises InputError for a number
    below 2, a corpus without the split train, and all images of an endless one.
    """
    described = Path(checkpoint).resolve().parent / "config.yaml"
    if asked is None:
        of_run = config.read_yaml(described).get("data", {}).get("train_images") if described.is_file() else None
        asked = min(of_run or MOST_IMAGES, MOST_IMAGES)
    if asked != ALL and asked < 2:
        raise InputError(f"--train-images {asked}: expected at least 2")
    return count(corpus, SPLIT, asked)


def open_pairs(
    home: Path,
    encoder: Encoder,
    tokenizer: LexiconTokenizer,
    corpus,
    images: int,
    top_k: int | None,
    force: bool = False,
) -> Pairs:
    """The pairs of the first images of train, encoded unless they exist. top_k: lexicons of an image.

    Raises InputError for too few images.
    """
    slices = [(SPLIT, images)]
    job = Job.of(home, encoder, corpus, slices, "images")
    if force or job.find() is None:
        encode_images([job], corpus, slices, Run(SHARD_ROWS, force=force))
    vectors = job.find()
    row_of = {image: row for row, image in enumerate(vectors.ids)}
    stream = cli.progress(corpus.captions(SPLIT, 0, images), desc="reading train captions", unit="caption")
    known = ((text, row_of[image]) for _, text, image in stream if image in row_of)
    lexicon_of, parts, owners = word_of_T(tokenizer), [np.zeros((2, 0), np.int64)], []
    for batch in batches(known):
        rows, lexicons = distinct(lexicon_of[tokenizer.encode([text for text, _ in batch])[0]])
        parts.append(np.array([rows + len(owners), lexicons], np.int64))
        owners += [row for _, row in batch]
    places = np.concatenate(parts, axis=1)
    ones = np.ones(places.shape[1], np.float32)
    words = scipy.sparse.csr_array((ones, tuple(places)), shape=(len(owners), vectors.dimension))
    return Pairs(words, scipy.sparse.csr_array(prune(vectors.to_scipy(), top_k)), np.array(owners, np.int64))
