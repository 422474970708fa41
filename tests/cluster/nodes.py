"""Ray clusters on one machine: a home node, where this process runs, and others that a test may kill."""

import contextlib
import os
import threading
import time

import numpy as np
import pytest

ITEMS, LEXICONS, QUERIES = 300, 40, 20
STORE_BYTES = 100 * 2**20
# a busy machine starts processes slowly
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_register_timeout_seconds": "600"}


@contextlib.contextmanager
def started(nodes: int):
    """A cluster of `nodes` nodes of one core; the first is the home."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_log_monitor": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(wait=False, **node)
        cluster.wait_for_nodes(timeout=600)
        yield cluster
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def killing_when(condition, cluster, node):
    """Kills a node as soon as `condition()` holds while the block runs; fails if it never does."""
    done = threading.Event()

    def watch():
        while not condition():
            if done.wait(0.01):
                return
        cluster.remove_node(node, allow_graceful=False)
        killed.append(time.monotonic())

    killed, watcher = [], threading.Thread(target=watch)
    watcher.start()
    try:
        yield killed
    finally:
        done.set()
        watcher.join()
    assert killed, "the node was not killed: the condition never held"


def same(first, second, queries, ks=(1, 7, 100, 400)):
    """Asserts that two engines return the same ids and scores; the second takes queries unprepared."""
    for k in ks:
        for found, expected in zip(second.search(queries, k), first.search(first.prepare(queries), k), strict=True):
            assert np.array_equal(found, expected)


def until(condition, seconds: float = 120.0) -> None:
    """Waits until a condition holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.1)
