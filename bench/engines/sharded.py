"""Any engine, past one machine: the documents in shards of consecutive items, one index each, searched by an actor on a node of a Ray cluster.

`sharded-impact` is `impact` in shards: `engines.get` makes it of any registered engine. Build knob `shards`; the others are the engine's own.

Notable choices
- Each shard gives its own top k and the k best of them all are taken, by score and then id: of an exact engine, what one index would give.
- A shard's index is built on a node and comes back to the home, so that it is found again like any other; to be searched it is copied to the
  node where the shard then lies, into a folder of its own. No shared file system is needed, and none is searched through.
- A node that dies takes nothing along: Ray starts its shards elsewhere, which copy their indexes again, and asks them again what they had not
  answered. A shard that gives no answer within `patience` is missing from then on: results are those of the others, `missing` says so, and
  nothing that is recorded of them is "ok".
- Queries reach a node as they are: bringing them to the engine's own form is the shard's work, and in its time. `threads` are of each shard.
"""

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from bench import engines
from bench.engines import Engine, ranking
from bench.vectors.nodes import Nodes, joined
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import InputError
from models.files import read_json, write_json

ABOUT = "shards.json"
PIECE_ROWS = 65_536  # that travel together
PIECE_BYTES = 16 * 2**20
PATIENCE_SECONDS = 300.0  # for a node to be noticed as dead, and the shard to be copied and opened elsewhere
FOLDER = "lexlip-shard-"
A_LITTLE = 0.001  # of a core: an actor that asks for nothing is put on any node, whichever it was meant for


class Sharded(Engine):
    """`missing`: by number, the shards that are gone and why. `calls`: wall seconds of each search, and those of its slowest shard."""

    def __init__(self, inner: str):
        of = engines.get(inner)
        self.inner, self.name = inner, f"{engines.SHARDED}{inner}"
        self.kind, self.exact, self.weights, self.compiles = of.kind, of.exact, of.weights, of.compiles
        self.patience, self.missing, self.calls = PATIENCE_SECONDS, {}, []
        self.elsewhere = "the nodes of a cluster"
        self._until_closed, self._actors = ExitStack(), {}

    def build(self, vectors, folder, threads=1, *, shards: int, **knobs):
        """A shard on each node at a time, on `threads` of its cores."""
        if not 1 <= shards <= max(1, vectors.count):
            raise InputError(f"{shards} shards of {vectors.count} items: expected from 1 to one for each item")
        starts = np.linspace(0, vectors.count, shards + 1).round().astype(int).tolist()
        with joined(os.environ.get("RAY_ADDRESS", "local")) as nodes:
            threads = min(threads, *(int(node["Resources"]["CPU"]) for node in nodes.alive))
            build = nodes.ray.remote(max_retries=-1, num_cpus=threads, num_gpus=engines.gpus(self.inner))(_build)
            running = {}
            for number in range(shards):
                if len(running) == len(nodes.alive):
                    _keep_one(nodes, running, folder)
                rows = [nodes.ray.put(piece) for piece in _pieces(vectors, *starts[number : number + 2])]
                running[build.remote(self.inner, vectors.kind, vectors.dimension, rows, threads, knobs)] = number
            while running:
                _keep_one(nodes, running, folder)
        write_json(Path(folder) / ABOUT, {"starts": starts})

    def open(self, folder):
        folder = Path(folder)
        self.starts = read_json(folder / ABOUT)["starts"]
        nodes = self._until_closed.enter_context(joined(os.environ.get("RAY_ADDRESS", "local")))
        self._ray, self.elsewhere = nodes.ray, f"{len(nodes.alive)} nodes"
        here = nodes.ray.get_runtime_context().get_node_id()
        for number in range(len(self.starts) - 1):
            node = nodes.alive[number % len(nodes.alive)]["NodeID"]
            options = {
                "num_cpus": A_LITTLE,
                "num_gpus": engines.gpus(self.inner),
                "max_restarts": -1,
                "max_task_retries": -1,
            }
            shard = nodes.ray.remote(**options, scheduling_strategy=_on(node, soft=True))(Shard)
            self._actors[number] = shard.remote(self.inner, _shard_folder(folder, number), self.starts[number], here)
        self._answers({number: actor.check.remote() for number, actor in self._actors.items()})
        return self

    def search(self, queries, k, threads=1, **knobs):
        began = time.perf_counter()
        asked = self._ray.put(queries) if queries.shape[0] > 1 else queries
        shards = {number: actor for number, actor in self._actors.items() if number not in self.missing}
        answers = self._answers(
            {number: actor.search.remote(asked, k, threads, knobs) for number, actor in shards.items()}
        )
        ids, scores = merge([answer[:2] for answer in answers], k)
        self.calls.append((time.perf_counter() - began, max(seconds for _, _, seconds in answers)))
        return ids, scores

    def told(self, searches):
        """Of their wall time, the share in which not even the slowest shard was at work."""
        wall, own = np.sum(self.calls[-searches:], axis=0)
        return {"network_share": float(1 - own / wall)}

    def bytes_on_disk(self, folder):
        shards = range(len(read_json(Path(folder) / ABOUT)["starts"]) - 1)
        return sum(engines.get(self.inner).bytes_on_disk(_shard_folder(Path(folder), number)) for number in shards)

    def close(self):
        for number, actor in self._actors.items():
            if number not in self.missing:
                self._ray.wait([actor.close.remote()], timeout=self.patience)
                self._ray.kill(actor)
        self._actors = {}
        self._until_closed.close()

    def what_is_missing(self) -> str:
        """One line, "" when all shards answer."""
        total = len(self.starts) - 1
        return "; ".join(
            f"shard {number + 1} of {total} is missing ({why})" for number, why in sorted(self.missing.items())
        )

    def _answers(self, asked: dict) -> list:
        """What each shard answered; those that do not are missing from now on. Raises what an engine raised, and when none answers."""
        answers, errors = [], self._ray.exceptions
        done, late = self._ray.wait(list(asked.values()), num_returns=len(asked), timeout=self.patience)
        for number, reference in asked.items():
            if reference in late:
                self.missing[number] = f"no answer in {self.patience:g} s"
                continue
            try:
                answers.append(self._ray.get(reference))
            except errors.RayActorError as error:
                self.missing[number] = _first_line(error)
            except errors.RayTaskError as error:
                raise _own(error, f"shard {number + 1} of {len(self.starts) - 1}") from None
        if not answers:
            raise InputError(f"{self.name}: {self.what_is_missing() or 'no shard to ask'}")
        return answers


def merge(parts: list[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The top k of the top k of each shard: ids (Q, k) of the whole collection, scores (Q, k), by score, then id, padding last."""
    ids, scores = (np.concatenate(of_all, axis=1) for of_all in zip(*parts, strict=True))
    ids, scores = ranking.sort_rows(ids, scores)
    return ids[:, :k], scores[:, :k]


# --- on a node --------------------------------------------------------------------------------------------------------------------


class Shard:
    """One shard's index, copied to this node and open. Ray makes it again on another node when this one dies."""

    def __init__(self, engine: str, folder: Path, start: int, home_node: str):
        _remove_what_the_dead_left()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        self.start, self.threads, self.failure = start, None, None
        _copy(folder, self.folder, home_node)
        try:
            self.engine = engines.get(engine).open(self.folder)
        except InputError as error:  # raised here, it would reach the home as a text among others
            self.failure = error

    def check(self) -> None:
        """Raises what kept the engine from opening the index."""
        if self.failure:
            raise self.failure

    def search(self, queries, k: int, threads: int, knobs: dict) -> tuple[np.ndarray, np.ndarray, float]:
        """ids of the whole collection, scores, and the seconds that took."""
        self.check()
        began = time.perf_counter()
        if threads != self.threads:
            threadpool_limits(threads)
            self.threads = threads
        ids, scores = self.engine.search(self.engine.prepare(queries, **knobs), k, threads, **knobs)
        return np.where(ids < 0, ids, ids + self.start), scores, time.perf_counter() - began

    def close(self) -> None:
        self.engine.close()
        shutil.rmtree(self.folder)


def _build(engine: str, kind: str, dimension: int, pieces: list, threads: int, knobs: dict) -> dict[str, bytes]:
    """The files of the index of one shard."""
    import ray

    shards = [ray.get(piece) for piece in pieces]
    vectors = DenseVectors(shards, dimension) if kind == "dense" else LexiconVectors(shards, dimension)
    with tempfile.TemporaryDirectory(prefix=FOLDER) as folder, threadpool_limits(threads):
        engines.get(engine).build(vectors, Path(folder), threads, **knobs)
        files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _copy(source: Path, target: Path, home_node: str) -> None:
    """The files of a folder that the node of the home has, in pieces."""
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
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def _piece(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)


def _remove_what_the_dead_left() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        owner = left.name.removeprefix(FOLDER).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


# --- parts ------------------------------------------------------------------------------------------------------------------------


def _pieces(vectors, start: int, stop: int):
    for first in range(start, stop, PIECE_ROWS):
        yield vectors.rows(first, min(first + PIECE_ROWS, stop))


def _keep_one(nodes: Nodes, running: dict, folder: Path) -> None:
    """Waits for a shard to be built and writes its files."""
    [done], _ = nodes.ray.wait(list(running), num_returns=1)
    number = running.pop(done)
    try:
        files = nodes.ray.get(done)
    except nodes.ray.exceptions.RayTaskError as error:
        raise _own(error, f"shard {number + 1}") from None
    for name, content in files.items():
        path = _shard_folder(Path(folder), number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _shard_folder(folder: Path, number: int) -> Path:
    return folder.resolve() / f"{number:05d}"


def _on(node: str, soft: bool):
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=soft)


def _own(error: Exception, shard: str) -> Exception:
    """The InputError that an engine raised on a node, which says of which shard; any other error as Ray gives it."""
    return type(error.cause)(f"{shard}: {error.cause}") if isinstance(error.cause, InputError) else error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
