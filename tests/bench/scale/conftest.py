"""Small vectors on disk, and the sweep of them that the tests of this folder share."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from bench.scale import bandwidth, sweep, worker
from bench.scale.plan import Grid, plan
from bench.scale.points import Gallery
from bench.scale.sweep import Sweep
from bench.store.isolated import Limits, Outcome
from bench.store.records import Point, RecordStore
from bench.vectors.read import open_vectors
from bench.vectors.write import write_vectors

ITEMS, QUERIES, LEXICONS = 300, 40, 50
MODES = (("single", 1), ("batched", 1))
FAST_GRID = (
    *("rounds=1", "seconds=0.02", "queries=8", "exact_queries=6"),
    *("top_k=[4]", "bits=[8]", "query_top_k=[null]", "modes=[[single,1]]"),
)
"""Overrides that make a sweep small."""


def lexicon_rows() -> sp.csr_array:
    rng = np.random.default_rng(0)
    rows = sp.random_array((ITEMS, LEXICONS), density=0.2, random_state=rng, dtype=np.float32, format="csr")
    return sp.csr_array(rows / np.maximum(1e-6, np.sqrt(rows.multiply(rows).sum(axis=1)))[:, None])


@pytest.fixture(scope="session")
def fast_grid():
    return list(FAST_GRID)


@pytest.fixture(scope="session")
def grid():
    return Grid(rounds=2, seconds=0.02, queries=8, exact_queries=6, scales={8: 100.0}, modes=MODES)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """(kind, part) -> a folder of vectors: documents and queries, lexicon and dense. Query q belongs to item q."""
    made = {}
    for kind in ("lexicon", "dense"):
        for part, count in (("documents", ITEMS), ("queries", QUERIES)):
            rows = lexicon_rows()[:count]
            rows = rows if kind == "lexicon" else rows.toarray()[:, :16] + 0.01
            folder = tmp_path_factory.mktemp(kind) / part
            items = [f"item{i}" for i in range(count)]
            names = items if part == "documents" else [f"query{i}" for i in range(count)]
            with write_vectors(folder, kind, rows.shape[1], shard_rows=100) as writer:
                writer.append(rows, names, items)
            made[kind, part] = folder
    return made


@pytest.fixture(scope="session")
def galleries(folders):
    """kind -> the gallery of these vectors."""
    made = {}
    for kind in ("lexicon", "dense"):
        documents, queries = (open_vectors(folders[kind, part]) for part in ("documents", "queries"))
        base = Point(task="scale", corpus="made", kind=kind)
        made[kind] = Gallery(documents, f"{kind} documents", queries, f"{kind} queries", base)
    return made


def run_in_process(job, request, folder, limits):
    """Runs a job as a worker does, without a process."""
    folder.mkdir(parents=True, exist_ok=True)
    return Outcome("ok", worker.JOBS[job](request, folder))


@pytest.fixture
def in_process(monkeypatch):
    """The jobs of sweeps run in this process; a list of those that ran, as (job, request)."""
    ran = []

    def run(job, request, folder, limits):
        ran.append((job, request))
        return run_in_process(job, request, folder, limits)

    monkeypatch.setattr(bandwidth, "ARRAY_BYTES", 2**20)
    monkeypatch.setattr(sweep, "run_job", run)
    return ran


@pytest.fixture
def sweep_once(galleries, tmp_path):
    """A function: kind, grid, engines, size -> the records after a sweep in the home `tmp_path`."""

    def sweep_once(kind, grid, names, size=200):
        gallery, store = galleries[kind], RecordStore(tmp_path)
        Sweep(store, tmp_path, gallery, grid, Limits(60)).run(plan(kind, size, grid, names, largest=False))
        return store.read()

    return sweep_once


@pytest.fixture(scope="session")
def swept(galleries, grid, tmp_path_factory):
    """A sweep of both galleries, the dense one through real workers: its home and its records."""
    home = tmp_path_factory.mktemp("swept")
    store = RecordStore(home)

    def run(kind, names):
        cells = plan(kind, 200, grid, names, largest=False)
        Sweep(store, home, galleries[kind], grid, Limits(60)).run(cells)

    run("dense", ["faiss-flat"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bandwidth, "ARRAY_BYTES", 2**20)
        patch.setattr(sweep, "run_job", run_in_process)
        run("lexicon", ["impact", "dummy"])
    return SimpleNamespace(home=home, rows=store.read())


@pytest.fixture(scope="session")
def command(folders):
    """A function: home -> the command line of a small sweep over vectors on disk."""

    def command(home, kind="dense", engine="faiss-flat"):
        vectors = ["--documents", folders[kind, "documents"], "--queries", folders[kind, "queries"]]
        flags = ["--corpus", "vectors", "--sizes", "300", "--engines", engine, *vectors, "--home", home]
        return [sys.executable, "-m", "bench.scale", *map(str, flags), *FAST_GRID, "rounds=2"]

    return command
