"""The dense engines on clustered unit vectors: contract, recall against brute force, and what each does with files and packages that lack."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from bench import engines
from bench.engines.dense import faiss_common
from bench.engines.dense.scann_index import PICKLED
from bench.vectors.read import DenseVectors
from models.errors import AbsentError, InputError

ITEMS, QUERIES, DIMENSION, CLUSTERS = 3000, 40, 64, 60
SHARDS = (0, 700, 2500, ITEMS)
EXACT, EIGHT_BITS = 1e-5, 0.01  # by which a score may miss the inner product: rounding, 8-bit quantisation


@dataclass(frozen=True, eq=False)
class Case:
    """An engine as built here. weak, strong: search knobs that look at little and at nearly all; floor: recall@10 of the strong ones."""

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
THREE = {"leaves_to_search": 3}  # as one may be empty: the library draws the first ones at random
CASES = [
    Case("faiss-flat", floor=1.0),
    Case("faiss-hnsw", {}, NARROW, WIDE),
    Case("faiss-ivf-sq8", {"refine": None}, FEW, ALL, 0.95, EIGHT_BITS),
    Case("faiss-ivf-sq8", {"refine": "Flat"}, FEW, ALL, 1.0),
    Case("faiss-ivf-pq", {"refine": None}, FEW, ALL, 0.55, 0.25),
    Case("faiss-ivf-pq", {"refine": "SQ8"}, FEW, ALL, 0.95, EIGHT_BITS),
    Case("faiss-ivf-pq", {"refine": "Flat"}, FEW, ALL),
    Case("faiss-rabitq", {"refine": None}, FEW, ALL, 0.5, 0.5),
    Case("faiss-rabitq", {"refine": "SQ8"}, FEW, ALL, 0.95, EIGHT_BITS),
    Case("hnswlib", {}, NARROW, WIDE),
    Case("usearch", {"dtype": "f32"}, NARROW, WIDE),
    Case("usearch", {"dtype": "bf16"}, NARROW, WIDE, 0.95, EIGHT_BITS),
    Case("scann", {"leaves": 50, "reorder": "int8"}, THREE, {"leaves_to_search": 50}, 0.95, EIGHT_BITS),
    Case("scann", {"leaves": 50, "reorder": "float32"}, THREE, {"leaves_to_search": 50}),
    Case("scann", {"leaves": 1, "reorder": "float32"}),
    Case("scann", {"leaves": None}, floor=1.0),
]
if importlib.util.find_spec("hnswlib") is None:  # the one engine that takes a compiler to install
    CASES = [case for case in CASES if case.name != "hnswlib"]
NAMES = sorted({case.name for case in CASES})
ON_GPU = ["faiss-flat-gpu", "faiss-ivf-pq-gpu"]
PACKAGES = {"faiss": "cpu", "hnswlib": "hnswlib", "usearch": "engines", "scann": "engines"}


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sharded(values):
    return DenseVectors([values[start:stop] for start, stop in zip(SHARDS, SHARDS[1:], strict=False)], values.shape[1])


RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(CLUSTERS, DIMENSION))
VALUES = unit(CENTRES[RNG.integers(0, CLUSTERS, ITEMS)] + 0.6 * RNG.normal(size=(ITEMS, DIMENSION)))
ASKED = unit(VALUES[RNG.integers(0, ITEMS, QUERIES)] + 0.06 * RNG.normal(size=(QUERIES, DIMENSION)))
PRODUCTS = ASKED.astype(np.float64) @ VALUES.T.astype(np.float64)
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
        ids, scores = engine.search(ASKED, k, **knobs)
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
    found = [recall(engine.search(ASKED, 10, **knobs)[0]) for knobs in (case.weak, case.strong)]
    assert found[1] >= case.floor
    assert found[1] > found[0] or case.weak == case.strong


def test_threads_and_batches_change_nothing(case, engine):
    """FAISS searches a batch by BLAS, whose blocks depend on the threads, and one query by a scan: scores differ by rounding, so may near-ties."""
    ids, scores = engine.search(ASKED, 10, 1, **case.strong)
    ids_2, scores_2 = engine.search(ASKED, 10, 2, **case.strong)
    assert (ids == ids_2).mean() > 0.97 and np.allclose(scores, scores_2, atol=2e-3 if case.error > EXACT else EXACT)
    alone = [engine.search(ASKED[i : i + 1], 10, 1, **case.strong) for i in range(QUERIES)]
    assert np.allclose(
        scores, np.concatenate([found[1] for found in alone]), atol=2e-3 if case.error > EXACT else EXACT
    )
    assert (ids == np.concatenate([found[0] for found in alone])).mean() > 0.97


def test_more_results_than_items(case, engine):
    """Graphs need not reach every item, so nearly all of them count."""
    ids, scores = engine.search(ASKED[:3], ITEMS + 5, **case.strong)
    assert ids.shape == scores.shape == (3, ITEMS + 5) and (ids[:, ITEMS:] == -1).all()
    for row in ids:
        found = row[row >= 0]
        assert 0.99 * ITEMS <= len(found) == len(set(found))


def test_no_query(engine):
    ids, scores = engine.search(ASKED[:0], 7)
    assert ids.shape == scores.shape == (0, 7)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_items(case, tmp_path, count):
    """Fewer than a quantiser has centroids, or than a leaf holds."""
    folder = build(case, tmp_path / "index", DenseVectors.of(VALUES[:count]))
    with engines.get(case.name).open(folder) as opened:
        for queries in (ASKED[:2], ASKED[:1]):
            ids, _ = opened.search(queries, 8, **case.strong)
            assert [sorted(row[:count]) for row in ids] == [list(range(count))] * len(queries) and (
                ids[:, count:] == -1
            ).all()


@pytest.mark.parametrize("case", [case for case in CASES if case.build.get("leaves") != 50], ids=str)
def test_one_thread_builds_the_same_index_twice(case, folders, tmp_path):
    """Not ScaNN's tree, which starts from leaves drawn at random."""
    again = build(case, tmp_path / "again")
    with engines.get(case.name).open(folders[case]) as first, engines.get(case.name).open(again) as second:
        for knobs in (case.weak, case.strong):
            results = [opened.search(ASKED, 10, **knobs) for opened in (first, second)]
            assert np.array_equal(results[0][0], results[1][0]) and np.array_equal(results[0][1], results[1][1])


def test_two_threads_build_an_index_as_good(case, tmp_path):
    folder = build(case, tmp_path / "index", threads=2)
    with engines.get(case.name).open(folder) as opened:
        assert recall(opened.search(ASKED, 10, **case.strong)[0]) >= case.floor


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


def test_indexes_are_read_in_a_new_process(folders, tmp_path):
    np.save(tmp_path / "queries.npy", ASKED)
    asked = [(case.name, str(folder), case.strong) for case, folder in folders.items()]
    command = [sys.executable, "-c", NEW_PROCESS, str(tmp_path / "queries.npy"), json.dumps(asked)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for (case, folder), found in zip(folders.items(), json.loads(ran.stdout), strict=True):
        with engines.get(case.name).open(folder) as opened:
            assert np.array_equal(opened.search(ASKED, 10, **case.strong)[0], found), str(case)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_index_is_refused(case, folders, tmp_path, share):
    """The largest file cut short."""
    folder = tmp_path / "index"
    folder.mkdir()
    for file in folders[case].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    largest = max(folder.iterdir(), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: int(share * largest.stat().st_size)])
    with pytest.raises(InputError, match="not a whole .* index"):
        engines.get(case.name).open(folder)
    largest.unlink()
    with pytest.raises(InputError):
        engines.get(case.name).open(folder)


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_package_is_named_with_its_extra(name, folders, tmp_path, monkeypatch):
    package = name.split("-")[0]
    folder = next(folder for case, folder in folders.items() if case.name == name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.index", None)
    message = rf"'{package}' is not installed; pip install 'lexlip-bench\[{PACKAGES[package]}\]'"
    with pytest.raises(AbsentError, match=message):
        engines.get(name).build(sharded(VALUES), tmp_path)
    with pytest.raises(AbsentError, match=message):
        engines.get(name).open(folder)


@pytest.mark.parametrize("name", ON_GPU)
def test_faiss_on_a_gpu(name, tmp_path):
    """Where there is none the engine is absent."""
    if faiss_common.load_faiss().get_num_gpus():
        case = Case(name, {}, {}, ALL)
        with engines.get(name).open(build(case, tmp_path / "index")) as opened:
            assert recall(opened.search(ASKED, 10, **case.strong)[0]) >= (1.0 if name == "faiss-flat-gpu" else 0.5)
    else:
        for call in (
            lambda: engines.get(name).build(sharded(VALUES), tmp_path),
            lambda: engines.get(name).open(tmp_path),
        ):
            with pytest.raises(AbsentError, match=r"lexlip-bench\[gpu\]"):
                call()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("faiss")])
def test_faiss_leaves_the_threads_of_openmp_as_they_were(name, folders):
    faiss = faiss_common.load_faiss()
    before = faiss.omp_get_max_threads()
    folder = next(folder for case, folder in folders.items() if case.name == name)
    with engines.get(name).open(folder) as opened:
        opened.search(ASKED, 5, threads=before + 3)
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.build.get("refine") or case.build.get("reorder")], ids=str
)
def test_the_first_of_many_results_are_those_of_a_short_search(case, engine):
    """What is rescored does not grow with k, so recall@10 may be read off the first 10 of 100 results."""
    many, few = (engine.search(ASKED, k, rescored=100, **case.strong)[0] for k in (100, 10))
    assert np.array_equal(many[:, :10], few)


def test_pq_refuses_codes_that_do_not_come_out_even(tmp_path):
    with pytest.raises(InputError, match="per_code 3: expected a divisor of the 64 dimensions"):
        engines.get("faiss-ivf-pq").build(sharded(VALUES), tmp_path, per_code=3)


def test_scann_reads_no_pickle(folders, tmp_path):
    folder = next(folder for case, folder in folders.items() if case.name == "scann")
    (tmp_path / "scann.json").write_bytes((folder / "scann.json").read_bytes())
    (tmp_path / PICKLED).write_bytes(b"")
    with pytest.raises(InputError, match=f"{PICKLED}: not a file of this engine"):
        engines.get("scann").open(tmp_path)


def test_training_sample_is_spread_over_all_shards():
    sample = faiss_common.training_sample(sharded(VALUES), 600)
    rows = [int(np.flatnonzero((vector == VALUES).all(axis=1))[0]) for vector in sample]
    assert len(rows) == len(set(rows)) == 600 and rows == sorted(rows)
    for start, stop in zip(SHARDS, SHARDS[1:], strict=False):
        share = np.mean([start <= row < stop for row in rows])
        assert share == pytest.approx((stop - start) / ITEMS, abs=0.06)
    assert np.array_equal(sample, faiss_common.training_sample(sharded(VALUES), 600))
    assert np.array_equal(faiss_common.training_sample(sharded(VALUES), 10**9), VALUES)
    few = faiss_common.training_sample(DenseVectors.of(VALUES[:5]), 600)
    assert len(few) == 16 and np.array_equal(np.unique(np.abs(few), axis=0), np.unique(np.abs(VALUES[:5]), axis=0))


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 1), (1, 1), (78, 2), (1000, 25), (100_000, 1265), (1_000_000, 4000)]
)
def test_number_of_lists(count, expected):
    assert faiss_common.lists(count) == expected
