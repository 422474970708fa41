"""One pass over the images or captions of a corpus for several encoders.

Each batch is rendered once, encoded by every model that lacks it, and streamed to the vectors of that model.

Threads process whole batches: each renders one and runs every model on it with one torch thread, while the caller
writes finished ones. Rendering (numba), decoding (Pillow) and torch release the GIL. Measured on 2 cores with the
`quick` profile: two such threads encode 1.2 times as many images as one thread with two torch threads, and several
times as many beside another busy process, because no core waits for the other after every operation. Vectors do not
depend on the number of cores either. Processes gain nothing: threads render 50,000 scenes/s, processes 32,000 to
52,000 after 2 to 5 seconds of start.
"""

import contextlib
import functools
import itertools
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from bench.store import cli
from bench.store.machine import cores
from bench.vectors.batches import BATCH, batch_spans, batches, render
from bench.vectors.encoder import Encoder
from bench.vectors.format import to_csr
from bench.vectors.jobs import CODE, Job
from models.errors import InputError

if TYPE_CHECKING:
    from bench.vectors.nodes import Nodes

log = logging.getLogger(__name__)
AHEAD = 16  # encoded batches that may wait to be written, so that writing a shard blocks no thread
ID_BYTES = 24  # approximate size of an item's id on disk


@dataclass(frozen=True)
class Run:
    """Settings of a pass.

    shard_rows: items per shard. workers: threads (None: one per core). force: encodes existing items again.

    nodes: a Ray cluster that encodes instead of the threads.
    """

    shard_rows: int
    workers: int | None = None
    force: bool = False
    nodes: "Nodes | None" = None


@dataclass(frozen=True)
class _EncodedBatch:
    """ids and groups of its items, and by job id their vectors with the seconds of encoding."""

    ids: list[str]
    groups: list[str] | None
    rows: dict[str, tuple]


def encode_images(jobs: list[Job], corpus, slices: Sequence[tuple[str, int]], run: Run) -> None:
    """Encodes the first images of each slice (split, count), one slice after the other, for each job.

    Raises InputError for a split with too few images, a vector that is not finite, and a disk without enough room.
    """
    sizes, asked = {job.encoder.model.pixels for job in jobs}, dict(slices)

    def encode(spans, jobs: list[Job]) -> _EncodedBatch:
        batch = render(corpus, spans, sizes, asked)
        rows = {job.id: _timed(_encode_padded, job, batch.of_size[job.encoder.model.pixels]) for job in jobs}
        return _EncodedBatch(batch.ids, None, rows)

    label = f"encode {' + '.join(split for split, _ in slices)} images"
    _run(jobs, lambda start: batch_spans(slices, start), encode, sum(count for _, count in slices), label, run)


def encode_captions(jobs: list[Job], corpus, split: str, images: int, run: Run) -> None:
    """Encodes the captions of images 0..`images`-1 of a split for each job. Raises InputError as `encode_images`."""

    def encode(captions, jobs: list[Job]) -> _EncodedBatch:
        ids, texts, groups = map(list, zip(*captions, strict=True))
        return _EncodedBatch(ids, groups, {job.id: _timed(Encoder.texts, job, texts) for job in jobs})

    def source(start: int) -> Iterator[list]:
        return batches(itertools.islice(corpus.captions(split, 0, images), start, None))

    _run(jobs, source, encode, None, f"encode {split} captions", run)


def _encode_padded(encoder: Encoder, images: np.ndarray) -> np.ndarray:
    """Encodes images padded to a whole batch.

    Kernels may round differently at other shapes; without padding, vectors would depend on the size of the gallery.
    """
    missing = BATCH - len(images)
    return encoder.images(np.concatenate([images, images[-1:].repeat(missing, axis=0)]))[: len(images)]


def _timed(encode: Callable, job: Job, batch) -> tuple:
    began = time.perf_counter()
    values = encode(job.encoder, batch)
    seconds = time.perf_counter() - began
    try:
        return (to_csr(values) if job.encoder.kind == "lexicon" else values), seconds
    except ValueError as error:
        raise InputError(f"{job.encoder.source}: {error}; the checkpoint is broken") from None


def _run(jobs: list[Job], source: Callable, encode: Callable, total: int | None, label: str, run: Run) -> None:
    """source: start -> batches from that item on. encode: (batch, jobs that lack it) -> _EncodedBatch, in parallel."""
    workers = run.nodes.cores if run.nodes else run.workers or cores()
    with contextlib.ExitStack() as stack:
        writers = {job.id: stack.enter_context(job.writer(run.shard_rows, run.force)) for job in jobs}
        written = {id: writer.count for id, writer in writers.items()}
        start = at = min(written.values())
        tasks = (
            (batch, [id for id, count in written.items() if count <= start + BATCH * n])
            for n, batch in enumerate(source(start))
        )
        work = functools.partial(_work, encode, {job.id: job for job in jobs})
        if run.nodes:
            code = sorted({*CODE, "bench.corpora", *(module for job in jobs for module in job.encoder.code)})
            results = run.nodes.in_order(work, tasks, run.shard_rows // BATCH, code)
        else:
            results = _in_order(work, tasks, workers)
        bar = stack.enter_context(cli.progress(total=total, initial=start, desc=label, unit="item"))
        stack.enter_context(_one_torch_thread())
        began, seconds, item_bytes = time.perf_counter(), dict.fromkeys(writers, 0.0), {}
        for batch in stack.enter_context(contextlib.closing(results)):
            if total is not None and not batch.rows.keys() <= item_bytes.keys():
                item_bytes |= {id: _item_bytes(rows) for id, (rows, _) in batch.rows.items()}
                needed = sum(each * (total - writers[id].count) for id, each in item_bytes.items())
                _check_room(jobs[0].folder.parent, needed)
            for id, (rows, spent) in batch.rows.items():
                writers[id].append(rows, batch.ids, batch.groups)
                seconds[id] += spent
            at += len(batch.ids)
            bar.update(len(batch.ids))
            if at % run.shard_rows == 0:
                _log_progress(label, at, total, (at - start) / (time.perf_counter() - began))
    parallel = min(workers, -(-(at - start) // BATCH))
    for job in jobs:
        job.rate = (at - written[job.id]) * parallel / seconds[job.id] if seconds[job.id] else None


def _work(encode: Callable, jobs: dict[str, Job], task: tuple) -> _EncodedBatch:
    """A task holds ids of jobs only, so that a node receives the models once and not with each task."""
    batch, ids = task
    return encode(batch, [jobs[id] for id in ids])


def _in_order(work: Callable, tasks: Iterable, workers: int) -> Iterator:
    """Yields the results of `work` on each task, in order, from threads that run at most `AHEAD` tasks ahead."""
    pool, waiting = ThreadPoolExecutor(workers, thread_name_prefix="encode"), deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) == 1:
                waiting[0].result()  # the first task alone, since it loads models and compiles kernels
            if len(waiting) == workers + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _item_bytes(rows) -> float:
    """Bytes of an item on disk with its id: exact for dense vectors, the mean of these rows for lexicon vectors."""
    return ID_BYTES + (4.0 * rows.shape[1] if isinstance(rows, np.ndarray) else 8.0 + 8.0 * rows.nnz / rows.shape[0])


def _check_room(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{folder}: the vectors need about {needed / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free")


def _log_progress(label: str, at: int, total: int | None, rate: float) -> None:
    of, left = ("", "") if total is None else (f" of {total}", f", {tqdm.format_interval((total - at) / rate)} left")
    log.info("%s: %d%s, %.0f/s%s", label, at, of, rate, left)
