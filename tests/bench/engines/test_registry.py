"""The registry of engines, the order of results, and what importing them costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import engines
from bench.engines import ranking, registry
from models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("faiss", "numba", "pyarrow", "ray", "scipy", "torch")


def test_an_unknown_name_is_refused_with_the_nearest():
    for call in (engines.get, engines.modules, engines.knob_names):
        with pytest.raises(InputError, match=r"unknown engine 'impakt'.*impact"):
            call("impakt")


def test_names_and_knobs():
    assert "faiss-flat" in engines.names("dense") and "faiss-flat" not in engines.names("lexicon")
    assert "dummy" in engines.names("dense") and "dummy" in engines.names("lexicon")
    assert set(engines.names()) - set(engines.default_names()) == {
        name for name in engines.names() if name.startswith(("qdrant", "milvus", "opensearch"))
    }
    assert engines.grid("impact", "build") == engines.grid("impact", "search") == [{}]
    assert engines.grid("faiss-ivf-sq8", "build") == [{"refine": None}, {"refine": "Flat"}]
    assert engines.grid("faiss-ivf-sq8", "build", {"refine": ["SQ8"]}) == [{"refine": "SQ8"}]
    assert engines.knob_names("faiss-ivf-pq") == ["per_code", "refine", "nprobe", "rescored"]


def test_code_ids_hash_the_settings_and_default_knobs_of_an_engine(monkeypatch):
    before = {name: engines.code_id(name) for name in ("faiss-flat", "faiss-hnsw", "impact", "sharded-faiss-hnsw")}
    assert len(set(before.values())) == 4  # two of them have the same module
    entry = registry._entry("faiss-hnsw")
    monkeypatch.setitem(entry, "settings", {"index": "HNSW{m},SQ8"})
    assert {name for name, code in before.items() if engines.code_id(name) != code} == {
        "faiss-hnsw",
        "sharded-faiss-hnsw",
    }
    monkeypatch.undo()
    assert engines.code_id("faiss-hnsw") == before["faiss-hnsw"] != engines.code_id("faiss-hnsw", "bench.engines.exact")


@pytest.mark.parametrize(
    ("program", "light"),
    [
        ("from bench import engines; engines.names(); engines.default_names(); engines.knob_names('impact')", HEAVY),
        (
            "from bench import engines; [(engines.get(n).weights, engines.code_id(n)) for n in engines.names()]",
            HEAVY[:4],
        ),
        ("from bench.engines import indexes, sharded", ("faiss", "ray", "torch")),
    ],
)
def test_imports_are_light(program, light):
    check = f"import sys; {program}; sys.exit(', '.join(m for m in {light} if m in sys.modules) or 0)"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_top_k_and_sort_rows():
    scores = np.array([[0.0, 2.0, 1.0, 2.0, -1.0]])
    assert ranking.top_k(scores, 3, positive=True)[0].tolist() == [[1, 3, 2]]
    assert ranking.top_k(scores, 4, positive=True)[0].tolist() == [[1, 3, 2, -1]]
    assert ranking.top_k(scores, 7, positive=False)[0].tolist() == [[1, 3, 2, 0, 4, -1, -1]]
    ids, best = ranking.sort_rows(np.array([[4, -1, 2, 9]]), np.array([[1.0, 7.0, 1.0, 3.0]]))
    assert ids.tolist() == [[9, 2, 4, -1]] and best.tolist() == [[3.0, 1.0, 1.0, -np.inf]]
