"""Nodes killed during search: their shards restart on other nodes, and results stay those of one index."""

import numpy as np
import pytest

from bench.engines.indexes import build_index
from bench.vectors.nodes import joined
from bench.vectors.read import LexiconVectors
from tests.cluster.nodes import QUERIES, killing_when, same, started

pytestmark = pytest.mark.cluster


@pytest.mark.fault("nodes of a cluster are killed while they search")
@pytest.mark.parametrize("nodes", [2, 4])
def test_nodes_killed_during_search_change_no_result(tmp_path, rows, nodes):
    """All nodes but the home are killed, one by one, each during a series of searches."""
    impacts, queries = LexiconVectors.of(rows.astype(np.uint8)), rows[:QUERIES].astype(np.uint8)
    one = build_index(tmp_path, "scipy", impacts, "lexicon")
    with started(nodes) as cluster, joined(cluster.address) as joined_nodes:
        cut = build_index(tmp_path, "sharded-scipy", impacts, "lexicon", shards=nodes)
        with one.open() as whole, cut.open() as sharded:
            for victim in list(cluster.worker_nodes):
                enough = len(sharded.calls) + 3
                with killing_when(lambda enough=enough: len(sharded.calls) >= enough, cluster, victim) as killed:
                    while not killed:
                        same(whole, sharded, queries, ks=(10,))
                same(whole, sharded, queries, ks=(10,))
            assert sharded.missing_parts() == "" and joined_nodes.cores == 1
