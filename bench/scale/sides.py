"""The two sides of the scale bench made from models: encoded collections, and generated ones fitted to them; with the records of encoding.

Apart from `bench.scale` because this needs torch, and a sweep over vectors that are there does not.
"""

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.corpora import open_corpus
from bench.scale.sweep import Side, record_vectors
from bench.store import cli, config
from bench.store.commands import run_command
from bench.store.machine import OtherWork, cores
from bench.store.records import Point, RecordStore
from bench.store.sizes import sizes_up_to
from bench.tasks import evaluation
from bench.tasks import timing as measure
from bench.vectors.bootstrap import Fitted, fit
from bench.vectors.encode import Encoded, Encoder
from bench.vectors.gallery import encode_gallery
from bench.vectors.synthetic import synthesise
from models.errors import InputError

TEST_IMAGES = 1_000
FITTED_TO = 100_000  # encoded images that synthetic vectors are fitted to
VARIANTS = {"lexicon": "lexlip", "dense": "clip"}
TEXTS_TIMED = 200


# --- checkpoints ------------------------------------------------------------------------------------------------------------------


def trained(home: Path, profile: str, kind: str) -> Path:
    """The checkpoint of a kind under a profile: trained, unless it is there."""
    flags = ["--home", str(home), "--profile", profile, "--variant", VARIANTS[kind]]
    return Path(run_command("ablations.train", *flags, failed="training failed"))


def corpus_of(checkpoint: Path) -> dict:
    """The corpus that a checkpoint was trained on, from the configuration beside it. Raises InputError where there is none."""
    described = checkpoint.parent / "config.yaml"
    if not described.exists():
        raise InputError(
            f"{described}: no such file, so the corpus of this checkpoint is unknown; name it with --source"
        )
    return config.read_yaml(described)["data"]["corpus"]


# --- sides ------------------------------------------------------------------------------------------------------------------------


def encoded_sides(store: RecordStore, arguments, images: int) -> list[Side]:
    """Both models over the same images."""
    given = {kind: getattr(arguments, kind) for kind in arguments.kinds if getattr(arguments, kind)}
    for kind, folder in given.items():
        if (found := Encoder(folder).kind) != kind:
            raise InputError(f"{folder}: a checkpoint of {found} vectors was given as the {kind} one")
    folders = {
        kind: given.get(kind) or trained(arguments.home, arguments.profile, kind)
        for kind in VARIANTS
        if kind in arguments.kinds
    }
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


def synthetic_sides(
    store: RecordStore, arguments, measured: list[Side], count: int, vocabulary: int | None = None
) -> list[Side]:
    """For each measured side a collection of `count` vectors fitted to its first items; of lexicon vectors, stretched to a `vocabulary`."""
    sides = []
    for side in measured:
        fitted_to = side.documents.prefix(min(FITTED_TO, side.documents.count))
        code = config.code_fingerprint("bench.vectors.bootstrap", "bench.vectors.statistics")
        file = (
            arguments.home
            / "synthetic"
            / f"{config.fingerprint([side.documents_id, fitted_to.count, side.queries_id, code])}.npz"
        )
        if arguments.force or not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            fit(fitted_to, side.queries).save(file)
        stretched = vocabulary if side.kind == "lexicon" else None
        made = synthesise(arguments.home, Fitted.load(file), count, vocabulary=stretched, force=arguments.force)
        name = ":".join(["synthetic", side.base.corpus, *([str(vocabulary)] if vocabulary else [])])
        base = replace(side.base, corpus=name)
        sides.append(Side(made.images, made.images_id, made.captions, made.captions_id, base, judged=False))
        record_vectors(store, side, fitted_to.count, arguments.force)
    return sides


# --- records beside the sweep -----------------------------------------------------------------------------------------------------


def record_encoding(store: RecordStore, encoder: Encoder, encoded: Encoded, base: Point, corpus, force: bool) -> None:
    """Rates of encoding the gallery, when it was done just now; and the latency of encoding one text, which comes before any search."""
    code = config.code_fingerprint("models", "bench.vectors.encode")
    point = replace(base, task="encoding", images=encoded.images.count, vectors_id=encoded.images_id, code_id=code)
    if encoded.rates:
        store.write(
            replace(point, queries=encoded.captions.count), encoded.rates | {"vectors_bytes": encoded.images.bytes}
        )
    for threads in dict.fromkeys((1, cores())):
        timed = replace(point, images=None, vectors_id="", queries=TEXTS_TIMED, batch_mode="single", threads=threads)
        if force or not store.has(timed):
            texts = [text for _, text, _ in itertools.islice(corpus.captions(base.split), TEXTS_TIMED)]
            values, note = text_latency(encoder, texts, threads)
            store.write(timed, values, note=note)


def text_latency(encoder: Encoder, texts: list[str], threads: int) -> tuple[dict[str, float], str]:
    """Percentiles of the time from one text to its vector, tokenizer included; and a note when the machine was loaded.

    torch's own threads are set apart: they are not among the pools that `pinned` holds, and two that share a core wait for each other
    for hundreds of milliseconds.
    """
    with OtherWork() as other, measure.pinned(threads), _torch_threads(threads):
        for text in texts[: measure.WARM_UP_QUERIES]:
            encoder.texts([text])
        microseconds = []
        for text in texts:
            began = time.perf_counter_ns()
            encoder.texts([text])
            microseconds.append((time.perf_counter_ns() - began) / 1000)
    values = {
        f"encode_text_latency_p{share}_us": evaluation.percentile(np.array(microseconds), share)
        for share in (50, 95, 99)
    }
    return values, other.note()


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def record_satisfying(store: RecordStore, corpus, base: Point, sizes: list[int], force: bool) -> None:
    """How many images of each gallery beside its own make a caption true: the false negatives of the protocol."""
    code = config.code_fingerprint("bench.corpora.scenes.claims")
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
