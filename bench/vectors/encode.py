"""Slices of a corpus through both encoders of one or more checkpoints, to vectors on disk, in one pass of rendering.

    lexlip-bench encode --home runs --checkpoint A --checkpoint B --corpus scenes --split test --images 5000
    lexlip-bench encode --ray HOST:PORT ...    the same vectors, encoded by all nodes of a Ray cluster (`bench.vectors.nodes`)

Notable choices
- What vectors are made of decides their id: checkpoint, corpus, slices, precision, code. Whole ones are opened, not made again; images
  that begin a larger set of vectors are a prefix of it. A killed run goes on after its last whole shard (`bench.vectors.write`).
- Batches are cut at the same places whatever the slices, and the last one is filled up, so vectors do not depend on how many follow.
- Memory does not grow with the number of images. Each model holds one shard twice (as batches, and joined while it is written):
  2 x 65,536 x 4 B x D dense, 2 x 65,536 x 8 B x active lexicons. Batches of 128: the pictures of one for each thread, the vectors of 16
  more. With D = 512, 1,024 active lexicons (all that the small presets have) and 64 pixels on 2 cores that is 0.27 + 1.07 + 0.03 GB; it
  stays under 4 GB up to 3,400 active lexicons. Not in it: the models, and each thread's activations of a batch.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.corpora import check_split, open_corpus, read_spec
from bench.store import cli
from bench.vectors.encode_pass import Job, Run, batches, encode_captions, encode_images, find
from bench.vectors.nodes import Nodes, add_flag, joined
from bench.vectors.read import Vectors
from bench.vectors.rendering import BATCH
from bench.vectors.write import SHARD_ROWS
from models import checkpoint as checkpoints
from models.errors import InputError
from models.pretrained import open_clip as pretrained

log = logging.getLogger(__name__)
__all__ = ["Encoded", "Encoder", "batches", "encode", "encode_slices"]
PRECISIONS = ("float32", "bfloat16")


class Encoder:
    """A retrieval model, loaded when it is first needed. Vectors are L2-normalised float32.

    source: a checkpoint folder, or the `open_clip:` name of a pre-trained model (`models.pretrained.open_clip`).
    precision: what the model computes in, "float32" or "bfloat16" (autocast; the vectors differ by rounding).
    """

    def __init__(self, source, precision: str = "float32"):
        if precision not in PRECISIONS:
            raise InputError(f"precision '{precision}': expected {' or '.join(PRECISIONS)}")
        self.source, self.precision = source if pretrained.named(source) else Path(source), precision

    @property
    def _loader(self):
        return checkpoints if isinstance(self.source, Path) else pretrained

    @functools.cached_property
    def id(self) -> str:
        return self._loader.fingerprint(self.source)

    @functools.cached_property
    def model(self):
        return self._loader.load(self.source)

    @property
    def kind(self) -> str:
        return self.model.kind

    @property
    def vocabulary(self) -> list[str] | None:
        return self.model.vocabulary if self.kind == "lexicon" else None

    def images(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (B, P, P, 3), P the model's `pixels`, to (B, D or V)."""
        with self._computing():
            return _numpy(self.model.encode_image(pictures))

    def texts(self, texts: list[str]) -> np.ndarray:
        """Strings to (B, D or V)."""
        with self._computing():
            return _numpy(self.model.encode_text(list(texts)))

    def _computing(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16")


@dataclass(frozen=True)
class Encoded:
    """Vectors of a gallery's images and of its captions, with their ids; `rates` (images and texts per second) only when made just now."""

    images: Vectors
    captions: Vectors
    images_id: str
    captions_id: str
    rates: dict[str, float]

    @property
    def kind(self) -> str:
        return self.images.kind


def encode(home, encoder: Encoder, corpus, split: str, images: int, force: bool = False) -> Encoded:
    """Encodes images 0..`images` of a split and their captions to `<home>/vectors/`, unless they are there.

    Each rate is of the encoder alone, on all cores; rendering is not in it. Raises InputError for a broken checkpoint.
    """
    return encode_slices(home, {"": encoder}, corpus, [(split, images)], force)[""]


def encode_slices(
    home,
    encoders: Mapping[str, Encoder],
    corpus,
    slices: Sequence[tuple[str, int]],
    force: bool = False,
    shard_rows: int = SHARD_ROWS,
    workers: int | None = None,
    nodes: Nodes | None = None,
) -> dict[str, Encoded]:
    """Encodes the first images of each slice (split, count), one slice after the other, and the captions of the first slice.

    Each picture is rendered once for all encoders, by `workers` threads (one for each core), or by the `nodes` of a cluster. What is
    there already is opened, not made.
    shard_rows: images per shard, a multiple of 128; a killed run loses less than that. Raises InputError for a broken checkpoint or
    shard, for a split that is too short, and when the disk has too little room.
    """
    if shard_rows < 1 or shard_rows % BATCH:
        raise InputError(f"{shard_rows} images per shard: expected a multiple of {BATCH}")
    home, slices = Path(home), [[split, count] for split, count in slices if count]
    if not slices or min(count for _, count in slices) < 0:
        raise InputError(f"slices {slices}: expected at least one image")
    made = {"images": [Job.of(home, encoder, corpus, slices, "images") for encoder in encoders.values()]}
    made["captions"] = [Job.of(home, encoder, corpus, slices[:1], "captions") for encoder in encoders.values()]
    run = Run(shard_rows, workers, force, nodes)
    for part, jobs in made.items():
        there = {} if force else {job.id: vectors for job in jobs if (vectors := find(home, job.made_from)) is not None}
        for vectors in there.values():
            log.info("%s: the first %d of %s are there", part, vectors.count, vectors.folder)
        missing = list({job.id: job for job in jobs if job.id not in there}.values())
        if missing and part == "images":
            encode_images(missing, corpus, slices, run)
        elif missing:
            encode_captions(missing, corpus, *slices[0], run)
    return {name: _encoded(home, *of) for name, *of in zip(encoders, made["images"], made["captions"], strict=True)}


def _encoded(home: Path, images: Job, captions: Job) -> Encoded:
    rates = {"encode_images_per_second": images.rate, "encode_texts_per_second": captions.rate}
    vectors = (find(home, job.made_from) for job in (images, captions))
    return Encoded(*vectors, images.id, captions.id, {name: rate for name, rate in rates.items() if rate})


def _numpy(tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else tensor, np.float32)


# --- lexlip-bench encode -------------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Encodes a slice and prints where its vectors are."""
    encoders = {str(source): Encoder(source, arguments.precision) for source in arguments.checkpoint}
    corpus, slices = open_corpus(read_spec(arguments.corpus)), [(arguments.split, arguments.images)]
    check_split(corpus, arguments.split)
    with joined(arguments.ray) as nodes:
        began = time.perf_counter()
        made = encode_slices(
            arguments.home, encoders, corpus, slices, arguments.force, arguments.shard_rows, arguments.workers, nodes
        )
        seconds = time.perf_counter() - began
    for name, encoded in made.items():
        print(f"{name}: {encoded.images.count} images: {encoded.images.folder}")
        print(f"{name}: {encoded.captions.count} captions: {encoded.captions.folder}")
    print(f"{seconds:.1f} s")


def parser_of(description: str):
    """A parser with the flags of every command that encodes slices of a corpus."""
    parser = cli.parser(description, writes=True)
    parser.add_argument(
        "--checkpoint", action="append", required=True, help="checkpoint folder; give it once for each model"
    )
    cli.add_corpus(parser, images="images of the split; their captions are encoded too")
    parser.add_argument("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="what the models compute in")
    parser.add_argument(
        "--shard-rows", type=int, default=SHARD_ROWS, help="images per shard: what a killed run loses at most"
    )
    parser.add_argument(
        "--workers", type=int, default=None, help="threads that render and encode; one for each core unless given"
    )
    add_flag(parser, "encode over all cores of")
    return parser


def parser():
    return parser_of(
        "Vectors of the first images of a split and of their captions, by one or more checkpoints. Resumable."
    )
