"""Searches under full load and watches the resources of the serving processes: `lexlip-bench soak --minutes 60`.

Each engine serves in its own process, all of them at once, each on all cores: single queries and batches through
`bench.tasks.timing`, answers compared with the first ones; between passes the index is opened and closed once more
beside the open one. Memory, file handles and threads of a process and its children are sampled from outside. The exit
code is 1 when one of `CHECKED` grows beyond noise, an answer changed, or a process died.

The soak ends when a process dies. Growth is the median slope over all pairs of samples (Theil and Sen) after warm-up.
It is beyond noise when the 95% interval of the slope lies above 0 and growth over the whole soak exceeds both `FLOORS`
and three times the scatter about the line. A short soak therefore finds fast leaks only; the record states the minimum
detectable growth.
"""

import contextlib
import multiprocessing
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import scipy

from bench import engines
from bench.engines.indexes import Index, build_index, open_index
from bench.store import cli, config
from bench.store.machine import cores
from bench.store.records import Point, RecordStore
from bench.tasks import timing as measure
from bench.tasks.timing import Timing
from bench.vectors.read import DenseVectors, LexiconVectors
from bench.vectors.statistics import evenly
from models.errors import InputError
from models.files import atomic_file

FLOORS = {"memory": 4 << 20, "private": 4 << 20, "handles": 1.0, "threads": 1.0}
"""Sampled quantity of a process with its children -> growth that does not count.

memory: PSS, with a proportional part of shared pages; private: USS."""

CHECKED = ("private", "handles", "threads")
"""Quantities whose growth is a failure. Shared memory is not: it also changes when another process ends."""

SCATTER = 3.0  # growth must exceed this many times the median absolute deviation about the line
LEAST_SAMPLES = 3
UNANSWERED = -2  # in place of an id; NO_RESULT is -1
MAX_SAMPLES = 2000  # for a slope, which takes all pairs of samples
DIMENSION, VOCABULARY, LEXICONS, ZIPF = 128, 4096, 32, 1.1  # of the generated vectors
IN_ID = ("queries", "minutes", "warm_up", "every", "seconds")
"""Flags that are part of the id of a point."""
CODE = (
    "bench.scale.soak",
    "bench.tasks.timing",
    "bench.engines.indexes",
    "bench.vectors.impacts",
    "bench.vectors.read",
)


@dataclass(frozen=True)
class Growth:
    """Growth of one quantity per hour: the slope with its 95% interval, and the minimum detectable growth."""

    slope: float
    low: float
    high: float
    detectable: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the quantity grew."""
        return self.low > 0 and self.slope > self.detectable


def growth(seconds: np.ndarray, values: np.ndarray, floor: float) -> Growth:
    """Growth of at least `LEAST_SAMPLES` samples (N,) taken at times (N,).

    floor: growth over the whole time that does not count.
    """
    from scipy.stats import median_abs_deviation, theilslopes

    chosen = evenly(len(seconds), MAX_SAMPLES)
    hours, values = np.asarray(seconds, np.float64)[chosen] / 3600, np.asarray(values, np.float64)[chosen]
    slope, intercept, low, high = theilslopes(values, hours, 0.95)
    scatter = median_abs_deviation(values - intercept - slope * hours, scale="normal")
    detectable = max(floor, SCATTER * scatter) / (hours[-1] - hours[0])
    return Growth(*map(float, (slope, low, high, detectable)))


def serve(folder: Path, queries, depth: int, knobs: dict, seconds: float, stop, counts) -> None:
    """Answers queries until `stop` is set, or the parent process has ended.

    counts: [queries answered, queries whose answer differs from the first one], updated in place.
    """
    timing, parent = Timing(queries.shape[0], depth, 1, seconds, cores()), multiprocessing.parent_process()
    first = {mode: np.full((queries.shape[0], depth), UNANSWERED) for mode in (measure.single, measure.batched)}
    with open_index(folder) as engine:
        while not stop.is_set() and (parent is None or parent.is_alive()):
            for mode, expected in first.items():
                found = mode(engine, queries, timing, **knobs)  # a pass of single queries ends by time
                known = expected[found.which, 0] != UNANSWERED
                counts[1] += int((expected[found.which[known]] != found.ids[known]).any(axis=1).sum())
                expected[found.which[~known]] = found.ids[~known]
                counts[0] += found.queries
            with open_index(folder) as again:
                again.search(again.prepare(queries[:1], **knobs), depth, 1, **knobs)


def _serve_until_stopped(*arguments) -> None:
    """`serve` in a process of its own: Ctrl-C reaches it too, but its parent stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(*arguments)


def sample(process: psutil.Process) -> dict[str, float]:
    """The quantities of `FLOORS` of a process with its children. Raises psutil.NoSuchProcess when it has ended."""
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
        found["memory"] += getattr(memory, "pss", memory.rss)
        found["private"] += memory.uss
        found["handles"] += handles
        found["threads"] += threads
    return found


class Service:
    """An engine that serves in its own process, as a context manager, until the block ends."""

    def __init__(self, index: Index, queries, depth: int, seconds: float):
        spawning = multiprocessing.get_context("spawn")
        self.index, self.knobs = index, engines.grid(index.engine, "search")[0]
        self.samples: list[dict[str, float]] = []
        self._stop, self._counts = spawning.Event(), spawning.Array("q", 2)
        arguments = (index.folder, queries, depth, self.knobs, seconds, self._stop, self._counts)
        self._process = spawning.Process(target=_serve_until_stopped, args=arguments)

    def __enter__(self) -> "Service":
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
        """Queries answered so far."""
        return self._counts[0]

    @property
    def wrong(self) -> int:
        """Queries whose answer differs from the first one."""
        return self._counts[1]

    @property
    def died(self) -> bool:
        """Whether the process ended before the block did."""
        return not self._process.is_alive() and not self._stop.is_set()

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def take_sample(self, at: float) -> None:
        """Samples the process, unless it has ended. at: seconds since the start of the soak."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.samples.append({"seconds": at} | sample(self._watched))

    def growths(self) -> dict[str, Growth]:
        """Growth of each quantity of `FLOORS`."""
        table = pd.DataFrame(self.samples)
        return {name: growth(table.seconds, table[name], floor) for name, floor in FLOORS.items()}


def generated(kind: str, items: int, queries: int, seed: int = 0):
    """Documents, and queries as rows: Gaussian dense vectors, or lexicon vectors by Zipf's law; L2-normalised."""
    rng = np.random.default_rng(seed)
    if kind == "dense":
        values = rng.standard_normal((items + queries, DIMENSION), dtype=np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return DenseVectors.of(values[:items]), values[items:]
    popularity = np.arange(1, VOCABULARY + 1) ** -ZIPF
    lexicons = rng.choice(VOCABULARY, (items + queries, LEXICONS), p=popularity / popularity.sum())
    pointers = np.arange(0, (items + queries) * LEXICONS + 1, LEXICONS)
    rows = scipy.sparse.csr_array(
        (rng.random(lexicons.size, np.float32), lexicons.ravel(), pointers), (items + queries, VOCABULARY)
    )
    rows.sum_duplicates()
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)))
    rows = scipy.sparse.csr_array(rows.multiply(1 / lengths[:, None]), dtype=np.float32)
    return LexiconVectors.of(rows[:items]), rows[items:]


def prepared(home: Path, name: str, items: int, queries: int, force: bool) -> tuple[Index, object]:
    """The index of an engine over generated vectors, and its queries. Raises InputError for an unknown engine."""
    from bench.vectors.impacts import Impacts

    engine = engines.get(name)
    kind = "lexicon" if engine.kind == "any" else engine.kind
    documents, query_rows = generated(kind, items, queries)
    if kind == "lexicon":
        bits = 8 if 8 in engine.weights else None
        documents = Impacts(documents, None, bits)
        query_rows = Impacts(LexiconVectors.of(query_rows), None, bits).rows(0, queries)
    vectors_id = config.fingerprint(["soak", kind, items, queries, DIMENSION, VOCABULARY, LEXICONS, ZIPF])
    knobs = engines.grid(name, "build")[0]
    return build_index(home, name, documents, vectors_id, cores(), force, **knobs), query_rows


def soak(services: list[Service], minutes: float, warm_up: float, every: float) -> float:
    """Samples the services for some minutes after warm-up, or until one dies; returns the minutes that were sampled.

    The clock starts when every service has answered.
    """
    while not all(service.served or service.died for service in services):
        time.sleep(every)
    began, wanted = time.monotonic(), 60 * (warm_up + minutes)
    with cli.progress(desc="soak", unit="s", total=round(wanted)) as bar:
        while (now := time.monotonic() - began) < wanted and not any(service.died for service in services):
            bar.update(round(now) - bar.n)
            if now >= 60 * warm_up:
                for service in services:
                    service.take_sample(now)
            time.sleep(every)
    return max(0.0, (time.monotonic() - began) / 60 - warm_up)


def main(arguments) -> int:
    """Builds the indexes, serves them all at once, records each; returns 1 when one failed, else 0."""
    store, names = RecordStore(arguments.home), arguments.engines.split(",")
    if arguments.minutes * 60 < LEAST_SAMPLES * arguments.every:
        expected = f"expected at least {LEAST_SAMPLES} samples, {arguments.every:g} s apart"
        raise InputError(f"--minutes {arguments.minutes:g}: {expected}")
    made = [prepared(arguments.home, name, arguments.items, arguments.queries, arguments.force) for name in names]
    services = [Service(index, queries, arguments.depth, arguments.seconds) for index, queries in made]
    with contextlib.ExitStack() as running:
        for service in services:
            running.enter_context(service)
        minutes = soak(services, arguments.minutes, arguments.warm_up, arguments.every)
        died = [service for service in services if service.died]
    failed = [_record(store, arguments, service, minutes, service in died) for service in services]
    return int(any(failed))


def _record(store: RecordStore, arguments, service: Service, minutes: float, died: bool) -> bool:
    """Writes and prints the result of an engine; returns whether it failed."""
    name, point, seconds = service.index.engine, _point(arguments, service), 60 * minutes
    with atomic_file(store.folder.parent / "soaks" / f"{point.id}.csv") as partial:
        pd.DataFrame(service.samples).to_csv(partial, index=False)
    if died or len(service.samples) < LEAST_SAMPLES:
        samples = f"{len(service.samples)} samples in {minutes:.1f} minutes, fewer than {LEAST_SAMPLES}"
        ended = f"the process ended after {minutes:.1f} minutes with exit code {service.exit_code}"
        note = ended if died else samples
        store.write(point, {"soak_minutes": minutes}, status="failed", note=note, seconds=seconds)
        print(f"{name}: {note}")
        return True
    growths = service.growths()
    values = {f"soak_growth_{quantity}": found.slope for quantity, found in growths.items()} | {
        "soak_minutes": minutes,
        "soak_queries": service.served,
        "soak_wrong": service.wrong,
        "soak_min_detectable": growths["private"].detectable,
    }
    intervals = {key: f"{key} {found.low:+.4g} to {found.high:+.4g} an hour" for key, found in growths.items()}
    note = "; ".join(f"beyond noise: {intervals[key]}" for key in CHECKED if growths[key].beyond_noise)
    store.write(point, values, note=note, seconds=seconds)
    answers = f"{service.served:,} queries, {service.wrong:,} with another answer than at first"
    print(f"{name}: {minutes:.1f} min, {answers}")
    print(*(f"  {interval}" for interval in intervals.values()), *([f"  {note}"] if note else []), sep="\n")
    return bool(note or service.wrong)


def _point(arguments, service: Service) -> Point:
    settings = {"soak": arguments.engines.split(",")} | {name: getattr(arguments, name) for name in IN_ID}
    return Point(
        task="reliability",
        images=arguments.items,
        engine=service.index.engine,
        kind=engines.get(service.index.engine).kind,
        knobs=service.knobs | settings,
        depth=arguments.depth,
        threads=cores(),
        index_id=service.index.id,
        code_id=config.code_fingerprint(*CODE),
        command=cli.command_line(),
    )


def parser():
    """Flags of `lexlip-bench soak`."""
    flags = cli.parser("Searches under full load and records growth of memory, file handles and threads.", writes=True)
    flags.add_argument("--minutes", type=cli.positive(float), default=60.0, help="length after warm-up")
    flags.add_argument(
        "--warm-up", type=cli.positive(float, or_zero=True), default=1.0, help="minutes before the first sample"
    )
    flags.add_argument("--every", type=cli.positive(float), default=1.0, help="seconds between samples")
    flags.add_argument("--engines", default="impact,faiss-hnsw", help="engines, separated by commas; all serve at once")
    flags.add_argument("--items", type=cli.positive(int), default=100_000, help="generated vectors to search")
    flags.add_argument("--queries", type=cli.positive(int), default=1000, help="generated queries, searched repeatedly")
    flags.add_argument("--depth", type=cli.positive(int), default=10, help="results per query")
    flags.add_argument(
        "--seconds", type=cli.positive(float), default=1.0, help="length of a pass of single queries between batches"
    )
    return flags
