"""Encodes the gallery of the scale benchmark, test images followed by distractors, with every model in one pass.

    lexlip-bench gallery --home runs --checkpoint A --checkpoint B --corpus scenes --images 1000 --distractors 99000

A smaller gallery is a prefix of a larger one, so one of 1M images serves 100k, 10k and 1k (`Vectors.prefix`).
`bench.vectors.encode` states the memory. On disk: 2 KB per image for 512 dense dimensions, 8 bytes per active lexicon,
and about 20 bytes per id; 10M images of 512 dimensions and 64 lexicons are 26 GB. Free space is checked before anything
is written.
"""

import time
from collections.abc import Mapping

from bench.corpora import check_split, chosen_split, read_spec
from bench.corpora.counts import count
from bench.corpora.resolution import open_at
from bench.vectors.encode import Encoded, encode_slices, encoding_parser, record_and_print
from bench.vectors.encoder import Encoder
from bench.vectors.format import SHARD_ROWS
from bench.vectors.nodes import Nodes, joined
from models.errors import InputError

MAX_SHARDS = 256  # three open files each: below the usual limit of 1024


def encode_gallery(
    home,
    encoders: Mapping[str, Encoder],
    corpus,
    split: str = "test",
    images: int = 1000,
    distractors: int = 999_000,
    force: bool = False,
    shard_rows: int = SHARD_ROWS,
    workers: int | None = None,
    nodes: Nodes | None = None,
) -> dict[str, Encoded]:
    """Encodes the first images of a split, then those of the split "distractors", and all captions of the former.

    Other arguments as in `encode_slices`. Raises InputError for an unknown split, for numbers out of range, and for
    more than 256 shards.
    """
    for needed, number in ((split, images), *([("distractors", distractors)] if distractors else [])):
        check_split(corpus, needed, number)
    if images < 1 or distractors < 0:
        found = f"{images} images and {distractors} distractors"
        raise InputError(f"{found}: expected at least 1 image and at least 0 distractors")
    if images + distractors > MAX_SHARDS * shard_rows:
        found = f"{images + distractors} images in shards of {shard_rows}"
        raise InputError(f"{found}: expected at most {MAX_SHARDS} shards")
    slices = [(split, images), ("distractors", distractors)]
    return encode_slices(home, encoders, corpus, slices, force, shard_rows, workers, nodes)


# --- lexlip-bench gallery --------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Encodes the gallery and prints the folders of its vectors."""
    encoders = {str(folder): Encoder(folder, arguments.precision) for folder in arguments.checkpoint}
    began = time.perf_counter()
    with joined(arguments.ray) as nodes:
        corpus = open_at(read_spec(arguments.corpus), arguments.checkpoint)
        split = chosen_split(corpus, arguments.split)
        slices = (split, count(corpus, split, arguments.images), arguments.distractors)
        made = encode_gallery(
            arguments.home, encoders, corpus, *slices, arguments.force, arguments.shard_rows, arguments.workers, nodes
        )
    for name, encoded in made.items():
        rate = encoded.rates.get("encode_images_per_second")
        speed = f"{rate:.0f} images/s" if rate else "existed already"
        size = f"{encoded.images.count} images, {encoded.images.bytes / 1e6:.1f} MB, {encoded.captions.count} captions"
        print(f"{name}: {encoded.kind}, {size}, {speed}: {encoded.images.folder}")
    record_and_print(arguments.home, encoders, made, corpus, *slices[:2])
    print(f"{time.perf_counter() - began:.1f} s")


def parser():
    """Flags of `lexlip-bench gallery`."""
    flags = encoding_parser(
        "Encode test images followed by distractors with one or more checkpoints. An interrupted run resumes."
    )
    flags.add_argument("--distractors", type=int, default=999_000, help="number of images of the split 'distractors'")
    return flags
