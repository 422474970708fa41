"""Thousands of records: the site has every number and stays small enough to send."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest

from bench.store.records import SCHEMA
from reports.build import build
from reports.pages.site import PAGES

RECORDS, FEWER = 10_000, 3_000
LARGEST_SITE = 8_000_000  # bytes
IMAGES, SEEDS, SIZES = 1000, 3, (1_000, 10_000, 100_000, 1_000_000)
VARIANTS = ["lexlip", "clip", *(f"variant_{i:02}" for i in range(20))]
COMMON = {
    "corpus": "scenes", "split": "test", "direction": "text_to_image", "profile": "quick", "status": "ok",
    "machine_id": "0123456789abcdef", "data_id": "data", "cpu": "a CPU", "cores": 2, "memory_gb": 24.0,
    "command": "python -m ablations.run", "started": "2026-01-02T03:04:05+00:00", "knobs": "{}",
}  # fmt: skip
DENSE, LEXICON = (
    {"kind": "dense", "engine": "faiss-flat", "exact": True},
    {"kind": "lexicon", "engine": "impact", "bits": 8, "exact": True},
)
RECALLS = [f"recall@{k}" for k in (1, 5, 10)]
QUALITY = [*RECALLS, *(f"trec_{name}" for name in RECALLS), "median_rank", "bytes_per_image", "flops_per_pair"]
OF_SWEEP = [*RECALLS, "engine_recall@10", "bytes_per_image", "index_bytes", "build_seconds", "resident_bytes"]
LATENCIES = [f"latency_p{share}_us" for share in (50, 95, 99)]
LARGE = {"qps": 10_000.0, "bytes_per_image": 100.0, "index_bytes": 1e8, "build_seconds": 5.0} | dict.fromkeys(
    LATENCIES, 500.0
)


def points_of_variants(variants):
    """(fields, metrics) of each point."""
    for variant, seed in itertools.product(variants, range(SEEDS)):
        kind = DENSE if variant == "clip" else LEXICON
        run = {"variant": variant, "seed": seed, "config_id": f"{variant} {seed}"}
        search = (
            run
            | kind
            | {"task": "retrieval", "images": IMAGES, "queries": 5 * IMAGES, "checkpoint_id": f"{variant} {seed}"}
        )
        for top_k in (None,) if kind is DENSE else (8, 16, 32, 64):
            yield search | {"top_k": top_k}, QUALITY
            yield search | {"top_k": top_k, "batch_mode": "single", "threads": 1}, ["qps"]
            yield search | {"top_k": top_k, "batch_mode": "batched", "threads": 1}, ["qps"]
        for step in (100, 200, 300, 400):
            yield run | {"task": "training", "split": "val", "step": step}, ["recall@1", "recall@10"]
        yield (
            run | {"task": "training", "split": "train", "direction": ""},
            ["train_seconds", "train_cpu_seconds", "parameters", "steps"],
        )


def points_of_sweep():
    """The same of a sweep without end: a lexicon engine and a dense one in turns, each setting at every size."""
    for setting, images in ((setting, images) for setting in itertools.count() for images in SIZES):
        dense = setting % 2
        of = (
            DENSE | {"engine": f"engine-{setting % 14}", "variant": "clip"}
            if dense
            else LEXICON | {"top_k": 4 + setting, "variant": "lexlip"}
        )
        knobs = {"ef": setting} if dense else {"query_top_k": None, "scale": 100.0}
        search = of | {
            "task": "scale",
            "images": images,
            "queries": 1000,
            "index_id": f"{setting} {images}",
            "knobs": json.dumps(knobs),
        }
        yield search, OF_SWEEP
        yield search | {"batch_mode": "single", "threads": 1}, ["qps", *LATENCIES]
        yield search | {"batch_mode": "batched", "threads": 2}, ["qps"]


def built(home, records: int, variants: list[str]):
    """The records, and the folder of the site built from them."""
    points = itertools.chain(points_of_variants(variants), points_of_sweep())
    made = (
        COMMON | fields | {"point_id": f"{place:016x}", "metric": metric}
        for place, (fields, metrics) in enumerate(points)
        for metric in metrics
    )
    rows = pd.DataFrame(itertools.islice(made, records), columns=SCHEMA.names)
    rows["value"] = np.random.default_rng(5).uniform(0.2, 0.9, records) * rows.metric.map(LARGE).fillna(1.0)
    rows.to_parquet(home / "records.parquet")
    return rows, build(home, home / "site").parent


def numbers(values: pd.Series) -> np.ndarray:
    """Distinct numbers, sorted: quality is repeated for each call."""
    return np.unique(np.round(pd.to_numeric(values, errors="coerce").dropna(), 6))


def test_every_number_is_there(tmp_path):
    """Means over seeds of every search of the variants, and every point of the sweep."""
    rows, site = built(tmp_path, FEWER, VARIANTS[:6])
    retrieval, sweep = (rows[rows.task == task] for task in ("retrieval", "scale"))
    assert len(retrieval) > 600 and len(sweep) > 1000
    shown = pd.read_csv(site / "tables" / "explore.csv")
    models = shown.gallery.str.endswith("all models")
    swept = shown[~models & (shown.call != "not timed")]
    for metric in ("recall@1", "recall@10", "engine_recall@10", "bytes_per_image", "build_seconds"):
        timed = sweep[sweep.batch_mode == "single"].index_id
        mine = sweep[(sweep.metric == metric) & sweep.index_id.isin(timed)].value
        assert numbers(swept[metric]) == pytest.approx(numbers(mine)), metric
    for metric, column in (("qps", "qps"), ("latency_p95_us", "p95")):
        assert numbers(swept[column]) == pytest.approx(numbers(sweep[sweep.metric == metric].value)), metric
    for metric in ("recall@1", "qps", "bytes_per_image"):
        mine = retrieval[retrieval.metric == metric]
        means = mine.groupby([mine.variant, mine.top_k.fillna(0), mine.batch_mode.fillna("")]).value.mean()
        assert numbers(shown[models][metric]) == pytest.approx(numbers(means)), metric
    assert len(pd.read_parquet(site / "data" / "records.parquet")) == FEWER


def size_of(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.nightly
def test_it_is_small_enough_to_send(tmp_path):
    _, site = built(tmp_path, RECORDS, VARIANTS)
    assert size_of(site) < LARGEST_SITE
    for page in PAGES:
        html = (site / f"{page.name}.html").read_text(encoding="utf-8")
        assert re.search(r"<footer>.*\d+ measured points", html, re.DOTALL), page.name
