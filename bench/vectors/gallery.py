"""The gallery of the scale bench: the test images first, then distractors, as vectors of every model, made in one pass of rendering.

    lexlip-bench gallery --home runs --checkpoint A --checkpoint B --corpus scenes --images 1000 --distractors 99000

A smaller gallery is the beginning of a larger one, so one of 1M serves 100k, 10k and 1k (`Vectors.prefix`). What it costs in memory stands
in `bench.vectors.encode`. On disk: 2 KB an image for 512 dense dimensions, 8 bytes for each active lexicon, and some 20 for the id; 10M images of
512 dimensions and 64 lexicons are 26 GB. Room is checked before anything is written.
"""

import time
from collections.abc import Mapping

from bench.corpora import check_split, open_corpus, read_spec
from bench.vectors.encode import Encoded, Encoder, encode_slices, parser_of
from bench.vectors.nodes import Nodes, joined
from bench.vectors.write import SHARD_ROWS
from models.errors import InputError

MOST_SHARDS = 256  # three mapped files each, with one open file for each: under the usual limit of 1024


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
    """Vectors of images 0..`images` of a split, then of 0..`distractors` of the split "distractors", and of all captions of the former.

    The rest as `encode_slices`. Raises InputError for a split that the corpus has not, and for more than 256 shards.
    """
    for needed in (split, *(["distractors"] if distractors else [])):
        check_split(corpus, needed)
    if images < 1 or distractors < 0:
        raise InputError(
            f"{images} images and {distractors} distractors: expected at least 1 image, and no negative number"
        )
    if images + distractors > MOST_SHARDS * shard_rows:
        raise InputError(
            f"{images + distractors} images in shards of {shard_rows}: expected at most {MOST_SHARDS} shards"
        )
    return encode_slices(
        home, encoders, corpus, [(split, images), ("distractors", distractors)], force, shard_rows, workers, nodes
    )


# --- lexlip-bench gallery ------------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Makes the gallery and prints where its vectors are."""
    encoders = {str(folder): Encoder(folder, arguments.precision) for folder in arguments.checkpoint}
    corpus, began = open_corpus(read_spec(arguments.corpus)), time.perf_counter()
    slices = (arguments.split, arguments.images, arguments.distractors)
    with joined(arguments.ray) as nodes:
        made = encode_gallery(
            arguments.home, encoders, corpus, *slices, arguments.force, arguments.shard_rows, arguments.workers, nodes
        )
    for name, encoded in made.items():
        rate = encoded.rates.get("encode_images_per_second")
        size = f"{encoded.images.count} images, {encoded.images.bytes / 1e6:.1f} MB, {encoded.captions.count} captions"
        print(
            f"{name}: {encoded.kind}, {size}, {f'{rate:.0f} images/s' if rate else 'there already'}: {encoded.images.folder}"
        )
    print(f"{time.perf_counter() - began:.1f} s")


def parser():
    flags = parser_of(
        "Vectors of a gallery by one or more checkpoints: test images, then distractors, rendered once. Resumable."
    )
    flags.add_argument("--distractors", type=int, default=999_000, help="images of the split 'distractors' that follow")
    return flags
