"""Past one machine, by Ray: joining a cluster (or starting one here), and encoding over all of its nodes.

    ray start --head --port 6379                       on one machine; `ray start --address HOST:6379` on the others
    lexlip-bench encode --ray auto ...              on any of them: encodes over the cores of all

Notable choices
- Vectors are those of one machine, to the byte. A node gets batches that are cut at the same places, runs them on one thread of torch each,
  as the threads of one machine do, and sends the vectors back; this process writes them, in order, as it writes its own.
- So no shared file system is needed, and there is one writer with its one lock: a killed run goes on after its last whole shard. The price is
  that vectors cross the network once: 2 KB an image of 512 dimensions, little beside what encoding it costs. Models and corpus go to the nodes
  with the work; a corpus of files (all but `scenes` and `pictures`) is opened by each node, under the same absolute path, and must be the same
  there. Each process of a node decodes such a corpus from its first picture on: which pictures are intact decides which is number i.
- Every node needs this package at the same version, the same torch, and processors with the same vector instructions; else it is refused by
  name: its vectors could differ by rounding. Encoding is on CPUs, here as on one machine: a GPU rounds otherwise.
- What Ray gives is taken from it: Ray Data streams, holds tasks back while results wait to be written, and runs again what a dead node had.
"""

import contextlib
import functools
import logging
import os
import pickle
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from bench.store import config
from bench.store.machine import cores
from models.errors import InputError, absent

if TYPE_CHECKING:
    import pyarrow as pa

LOCAL, OWN = ("", "local"), "auto"
STORE_BYTES = 150 * 2**20  # of a cluster started here: what waits to be written; more goes to disk
ANSWER_SECONDS = 5
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# Or a port where another server listens is asked for two minutes.
IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "2", "RAY_py_gcs_connect_timeout_s": "10"}
BLOCK_BYTES = 8 * 2**20  # of results that come back together


class Nodes:
    """The cluster that this process has joined."""

    def __init__(self, ray: ModuleType):
        self.ray = ray

    @property
    def alive(self) -> list[dict]:
        """Ray's description of each node that has cores, in an order of their own."""
        nodes = [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if not nodes:
            raise InputError("the Ray cluster has no node with cores")
        return sorted(nodes, key=lambda node: node["NodeID"])

    @property
    def cores(self) -> int:
        """Of all nodes."""
        return int(sum(node["Resources"]["CPU"] for node in self.alive))

    def in_order(self, work: Callable, tasks: Iterable, most: int) -> Iterator:
        """Results of `work` on each task, in their order. A node takes `most` tasks at once: a shard; or fewer, so that no core is idle.

        Raises the InputError that `work` raised, and one that names a node which is not like this machine.
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
        shipped = self.ray.put((work, _kind_of_machine()))
        made = data.map_batches(
            _on_a_node, fn_kwargs={"shipped": [shipped]}, batch_size=1, batch_format="pyarrow", num_cpus=1
        )
        try:
            for block in made.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from map(_value, block["pickled"])
        except self.ray.exceptions.RayError as error:
            cause = _cause(error)
            raise (
                type(cause)(str(cause).splitlines()[0]) if cause else error
            ) from None  # to whose text Ray adds lines of its own


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[Nodes | None]:
    """The cluster at "HOST:PORT", the one that this machine is a node of ("auto"), or one started here for as long ("local", ""). None for None.

    Processes started meanwhile find it through RAY_ADDRESS. Raises InputError when none answers there, AbsentError without Ray.
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
            raise InputError(f"--ray {address}: this process has joined {here} already")
        yield Nodes(ray)
        return
    try:
        ray.init(
            **({"address": address} if address not in LOCAL else _own_cluster()),
            logging_level="error",
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--ray {address}: no Ray cluster that fits answers there: {' '.join(str(error).split())[:200]}"
        ) from None
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    _quiet_data(ray)
    try:
        yield Nodes(ray)
    finally:
        ray.shutdown()
        os.environ.pop("RAY_ADDRESS") if before is None else os.environ.update(RAY_ADDRESS=before)


def add_flag(parser, what: str) -> None:
    """`--ray ADDRESS`, by which `main` gets the address that `joined` takes."""
    text = f"{what} a Ray cluster: HOST:PORT, auto (the one this machine is a node of), or local (without an address too), which starts one here"
    parser.add_argument("--ray", metavar="ADDRESS", nargs="?", const="local", default=None, help=text)


def _own_cluster() -> dict:
    return {"address": "local", "num_cpus": cores(), "object_store_memory": STORE_BYTES, "include_dashboard": False}


def _check_address(address: str) -> None:
    """Refuses at once what Ray would try to reach for minutes."""
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[\w.-]+", host) or not port.isdigit():
        raise InputError(
            f"--ray {address}: expected HOST:PORT, auto or local; the command runs on a node of the cluster, not through ray://"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray {address}: nothing answers there ({error})") from None


def _ray(quiet: dict[str, str]) -> ModuleType:
    """Ray, imported under settings that it reads then."""
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise absent("ray", "cluster") from None
    return ray


def _quiet_data(ray: ModuleType) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised too


# --- on a node --------------------------------------------------------------------------------------------------------------------


def _on_a_node(part: "pa.Table", shipped: list) -> Iterator["pa.Table"]:
    """The tasks of one part, one after the other, on one thread."""
    import torch

    work = _received(shipped[0])
    torch.set_num_threads(1)
    for task in _value(part["pickled"][0]):
        yield _column([work(task)])


@functools.lru_cache(maxsize=1)
def _received(reference) -> Callable:
    """The work with its models and its corpus: once for a process of a node, however many parts it does."""
    import ray

    work, wanted = ray.get(reference)
    _refuse_another_kind(wanted)
    return work


def _column(values: list) -> "pa.Table":
    import pyarrow as pa  # here, because every worker of a sweep imports this module

    return pa.table({"pickled": pa.array(map(pickle.dumps, values), pa.large_binary())})


def _value(pickled: "pa.Scalar"):
    return pickle.loads(pickled.as_buffer())


def _kind_of_machine() -> dict[str, str]:
    """What decides how vectors are rounded."""
    import torch

    from bench.vectors.encode_pass import CODE

    return {
        "code": config.code_fingerprint(*CODE, "bench.corpora"),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _refuse_another_kind(wanted: dict[str, str]) -> None:
    for what, here in _kind_of_machine().items():
        if here != wanted[what]:
            raise InputError(
                f"node {socket.gethostname()}: its {what} is {here}, expected {wanted[what]}: its vectors could differ"
            )


def _cause(error: BaseException) -> InputError | None:
    """The InputError that a node raised, out of what Ray wraps around it."""
    seen = error
    while seen is not None:
        if isinstance(seen, InputError) and not hasattr(seen, "cause"):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None
