"""Dense engines x build and search knobs on clustered unit vectors: recall and scores in the gate, the rest nightly."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from bench import engines
from bench.engines.dense.scann_index import PICKLED
from bench.vectors.read import DenseVectors
from models.errors import InputError

ITEMS, QUERIES, DIMENSION, CLUSTERS = 3000, 40, 64, 60
SHARDS = (0, 700, 2500, ITEMS)
EXACT, EIGHT_BITS = 1e-5, 0.01  # tolerance of a score: rounding, 8-bit quantisation


@dataclass(frozen=True, eq=False)
class Case:
    """weak, strong: search knobs that examine little and nearly everything. floor: recall@10 of the strong ones."""

    name: str
    build: dict = field(default_factory=dict)
    weak: dict = field(default_factory=dict)
    strong: dict = field(default_factory=dict)
    floor: float = 0.99
    error: float = EXACT

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.build.values())])


FEW, ALL = {"nprobe": 1}, {"nprobe": 1000}
NARROW, WIDE = {"ef": 10}, {"ef": 300}
THREE = {"leaves_to_search": 3}  # one may be empty: the library draws the first leaves at random
CASES = [
    Case("faiss-flat", floor=1.0),
    Case("faiss-hnsw", {}, NARROW, WIDE),
    Case("faiss-hnsw-reduced", {"dimensions": 32, "reduction": "prefix", "m": 32}, NARROW, WIDE, 0.95, EIGHT_BITS),
    Case("faiss-ivf-sq8", {"refine": None}, FEW, ALL, 0.95, EIGHT_BITS),
    Case("faiss-ivf-sq8", {"refine": "Flat"}, FEW, ALL, 1.0),
    Case("faiss-ivf-pq", {"refine": None}, FEW, ALL, 0.55, 0.25),
    Case("faiss-ivf-pq", {"refine": "SQ8"}, FEW, ALL, 0.95, EIGHT_BITS),
    Case("faiss-ivf-pq", {"refine": "Flat"}, FEW, ALL),
    Case("faiss-rabitq", {"refine": None}, FEW, ALL, 0.5, 0.5),
    Case("faiss-rabitq", {"refine": "SQ8"}, FEW, ALL, 0.95, EIGHT_BITS),
    Case("faiss-rabitq-reduced", {"dimensions": 32, "reduction": "pca"}, FEW, ALL, 0.9, EIGHT_BITS),
    Case("faiss-rabitq-reduced", {"dimensions": 32, "reduction": "prefix"}, FEW, ALL, 0.9, EIGHT_BITS),
    Case("faiss-binary", {}, {"rescored": 10}, {"rescored": 1000}, 0.95, EIGHT_BITS),
    Case("hnswlib", {}, NARROW, WIDE),
    Case("usearch", {"dtype": "f32"}, NARROW, WIDE),
    Case("usearch", {"dtype": "bf16"}, NARROW, WIDE, 0.95, EIGHT_BITS),
    Case("scann", {"leaves": 50, "reorder": "int8"}, THREE, {"leaves_to_search": 50}, 0.95, EIGHT_BITS),
    Case("scann", {"leaves": 50, "reorder": "float32"}, THREE, {"leaves_to_search": 50}),
    Case("scann", {"leaves": 1, "reorder": "float32"}),
    Case("scann", {"leaves": None}, floor=1.0),
]
if importlib.util.find_spec("hnswlib") is None:  # installing it takes a compiler
    CASES = [case for case in CASES if case.name != "hnswlib"]
NAMES = sorted({case.name for case in CASES})


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sharded(values):
    return DenseVectors([values[start:stop] for start, stop in zip(SHARDS, SHARDS[1:], strict=False)], values.shape[1])


RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(CLUSTERS, DIMENSION))
VALUES = unit(CENTRES[RNG.integers(0, CLUSTERS, ITEMS)] + 0.6 * RNG.normal(size=(ITEMS, DIMENSION)))
QUERY_VALUES = unit(VALUES[RNG.integers(0, ITEMS, QUERIES)] + 0.06 * RNG.normal(size=(QUERIES, DIMENSION)))
PRODUCTS = QUERY_VALUES.astype(np.float64) @ VALUES.T.astype(np.float64)
BEST = np.argsort(-PRODUCTS, axis=1, kind="stable")


def build(case, folder, vectors=None, threads=1):
    folder.mkdir(exist_ok=True)
    engine = engines.get(case.name)
    engine.build(sharded(VALUES) if vectors is None else vectors, folder, threads, **case.build)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("dense")
    return {case: build(case, root / str(case)) for case in CASES}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture
def engine(case, folders):
    with engines.get(case.name).open(folders[case]) as opened:
        yield opened


def recall(ids, k=10):
    return np.mean([len(set(row[:k]) & set(best[:k])) / k for row, best in zip(ids, BEST, strict=True)])


@pytest.mark.parametrize("k", [1, 10, 150])
def test_results_are_sorted_and_scored(case, engine, k):
    for knobs in (case.weak, case.strong):
        ids, scores = engine.search(QUERY_VALUES, k, **knobs)
        assert ids.shape == scores.shape == (QUERIES, k) and (ids.dtype, scores.dtype) == (np.int64, np.float32)
        assert ((ids >= -1) & (ids < ITEMS)).all() and (np.isneginf(scores) == (ids == -1)).all()
        for row, of_row, product in zip(ids, scores, PRODUCTS, strict=True):
            found = row[row >= 0]
            assert len(set(found)) == len(found) and (row[: len(found)] >= 0).all()
            assert len(found)
            assert list(zip(-of_row, row, strict=True))[: len(found)] == sorted(
                zip(-of_row[: len(found)], found, strict=True)
            )
            assert np.abs(of_row[: len(found)] - product[found]).max(initial=0) < case.error


def test_recall_rises_with_the_search_knob(case, engine):
    found = [recall(engine.search(QUERY_VALUES, 10, **knobs)[0]) for knobs in (case.weak, case.strong)]
    assert found[1] >= case.floor
    assert found[1] > found[0] or case.weak == case.strong


@pytest.mark.nightly
def test_threads_and_batches_change_nothing(case, engine):
    """FAISS searches a batch by BLAS, whose blocks depend on the threads, and one query by a scan: rounding differs."""
    ids, scores = engine.search(QUERY_VALUES, 10, 1, **case.strong)
    ids_2, scores_2 = engine.search(QUERY_VALUES, 10, 2, **case.strong)
    assert (ids == ids_2).mean() > 0.97 and np.allclose(scores, scores_2, atol=2e-3 if case.error > EXACT else EXACT)
    alone = [engine.search(QUERY_VALUES[i : i + 1], 10, 1, **case.strong) for i in range(QUERIES)]
    assert np.allclose(
        scores, np.concatenate([found[1] for found in alone]), atol=2e-3 if case.error > EXACT else EXACT
    )
    assert (ids == np.concatenate([found[0] for found in alone])).mean() > 0.97


@pytest.mark.nightly
def test_more_results_than_items(case, engine):
    """A graph need not reach every item: 99% is enough."""
    ids, scores = engine.search(QUERY_VALUES[:3], ITEMS + 5, **case.strong)
    assert ids.shape == scores.shape == (3, ITEMS + 5) and (ids[:, ITEMS:] == -1).all()
    for row in ids:
        found = row[row >= 0]
        assert 0.99 * ITEMS <= len(found) == len(set(found))


@pytest.mark.nightly
@pytest.mark.parametrize("case", [case for case in CASES if case.build.get("leaves") != 50], ids=str)
def test_one_thread_builds_the_same_index_twice(case, folders, tmp_path):
    """Except ScaNN's tree, which starts from leaves drawn at random."""
    again = build(case, tmp_path / "again")
    with engines.get(case.name).open(folders[case]) as first, engines.get(case.name).open(again) as second:
        for knobs in (case.weak, case.strong):
            results = [opened.search(QUERY_VALUES, 10, **knobs) for opened in (first, second)]
            assert np.array_equal(results[0][0], results[1][0]) and np.array_equal(results[0][1], results[1][1])


@pytest.mark.nightly
def test_two_threads_build_an_index_of_the_same_recall(case, tmp_path):
    folder = build(case, tmp_path / "index", threads=2)
    with engines.get(case.name).open(folder) as opened:
        assert recall(opened.search(QUERY_VALUES, 10, **case.strong)[0]) >= case.floor


NEW_PROCESS = """
import json, sys
import numpy as np
from pathlib import Path
from bench import engines
queries, found = np.load(sys.argv[1]), []
for name, folder, knobs in json.loads(sys.argv[2]):
    with engines.get(name).open(Path(folder)) as opened:
        found.append(opened.search(queries, 10, **knobs)[0].tolist())
print(json.dumps(found))
"""


@pytest.mark.nightly
def test_a_new_process_reads_an_index(folders, tmp_path):
    np.save(tmp_path / "queries.npy", QUERY_VALUES)
    requests = [(case.name, str(folder), case.strong) for case, folder in folders.items()]
    command = [sys.executable, "-c", NEW_PROCESS, str(tmp_path / "queries.npy"), json.dumps(requests)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for (case, folder), found in zip(folders.items(), json.loads(ran.stdout), strict=True):
        with engines.get(case.name).open(folder) as opened:
            assert np.array_equal(opened.search(QUERY_VALUES, 10, **case.strong)[0], found), str(case)


@pytest.mark.nightly
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_index_is_refused(case, folders, tmp_path, share):
    """The largest file cut short."""
    folder = tmp_path / "index"
    folder.mkdir()
    for file in folders[case].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    largest = max(folder.iterdir(), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: int(share * largest.stat().st_size)])
    with pytest.raises(InputError, match="incomplete .* index"):
        engines.get(case.name).open(folder)
    largest.unlink()
    with pytest.raises(InputError):
        engines.get(case.name).open(folder)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.build.get("refine") or case.build.get("reorder")], ids=str
)
def test_many_results_begin_with_those_of_a_short_search(case, engine):
    """The number of rescored candidates does not grow with k."""
    many, few = (engine.search(QUERY_VALUES, k, rescored=100, **case.strong)[0] for k in (100, 10))
    assert np.array_equal(many[:, :10], few)


def test_scann_reads_no_pickle(folders, tmp_path):
    folder = next(folder for case, folder in folders.items() if case.name == "scann")
    (tmp_path / "scann.json").write_bytes((folder / "scann.json").read_bytes())
    (tmp_path / PICKLED).write_bytes(b"")
    with pytest.raises(InputError, match=f"{PICKLED}: unexpected file"):
        engines.get("scann").open(tmp_path)
