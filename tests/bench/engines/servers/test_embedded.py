"""Engines of search servers without a server: collections, counts, the `collections` command, names."""

import importlib.util
import os
import shutil

import numpy as np
import pytest

from bench import engines
from bench.engines.indexes import build_index
from bench.engines.servers import common as servers
from bench.store import cli
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import InputError

LUCENE_CLASSES = """
    document.FeatureField document.Document store.ByteBuffersDirectory index.IndexWriter index.IndexWriterConfig
    index.DirectoryReader search.IndexSearcher search.BoostQuery analysis.core.KeywordAnalyzer
"""


@pytest.fixture(autouse=True)
def embedded(monkeypatch):
    for product in ("QDRANT", "MILVUS", "OPENSEARCH"):
        monkeypatch.delenv(f"LEXLIP_BENCH_{product}_URL", raising=False)


def built(name, count, folder):
    folder.mkdir()
    engines.get(name).build(DenseVectors.of(np.eye(count, 8)), folder)
    return folder


def test_a_wrong_number_of_items_is_refused(tmp_path):
    pytest.importorskip("qdrant_edge")
    folders = [built("qdrant-hnsw", count, tmp_path / str(count)) for count in (5, 6)]
    shutil.copy(folders[1] / servers.ABOUT, folders[0] / servers.ABOUT)
    with pytest.raises(InputError, match="5 items .*, expected 6"):
        engines.get("qdrant-hnsw").open(folders[0])


def test_servers_run_only_when_named_and_record_how_they_are_served(monkeypatch):
    mine = set(engines.names()) - set(engines.default_names())
    for name in mine:
        assert all(knobs["served"] == "embedded" for knobs in engines.grid(name, "build"))
        assert all("served" not in knobs for knobs in engines.grid(name, "search"))
    monkeypatch.setenv("LEXLIP_BENCH_QDRANT_URL", "http://127.0.0.1:9")
    assert engines.grid("qdrant", "build") == [{"served": "by URL"}] and engines.grid("impact", "build") == [{}]


def test_the_collection_of_an_index(tmp_path):
    """The same for an index and for the hidden folder in which it is built."""
    names = {servers.collection(tmp_path / name) for name in ("0ab1", ".0ab1.some-host.org-77-0.partial")}
    assert names == {"lexlip_bench_0ab1"}


def test_the_command_removes_indexes_and_their_collections(tmp_path, capsys):
    pytest.importorskip("qdrant_edge")
    vectors = LexiconVectors.of(np.eye(4, dtype=np.float32))
    first, second = (build_index(tmp_path, "qdrant", vectors, name, served="embedded") for name in "ab")
    others = build_index(tmp_path, "scipy", vectors, "c")
    assert cli.run(servers.main, servers.parser(), ["--home", str(tmp_path), "nothing"]) == 2
    assert "nothing: no index of a server engine" in capsys.readouterr().err
    assert cli.run(servers.main, servers.parser(), ["--home", str(tmp_path), first.id]) == 0
    assert capsys.readouterr().out == f"removed {first.id} (qdrant, embedded)\n"
    assert not first.folder.exists() and second.folder.exists()
    cli.run(servers.main, servers.parser(), ["--home", str(tmp_path)])
    assert not second.folder.exists() and others.folder.exists()
    assert os.listdir(tmp_path / "indexes") == [others.id]


@pytest.mark.nightly
def test_lucene_keeps_nine_bits_of_a_feature():
    """So OpenSearch stores 8-bit impacts exactly: its rank features are Lucene's, here without a server."""
    if importlib.util.find_spec("jnius") is None:  # whose import starts Java, without Lucene
        pytest.skip("the extra 'lucene' is not installed")
    from bench.engines.lexicon.lucene import _autoclass

    java = {name.rpartition(".")[2]: _autoclass()(f"org.apache.lucene.{name}") for name in LUCENE_CLASSES.split()}
    directory = java["ByteBuffersDirectory"]()
    writer = java["IndexWriter"](directory, java["IndexWriterConfig"](java["KeywordAnalyzer"]()))
    for weight in (1, 2, 100, 255, 511, 513, 65535):
        document = java["Document"]()
        document.add(java["FeatureField"]("item", "l7", float(weight)))
        writer.addDocument(document)
    writer.close()
    searcher = java["IndexSearcher"](java["DirectoryReader"].open(directory).getContext())
    query = java["BoostQuery"](java["FeatureField"].newLinearQuery("item", "l7", 1.0), 255.0)
    found = sorted(hit.score / 255 for hit in searcher.search(query, 10).scoreDocs)
    assert found == [1, 2, 100, 255, 511, 512, 65408]
