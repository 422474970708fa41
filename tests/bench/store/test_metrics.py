"""The metric table: complete, well-formed, and in agreement with the functions that compute the metrics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.store.metrics import METRICS
from bench.tasks import evaluation
from bench.tasks.classification import zero_shot
from bench.tasks.disagreement import gap_values
from bench.tasks.sparsity import active, postings
from bench.tasks.timing import Timing, batched, single
from bench.vectors.statistics import flops_per_pair

REFERENCE = Path(__file__).parents[3] / "results" / "reference" / "records.parquet"


class Instant:
    """An engine that returns the same result for every query."""

    def prepare(self, queries, **knobs):
        return queries

    def search(self, queries, k, threads=1, **knobs):
        return np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32)


def test_every_metric_of_a_task_is_in_the_table():
    """Those of the reference records and of the tasks' own functions; the record store refuses any other."""
    written = set(pd.read_parquet(REFERENCE, columns=["metric"]).metric) - {""}
    written |= set(evaluation.evaluate([[1]], [1], 10)) | set(active(np.ones(3), "query_active"))
    written |= set(postings(np.ones(3, int), 2)) | set(gap_values(pd.Series([1.0])))
    written |= set(zero_shot.accuracy(np.ones(2, int), np.arange(2), 9))
    timing, queries = Timing(repeats=1, seconds=0.01), np.zeros((3, 2), np.float32)
    written |= set(single(Instant(), queries, timing).values) | set(batched(Instant(), queries, timing).values)
    for task in ("fold", "cxc", "eccv"):
        written |= {f"{task}_recall@{k}" for k in (1, 5, 10)}
    assert not [name for name in sorted(written) if name not in METRICS]


def test_every_metric_is_defined():
    for name, metric in METRICS.items():
        assert metric.label and metric.definition.endswith("."), name
        assert metric.direction in ("higher", "lower", ""), name
        assert not set("{}") & set("".join(metric)), name


def test_placeholders():
    assert METRICS["latency_p95_us"].label == "Latency p95" and "95%" in METRICS["latency_p95_us"].definition
    assert METRICS["loss_text_bottleneck"].label == "Loss: text bottleneck" and "loss_text_bottleneck" in METRICS
    assert METRICS["vectors_own_cosine"].unit == "" and METRICS.get("recal@1") is None
    assert "loss_{PART}" not in set(METRICS) and len(METRICS) == len(set(METRICS))
    with pytest.raises(KeyError, match=r"'recal@1'.*'recall@1'"):
        METRICS["recal@1"]
    for prefix in ("loss_", "vectors_"):
        with pytest.raises(KeyError):
            METRICS[prefix]


RANKS, RELEVANT = [[1], [2, 5], [7], [3]], [1, 2, 1, 2]  # of four queries
EXACT, FOUND = np.array([[3, 1]]), np.array([[3, 9]])
CASES = {
    "recall@5": ("at least one relevant item in the top 5", evaluation.success_at(5, RANKS, RELEVANT, 10), 3 / 4),
    "trec_recall@5": ("Share of a query's", evaluation.trec_recall_at(5, RANKS, RELEVANT, 10), (1 + 1 + 0 + 0.5) / 4),
    "median_rank": ("one beyond the retrieved depth", evaluation.median_rank([[]], [1], 10), 11),
    "cxc_r_precision": ("top R that is relevant", evaluation.r_precision([[1, 3, 4]], [3]), 2 / 3),
    "eccv_map@r": ("over R", evaluation.map_at_r([[1, 3, 4]], [3]), (1 + 2 / 3) / 3),
    "overlap@10": ("that was returned", evaluation.overlap(FOUND, EXACT, 10), 1 / 2),
    "flops_per_pair": ("sum over lexicons", flops_per_pair([1, 0.5], [0.5, 1]), 1 * 0.5 + 0.5 * 1),
    "postings_gini": ("0 when all are equally long", evaluation.gini([5, 5]), 0.0),
    "zero_shot_per_class": ("each class, averaged", evaluation.mean_per_class([[1], [2], [1]], [0, 0, 1]), 3 / 4),
    "latency_p50_us": ("50% of single queries do not exceed", evaluation.percentile([4, 1, 2, 3], 50), 2.0),
}


@pytest.mark.parametrize("name", CASES)
def test_definitions_agree_with_the_functions(name):
    says, value, expected = CASES[name]
    assert says in METRICS[name].definition and value == pytest.approx(expected)
