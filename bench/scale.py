"""Dense against lexicon search at scale: `python -m bench.scale --corpus 1M`.

Trains the `quick` checkpoints unless they are there, encodes the gallery with both, builds every index, sweeps every knob, at 1k, 10k, 100k
and so on up to the size asked for, and writes a record of each point at once. Killed, the same command goes on where it stood.

    --corpus 1M              1,000 test images and 999,000 distractors of `scenes`; any size: 250k, 5000, 10M
    --corpus synthetic:10M   vectors fitted to those of an encoded gallery: engines are compared, no task is measured
    --corpus vectors         your own: --documents FOLDER --queries FOLDER (as `python -m bench.encode` or `bench.vectors` writes them)
"""

import argparse
import itertools
import logging
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml

from bench import cli, config, engines, measure, metrics
from bench.bootstrap import Fitted, fit
from bench.corpora import open_corpus
from bench.describe import describe
from bench.encode import Encoded, Encoder
from bench.environment import OtherWork, cores
from bench.files import read_json
from bench.gallery import encode_gallery
from bench.isolate import Limits
from bench.records import Point, RecordStore
from bench.sweep import GRID, Grid, Side, Sweep, plan
from bench.synthetic import synthesise
from bench.vectors import Vectors, open_vectors
from models.errors import InputError

log = logging.getLogger(__name__)

SUFFIXES = {"": 1, "k": 10**3, "m": 10**6}
DECADES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
TEST_IMAGES = 1_000
FITTED_TO = 100_000  # encoded images that synthetic vectors are fitted to
VARIANTS = {"lexicon": "lexlip", "dense": "clip"}
TEXTS_TIMED = 200


def number(text: str) -> int:
    """`250k`, `1M`, `5000` as a whole number. Raises InputError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip())
    value = float(found[1]) * SUFFIXES[found[2].lower()] if found else 0.0
    if not found or value < 1 or value % 1:
        raise InputError(f"{text!r}: expected a number of images such as 5000, 250k or 1M")
    return int(value)


def sizes_up_to(largest: int) -> list[int]:
    """The decades below a size, and the size."""
    return [size for size in DECADES if size < largest] + [largest]


# --- checkpoints ------------------------------------------------------------------------------------------------------------------


def trained(home: Path, profile: str, kind: str) -> Path:
    """The checkpoint of a kind under a profile, by the command that a user would type: training's floor is not imported from here."""
    command = [sys.executable, "-m", "ablations.train", "--home", str(home), "--profile", profile, "--variant", VARIANTS[kind]]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"training failed (its own message is above); again: python {' '.join(command[1:])}")
    return Path(done.stdout.strip().splitlines()[-1])


def corpus_of(checkpoint: Path) -> dict:
    """The corpus that a checkpoint was trained on, from the configuration beside it. Raises InputError where there is none."""
    described = checkpoint.parent / "config.yaml"
    if not described.exists():
        raise InputError(f"{described}: no such file, so the corpus of this checkpoint is unknown; name it with --source")
    return config.read_yaml(described)["data"]["corpus"]


# --- sides ------------------------------------------------------------------------------------------------------------------------


def encoded_sides(store: RecordStore, arguments, images: int) -> list[Side]:
    """Both models over the same images."""
    given = {kind: getattr(arguments, kind) for kind in arguments.kinds if getattr(arguments, kind)}
    for kind, folder in given.items():
        if (found := Encoder(folder).kind) != kind:
            raise InputError(f"{folder}: a checkpoint of {found} vectors was given as the {kind} one")
    folders = {kind: given.get(kind) or trained(arguments.home, arguments.profile, kind) for kind in VARIANTS if kind in arguments.kinds}
    corpus = open_corpus(arguments.source or corpus_of(next(iter(folders.values()))))
    encoders = {kind: Encoder(folder) for kind, folder in folders.items()}
    queries = min(TEST_IMAGES, images)
    made = encode_gallery(arguments.home, encoders, corpus, "test", queries, images - queries, arguments.force)
    sides = []
    for kind, encoded in made.items():
        base = Point(
            task="scale",
            corpus=corpus.name,
            split="test",
            direction="text_to_image",
            profile=arguments.profile,
            variant=VARIANTS[kind] if getattr(arguments, kind) is None else folders[kind].resolve().name,
            kind=kind,
            data_id=corpus.fingerprint,
            checkpoint_id=encoders[kind].id,
            command=cli.command_line(),
        )
        sides.append(Side(encoded.images, encoded.images_id, encoded.captions, encoded.captions_id, base))
        record_encoding(store, encoders[kind], encoded, base, corpus, arguments.force)
    if hasattr(corpus, "satisfying_counts"):
        record_satisfying(store, corpus, sides[0].base, sizes_up_to(images), arguments.force)
    return sides


def synthetic_sides(store: RecordStore, arguments, measured: list[Side], count: int) -> list[Side]:
    """For each measured side a collection of `count` vectors fitted to it."""
    sides = []
    for side in measured:
        code = config.code_fingerprint("bench.bootstrap", "bench.describe")
        file = arguments.home / "synthetic" / f"{config.fingerprint([side.documents_id, side.documents.count, side.queries_id, code])}.npz"
        if arguments.force or not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            fit(side.documents, side.queries).save(file)
        vocabulary = arguments.vocabulary if side.kind == "lexicon" else None
        made = synthesise(arguments.home, Fitted.load(file), count, vocabulary=vocabulary, force=arguments.force)
        name = ":".join(["synthetic", side.base.corpus, *([str(arguments.vocabulary)] if arguments.vocabulary else [])])
        base = replace(side.base, corpus=name)
        sides.append(Side(made.images, made.images_id, made.captions, made.captions_id, base, judged=False))
        record_vectors(store, side, side.documents.count, arguments.force)
    return sides


def own_sides(arguments) -> list[Side]:
    """Vectors that the user has."""
    if not (arguments.documents and arguments.queries):
        raise InputError("--corpus vectors: name both --documents FOLDER and --queries FOLDER")
    documents, queries = open_vectors(arguments.documents), open_vectors(arguments.queries)
    if (documents.kind, documents.dimension) != (queries.kind, queries.dimension):
        raise InputError(
            f"{arguments.queries}: {queries.kind} vectors of {queries.dimension}, but the documents are {documents.kind} of {documents.dimension}"
        )
    base = Point(task="scale", corpus=f"vectors:{arguments.documents.name}", kind=documents.kind, command=cli.command_line())
    return [Side(documents, _content_id(documents), queries, _content_id(queries), base, judged=queries.grouped)]


def _content_id(vectors: Vectors) -> str:
    return config.fingerprint(read_json(vectors.folder / "meta.json"))


# --- records beside the sweep -----------------------------------------------------------------------------------------------------


def record_encoding(store: RecordStore, encoder: Encoder, encoded: Encoded, base: Point, corpus, force: bool) -> None:
    """Rates of encoding the gallery, when it was done just now; and the latency of encoding one text, which comes before any search."""
    code = config.code_fingerprint("models", "bench.encode")
    point = replace(base, task="encoding", images=encoded.images.count, vectors_id=encoded.images_id, code_id=code)
    if encoded.rates:
        store.write(replace(point, queries=encoded.captions.count), encoded.rates | {"vectors_bytes": encoded.images.bytes})
    for threads in dict.fromkeys((1, cores())):
        timed = replace(point, images=None, vectors_id="", queries=TEXTS_TIMED, batch_mode="single", threads=threads)
        if force or not store.has(timed):
            texts = [text for _, text, _ in itertools.islice(corpus.captions(base.split), TEXTS_TIMED)]
            values, note = text_latency(encoder, texts, threads)
            store.write(timed, values, note=note)


def text_latency(encoder: Encoder, texts: list[str], threads: int) -> tuple[dict[str, float], str]:
    """Percentiles of the time from one text to its vector, tokenizer included; and a note when the machine was loaded."""
    with OtherWork() as other, measure.pinned(threads):
        for text in texts[: measure.WARM_UP_QUERIES]:
            encoder.texts([text])
        microseconds = []
        for text in texts:
            began = time.perf_counter_ns()
            encoder.texts([text])
            microseconds.append((time.perf_counter_ns() - began) / 1000)
    values = {f"encode_text_latency_p{share}_us": metrics.percentile(np.array(microseconds), share) for share in (50, 95, 99)}
    return values, other.note()


def record_vectors(store: RecordStore, side: Side, count: int, force: bool) -> None:
    """The statistics of lexicon vectors that decide what an index of them costs: vocabulary, skew, active lexicons, overlap."""
    code = config.code_fingerprint("bench.describe")
    point = replace(side.base, task="vectors", images=count, queries=side.queries.count, vectors_id=side.documents_id, code_id=code)
    if side.kind == "lexicon" and (force or not store.has(point)):
        found = describe(side.documents.prefix(count), side.queries)
        store.write(point, {f"vectors_{name}": value for name, value in found.items()})


def record_satisfying(store: RecordStore, corpus, base: Point, sizes: list[int], force: bool) -> None:
    """How many images of each gallery beside its own make a caption true: the false negatives of the protocol."""
    code = config.code_fingerprint("bench.corpora.satisfy")
    point = replace(base, task="false_negatives", kind="", variant="", checkpoint_id="", code_id=code)
    points = [replace(point, images=size) for size in sizes]
    if force or not all(store.has(each) for each in points):
        images = min(TEST_IMAGES, sizes[-1])
        counts_QS = corpus.satisfying_counts(base.split, images, sizes[-1] - images, sizes)
        for each, counts_Q in zip(points, counts_QS.T, strict=True):
            values = {
                "satisfying_mean": counts_Q.mean(),
                "satisfying_median": np.median(counts_Q),
                "satisfied_share": (counts_Q > 0).mean(),
            }
            store.write(replace(each, queries=None), values)


# --- python -m bench.scale --------------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Encodes, builds, sweeps; prints where the time went."""
    grid = Grid.read(arguments.grid, tuple(arguments.overrides))
    chosen = engines.names() if arguments.engines == "all" else arguments.engines.split(",")
    for name in chosen:
        engines.get(name)
    limits = Limits(arguments.time_limit, int(arguments.memory_limit * 2**30))
    store, began = RecordStore(arguments.home), time.perf_counter()
    sides, sizes = _sides(store, arguments)
    print(f"vectors ready after {time.perf_counter() - began:.0f} s")
    for size in sizes:
        for side in sides:
            started = time.perf_counter()
            record_vectors(store, side, size, arguments.force)
            sweep = Sweep(store, arguments.home, side, grid, limits, arguments.force)
            cells = plan(side, size, grid, chosen, largest=size == sizes[-1])
            sweep.run(cells)
            print(f"{size:>10,} {side.kind:<8} {len(cells)} indexes, {time.perf_counter() - started:.0f} s", flush=True)
    rows = store.read()
    print(table(rows[(rows.task == "scale") & rows.images.isin(sizes)]))


def _sides(store: RecordStore, arguments) -> tuple[list[Side], list[int]]:
    """The vectors to search, and the sizes to search them at."""
    if arguments.corpus == "vectors":
        sides = own_sides(arguments)
        sizes = sizes_up_to(sides[0].documents.count)
    elif arguments.corpus.startswith("synthetic:"):
        size = number(arguments.corpus.partition(":")[2])
        measured = encoded_sides(store, arguments, min(FITTED_TO, size))
        sides, sizes = synthetic_sides(store, arguments, measured, size), sizes_up_to(size)
    else:
        size = number(arguments.corpus)
        sides, sizes = encoded_sides(store, arguments, size), sizes_up_to(size)
    if arguments.sizes:
        sizes = sorted({number(text) for text in arguments.sizes.split(",")})
        if sizes[-1] > sides[0].documents.count:
            raise InputError(f"--sizes {arguments.sizes}: there are {sides[0].documents.count:,} vectors")
    return sides, sizes


def table(rows) -> str:
    """One line for each engine, setting and size: quality, bytes, and the rates of the modes."""
    if not len(rows):
        return "no records"
    keys = ["images", "kind", "engine", "kept", "bits", "knobs"]
    points = rows.drop_duplicates("point_id").set_index("point_id")[[*keys, "batch_mode", "threads", "status"]]
    values = rows[rows.metric != ""].pivot_table(index="point_id", columns="metric", values="value").reindex(points.index)
    lines = [
        f"{'images':>10} {'engine':<16} {'kept':>5} {'bits':>5} {'R@1':>6} {'engine R@10':>11} {'bytes/image':>11}  rates (queries/s), knobs"
    ]
    for key, group in points.groupby(keys, dropna=False, sort=True):
        images, _, engine, kept, bits, knobs = key
        accuracy = group[group.batch_mode == ""]
        if not len(accuracy) or accuracy.status.iloc[0] != "ok":
            lines.append(f"{images:>10,} {engine:<16} {group.status.iloc[0]}")
            continue
        at = values.loc[accuracy.index[0]]
        timed = group[(group.batch_mode != "") & (group.status == "ok")]
        rates = ", ".join(f"{row.batch_mode} x{row.threads} {values.loc[point, 'qps']:.0f}" for point, row in timed.iterrows())
        quality = f"{at.get('recall@1', float('nan')):>6.3f} {at['engine_recall@10']:>11.3f} {at['bytes_per_image']:>11.1f}"
        lines.append(f"{images:>10,} {engine:<16} {_text(kept):>5} {_text(bits):>5} {quality}  {rates}  {knobs}")
    return "\n".join(lines)


def _text(value) -> str:
    return "-" if pd.isna(value) else str(value)


def _mapping(text: str) -> dict:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict | str):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a corpus by name, or a mapping such as '{{name: scenes, concepts: 200}}'")
    return found


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if unknown := next((kind for kind in kinds if kind not in VARIANTS), None):
        raise argparse.ArgumentTypeError(f"{unknown!r}: expected lexicon, dense or both, separated by a comma")
    return kinds


def _parser():
    parser = cli.parser("Dense against lexicon search at scale: encode, build every index, sweep every knob. Resumable point by point.")
    parser.add_argument("--corpus", default="1M", help="images in the gallery such as 100k or 1M, synthetic:10M, or vectors")
    parser.add_argument("--sizes", default="", help="gallery sizes, separated by commas; every power of ten up to the corpus unless given")
    parser.add_argument("--engines", default="all", help=f"separated by commas; all: {', '.join(engines.names())}")
    parser.add_argument("--kinds", type=_kinds, default=list(VARIANTS), help="lexicon, dense, or both separated by a comma")
    parser.add_argument("--lexicon", type=Path, default=None, help="checkpoint of the lexicon model; trained by --profile unless given")
    parser.add_argument("--dense", type=Path, default=None, help="checkpoint of the dense model; trained by --profile unless given")
    parser.add_argument("--profile", default="quick", help="profile that checkpoints are trained by, or found")
    parser.add_argument("--source", type=_mapping, default=None, help="corpus of pictures; the one that the checkpoint saw unless given")
    parser.add_argument("--documents", type=Path, default=None, help="with --corpus vectors: folder of the vectors to search")
    parser.add_argument("--queries", type=Path, default=None, help="with --corpus vectors: folder of the vectors to search with")
    parser.add_argument("--vocabulary", type=int, default=None, help="with synthetic: lexicons to stretch the fitted vocabulary to")
    parser.add_argument("--grid", type=Path, default=GRID, help="YAML of what is swept and how it is measured")
    parser.add_argument("--time-limit", type=float, default=3600.0, help="seconds for one job: building an index, one round of it")
    parser.add_argument("--memory-limit", type=float, default=round(0.9 * psutil.virtual_memory().total / 2**30, 1), help="GiB for one job")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides of the grid, such as rounds=1 kept=[8,32]")
    return parser


if __name__ == "__main__":
    sys.exit(cli.run(main, _parser()))
