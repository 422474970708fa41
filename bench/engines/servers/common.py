"""Base of the search-server engines (Qdrant, Milvus, OpenSearch): embedded in this process, or reached by URL.

`environment` reads where a server is and how to log on. A record says "embedded" or "by URL", the build knob `served`.

Notable choices
- By URL an index is a collection `lexlip_bench_<index id>` on the server; its folder holds `server.json` only. Removing
  the folder leaves the collection: `lexlip-bench collections` removes both. `build` replaces a collection of that name,
  and drops it on failure.
- By URL, `threads` is the number of simultaneous requests; the server decides how many cores answer them. Its memory
  and CPU time are not recorded, and bytes on disk only where it reports them.
- Items and queries without lexicons are not sent: they have no results and appear in none.
"""

import abc
import argparse
import contextlib
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy

from bench.engines import ranking, registry
from bench.engines.contract import BY_URL, EMBEDDED, Engine
from bench.engines.servers.environment import clean, setting, variable
from bench.store import cli
from models.errors import InputError
from models.files import REFUSALS, read_json, write_json

ABOUT = "server.json"
PREFIX = "lexlip_bench_"
TIMEOUT_SECONDS = 60  # per request
INDEXING_SECONDS = 3600  # for the server to finish indexing after the last item
RETRIES = 5
ITEMS_AT_ONCE, QUERIES_AT_ONCE = 500, 128  # per request
CLIENT_LOGS = ("httpx", "milvus_lite", "opensearch", "pymilvus", "qdrant_client")

Hits = list[tuple[int, float]]
"""Ids and scores of one query's results, in any order."""


class Store(abc.ABC):
    """One collection, on a server or embedded. Raises the client's errors, which `ServerEngine` converts."""

    @abc.abstractmethod
    def create(self, vectors, threads: int, **knobs) -> None:
        """Creates an empty collection for `vectors`, replacing one of the same name."""

    @abc.abstractmethod
    def add(self, ids: np.ndarray, rows) -> None:
        """Adds items: ids (n,), rows a CSR array (n, V) or a float32 array (n, D).

        By URL this is one request, repeated while the server is busy.
        """

    @abc.abstractmethod
    def finish(self) -> None:
        """Waits until all items are indexed and stored."""

    @abc.abstractmethod
    def load(self) -> None:
        """Makes a finished collection ready for search, in any process."""

    @abc.abstractmethod
    def count(self) -> int:
        """Number of items."""

    @abc.abstractmethod
    def query(self, vector) -> Any:
        """A query in the client's form. vector: (lexicons, weights), two lists, or a float32 array (D,)."""

    @abc.abstractmethod
    def search(self, queries: list, k: int, **knobs) -> list[Hits]:
        """The top k of each query; by URL, in one request."""

    @abc.abstractmethod
    def drop(self) -> None:
        """Removes the collection if it exists."""

    def bytes(self) -> int | None:
        """Bytes on the server's disk; None if not reported."""
        return None

    def close(self) -> None:  # noqa: B027  (some hold nothing)
        """Releases connections and files."""


class ServerEngine(Engine):
    """An engine whose index is a collection in a `Store`, which subclasses make."""

    product: ClassVar[str]  # QDRANT, as in LEXLIP_BENCH_QDRANT_URL
    other_modules = ("bench.engines.servers.common",)
    store: Store | None = None

    @property
    def served(self) -> str:
        return BY_URL if setting(self.product, "URL") else EMBEDDED

    @property
    def remote(self) -> str:
        return "a server" if self.served == BY_URL else ""

    @abc.abstractmethod
    def _store(self, folder: Path, collection: str, served: str) -> Store:
        """Connects to the collection of the index in `folder`. Raises AbsentError."""

    def build(self, vectors, folder, threads=1, **knobs):
        about = {"served": self.served, "collection": collection(folder), "held": 0}

        def counted() -> Iterator[tuple[np.ndarray, Any]]:
            for ids, rows in batches(vectors, ITEMS_AT_ONCE):
                about["held"] += len(ids)
                yield ids, rows

        with self._connected(folder, about) as store:
            try:
                store.create(vectors, threads, **knobs)
                in_threads(counted(), store.add, threads if about["served"] == BY_URL else 1)
                store.finish()
                _refuse_other_count(about, store)
                about["bytes"] = store.bytes()
            except BaseException:
                with contextlib.suppress(Exception):
                    store.drop()
                raise
        write_json(Path(folder) / ABOUT, about)

    def open(self, folder):
        about = self._about(folder)
        self.held, self.parallel = about["held"], about["served"] == BY_URL
        with self._clean_errors():
            self.store = self._store(Path(folder), about["collection"], about["served"])
            try:
                self.store.load()
                _refuse_other_count(about, self.store)
            except BaseException:
                self.close()
                raise
        return self

    def prepare(self, queries, **knobs):
        """Each query in the client's form, None for one without lexicons."""
        if scipy.sparse.issparse(queries):
            return [self.store.query(pair) if pair[0] else None for pair in pairs(queries)]
        return [self.store.query(row) for row in queries]

    def search(self, queries, k, threads=1, **knobs):
        ids, scores = ranking.empty(len(queries), k)
        nonempty = [number for number, query in enumerate(queries) if query is not None]
        if not (self.held and k and nonempty):
            return ids, scores
        threads = threads if self.parallel else 1
        size = min(QUERIES_AT_ONCE, -(-len(nonempty) // threads))
        parts = [nonempty[start : start + size] for start in range(0, len(nonempty), size)]

        def answer(part: list[int]) -> None:
            answers = self.store.search([queries[number] for number in part], min(k, self.held), **knobs)
            for number, hits in zip(part, answers, strict=True):
                ids[number, : len(hits)] = [item for item, _ in hits]
                scores[number, : len(hits)] = [score for _, score in hits]

        with self._clean_errors():
            if len(parts) == 1 or threads == 1:
                for part in parts:
                    answer(part)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(answer, parts))
        return ranking.sort_rows(ids, scores)

    def bytes_on_disk(self, folder):
        """Bytes of the folder, or those that the server reported for the collection; None if it reported none."""
        about = read_json(Path(folder) / ABOUT)
        return about["bytes"] if about["served"] == BY_URL else super().bytes_on_disk(folder)

    def close(self):
        if self.store:
            self.store.close()
            self.store = None

    def remove(self, folder) -> None:
        """Drops an index's collection, then removes its folder. Raises InputError if the server does not answer."""
        with self._connected(folder, self._about(folder)) as store:
            store.drop()
        shutil.rmtree(folder)

    def _about(self, folder) -> dict:
        about = read_json(Path(folder) / ABOUT)
        if about["served"] == BY_URL and not setting(self.product, "URL"):
            url = variable(self.product, "URL")
            raise InputError(f"{folder}: its collection {about['collection']} is on a server; set {url}")
        return about

    @contextlib.contextmanager
    def _connected(self, folder, about: dict) -> Iterator[Store]:
        with self._clean_errors():
            store = self._store(Path(folder), about["collection"], about["served"])
            try:
                yield store
            finally:
                store.close()

    @contextlib.contextmanager
    def _clean_errors(self) -> Iterator[None]:
        """Turns a client's errors into an InputError without address, secret or traceback."""
        for name in CLIENT_LOGS:  # they log addresses and answers
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield
        except (InputError, MemoryError):
            raise
        except Exception as error:  # each client, and its HTTP or gRPC library, has error classes of its own
            if isinstance(error, OSError) and error.errno in REFUSALS:
                raise
            raise InputError(f"{self.name}: {type(error).__name__}: {clean(self.product, str(error))}") from None


def _refuse_other_count(about: dict, store: Store) -> None:
    if (found := store.count()) != about["held"]:
        message = f"{found} items on the server or in its files, expected {about['held']}; build it again (--force)"
        raise InputError(f"{about['collection']}: {message}")


def collection(folder) -> str:
    """Name of the collection of an index in `<index id>/`, or in the hidden folder beside it while it is built."""
    return PREFIX + re.sub(r"\W", "_", Path(folder).name.lstrip(".").split(".")[0].lower())


def batches(vectors, size: int) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields ids (n,) and rows of at most `size` items, without those that have no lexicons."""
    first = 0
    for shard in vectors.shards():
        held = np.flatnonzero(np.diff(shard.indptr)) if scipy.sparse.issparse(shard) else np.arange(len(shard))
        for start in range(0, len(held), size):
            places = held[start : start + size]
            yield first + places, shard[places]
        first += shard.shape[0]


def pairs(rows) -> Iterator[tuple[list[int], list[float]]]:
    """Yields lexicons and weights of each row of a CSR array."""
    lexicons, weights, bounds = rows.indices.tolist(), rows.data.astype(np.float64).tolist(), rows.indptr.tolist()
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        yield lexicons[start:stop], weights[start:stop]


def items(ids: np.ndarray, rows) -> Iterator[tuple[int, Any]]:
    """Yields id and vector of each item: (lexicons, weights), two lists, or a float32 array (D,)."""
    return zip(ids.tolist(), pairs(rows) if scipy.sparse.issparse(rows) else rows, strict=True)


def in_threads(batches: Iterable[tuple], send: Callable, threads: int) -> None:
    """Calls `send(*batch)` for each batch on `threads` threads, which read it when free; none after a failure."""
    waiting, lock, failed = iter(batches), threading.Lock(), threading.Event()

    def work() -> None:
        while not failed.is_set():
            try:
                with lock:
                    batch = next(waiting, None)
                if batch is None:
                    return
                send(*batch)
            except BaseException:
                failed.set()
                raise

    with ThreadPoolExecutor(threads) as pool:
        for worker in [pool.submit(work) for _ in range(threads)]:
            worker.result()


# --- lexlip-bench collections ---------------------------------------------------------------------------------


def main(arguments) -> None:
    """Removes indexes of server engines, each with its collection."""
    found = [file.parent for file in sorted((arguments.home / "indexes").glob(f"*/{ABOUT}"))]
    if unknown := sorted(set(arguments.ids) - {folder.name for folder in found}):
        raise InputError(f"{unknown[0]}: no index of a server engine in {arguments.home / 'indexes'}")
    for folder in found:
        if not arguments.ids or folder.name in arguments.ids:
            about = read_json(folder / "index.json")["made_from"]
            registry.get(about["engine"]).remove(folder)
            print(f"removed {folder.name} ({about['engine']}, {about['knobs'].get('served', EMBEDDED)})")


def parser() -> argparse.ArgumentParser:
    """Flags of `lexlip-bench collections`."""
    flags = cli.parser("Remove indexes of search servers (qdrant, milvus, opensearch), each with its collection.")
    flags.add_argument("ids", nargs="*", help="index ids, as in HOME/indexes (default: every index of a search server)")
    return flags
