"""Speed of the hot paths (`nox -s bench`). Times are saved, never asserted; the gate does not collect this."""

import numpy as np
import pytest

from bench import engines
from bench.tasks.timing import pinned
from bench.vectors.impacts import Impacts, prune, quantise
from bench.vectors.read import DenseVectors, LexiconVectors, open_vectors
from bench.vectors.write import write_vectors

DOCUMENTS, QUERIES, LEXICONS, ACTIVE, DIMENSION = 100_000, 256, 4096, 64, 512


def lexicon_rows(count, active, seed):
    """CSR rows whose lexicons follow a Zipf-like law."""
    import scipy.sparse as sp

    rng = np.random.default_rng(seed)
    law = np.arange(1, LEXICONS + 1) ** -0.7
    lexicons = np.searchsorted(np.cumsum(law / law.sum()), rng.random((count, active))).clip(max=LEXICONS - 1)
    weights = rng.random((count, active), np.float32) / np.sqrt(active)
    rows = sp.coo_array(
        (weights.ravel(), (np.repeat(np.arange(count), active), lexicons.ravel())), shape=(count, LEXICONS)
    )
    return rows.tocsr().astype(np.float32)


@pytest.fixture(scope="module")
def documents():
    return LexiconVectors.of(lexicon_rows(DOCUMENTS, ACTIVE, 0))


@pytest.fixture(scope="module")
def queries():
    return Impacts(LexiconVectors.of(lexicon_rows(QUERIES, 20, 1)), bits=8).to_scipy()


@pytest.fixture(scope="module")
def dense():
    return DenseVectors.of(np.random.default_rng(0).normal(size=(DOCUMENTS, DIMENSION)))


@pytest.fixture(scope="module")
def impact(documents, tmp_path_factory):
    return _opened("impact", Impacts(documents, bits=8), tmp_path_factory)


@pytest.fixture(scope="module")
def faiss_flat(dense, tmp_path_factory):
    return _opened("faiss-flat", dense, tmp_path_factory)


def _opened(name, vectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    engines.get(name).build(vectors, folder)
    return engines.get(name).open(folder)


def test_prune(benchmark, documents):
    benchmark(prune, documents.to_scipy(), 32)


def test_quantise(benchmark, documents):
    benchmark(quantise, documents.to_scipy())


def test_write_vectors(benchmark, documents, tmp_path):
    rows, ids = documents.to_scipy(), documents.ids

    def write():
        with write_vectors(tmp_path / "v", "lexicon", LEXICONS) as writer:
            for start in range(0, DOCUMENTS, 1000):
                writer.append(rows[start : start + 1000], ids[start : start + 1000])

    benchmark.pedantic(write, rounds=3)
    assert open_vectors(tmp_path / "v").count == DOCUMENTS


def test_build_impact(benchmark, documents, tmp_path):
    benchmark.pedantic(
        engines.get("impact").build, args=(Impacts(documents, top_k=32, bits=8), tmp_path), rounds=3, warmup_rounds=1
    )


@pytest.mark.parametrize("depth", [10, 1000])
def test_search_impact_single(benchmark, impact, queries, depth):
    one = queries[:1]
    benchmark(impact.search, one, depth)


@pytest.mark.parametrize("threads", [1, 2])
def test_search_impact_batched(benchmark, impact, queries, threads):
    with pinned(threads):
        benchmark(impact.search, queries, 10, threads)


def test_search_faiss_flat_single(benchmark, faiss_flat, dense):
    with pinned(1):
        benchmark(faiss_flat.search, dense.rows(0, 1), 10)


def test_search_faiss_flat_batched(benchmark, faiss_flat, dense):
    with pinned(1):
        benchmark(faiss_flat.search, dense.rows(0, QUERIES), 10)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["lexlip", "clip"])
def test_encode_images(benchmark, kind, precision, tmp_path):
    """256 pictures of 64 pixels through a model of the default size that has learned nothing."""
    from bench.corpora import open_corpus
    from bench.vectors.encoder import Encoder
    from models import checkpoint
    from models.config import ModelConfig, TextConfig
    from models.tokenizer import LexiconTokenizer

    corpus = open_corpus("scenes")
    tokenizer = LexiconTokenizer.train((text for _, text, _ in corpus.captions("train", 0, 2000)), 1024, 28)
    config = ModelConfig(kind=kind, text=TextConfig(max_tokens=28, vocabulary=len(tokenizer)))
    checkpoint.save(checkpoint.create(config, tokenizer), tmp_path / kind)
    benchmark(Encoder(tmp_path / kind, precision).images, corpus.render("test", 0, 256))
