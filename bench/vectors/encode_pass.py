"""One pass over pictures or captions for several encoders: each batch is made once, encoded by every model that lacks it, and streamed to
that model's vectors.

Threads take whole batches: each renders one and runs every model on it with one thread of torch, while the caller writes what is done.
Rendering (numba), decoding (Pillow) and torch let go of Python's lock. Measured on 2 cores at the size of the `quick` profile: two such
threads encode 1.2 times as many images as one with two threads of torch, and beside another busy process several times as many, since no
core waits for the other after every operation; and vectors do not depend on the number of cores. Processes would gain nothing: threads
draw 50,000 scenes/s, processes 32,000 to 52,000 after 2 to 5 seconds of start.
"""

import contextlib
import functools
import itertools
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from bench.store import cli, config
from bench.store.machine import cores
from bench.vectors.nodes import Nodes
from bench.vectors.read import Vectors, open_vectors
from bench.vectors.rendering import BATCH, batch_spans, render
from bench.vectors.write import resume_vectors, to_csr
from models.errors import InputError
from models.files import read_json

if TYPE_CHECKING:
    from bench.vectors.encode import Encoder

log = logging.getLogger(__name__)
CODE = ("models", "bench.vectors.encode", "bench.vectors.encode_pass", "bench.vectors.rendering", "bench.vectors.write")
AHEAD = 16  # encoded batches that may wait to be written, so that writing a shard stops nobody
ID_BYTES = 24  # of an item's id on disk, about


@dataclass(frozen=True)
class Run:
    """How a pass is run. shard_rows: items per shard; workers: threads; force: make again what is there; nodes: of a cluster, not threads."""

    shard_rows: int
    workers: int | None = None
    force: bool = False
    nodes: Nodes | None = None


def batches(items, size: int = BATCH) -> Iterator[list]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


@dataclass
class Job:
    """One encoder's vectors of the images or of the captions: what they are made of, where they go, and how fast they were encoded."""

    encoder: "Encoder"
    made_from: dict
    folder: Path
    rate: float | None = None  # items per second of the encoder, when it was done just now

    @classmethod
    def of(cls, home: Path, encoder: "Encoder", corpus, slices: list[list], part: str) -> "Job":
        made_from = {
            "checkpoint": encoder.id,
            "precision": encoder.precision,
            "corpus": corpus.fingerprint,
            "slices": slices,
            "part": part,
            "code": config.code_fingerprint(*CODE),
        }
        return cls(encoder, made_from, home / "vectors" / config.fingerprint(made_from))

    @property
    def id(self) -> str:
        return self.folder.name

    def writer(self, run: Run) -> contextlib.AbstractContextManager:
        model = self.encoder.model
        return resume_vectors(
            self.folder, model.kind, model.dimension, self.encoder.vocabulary, self.made_from, run.shard_rows, run.force
        )


@dataclass(frozen=True)
class _Made:
    """A batch encoded: ids and groups of its items, and by job its vectors and the seconds that took."""

    ids: list[str]
    groups: list[str] | None
    rows: dict[str, tuple]


def find(home: Path, made_from: dict) -> Vectors | None:
    """Whole vectors made from that, or of images that go on after it."""
    folder = home / "vectors" / config.fingerprint(made_from)
    if folder.is_dir():
        return open_vectors(folder)
    for meta in sorted((home / "vectors").glob("*/meta.json")):
        if "." not in meta.parent.name and _begins(made_from, read_json(meta).get("made_from")):
            return open_vectors(meta.parent).prefix(sum(count for _, count in made_from["slices"]))
    return None


def _begins(made_from: dict, larger) -> bool:
    if (
        made_from["part"] != "images"
        or not isinstance(larger, dict)
        or {**larger, "slices": []} != {**made_from, "slices": []}
    ):
        return False
    *whole, (split, count) = made_from["slices"]
    theirs = larger["slices"]
    return (
        len(theirs) > len(whole)
        and theirs[: len(whole)] == whole
        and theirs[len(whole)][0] == split
        and theirs[len(whole)][1] >= count
    )


def encode_images(jobs: list[Job], corpus, slices: list[list], run: Run) -> None:
    """Each job's vectors of the first images of each slice, one slice after the other."""
    sizes = {job.encoder.model.pixels for job in jobs}

    def make(spans, wanted: list[Job]) -> _Made:
        pictures = render(corpus, spans, sizes)
        return _Made(
            pictures.ids,
            None,
            {job.id: _timed(_whole_batch, job, pictures.of_size[job.encoder.model.pixels]) for job in wanted},
        )

    label = f"encode {' + '.join(split for split, _ in slices)} images"
    _encode(jobs, lambda start: batch_spans(slices, start), make, sum(count for _, count in slices), label, run)


def encode_captions(jobs: list[Job], corpus, split: str, images: int, run: Run) -> None:
    """Each job's vectors of the captions of images 0..`images` of a split."""

    def make(captions, wanted: list[Job]) -> _Made:
        ids, texts, groups = map(list, zip(*captions, strict=True))
        return _Made(
            ids, groups, {job.id: _timed(lambda encoder, texts: encoder.texts(texts), job, texts) for job in wanted}
        )

    def source(start: int) -> Iterator[list]:
        return batches(itertools.islice(corpus.captions(split, 0, images), start, None))

    _encode(jobs, source, make, None, f"encode {split} captions", run)


def _whole_batch(encoder: "Encoder", pictures: np.ndarray) -> np.ndarray:
    """The last batch is filled up: kernels may round otherwise at other shapes, and vectors must not depend on where a gallery ends."""
    missing = BATCH - len(pictures)
    return encoder.images(np.concatenate([pictures, pictures[-1:].repeat(missing, axis=0)]))[: len(pictures)]


def _timed(encode: Callable, job: Job, batch) -> tuple:
    began = time.perf_counter()
    values = encode(job.encoder, batch)
    seconds = time.perf_counter() - began
    return (to_csr(values) if job.encoder.kind == "lexicon" else values), seconds


def _encode(jobs: list[Job], source: Callable, make: Callable, total: int | None, label: str, run: Run) -> None:
    """source: start -> batches from that item on; make: (batch, jobs that want it) -> _Made, called by the threads or on the nodes."""
    workers = run.nodes.cores if run.nodes else run.workers or cores()
    with contextlib.ExitStack() as stack:
        writers = {job.id: stack.enter_context(job.writer(run)) for job in jobs}
        written = {id: writer.count for id, writer in writers.items()}
        start = at = min(written.values())
        tasks = (
            (batch, [id for id, count in written.items() if count <= start + BATCH * n])
            for n, batch in enumerate(source(start))
        )
        work = functools.partial(_work, make, {job.id: job for job in jobs})
        results = (
            run.nodes.in_order(work, tasks, run.shard_rows // BATCH) if run.nodes else _in_order(work, tasks, workers)
        )
        bar = stack.enter_context(cli.progress(total=total, initial=start, desc=label, unit="item"))
        stack.enter_context(_one_thread_each())
        began, seconds, item_bytes = time.perf_counter(), dict.fromkeys(writers, 0.0), {}
        for made in stack.enter_context(contextlib.closing(results)):
            if total is not None and not made.rows.keys() <= item_bytes.keys():
                item_bytes |= {id: _item_bytes(rows) for id, (rows, _) in made.rows.items()}
                _check_room(
                    jobs[0].folder.parent, sum(each * (total - writers[id].count) for id, each in item_bytes.items())
                )
            for id, (rows, spent) in made.rows.items():
                writers[id].append(rows, made.ids, made.groups)
                seconds[id] += spent
            at += len(made.ids)
            bar.update(len(made.ids))
            if at % run.shard_rows == 0:
                _log_progress(label, at, total, (at - start) / (time.perf_counter() - began))
    at_once = min(workers, -(-(at - start) // BATCH))
    for job in jobs:
        job.rate = (at - written[job.id]) * at_once / seconds[job.id] if seconds[job.id] else None


def _work(make: Callable, jobs: dict[str, Job], task: tuple) -> _Made:
    """A task names its jobs, so that a node gets their models once and not with each."""
    batch, wanted = task
    return make(batch, [jobs[id] for id in wanted])


def _in_order(work: Callable, tasks: Iterable, workers: int) -> Iterator:
    """Results of `work` on each task, in their order, by threads that run at most `AHEAD` tasks ahead. An error is raised as it is."""
    pool, waiting = ThreadPoolExecutor(workers, thread_name_prefix="encode"), deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) == 1:
                waiting[0].result()  # what is loaded or compiled at first use is so once
            if len(waiting) == workers + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _item_bytes(rows) -> float:
    """What an item takes on disk with its id: a dense one exactly, a lexicon one as those given do."""
    return ID_BYTES + (4.0 * rows.shape[1] if isinstance(rows, np.ndarray) else 8.0 + 8.0 * rows.nnz / rows.shape[0])


def _check_room(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: the vectors need about {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free"
        )


def _log_progress(label: str, at: int, total: int | None, rate: float) -> None:
    of, left = ("", "") if total is None else (f" of {total}", f", {tqdm.format_interval((total - at) / rate)} left")
    log.info("%s: %d%s, %.0f/s%s", label, at, of, rate, left)
