"""Ray clusters: joins one (or starts one on this machine), and distributes work over its nodes.

    ray start --head --port 6379                       on one machine; `ray start --address HOST:6379` on the others
    lexlip-bench encode --ray auto ...              on any of them: encodes with the cores of all

Notable choices
- The vectors have the same bytes as on one machine. A node gets batches cut at the same places, encodes each with one
  torch thread, as the threads of one machine do, and returns the vectors; this process writes them in order.
- So no shared file system is needed, and there is one writer with one lock: a killed run resumes after its last
  complete shard. The price is that vectors cross the network once: 2 KB per image of 512 dimensions, little beside the
  encoding. Models and corpus are sent with the work. A corpus of files (all but `scenes` and `pictures`) is opened on
  each node under the same absolute path, and must be identical there. Each process of a node decodes it from the first
  image on, since the number of intact images before it decides the position of an image.
- Every node needs this package at the same version, the same torch, and processors with the same vector instructions.
  Another node is refused by name, because its vectors could differ by rounding. Encoding uses CPUs only: a GPU rounds
  differently.
- Ray Data does the rest: it streams, holds tasks back while results wait to be written, and reruns tasks of a dead
  node.
"""

import contextlib
import functools
import logging
import os
import pickle
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from bench.store import config
from bench.store.machine import cores
from models.errors import InputError, require

if TYPE_CHECKING:
    import pyarrow as pa

LOCAL, OWN = ("", "local"), "auto"
STORE_BYTES = 150 * 2**20  # object store of a cluster started here; results beyond it go to disk
ANSWER_SECONDS = 5
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# Otherwise Ray retries for two minutes at a port where another server listens.
IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "2", "RAY_py_gcs_connect_timeout_s": "10"}
BLOCK_BYTES = 8 * 2**20  # of results that return together


class Nodes:
    """The Ray cluster that this process has joined. ray: the module."""

    def __init__(self, ray: ModuleType):
        self.ray = ray

    @property
    def alive(self) -> list[dict]:
        """Ray's descriptions of the living nodes with cores, ordered by id. Raises InputError if there are none."""
        nodes = [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if not nodes:
            raise InputError("the Ray cluster has no node with cores")
        return sorted(nodes, key=lambda node: node["NodeID"])

    @property
    def cores(self) -> int:
        """Number of cores of all nodes."""
        return int(sum(node["Resources"]["CPU"] for node in self.alive))

    def in_order(self, work: Callable, tasks: Iterable, most: int, code: Sequence[str]) -> Iterator:
        """Yields the results of `work` on each task, in order.

        most: tasks that a node takes at once (a shard); fewer if cores would be idle. code: modules whose fingerprint
        must be the same on all nodes. Raises the InputError that `work` raised, and InputError with the name of a node
        that differs from this machine.
        """
        tasks = list(tasks)
        at_once = max(1, min(most, -(-len(tasks) // self.cores)))
        parts = [_column([tasks[first : first + at_once]]) for first in range(0, len(tasks), at_once)]
        if not parts:
            return
        data = self.ray.data.from_arrow(parts)
        data.context.execution_options.preserve_order = True
        data.context.target_max_block_size = BLOCK_BYTES
        data.context.raise_original_map_exception = True
        shipped = self.ray.put((work, list(code), _properties(code)))
        made = data.map_batches(
            _on_a_node, fn_kwargs={"shipped": [shipped]}, batch_size=1, batch_format="pyarrow", num_cpus=1
        )
        try:
            for block in made.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from map(_value, block["pickled"])
        except self.ray.exceptions.RayError as error:
            cause = _cause(error)
            raise (type(cause)(str(cause).splitlines()[0]) if cause else error) from None  # Ray appends lines


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[Nodes | None]:
    """Context manager: joins the cluster at `address`; yields None for None.

    address: "HOST:PORT", "auto" (the cluster of this machine), or "local" or "" (a new one on this machine, for as long
    as the block). Child processes find it through RAY_ADDRESS. Raises InputError if no cluster answers, AbsentError
    without Ray.
    """
    if address is None:
        yield None
        return
    if address not in (*LOCAL, OWN):
        _check_address(address)
    ray = _ray(QUIET if address in LOCAL else QUIET | IMPATIENT)
    if ray.is_initialized():
        here = ray.get_runtime_context().gcs_address
        if address not in (*LOCAL, OWN, here):
            raise InputError(f"--ray {address}: this process has already joined {here}")
        yield Nodes(ray)
        return
    try:
        ray.init(
            **({"address": address} if address not in LOCAL else _own_cluster()),
            logging_level="error",
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--ray {address}: no compatible Ray cluster answers: {reason}") from None
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    _quiet_data(ray)
    try:
        yield Nodes(ray)
    finally:
        ray.shutdown()
        os.environ.pop("RAY_ADDRESS") if before is None else os.environ.update(RAY_ADDRESS=before)


def add_flag(parser, what: str) -> None:
    """Adds `--ray ADDRESS`, the argument of `joined`. what: start of the help text."""
    text = (
        f"{what} a Ray cluster: HOST:PORT, auto (that of this machine), or local (also without ADDRESS: a new one here)"
    )
    parser.add_argument("--ray", metavar="ADDRESS", nargs="?", const="local", default=None, help=text)


def _own_cluster() -> dict:
    return {"address": "local", "num_cpus": cores(), "object_store_memory": STORE_BYTES, "include_dashboard": False}


def _check_address(address: str) -> None:
    """Raises InputError at once for an address that Ray would retry for minutes."""
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[\w.-]+", host) or not port.isdigit():
        remedy = "run the command on a node of the cluster, not through ray://"
        raise InputError(f"--ray {address}: expected HOST:PORT, auto or local; {remedy}")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray {address}: nothing answers there ({error})") from None


def _ray(quiet: dict[str, str]) -> ModuleType:
    """Imports Ray, with settings that it reads at import. Raises AbsentError."""
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    require("ray.data", "cluster")
    return require("ray", "cluster")


def _quiet_data(ray: ModuleType) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised anyway


# --- on a node -------------------------------------------------------------------------------------------------------


def _on_a_node(part: "pa.Table", shipped: list) -> Iterator["pa.Table"]:
    """Runs the tasks of one part one after the other, with one torch thread."""
    import torch

    work = _received(shipped[0])
    torch.set_num_threads(1)
    for task in _value(part["pickled"][0]):
        yield _column([work(task)])


@functools.lru_cache(maxsize=1)
def _received(reference) -> Callable:
    """The work with its models and its corpus, fetched once per process of a node."""
    import ray

    work, code, expected = ray.get(reference)
    for name, found in _properties(code).items():
        if found != expected[name]:
            differs = f"its {name} is {found}, expected {expected[name]}"
            raise InputError(f"node {socket.gethostname()}: {differs}; its vectors could differ by rounding")
    return work


def _column(values: list) -> "pa.Table":
    import pyarrow as pa  # not at the top: every worker of a sweep imports this module

    return pa.table({"pickled": pa.array(map(pickle.dumps, values), pa.large_binary())})


def _value(pickled: "pa.Scalar"):
    return pickle.loads(pickled.as_buffer())


def _properties(code: Sequence[str]) -> dict[str, str]:
    """Properties of a machine that decide the rounding of vectors. code: names of modules."""
    import torch

    return {
        "code": config.code_fingerprint(*code),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _cause(error: BaseException) -> InputError | None:
    """The InputError that a node raised, unwrapped from Ray's errors."""
    seen = error
    while seen is not None:
        if isinstance(seen, InputError) and not hasattr(seen, "cause"):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None
