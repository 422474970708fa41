"""Encodes slices of a corpus with one or more checkpoints to vectors on disk, in one pass over the images.

    lexlip-bench encode --home runs --checkpoint A --checkpoint B --corpus scenes --split test --images 5000
    lexlip-bench encode --ray HOST:PORT ...    the same vectors, encoded by a Ray cluster (`bench.vectors.nodes`)

Notable choices
- The id of vectors hashes all inputs: checkpoint, corpus, slices, precision, code. Complete vectors are opened, not
  encoded again; so are the first images of a larger set. A killed run resumes after its last complete shard
  (`bench.vectors.write`).
- Batches are cut at the same places for all slices, and the last one is padded, so vectors do not depend on the
  number of images.
- Memory does not grow with the number of images. Each model holds one shard twice (as batches, and joined while it is
  written): 2 x 65,536 x 4 B x D for dense, 2 x 65,536 x 8 B x active lexicons for lexicon vectors. Batches of 128 add
  the images of one per thread, and the vectors of 16 more. With D = 512, 1,024 active lexicons (all that the small
  presets have), 64 pixels and 2 cores that is 0.27 + 1.07 + 0.03 GB; it stays under 4 GB up to 3,400 active lexicons.
  Models, and the activations of a batch per thread, come on top.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.corpora import chosen_split, data_id, read_spec
from bench.corpora.counts import count
from bench.corpora.resolution import open_at
from bench.store import cli, config
from bench.vectors.batches import BATCH, batches
from bench.vectors.encode_pass import Run, encode_captions, encode_images
from bench.vectors.encoder import PRECISIONS, Encoder, is_open_clip, loader
from bench.vectors.format import SHARD_ROWS
from bench.vectors.jobs import Job
from bench.vectors.nodes import Nodes, add_flag, joined
from bench.vectors.read import Vectors
from models.errors import InputError

if TYPE_CHECKING:
    from bench.store.records import Point, RecordStore

log = logging.getLogger(__name__)
CUT = "captions_cut"
"""The metric of captions that a model cuts."""
Captions = Iterable[tuple[str, str, str]]
"""(caption_id, text, image_id), as a corpus yields them."""


@dataclass(frozen=True)
class Encoded:
    """Vectors of images and of their captions, with their ids.

    rates: encode_images_per_second and encode_texts_per_second of this run; empty if the vectors existed.
    """

    images: Vectors
    captions: Vectors
    images_id: str
    captions_id: str
    rates: dict[str, float]

    @property
    def kind(self) -> str:
        """The kind of the vectors, "dense" or "lexicon"."""
        return self.images.kind


def encode(home, encoder: Encoder, corpus, split: str, images: int, force: bool = False) -> Encoded:
    """Encodes images 0..`images`-1 of a split and their captions to `<home>/vectors/`, unless they exist.

    Rates are those of the encoder on all cores, without rendering. Raises InputError as `encode_slices`.
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
    """Encodes the first images of each slice (split, count), in order, and the captions of the first slice.

    Each image is rendered once for all encoders, by `workers` threads (None: one per core) or by the `nodes` of a
    cluster. Existing vectors are opened, unless `force`. shard_rows: images per shard, a multiple of 128; a killed run
    loses less than one shard. Returns the vectors by the names of the encoders.

    Raises InputError for a broken checkpoint or shard, a split with too few images, and a disk without enough room.
    """
    if shard_rows < 1 or shard_rows % BATCH:
        raise InputError(f"{shard_rows} images per shard: expected a multiple of {BATCH}")
    home, slices = Path(home), [(split, count) for split, count in slices if count]
    if not slices or min(count for _, count in slices) < 0:
        raise InputError(f"slices {slices}: expected at least one image")
    images = [Job.of(home, encoder, corpus, slices, "images") for encoder in encoders.values()]
    captions = [Job.of(home, encoder, corpus, slices[:1], "captions") for encoder in encoders.values()]
    run = Run(shard_rows, workers, force, nodes)
    if missing := _missing(images, force):
        encode_images(missing, corpus, slices, run)
    if missing := _missing(captions, force):
        encode_captions(missing, corpus, *slices[0], run)
    return {name: _encoded(*jobs) for name, *jobs in zip(encoders, images, captions, strict=True)}


def _missing(jobs: list[Job], force: bool) -> list[Job]:
    """The jobs whose vectors do not exist yet, each once."""
    found = {} if force else {job.id: vectors for job in jobs if (vectors := job.find()) is not None}
    for vectors in found.values():
        log.info("%s: exists, using the first %d vectors", vectors.folder, vectors.count)
    return list({job.id: job for job in jobs if job.id not in found}.values())


def _encoded(images: Job, captions: Job) -> Encoded:
    rates = {"encode_images_per_second": images.rate, "encode_texts_per_second": captions.rate}
    made = {name: rate for name, rate in rates.items() if rate}
    return Encoded(images.find(), captions.find(), images.id, captions.id, made)


# --- records ----------------------------------------------------------------------------------------------------------


def record_code() -> str:
    """`code_id` of the points of the task "encoding"."""
    return config.code_fingerprint("bench.vectors.encode", "bench.vectors.encode_pass")


def record_encoding(
    store: "RecordStore", point: "Point", encoder: Encoder, encoded: Encoded, captions: Captions
) -> None:
    """Writes the rates of encoding, if the vectors were encoded now, and the number of captions that the model cuts.

    point: of the task "encoding". captions: the encoded ones, as a corpus yields them. A point that is recorded is
    written again only with rates.
    """
    if encoded.rates or not store.has(point):
        cut = captions_cut(encoder, captions)
        values = encoded.rates | {"vectors_bytes": encoded.images.bytes}
        store.write(point, values if cut is None else values | {CUT: cut})


def captions_cut(encoder: Encoder, captions: Captions) -> int | None:
    """Number of captions that a model cuts at its maximum length; None for a model that does not tell."""
    count = getattr(encoder.model, "cut", None)
    if count is None and hasattr(encoder.model, "tokenizer"):
        from models.tokenizer import LexiconTokenizer

        limit = encoder.model.tokenizer.max_tokens
        longer = LexiconTokenizer.load(Path(encoder.source) / "tokenizer.json", limit + 1)

        def count(texts: list[str]) -> int:
            return int((longer.encode(texts)[0][:, limit] != longer.pad_id).sum())

    return None if count is None else sum(count([text for _, text, _ in batch]) for batch in batches(captions))


def cut_words(store: "RecordStore", point: "Point") -> str:
    """The number of captions that a model cut, of a recorded point, as commands print it; "" where it is unknown."""
    cut = store.values(point).get(CUT)
    return "" if cut is None else f"{cut:,.0f} captions cut at the model's maximum length"


def record_and_print(
    home, encoders: Mapping[str, Encoder], made: Mapping[str, Encoded], corpus, split: str, images: int
) -> None:
    """Records each model's encoding, under the name of the run that made it, and prints how many captions it cuts.

    split, images: the images whose captions are encoded.
    """
    from bench.store.records import Point, RecordStore

    store = RecordStore(home)
    for name, encoded in made.items():
        encoder = encoders[name]
        of_run = {"variant": loader(encoder.source).variant(encoder.source)} if is_open_clip(encoder.source) else None
        point = Point(
            task="encoding",
            corpus=corpus.name,
            split=split,
            images=encoded.images.count,
            queries=encoded.captions.count,
            kind=encoded.kind,
            data_id=data_id(corpus),
            checkpoint_id=encoder.id,
            vectors_id=encoded.images_id,
            code_id=record_code(),
            command=cli.command_line(),
            **(of_run or config.run_of(encoder.source)),
        )
        record_encoding(store, point, encoder, encoded, corpus.captions(split, 0, images))
        if cut := cut_words(store, point):
            print(f"{name}: {cut}")


# --- lexlip-bench encode ---------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Encodes a slice and prints the folders of its vectors."""
    encoders = {str(source): Encoder(source, arguments.precision) for source in arguments.checkpoint}
    with joined(arguments.ray) as nodes:
        corpus = open_at(read_spec(arguments.corpus), arguments.checkpoint)
        split = chosen_split(corpus, arguments.split)
        slices = [(split, count(corpus, split, arguments.images))]
        began = time.perf_counter()
        made = encode_slices(
            arguments.home, encoders, corpus, slices, arguments.force, arguments.shard_rows, arguments.workers, nodes
        )
        seconds = time.perf_counter() - began
    for name, encoded in made.items():
        print(f"{name}: {encoded.images.count} images: {encoded.images.folder}")
        print(f"{name}: {encoded.captions.count} captions: {encoded.captions.folder}")
    record_and_print(arguments.home, encoders, made, corpus, *slices[0])
    print(f"{seconds:.1f} s")


def encoding_parser(description: str):
    """A parser with the flags of the commands that encode slices of a corpus."""
    parser = cli.parser(description, writes=True)
    parser.add_argument(
        "--checkpoint", action="append", required=True, help="checkpoint folder; repeat for several models"
    )
    cli.add_corpus(parser, images="number of images to encode, with all their captions")
    parser.add_argument("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="precision of the computation")
    parser.add_argument("--shard-rows", type=int, default=SHARD_ROWS, help="images per shard; a killed run loses less")
    parser.add_argument("--workers", type=int, default=None, help="threads that render and encode; None: one per core")
    add_flag(parser, "encode with all cores of")
    return parser


def parser():
    """Flags of `lexlip-bench encode`."""
    return encoding_parser("Encode images and captions with one or more checkpoints. An interrupted run resumes.")
