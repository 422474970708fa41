"""Sweeps that the tests of this folder start from."""

import pytest

from bench.store.records import RecordStore
from tests.reports.scale.records import FLAT, MANY, ONE, Made


@pytest.fixture
def made(tmp_path):
    return Made(RecordStore(tmp_path / "home"))


@pytest.fixture
def small(made):
    """R@1 of flat search 50 %; HNSW reaches 45 and 30 %. Lexicons: 20 % with 4 kept, 40 % with 32, 60 % with 256."""
    made.impact(4, 0.20, 2000.0, 9000.0, 20.0)
    made.impact(32, 0.40, 600.0, 3000.0, 64.0, limit=1200.0)
    made.impact(256, 0.60, 100.0, 500.0, 400.0)
    made.impact(32, 0.41, 550.0, 2900.0, 128.0, bits=16)
    made.search("dense", 0.50, {ONE: 10.0, MANY: 150.0}, 2048.0, **FLAT)
    for ef, recall, rate in ((16, 0.30, 1000.0), (64, 0.45, 400.0)):
        made.search(
            "dense", recall, {ONE: rate, MANY: 2 * rate}, 2304.0, engine="faiss-hnsw", knobs={"ef": ef, "m": 32}
        )
    made.search(
        "dense", 0.25, {ONE: 3000.0, MANY: 6000.0}, 32.0, engine="faiss-ivf-pq", knobs={"nprobe": 16, "refine": None}
    )
    made.ended(
        "dense", "absent", "build: the package 'scann' is not installed", engine="scann", knobs={"leaves_to_search": 10}
    )
    made.ended(
        "dense", "absent", "build: the package 'scann' is not installed", engine="scann", knobs={"leaves_to_search": 30}
    )
    for kind in ("lexicon", "dense"):
        made.search(
            kind, 0.0, {ONE: 90_000.0, MANY: 800_000.0}, 0.0, engine="dummy", top_k=32 if kind == "lexicon" else None
        )
    return made
