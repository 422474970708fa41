"""An engine in shards over a Ray cluster: a shard is an index of consecutive items, searched by an actor on a node.

`sharded-impact` is `impact` in shards; `registry.get` makes it from any registered engine. Build knobs: `shards` and
those of the engine.

Notable choices
- Each shard returns its top k, and the best k of all by score, then id, are the result: that of one index, if the
  engine is exact.
- A shard's index is built on a node and sent to the home, where it is reused like any other. To be searched, it is
  copied to a temporary folder of the shard's node. No shared file system is needed.
- When a node dies, Ray restarts its shards on other nodes; they copy their indexes again and repeat unanswered
  searches. A shard that does not answer within `patience` is missing from then on: results are those of the others,
  `missing` says so, and no record of them is "ok".
- Queries are sent as they are; the shard converts them (`prepare`), which counts as its time. `threads` are those of
  each shard.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from bench.engines import ranking
from bench.engines.contract import SHARDED, Engine, index_files
from bench.vectors.nodes import Nodes, joined
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import InputError
from models.files import read_json, write_json

ABOUT = "shards.json"
PIECE_ROWS = 65_536  # sent together
PIECE_BYTES = 16 * 2**20
PATIENCE_SECONDS = 300.0  # to notice a dead node, and to copy and open its shard on another one
FOLDER = "lexlip-shard-"
A_LITTLE = 0.001  # of a core: Ray ignores the node requested for an actor that needs no resource


class Sharded(Engine):
    """An engine in shards; exact if the engine is. Attributes:

    missing: number of a missing shard -> reason. calls: wall seconds of each search, and those of its slowest shard.
    """

    def __init__(self, make: Callable[[], Engine]):
        """make: makes the engine of a shard; sent to the nodes, so it must be picklable."""
        of = make()
        self.make, self.name = make, f"{SHARDED}{of.name}"
        self.kind, self.exact, self.weights, self.compiles = of.kind, of.exact, of.weights, of.compiles
        self.gpus, self._of_shard = of.gpus, of
        self.patience, self.missing, self.calls = PATIENCE_SECONDS, {}, []
        self.remote = "the nodes of a cluster"
        self._until_closed, self._actors = ExitStack(), {}

    def build(self, vectors, folder, threads=1, *, shards: int, **knobs):
        """Each node builds one shard at a time, on `threads` cores. Raises InputError for more shards than items."""
        if not 1 <= shards <= max(1, vectors.count):
            raise InputError(f"{shards} shards of {vectors.count} items: expected at least 1 and at most one per item")
        starts = np.linspace(0, vectors.count, shards + 1).round().astype(int).tolist()
        with joined(os.environ.get("RAY_ADDRESS", "local")) as nodes:
            threads = min(threads, *(int(node["Resources"]["CPU"]) for node in nodes.alive))
            build = nodes.ray.remote(max_retries=-1, num_cpus=threads, num_gpus=self.gpus)(_build)
            running = {}
            for number in range(shards):
                if len(running) == len(nodes.alive):
                    _write_finished(nodes, running, folder)
                rows = [nodes.ray.put(piece) for piece in _pieces(vectors, *starts[number : number + 2])]
                running[build.remote(self.make, vectors.kind, vectors.dimension, rows, threads, knobs)] = number
            while running:
                _write_finished(nodes, running, folder)
        write_json(Path(folder) / ABOUT, {"starts": starts})

    def open(self, folder):
        folder = Path(folder)
        self.starts = read_json(folder / ABOUT)["starts"]
        nodes = self._until_closed.enter_context(joined(os.environ.get("RAY_ADDRESS", "local")))
        self._ray, self.remote = nodes.ray, f"{len(nodes.alive)} nodes"
        here = nodes.ray.get_runtime_context().get_node_id()
        for number in range(len(self.starts) - 1):
            node = nodes.alive[number % len(nodes.alive)]["NodeID"]
            options = {"num_gpus": self.gpus, "max_restarts": -1, "max_task_retries": -1}
            placed = nodes.ray.remote(num_cpus=A_LITTLE, scheduling_strategy=_on(node, soft=True), **options)
            shard = placed(Shard)
            self._actors[number] = shard.remote(self.make, _shard_folder(folder, number), self.starts[number], here)
        self._answers({number: actor.check.remote() for number, actor in self._actors.items()})
        return self

    def search(self, queries, k, threads=1, **knobs):
        began = time.perf_counter()
        sent = self._ray.put(queries) if queries.shape[0] > 1 else queries
        shards = {number: actor for number, actor in self._actors.items() if number not in self.missing}
        calls = {number: actor.search.remote(sent, k, threads, knobs) for number, actor in shards.items()}
        answers = self._answers(calls)
        ids, scores = merge([answer[:2] for answer in answers], k)
        self.calls.append((time.perf_counter() - began, max(seconds for _, _, seconds in answers)))
        return ids, scores

    def search_metrics(self, searches):
        """`network_share`: share of the wall time in which no shard was searching, not even the slowest."""
        wall, own = np.sum(self.calls[-searches:], axis=0)
        return {"network_share": float(1 - own / wall)}

    def bytes_on_disk(self, folder):
        shards = range(len(read_json(Path(folder) / ABOUT)["starts"]) - 1)
        return sum(self._of_shard.bytes_on_disk(_shard_folder(Path(folder), number)) for number in shards)

    def close(self):
        for number, actor in self._actors.items():
            if number not in self.missing:
                self._ray.wait([actor.close.remote()], timeout=self.patience)
                self._ray.kill(actor)
        self._actors = {}
        self._until_closed.close()

    def missing_parts(self):
        missing, total = sorted(self.missing.items()), len(self.starts) - 1
        return "; ".join(f"shard {number + 1} of {total} is missing ({why})" for number, why in missing)

    def _answers(self, calls: dict) -> list:
        """The answers; a shard without one is missing from now on. Raises an engine's error, or if none answers."""
        answers, errors = [], self._ray.exceptions
        _, late = self._ray.wait(list(calls.values()), num_returns=len(calls), timeout=self.patience)
        for number, reference in calls.items():
            if reference in late:
                self.missing[number] = f"no answer in {self.patience:g} s"
                continue
            try:
                answers.append(self._ray.get(reference))
            except errors.RayActorError as error:
                self.missing[number] = _first_line(error)
            except errors.RayTaskError as error:
                raise _from_shard(error, f"shard {number + 1} of {len(self.starts) - 1}") from None
        if not answers:
            raise InputError(f"{self.name}: {self.missing_parts() or 'no shard'}")
        return answers


def merge(parts: list[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The top k of the shards' top k, by score, then id. parts: ids of the whole collection (Q, k), scores (Q, k)."""
    ids, scores = (np.concatenate(of_all, axis=1) for of_all in zip(*parts, strict=True))
    ids, scores = ranking.sort_rows(ids, scores)
    return ids[:, :k], scores[:, :k]


# --- on a node ------------------------------------------------------------------------------------------------


class Shard:
    """One shard's index, copied to this node and opened. Ray restarts it on another node when this one dies."""

    def __init__(self, make: Callable[[], Engine], folder: Path, start: int, home_node: str):
        _remove_stale_copies()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        self.start, self.threads, self.failure = start, None, None
        _copy(folder, self.folder, home_node)
        try:
            self.engine = make().open(self.folder)
        except InputError as error:  # raised in a constructor, it would reach the home as text only
            self.failure = error

    def check(self) -> None:
        """Raises the error of opening the index, if there was one."""
        if self.failure:
            raise self.failure

    def search(self, queries, k: int, threads: int, knobs: dict) -> tuple[np.ndarray, np.ndarray, float]:
        """The shard's top k: ids of the whole collection (Q, k), scores (Q, k), and seconds."""
        self.check()
        began = time.perf_counter()
        if threads != self.threads:
            threadpool_limits(threads)
            self.threads = threads
        ids, scores = self.engine.search(self.engine.prepare(queries, **knobs), k, threads, **knobs)
        return np.where(ids < 0, ids, ids + self.start), scores, time.perf_counter() - began

    def close(self) -> None:
        """Closes the engine and removes the copy of the index."""
        self.engine.close()
        shutil.rmtree(self.folder)


def _build(make: Callable, kind: str, dimension: int, pieces: list, threads: int, knobs: dict) -> dict[str, bytes]:
    """Builds the index of one shard; returns its files by name."""
    import ray

    shards = [ray.get(piece) for piece in pieces]
    vectors = DenseVectors(shards, dimension) if kind == "dense" else LexiconVectors(shards, dimension)
    with tempfile.TemporaryDirectory(prefix=FOLDER) as folder, threadpool_limits(threads):
        make().build(vectors, Path(folder), threads, **knobs)
        return {str(path.relative_to(folder)): path.read_bytes() for path in index_files(folder)}


def _copy(source: Path, target: Path, home_node: str) -> None:
    """Copies the files of a folder from the home's node, in pieces."""
    import ray

    at_home = {"num_cpus": 0, "max_retries": -1, "scheduling_strategy": _on(home_node, soft=False)}
    listing, piece = (ray.remote(**at_home)(function) for function in (_listing, _piece))
    for name, size in ray.get(listing.remote(source)).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            for offset in range(0, size, PIECE_BYTES):
                file.write(ray.get(piece.remote(source / name, offset)))


def _listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in index_files(folder)}


def _piece(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)


def _remove_stale_copies() -> None:
    """Removes copies whose process has died."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        owner = left.name.removeprefix(FOLDER).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


# --- parts ----------------------------------------------------------------------------------------------------
# ------------


def _pieces(vectors, start: int, stop: int) -> Iterator:
    for first in range(start, stop, PIECE_ROWS):
        yield vectors.rows(first, min(first + PIECE_ROWS, stop))


def _write_finished(nodes: Nodes, running: dict, folder: Path) -> None:
    """Waits until one of the running builds is done and writes its files."""
    [done], _ = nodes.ray.wait(list(running), num_returns=1)
    number = running.pop(done)
    try:
        files = nodes.ray.get(done)
    except nodes.ray.exceptions.RayTaskError as error:
        raise _from_shard(error, f"shard {number + 1}") from None
    for name, content in files.items():
        path = _shard_folder(Path(folder), number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _shard_folder(folder: Path, number: int) -> Path:
    return folder.resolve() / f"{number:05d}"


def _on(node: str, soft: bool):
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=soft)


def _from_shard(error: Exception, shard: str) -> Exception:
    """An engine's InputError with the shard's name before it; any other error as Ray raised it."""
    return type(error.cause)(f"{shard}: {error.cause}") if isinstance(error.cause, InputError) else error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
