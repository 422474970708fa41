"""`impact-blockmax` returns exactly what brute force does, and does not read the documents of blocks that it skips."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import engines
from bench.engines.lexicon import blockmax
from bench.engines.lexicon.blockmax import kernels
from bench.vectors.read import LexiconVectors
from models.errors import InputError
from tests.bench.engines.small import brute_force, products
from tests.bench.engines.test_impact import LEXICONS, built, search_impacts

NAME = "impact-blockmax"


def matrices(most: int):
    values = st.sampled_from([0, 0, 0, 1, 2, 100, 255])
    return hnp.arrays(np.uint8, st.tuples(st.integers(0, most), st.just(LEXICONS)), elements=values)


def clustered(count: int, seed: int, topics: int = 40, lexicons: int = 200) -> np.ndarray:
    """Documents of topics: lexicons 0 and 1 in most, others in the documents of one topic, a few at random."""
    rng = np.random.default_rng(seed)
    of_topic = rng.integers(0, topics, count)
    rows = (rng.random((count, lexicons)) < 0.01) * rng.integers(1, 20, (count, lexicons))
    for place in range(4):
        rows[np.arange(count), 2 + 4 * of_topic + place] = rng.integers(50, 256, count)
    rows[:, :2] = rng.integers(0, 30, (count, 2))
    return rows.astype(np.uint8)


@given(data=st.data(), k=st.integers(0, 30), threads=st.sampled_from([1, 2]))
def test_results_equal_brute_force(data, k, threads):
    documents, queries = data.draw(matrices(30)), data.draw(matrices(5))
    ids, scores = search_impacts(NAME, documents, queries, k, threads)
    expected_ids, expected_scores = brute_force(products(queries, documents), k, positive=True)
    assert np.array_equal(ids, expected_ids)
    assert np.array_equal(scores, expected_scores)


@pytest.mark.parametrize("k", [1, 10, 2500])
@pytest.mark.parametrize("threads", [1, 2])
def test_results_over_many_blocks_equal_brute_force(tmp_path, k, threads):
    documents, queries = clustered(2501, 0), clustered(20, 1)
    with built(NAME, LexiconVectors.of(documents), tmp_path) as engine:
        columns, listed = engine.maxima[1], engine.maxima[3]
        assert len(columns) and len(listed), "both ways of storing maxima are meant to be searched"
        ids, scores = engine.search(sp.csr_array(queries), k, threads)
    expected_ids, expected_scores = brute_force(products(queries, documents), k, positive=True)
    assert np.array_equal(ids, expected_ids)
    assert np.array_equal(scores, expected_scores)


def test_documents_of_blocks_that_miss_the_best_are_not_read(tmp_path):
    documents, queries = clustered(4000, 0), clustered(8, 1)
    with built(NAME, LexiconVectors.of(documents), tmp_path) as engine:
        ids, first, lexicons, impacts = engine.documents
        expected, best = engine.search(sp.csr_array(queries), 10)
        spoilt = np.full_like(impacts, 255)
        bounds = products(sp.csr_array(queries), _maxima(documents[ids]))
        for query in range(len(queries)):
            spoilt[:] = 255
            alive = np.flatnonzero(bounds[query] >= best[query, -1])
            assert len(alive) < engine.blocks / 4, "neighbours share lexicons, so most blocks can be skipped"
            # while the best are not known, blocks of a high bound are read that turn out to miss them
            visited = np.flatnonzero(bounds[query] >= 0.4 * best[query, -1])
            for block in visited:
                span = slice(first[block * kernels.BLOCK], first[min(len(ids), (block + 1) * kernels.BLOCK)])
                spoilt[span] = impacts[span]
            engine.documents = ids, first, lexicons, spoilt
            assert np.array_equal(engine.search(sp.csr_array(queries[[query]]), 10)[0][0], expected[query])


def _maxima(ordered: np.ndarray) -> sp.csr_array:
    """(blocks, V): the highest impact of each lexicon in each block."""
    padded = np.pad(ordered, ((0, -len(ordered) % kernels.BLOCK), (0, 0)))
    return sp.csr_array(padded.reshape(-1, kernels.BLOCK, ordered.shape[1]).max(axis=1))


@pytest.mark.parametrize("count", [0, 1, 30, 1001])
def test_the_order_is_a_permutation_that_threads_do_not_change(count):
    documents = sp.csr_array(clustered(count, 0))
    one = blockmax.bisected(documents)
    assert sorted(one) == list(range(count))
    for threads in (2, 3):
        assert np.array_equal(blockmax.bisected(documents, threads=threads), one)


def test_maxima_of_a_small_case():
    """Lexicon 0 in both of 24 blocks' documents, lexicon 1 in one block, lexicon 2 nowhere."""
    blocks = 24
    documents = np.zeros((blocks * kernels.BLOCK - 3, 3), np.uint8)
    documents[:, 0] = 7
    documents[5, 0] = 9
    documents[[8, 9], 1] = 3, 4
    rows = sp.csr_array(documents)
    made = kernels.maxima(rows.indptr.astype(np.int64), rows.indices.astype(np.uint16), rows.data, 3)
    column_of, columns, list_starts, list_blocks, list_maxima = made
    assert column_of.tolist() == [0, -1, -1]
    assert columns.tolist() == [[9] + [7] * (blocks - 1)]
    assert (list_starts.tolist(), list_blocks.tolist(), list_maxima.tolist()) == ([0, 0, 1, 1], [1], [4])
    assert kernels.highest(*made).tolist() == [9, 4, 0]


def test_scores_beyond_16_bits_are_exact(tmp_path):
    documents = np.full((50, 9), 255, np.uint8)
    documents[7, 0] = 254
    with built(NAME, LexiconVectors.of(documents), tmp_path) as engine:
        ids, scores = engine.search(sp.csr_array(documents[:1]), 50)
    assert ids[0].tolist() == [*(i for i in range(50) if i != 7), 7]
    assert scores[0, [0, -1]].tolist() == [9 * 255**2, 9 * 255**2 - 255]


def test_queries_whose_scores_exceed_32_bits_are_refused(tmp_path):
    with (
        built(NAME, LexiconVectors.of(np.full((2, 3), 255, np.uint8)), tmp_path) as engine,
        pytest.raises(InputError, match="impact-blockmax: scores may exceed 32 bits; quantise with a smaller scale"),
    ):
        engine.search(sp.csr_array(np.full((1, 3), 2**24, np.uint32)), 1)


def test_parts_of_another_index_are_refused(tmp_path):
    for name, rows in (("one", 20), ("other", 40)):
        (tmp_path / name).mkdir()
        engines.get(NAME).build(LexiconVectors.of(np.ones((rows, 3), np.uint8)), tmp_path / name)
    for part in ("ids", "first", "lexicons", "impacts", "columns"):
        mixed = tmp_path / part
        mixed.mkdir()
        for file in (tmp_path / "one").iterdir():
            source = tmp_path / "other" if file.stem == part else tmp_path / "one"
            (mixed / file.name).write_bytes((source / file.name).read_bytes())
        with pytest.raises(InputError, match="the parts of the index do not match; build the index again"):
            engines.get(NAME).open(mixed)


def test_bytes_are_those_of_documents_and_maxima(tmp_path):
    with built(NAME, LexiconVectors.of(np.ones((100, 50), np.uint8)), tmp_path) as engine:
        held = engine.bytes_on_disk(tmp_path)
    documents = 100 * 4 + 101 * 4 + 5000 * (2 + 1)
    columns = 50 * 4 + 50 * 13 + 51 * 8 + 50 * 8
    headers = 10 * 128
    assert 0 < held - documents - columns - headers < 40, "the rest is the block size as JSON"
