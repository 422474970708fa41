"""An engine whose package is not installed is absent, and its error names the extra that installs it."""

import sys

import numpy as np
import pytest

from bench import engines
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import AbsentError, InputError

EMBEDDED = [
    ("faiss-hnsw", "faiss", "faiss", "cpu"),
    ("hnswlib", "hnswlib", "hnswlib", "hnswlib"),
    ("usearch", "usearch.index", "usearch", "engines"),
    ("scann", "scann", "scann", "engines"),
    ("bmp", "bmp", "bmp", "engines"),
    ("kannolo", "kannolo", "kannolo", "engines"),
    ("seismic", "seismic", "seismic", "engines"),
    ("sindi", "pyvsag", "pyvsag", "engines"),
    ("qdrant", "qdrant_edge", "qdrant-edge-py", "qdrant"),
    ("milvus", "pymilvus", "pymilvus", "milvus"),
    ("milvus-flat", "milvus_lite.server_manager", "milvus-lite", "milvus"),
]
BY_URL = [
    ("qdrant-hnsw", "qdrant_client", "qdrant-client", "qdrant"),
    ("milvus", "pymilvus", "pymilvus", "milvus"),
    ("opensearch", "opensearchpy", "opensearch-py", "opensearch"),
]


def items(name: str):
    rows = np.eye(4, dtype=np.uint8)
    return DenseVectors.of(rows) if engines.get(name).kind == "dense" else LexiconVectors.of(rows)


@pytest.mark.parametrize(
    ("case", "url"), [*((case, "") for case in EMBEDDED), *((case, "http://127.0.0.1:9") for case in BY_URL)]
)
def test_the_error_names_the_package_and_the_extra(case, url, tmp_path, monkeypatch):
    name, module, package, extra = case
    for product in ("QDRANT", "MILVUS", "OPENSEARCH"):
        monkeypatch.setenv(f"LEXLIP_BENCH_{product}_URL", url)
    if package == "milvus-lite":
        pytest.importorskip("pymilvus")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AbsentError, match=rf"'{package}' is not installed; pip install 'lexlip-bench\[{extra}\]'"):
        engines.get(name).build(items(name), tmp_path)


def test_opensearch_without_a_server_is_absent(tmp_path, monkeypatch):
    monkeypatch.delenv("LEXLIP_BENCH_OPENSEARCH_URL", raising=False)
    with pytest.raises(AbsentError, match="LEXLIP_BENCH_OPENSEARCH_URL is not set: opensearch has no embedded form"):
        engines.get("opensearch").build(items("opensearch"), tmp_path)


def test_pisa_without_its_environment_is_absent(tmp_path, monkeypatch):
    monkeypatch.delenv("LEXLIP_BENCH_PISA_PYTHON", raising=False)
    with pytest.raises(AbsentError, match="LEXLIP_BENCH_PISA_PYTHON is not set: .*pip install pyterrier-pisa"):
        engines.get("pisa").build(items("pisa"), tmp_path)


@pytest.mark.parametrize(
    ("python", "message"),
    [("nowhere/python", "expected the Python of an environment"), (sys.executable, "No module named")],
)
def test_pisa_in_a_wrong_environment_is_one_line(python, message, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXLIP_BENCH_PISA_PYTHON", python)
    with pytest.raises(InputError, match=message):
        engines.get("pisa").build(items("pisa"), tmp_path)
    assert not (tmp_path / "scratch").exists()
