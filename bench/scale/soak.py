"""Searches under full load for as long as asked, and looks at what the processes take meanwhile: `lexlip-bench soak --minutes 60`.

Each engine serves in a process of its own, all of them at once, each on all cores: single queries and batches through `bench.tasks.timing`,
answers compared with the first ones, and in between the index opened and closed once more beside the open one. Memory, file handles and
threads of a process and its children are sampled from outside. Exit code 1 when one of `JUDGED` grows beyond noise, an answer changed, or a
process died.

Growth is the median slope over all pairs of samples (Theil and Sen) after warm-up. It is beyond noise where the 95% interval of the slope
lies above 0, and growth over the whole soak exceeds both `FLOORS` and three times the scatter about the line. A short soak therefore finds
fast leaks only; the record says the slowest that it could have told.
"""

import contextlib
import multiprocessing
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import scipy.sparse as sp
from scipy.stats import median_abs_deviation, theilslopes

from bench import engines
from bench.engines.indexes import Index, build_index, open_index
from bench.store import cli, config
from bench.store.machine import cores
from bench.store.records import Point, RecordStore
from bench.tasks import timing as measure
from bench.tasks.timing import Timing
from bench.vectors.impacts import Impacts
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import InputError
from models.files import atomic_file

FLOORS = {"memory": 4 << 20, "private": 4 << 20, "handles": 1.0, "threads": 1.0}
"""What is sampled of a process with its children -> growth that is none. memory: PSS, its share of shared pages counted; private: USS."""

JUDGED = ("private", "handles", "threads")
"""Of which growth is a fault. Shared pages are not the process's own: their share changes when a neighbour ends, or a file is read again."""

SCATTER = 3.0  # times the median absolute deviation about the line that growth must exceed
MOST_SAMPLES = 2000  # that a slope is taken over: it looks at all pairs
DIMENSION, VOCABULARY, LEXICONS, ZIPF = 128, 4096, 32, 1.1  # of the generated vectors
CODE = (
    "bench.scale.soak",
    "bench.tasks.timing",
    "bench.engines.indexes",
    "bench.vectors.impacts",
    "bench.vectors.read",
)


@dataclass(frozen=True)
class Growth:
    """Of one quantity, per hour: the slope with its 95% interval, and the least that could have been told from noise."""

    slope: float
    low: float
    high: float
    noticeable: float

    @property
    def beyond_noise(self) -> bool:
        return self.low > 0 and self.slope > self.noticeable


def growth(seconds: np.ndarray, values: np.ndarray, floor: float) -> Growth:
    """Growth of samples (N,) at their times (N,); `floor`: how much more at the end is none, in the unit of the values."""
    chosen = measure.evenly(len(seconds), MOST_SAMPLES)
    hours, values = np.asarray(seconds, np.float64)[chosen] / 3600, np.asarray(values, np.float64)[chosen]
    slope, intercept, low, high = theilslopes(values, hours, 0.95)
    scatter = median_abs_deviation(values - intercept - slope * hours, scale="normal")
    return Growth(*map(float, (slope, low, high, max(floor, SCATTER * scatter) / (hours[-1] - hours[0]))))


def serve(folder: Path, queries, depth: int, knobs: dict, seconds: float, stop, counts) -> None:
    """Answers queries until `stop` is set, or the process that started this one has ended.

    counts: queries answered, and those of them whose answer was another one than at first.
    """
    timing, first, parent = Timing(queries.shape[0], depth, 1, seconds, cores()), {}, multiprocessing.parent_process()
    with open_index(folder) as engine:
        while not stop.is_set() and (parent is None or parent.is_alive()):
            for mode in (measure.single, measure.batched):
                ids = mode(engine, queries, timing, **knobs).ids
                expected = first.setdefault(mode, ids)
                compared = min(len(ids), len(expected))  # a pass of single queries ends by time
                counts[1] += int((ids[:compared] != expected[:compared]).any(axis=1).sum())
                counts[0] += len(ids)
            with open_index(folder) as again:
                again.search(again.prepare(queries[:1], **knobs), depth, 1, **knobs)


def sample(process: psutil.Process) -> dict[str, float]:
    """`FLOORS`' quantities of a process and its children. Raises psutil.NoSuchProcess when it has ended."""
    found = dict.fromkeys(FLOORS, 0.0)
    for each in (process, *process.children(recursive=True)):
        try:
            memory = each.memory_full_info()
            handles = each.num_fds() if hasattr(each, "num_fds") else each.num_handles()
            threads = each.num_threads()
        except psutil.NoSuchProcess:
            if each == process:
                raise
            continue
        of_one = {
            "memory": getattr(memory, "pss", memory.rss),
            "private": memory.uss,
            "handles": handles,
            "threads": threads,
        }
        found = {name: value + of_one[name] for name, value in found.items()}
    return found


class Soaked:
    """An engine that serves in a process of its own; as a context manager it serves until the block ends."""

    def __init__(self, index: Index, queries, depth: int, seconds: float):
        spawning = multiprocessing.get_context("spawn")
        self.index, self.knobs = index, engines.grid(index.engine, "search")[0]
        self.samples: list[dict[str, float]] = []
        self._stop, self._counts = spawning.Event(), spawning.Array("q", 2)
        arguments = (index.folder, queries, depth, self.knobs, seconds, self._stop, self._counts)
        self._process = spawning.Process(target=serve, args=arguments)

    def __enter__(self) -> "Soaked":
        self._process.start()
        self._watched = psutil.Process(self._process.pid)
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._process.join(60)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def served(self) -> int:
        return self._counts[0]

    @property
    def wrong(self) -> int:
        return self._counts[1]

    @property
    def died(self) -> bool:
        """Whether the process ended before it was asked to."""
        return not self._process.is_alive() and not self._stop.is_set()

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def look(self, at: float) -> None:
        """Takes a sample."""
        try:
            self.samples.append({"seconds": at} | sample(self._watched))
        except psutil.NoSuchProcess:
            return

    def growths(self) -> dict[str, Growth]:
        table = pd.DataFrame(self.samples)
        return {name: growth(table.seconds, table[name], floor) for name, floor in FLOORS.items()}


def generated(kind: str, items: int, queries: int, seed: int = 0):
    """(documents, queries as rows): Gaussian dense vectors on the sphere, or lexicon vectors whose lexicons are drawn by Zipf's law."""
    rng = np.random.default_rng(seed)
    if kind == "dense":
        values = rng.standard_normal((items + queries, DIMENSION), dtype=np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return DenseVectors.of(values[:items]), values[items:]
    popularity = np.arange(1, VOCABULARY + 1) ** -ZIPF
    lexicons = rng.choice(VOCABULARY, (items + queries, LEXICONS), p=popularity / popularity.sum())
    pointers = np.arange(0, (items + queries) * LEXICONS + 1, LEXICONS)
    rows = sp.csr_array(
        (rng.random(lexicons.size, np.float32), lexicons.ravel(), pointers), (items + queries, VOCABULARY)
    )
    rows.sum_duplicates()
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)))
    rows = sp.csr_array(rows.multiply(1 / lengths[:, None]), dtype=np.float32)
    return LexiconVectors.of(rows[:items]), rows[items:]


def prepared(home: Path, name: str, items: int, queries: int, force: bool) -> tuple[Index, object]:
    """The index of an engine over generated vectors, and the queries as it takes them. Raises InputError for an unknown or absent engine."""
    engine = engines.get(name)
    kind = "lexicon" if engine.kind == "any" else engine.kind
    documents, asked = generated(kind, items, queries)
    if kind == "lexicon":
        bits = 8 if 8 in engine.weights else None
        documents = Impacts(documents, None, bits)
        asked = Impacts(LexiconVectors.of(asked), None, bits).rows(0, queries)
    made_from = ["soak", kind, items, DIMENSION, VOCABULARY, LEXICONS, ZIPF]
    return build_index(
        home, name, documents, config.fingerprint(made_from), cores(), force, **engines.grid(name, "build")[0]
    ), asked


def soak(services: list[Soaked], minutes: float, warm_up: float, every: float) -> float:
    """Samples until the minutes after warm-up have passed or a process has died; the minutes that were sampled.

    They begin when all have answered.
    """
    while not all(service.served or service.died for service in services):
        time.sleep(every)
    began, wanted = time.monotonic(), 60 * (warm_up + minutes)
    with cli.progress(desc="soak", unit="s", total=round(wanted)) as bar:
        while (now := time.monotonic() - began) < wanted and not any(service.died for service in services):
            bar.update(round(now) - bar.n)
            if now >= 60 * warm_up:
                for service in services:
                    service.look(now)
            time.sleep(every)
    return max(0.0, (time.monotonic() - began) / 60 - warm_up)


def main(arguments) -> None:
    store, wanted = RecordStore(arguments.home), arguments.engines.split(",")
    if not arguments.minutes > 0 or arguments.minutes * 60 < 3 * arguments.every:
        raise InputError(
            f"--minutes {arguments.minutes:g}: expected at least three samples, {arguments.every:g} s apart"
        )
    made = [prepared(arguments.home, name, arguments.items, arguments.queries, arguments.force) for name in wanted]
    services = [Soaked(index, queries, arguments.depth, arguments.seconds) for index, queries in made]
    with contextlib.ExitStack() as running:
        for service in services:
            running.enter_context(service)
        minutes = soak(services, arguments.minutes, arguments.warm_up, arguments.every)
        died = [service for service in services if service.died]
    if any([_recorded(store, arguments, service, minutes, service in died) for service in services]):
        sys.exit(1)


def _recorded(store: RecordStore, arguments, service: Soaked, minutes: float, died: bool) -> bool:
    """Writes and prints what became of an engine; whether it failed."""
    knobs = service.knobs | {"soak": arguments.engines.split(","), "queries": arguments.queries}
    point = Point(
        "reliability", images=arguments.items, engine=service.index.engine, kind=engines.get(service.index.engine).kind, knobs=knobs,
        depth=arguments.depth, threads=cores(), index_id=service.index.id, code_id=config.code_fingerprint(*CODE), command=cli.command_line(),
    )  # fmt: skip
    with atomic_file(store.folder.parent / "soaks" / f"{point.id}.csv") as partial:
        pd.DataFrame(service.samples).to_csv(partial, index=False)
    if died:
        note = f"the process ended after {minutes:.1f} minutes with exit code {service.exit_code}"
        store.write(point, {"soak_minutes": minutes}, status="failed", note=note, seconds=60 * minutes)
        print(f"{service.index.engine}: {note}")
        return True
    growths = service.growths()
    values = {
        "soak_minutes": minutes,
        "soak_queries": service.served,
        "soak_wrong": service.wrong,
        "soak_min_detectable": growths["private"].noticeable,
    }
    intervals = {name: f"{name} {found.low:+.4g} to {found.high:+.4g} an hour" for name, found in growths.items()}
    note = "; ".join(f"beyond noise: {intervals[name]}" for name in JUDGED if growths[name].beyond_noise)
    store.write(
        point,
        values | {f"soak_growth_{name}": found.slope for name, found in growths.items()},
        note=note,
        seconds=60 * minutes,
    )
    print(
        f"{service.index.engine}: {minutes:.1f} min, {service.served:,} queries, {service.wrong:,} of them answered otherwise than at first"
    )
    print(*(f"  {interval}" for interval in intervals.values()), *([f"  {note}"] if note else []), sep="\n")
    return bool(note or service.wrong)


def parser():
    flags = cli.parser(
        "Searches under full load and records what memory, file handles and threads do meanwhile.", writes=True
    )
    flags.add_argument("--minutes", type=float, default=60.0, help="counted, after the warm-up")
    flags.add_argument("--warm-up", type=float, default=1.0, help="minutes that are not counted")
    flags.add_argument("--every", type=float, default=1.0, help="seconds between samples")
    flags.add_argument("--engines", default="impact,faiss-hnsw", help="which serve, all at once, by commas")
    flags.add_argument("--items", type=int, default=100_000, help="generated vectors that are searched")
    flags.add_argument("--queries", type=int, default=1000, help="generated queries, asked again and again")
    flags.add_argument("--depth", type=int, default=10, help="results per query")
    flags.add_argument("--seconds", type=float, default=1.0, help="of a pass of single queries before one of batches")
    return flags
