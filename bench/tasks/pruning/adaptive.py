"""Adaptive sparsification: as many lexicons per image as it needs, against the same number for all, at equal size.

    lexlip-bench adaptive-pruning --checkpoint LEXLIP --corpus scenes --images 1000

For each budget, the number of lexicons per image in the mean, every rule of `bench.tasks.pruning.rules` keeps exactly
the same number of postings, and R@K is measured with 8-bit impacts by exact search. Pruned images are made unit vectors
again, except by the rule "published". Luo et al., 2023, leave the choice of the number per image to future work.
"""

from __future__ import annotations

import json
import time

import numpy as np

from bench.store import cli
from bench.store.config import code_fingerprint
from bench.store.records import RecordStore
from bench.tasks import evaluation
from bench.tasks.pruning.rules import PUBLISHED, RULES, kept
from bench.tasks.recall import read_top_k
from bench.tasks.relevance import Relevance
from bench.tasks.retrieval import typed
from bench.tasks.sparsity import active
from bench.tasks.subject import Measurement, Slice, Subject, add_subject
from bench.vectors.impacts import SCALE, Impacts, prune, quantise, unit_again
from bench.vectors.statistics import flops_per_pair
from models.errors import InputError

TASK = "adaptive_pruning"
CODE = (
    "bench.tasks.pruning.adaptive",
    "bench.tasks.pruning.rules",
    "bench.tasks.retrieval.typed",
    "bench.tasks.relevance",
    "bench.tasks.evaluation",
    "bench.vectors.impacts",
    "bench.engines.ranking",
)
BUDGETS = (4, 8, 16, 32)
BITS, DEPTH = 8, 10


def measure_adaptive(measurement: Measurement, budgets: tuple[int, ...] = BUDGETS) -> list[str]:
    """Writes a point for each budget and rule; returns their ids. Raises InputError for dense vectors."""
    measurement.subject.require_lexicons()
    encoded, store, found = measurement.encoded, measurement.store, []
    images, queries, relevance = None, None, Relevance(encoded.images, encoded.captions)
    for budget in budgets:
        for rule in RULES:
            fields = {"queries": encoded.captions.count, "top_k": budget, "bits": BITS, "depth": DEPTH}
            fields |= {"vectors_id": encoded.images_id, "direction": "text_to_image", "knobs": {"rule": rule}}
            point = measurement.point(TASK, **fields, code_id=code_fingerprint(*CODE))
            found.append(point.id)
            if measurement.exists(point):
                continue
            began = time.perf_counter()
            if images is None:
                images = encoded.images.to_scipy()
                queries = Impacts(encoded.captions, None, BITS).to_scipy()
            rows, parameter = kept(images, rule, prune(images, budget).nnz)
            documents = quantise(rows if rule == PUBLISHED else unit_again(rows, images), SCALE, BITS)
            ids, _ = typed.search(queries.astype(np.int64), documents.astype(np.int64), DEPTH)
            ranks, relevant = relevance.ranks(ids)
            values = {f"recall@{k}": evaluation.success_at(k, ranks, relevant, DEPTH) for k in (1, 5, 10)}
            values |= active(np.diff(documents.indptr), "active")
            values |= {"empty_items": int((np.diff(documents.indptr) == 0).sum()), "pruning_parameter": parameter}
            shares = (
                np.bincount(side.indices, minlength=side.shape[1]) / side.shape[0] for side in (queries, documents)
            )
            values["flops_per_pair"] = flops_per_pair(*shares)
            store.write(point, values, relevance.sidecar(range(len(ranks)), ranks), seconds=time.perf_counter() - began)
    return found


# --- lexlip-bench adaptive-pruning ---


def table(rows) -> str:
    """One line per budget and rule."""
    head = (
        f"{'mean':>5} {'rule':<10} {'R@1':>6} {'R@10':>6} {'p5':>5} {'p95':>5} {'multiply-adds':>14} {'parameter':>10}"
    )
    lines = [head]
    for _, of_point in rows.groupby("point_id", sort=False):
        rule, values = json.loads(of_point.knobs.iloc[0])["rule"], of_point.set_index("metric").value
        recalls = f"{values['recall@1']:6.3f} {values['recall@10']:6.3f}"
        spread = f"{values.active_p5:5.0f} {values.active_p95:5.0f} {values.flops_per_pair:14.2f}"
        lines.append(f"{values.active_mean:5.1f} {rule:<10} {recalls} {spread} {values.pruning_parameter:10.3g}")
    return "\n".join(lines)


def main(arguments) -> None:
    """Measures one checkpoint and prints a line for each budget and rule."""
    from bench.corpora import read_spec

    budgets = read_top_k(arguments.top_k)
    if None in budgets:
        raise InputError(f"--top-k {arguments.top_k}: expected numbers, not all")
    subject = Subject.of(arguments)
    slice_ = Slice.open(read_spec(arguments.corpus), arguments.split, arguments.images, [subject.model])
    measurement = Measurement(arguments.home, subject, slice_, arguments.force)
    ids = measure_adaptive(measurement, budgets)
    rows = RecordStore(arguments.home).read()
    print(table(rows[rows.point_id.isin(ids)].set_index("point_id").loc[ids].reset_index()))
    print(measurement.used)


def parser():
    """Flags of `lexlip-bench adaptive-pruning`."""
    about = "As many lexicons per image as it needs, against the same number for all images, at equal index size."
    flags = cli.parser(about, writes=True)
    add_subject(flags, pretrained=False)
    cli.add_corpus(flags)
    flags.add_argument("--top-k", default=",".join(map(str, BUDGETS)), help="lexicons per image in the mean")
    return flags
