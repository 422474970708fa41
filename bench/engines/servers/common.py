"""What the engines of search servers share (Qdrant, Milvus, OpenSearch): embedded in this process, or a server by its URL.

The environment alone says where a server is and how to log on: LEXLIP_BENCH_<PRODUCT>_URL, and _API_KEY or _USER and _PASSWORD. No record, file
of an index or message holds them: a record says "embedded" or "by URL" (the build knob `served`), and what a client says of a failure is
freed of them.

Notable choices
- By URL an index is a collection there, `lexlip_bench_<index id>`; the index's folder holds `server.json` alone. Removing the folder leaves the
  collection: `lexlip-bench collections` removes both. `build` replaces a collection of that name, and drops it when it fails.
- By URL, `threads` is the number of requests under way at once; how many cores answer them is the server's affair. Its memory and CPU time are
  not those of this process, so they are not recorded; bytes on disk are where the server tells them.
- Items and queries without lexicons are not sent: they find nothing and are not found.
"""

import abc
import contextlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
import scipy.sparse as sp

from bench import engines
from bench.engines import BY_URL, EMBEDDED, Engine, ranking
from bench.store import cli
from models.errors import InputError
from models.files import REFUSALS, read_json, write_json

ABOUT = "server.json"
PREFIX = "lexlip_bench_"
SECRETS = ("API_KEY", "PASSWORD")
TIMEOUT_SECONDS = 60  # of one request
INDEXING_SECONDS = 3600  # of the server's own work after the last item has arrived
RETRIES = 5
ITEMS_AT_ONCE, QUERIES_AT_ONCE = 500, 128  # in one request
LONGEST = 500  # characters of what a client says
CLIENT_LOGS = ("httpx", "milvus_lite", "opensearch", "pymilvus", "qdrant_client")

Hits = list[tuple[int, float]]
"""Ids and scores of one query, in any order."""


class Store(abc.ABC):
    """One collection, of a server or embedded. Whatever a client raises, it raises."""

    @abc.abstractmethod
    def create(self, vectors, threads: int, **knobs) -> None:
        """An empty collection for such vectors; one that has its name is dropped."""

    @abc.abstractmethod
    def add(self, ids: np.ndarray, rows) -> None:
        """Adds a batch: ids (n,) and rows, a CSR array (n, V) or a float32 array (n, D). By URL in one request, sent again while the server is busy."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Returns when all items are indexed and stored."""

    @abc.abstractmethod
    def load(self) -> None:
        """Makes a finished collection ready for search, in another process than it was built in."""

    @abc.abstractmethod
    def count(self) -> int:
        """Items in it."""

    @abc.abstractmethod
    def query(self, vector) -> Any:
        """A query as the client takes it; vector: (lexicons, weights), two lists, or a float32 array (D,)."""

    @abc.abstractmethod
    def ask(self, queries: list, k: int, **knobs) -> list[Hits]:
        """The top k of each query; by URL, in one request."""

    @abc.abstractmethod
    def drop(self) -> None:
        """Removes it, if it is there."""

    def bytes(self) -> int | None:
        """Bytes that it takes on the server's disk; None where no server says."""
        return None

    def close(self) -> None:  # noqa: B027  (some have nothing to let go of)
        """Lets go of connections and files."""


class ServerEngine(Engine):
    """An engine whose collection a `Store` holds; subclasses say which."""

    product: ClassVar[str]  # QDRANT, as in LEXLIP_BENCH_QDRANT_URL
    parts = ("bench.engines.servers.common",)
    store: Store | None = None

    @property
    def served(self) -> str:
        return BY_URL if setting(self.product, "URL") else EMBEDDED

    @property
    def elsewhere(self) -> str:
        return "a server" if self.served == BY_URL else ""

    @abc.abstractmethod
    def _store(self, folder: Path, collection: str, served: str) -> Store:
        """The collection of the index in `folder`, connected to. Raises AbsentError."""

    def build(self, vectors, folder, threads=1, **knobs):
        about = {"served": self.served, "collection": collection(folder), "held": 0}

        def counted() -> Iterator[tuple[np.ndarray, Any]]:
            for ids, rows in batches(vectors, ITEMS_AT_ONCE):
                about["held"] += len(ids)
                yield ids, rows

        with self._connected(folder, about) as store:
            try:
                store.create(vectors, threads, **knobs)
                each(counted(), store.add, threads if about["served"] == BY_URL else 1)
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
        self.held, self.at_once = about["held"], about["served"] == BY_URL
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
        """Each query as the client takes it, None where it has no lexicons."""
        if sp.issparse(queries):
            return [self.store.query(pair) if pair[0] else None for pair in pairs(queries)]
        return [self.store.query(row) for row in queries]

    def search(self, queries, k, threads=1, **knobs):
        ids, scores = ranking.empty(len(queries), k)
        asked = [number for number, query in enumerate(queries) if query is not None]
        if not (self.held and k and asked):
            return ids, scores
        threads = threads if self.at_once else 1
        size = min(QUERIES_AT_ONCE, -(-len(asked) // threads))
        parts = [asked[start : start + size] for start in range(0, len(asked), size)]

        def answer(part: list[int]) -> None:
            for number, hits in zip(
                part, self.store.ask([queries[number] for number in part], min(k, self.held), **knobs), strict=True
            ):
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
        """Bytes of the folder, or what the server said of the collection; None when it said nothing."""
        about = read_json(Path(folder) / ABOUT)
        return about["bytes"] if about["served"] == BY_URL else super().bytes_on_disk(folder)

    def close(self):
        if self.store:
            self.store.close()
            self.store = None

    def remove(self, folder) -> None:
        """Drops the collection of an index, then removes its folder. Raises InputError when the server cannot be asked."""
        with self._connected(folder, self._about(folder)) as store:
            store.drop()
        shutil.rmtree(folder)

    def _about(self, folder) -> dict:
        about = read_json(Path(folder) / ABOUT)
        if about["served"] == BY_URL and not setting(self.product, "URL"):
            raise InputError(
                f"{folder}: its collection {about['collection']} is on a server; set {variable(self.product, 'URL')}"
            )
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
        """Whatever a client raises becomes an InputError that holds neither address nor secret, nor does any traceback of it."""
        for name in CLIENT_LOGS:
            logging.getLogger(name).setLevel(
                logging.CRITICAL
            )  # they log addresses and answers; the error that is raised says it all
        try:
            yield
        except (InputError, MemoryError):
            raise
        except Exception as error:  # each client has its own kinds, and its HTTP or gRPC library others
            if isinstance(error, OSError) and error.errno in REFUSALS:
                raise
            raise InputError(f"{self.name}: {type(error).__name__}: {clean(self.product, str(error))}") from None


def _refuse_other_count(about: dict, store: Store) -> None:
    if (found := store.count()) != about["held"]:
        raise InputError(
            f"{about['collection']}: {found} items on the server or in its files, expected {about['held']}; build it again (--force)"
        )


def collection(folder) -> str:
    """The name of an index's collection: of the folder `<index id>`, or of the hidden one beside it that it is written in."""
    return PREFIX + re.sub(r"\W", "_", Path(folder).name.lstrip(".").split(".")[0].lower())


# --- the environment --------------------------------------------------------------------------------------------------------------


def variable(product: str, name: str) -> str:
    return f"LEXLIP_BENCH_{product}_{name}"


def setting(product: str, name: str) -> str:
    """What the environment says: name is URL, API_KEY, USER or PASSWORD; "" when unset."""
    return os.environ.get(variable(product, name), "").strip()


def url(product: str) -> str:
    """The server's address. Raises InputError when it is none, or holds what belongs into another variable; the error does not repeat it."""
    text, problem = setting(product, "URL"), None
    try:
        parts = urlsplit(text)
        _ = parts.port
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "not a URL"
        elif parts.username or parts.password or parts.query or parts.fragment:
            problem = "a user, a password or parameters in it"
    except ValueError:
        problem = "not a URL"
    if problem:
        apart = f"log on by {variable(product, 'API_KEY')}, or {variable(product, 'USER')} and {variable(product, 'PASSWORD')}"
        raise InputError(
            f"{variable(product, 'URL')}: {problem}; expected http://host:port or https://host:port ({apart})"
        )
    return text


def clean(product: str, text: str) -> str:
    """A text as one line of at most `LONGEST` characters, without the values of the environment's settings: the variable's name stands in their place."""
    for name in SECRETS:
        if value := setting(product, name):
            text = text.replace(value, f"<{variable(product, name)}>")
    if address := setting(product, "URL"):
        text = text.replace(address, f"<{variable(product, 'URL')}>")
        with contextlib.suppress(ValueError):
            host = re.escape(urlsplit(address).hostname or address)
            text = re.sub(rf"(?<![\w.-]){host}(?![\w-])", f"<{variable(product, 'URL')}>", text)
    return " ".join(text.split())[:LONGEST]


# --- vectors ----------------------------------------------------------------------------------------------------------------------


def batches(vectors, size: int) -> Iterator[tuple[np.ndarray, Any]]:
    """Ids (n,) and rows of at most `size` items; those without lexicons are left out."""
    first = 0
    for shard in vectors.shards():
        held = np.flatnonzero(np.diff(shard.indptr)) if sp.issparse(shard) else np.arange(len(shard))
        for start in range(0, len(held), size):
            places = held[start : start + size]
            yield first + places, shard[places]
        first += shard.shape[0]


def pairs(rows) -> Iterator[tuple[list[int], list[float]]]:
    """Lexicons and weights of each row of a CSR array."""
    lexicons, weights, bounds = rows.indices.tolist(), rows.data.astype(np.float64).tolist(), rows.indptr.tolist()
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        yield lexicons[start:stop], weights[start:stop]


def items(ids: np.ndarray, rows) -> Iterator[tuple[int, Any]]:
    """Id and vector of each item: (lexicons, weights), two lists, or a float32 array (D,)."""
    return zip(ids.tolist(), pairs(rows) if sp.issparse(rows) else rows, strict=True)


def each(batches: Iterable[tuple], send: Callable, threads: int) -> None:
    """`send(*batch)` for each, on `threads` threads; no batch is read before a thread is free for it, none after one has failed."""
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


# --- lexlip-bench collections ----------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Removes the indexes of server engines, each with its collection."""
    found = [file.parent for file in sorted((arguments.home / "indexes").glob(f"*/{ABOUT}"))]
    if unknown := sorted(set(arguments.ids) - {folder.name for folder in found}):
        raise InputError(f"{unknown[0]}: no index of a server engine in {arguments.home / 'indexes'}")
    for folder in found:
        if not arguments.ids or folder.name in arguments.ids:
            about = read_json(folder / "index.json")["made_from"]
            engines.get(about["engine"]).remove(folder)
            print(f"removed {folder.name} ({about['engine']}, {about['knobs'].get('served', EMBEDDED)})")


def parser():
    flags = cli.parser(
        "Removes indexes of server engines (qdrant, milvus, opensearch), each with its collection on the server."
    )
    flags.add_argument(
        "ids", nargs="*", help="index ids, names of folders in HOME/indexes; all of those engines unless given"
    )
    return flags
