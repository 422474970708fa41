"""Records of what precedes a sweep: encoding rates, text latency, false negatives, statistics of vectors."""

import itertools
import time
from dataclasses import replace

import numpy as np

from bench.scale.points import Gallery
from bench.store import config
from bench.store.machine import OtherWork, cores
from bench.store.records import Point, RecordStore
from bench.tasks import evaluation
from bench.tasks import timing as measure
from bench.vectors import encode
from bench.vectors.statistics import describe

TEST_IMAGES = 1_000
TIMED_TEXTS = 200
PERCENTILES = (50, 95, 99)


def record_vectors(store: RecordStore, gallery: Gallery, count: int, force: bool) -> None:
    """Statistics of lexicon vectors that decide the cost of an index: vocabulary, skew, active lexicons, overlap.

    count: images of the gallery that are described.
    """
    documents, queries = gallery.documents, gallery.queries
    code = config.code_fingerprint("bench.vectors.statistics")
    fields = {"images": count, "queries": queries.count, "vectors_id": gallery.documents_id, "code_id": code}
    point = replace(gallery.base, task="vectors", **fields)
    if gallery.kind == "lexicon" and (force or not store.has(point)):
        statistics = describe(documents.prefix(count), queries)
        store.write(point, {f"vectors_{name}": value for name, value in statistics.items()})


def record_encoding(store: RecordStore, encoder, encoded, base: Point, corpus, force: bool) -> None:
    """Rates of encoding a gallery, if it was encoded just now, captions that are cut, and the latency of one text.

    encoder: `bench.vectors.encoder.Encoder`. encoded: its `Encoded` vectors of the gallery.
    """
    code = config.code_fingerprint("bench.vectors.encoder", __name__, *encoder.code)
    point = replace(base, task="encoding", images=encoded.images.count, vectors_id=encoded.images_id, code_id=code)
    whole = replace(point, queries=encoded.captions.count)
    captions = corpus.captions(base.split, 0, min(TEST_IMAGES, encoded.images.count))
    encode.record_encoding(store, whole, encoder, encoded, captions)
    if cut := encode.cut_words(store, whole):
        print(f"{encoder.source}: {cut}")
    for threads in dict.fromkeys((1, cores())):
        fields = {"images": None, "vectors_id": "", "queries": TIMED_TEXTS, "batch_mode": "single", "threads": threads}
        timed = replace(point, **fields)
        if force or not store.has(timed):
            texts = [text for _, text, _ in itertools.islice(corpus.captions(base.split), TIMED_TEXTS)]
            values, note = text_latency(encoder, texts, threads)
            store.write(timed, values, note=note)


def text_latency(encoder, texts: list[str], threads: int) -> tuple[dict[str, float], str]:
    """Percentiles of the microseconds from one text to its vector, tokenizer included; and a note on a loaded machine.

    The trap: torch's own threads are not among the pools that `pinned` limits. Two of them on one core wait for each
    other for hundreds of milliseconds, so their number is set separately.
    """
    with OtherWork() as other, measure.pinned(threads), measure.torch_threads(threads):
        for text in texts[: measure.WARM_UP_QUERIES]:
            encoder.texts([text])
        microseconds = []
        for text in texts:
            began = time.perf_counter_ns()
            encoder.texts([text])
            microseconds.append((time.perf_counter_ns() - began) / 1000)
    latency_us = np.array(microseconds)
    return {f"encode_text_latency_p{p}_us": evaluation.percentile(latency_us, p) for p in PERCENTILES}, other.note()


def record_satisfying(store: RecordStore, corpus, base: Point, sizes: list[int], force: bool) -> None:
    """Number of gallery images, other than its own, that satisfy a caption: the false negatives of the protocol."""
    code = config.code_fingerprint("bench.corpora.scenes.claims")
    point = replace(base, task="false_negatives", kind="", variant="", checkpoint_id="", code_id=code)
    points = [replace(point, images=size) for size in sizes]
    if not force and all(store.has(each) for each in points):
        return
    images = min(TEST_IMAGES, sizes[-1])
    counts_QS = corpus.satisfying_counts(base.split, images, sizes[-1] - images, sizes)
    for each, counts_Q in zip(points, counts_QS.T, strict=True):
        values = {
            "satisfying_mean": counts_Q.mean(),
            "satisfying_median": np.median(counts_Q),
            "satisfied_share": (counts_Q > 0).mean(),
        }
        store.write(each, values)
