"""`impact-two-step` equals a plain two-step search: cut queries, exact candidates, exact scores."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from bench import engines
from bench.vectors.impacts import prune
from bench.vectors.read import LexiconVectors
from models.errors import InputError
from tests.bench.engines.small import brute_force, products
from tests.bench.engines.test_impact import UNSIGNED, built, impact_matrices


def plain(documents, queries, k: int, query_lexicons: int, candidates: int):
    """Both steps by brute force: of the candidates of the cut query, those with the highest full scores."""
    scores = products(queries, documents)
    cut = prune(sp.csr_array(queries), query_lexicons)
    found, _ = brute_force(products(cut, documents), max(k, candidates), positive=True)
    for row, of_row in enumerate(scores):
        of_row[np.setdiff1d(np.arange(len(of_row)), found[row])] = 0
    return brute_force(scores, k, positive=True)


@pytest.mark.parametrize("bits", [8, 16])
@given(
    data=st.data(),
    k=st.integers(0, 15),
    query_lexicons=st.integers(1, 10),
    candidates=st.integers(1, 12),
    threads=st.sampled_from([1, 2]),
)
def test_results_equal_plain_two_steps(bits, data, k, query_lexicons, candidates, threads):
    documents, queries = data.draw(impact_matrices(bits)), data.draw(impact_matrices(bits))
    knobs = {"query_lexicons": query_lexicons, "candidates": candidates}
    with tempfile.TemporaryDirectory() as folder, built("impact-two-step", LexiconVectors.of(documents), folder) as two:
        ids, scores = two.search(sp.csr_array(queries), k, threads, **knobs)
        again = two.search(sp.csr_array(queries), k, threads, **knobs)
    expected_ids, expected_scores = plain(documents, queries, k, **knobs)
    assert np.array_equal(ids, expected_ids)
    assert np.array_equal(scores, expected_scores)
    assert np.array_equal(ids, again[0]), "a search must not change the next one"


def test_a_candidate_is_found_by_the_strongest_lexicons_alone(tmp_path):
    """Document 0 shares the query's strongest lexicon, document 1 its three weaker ones, which together score more."""
    documents = np.array([[10, 0, 0, 0], [0, 9, 9, 9]], np.uint8)
    query = sp.csr_array(np.array([[10, 5, 5, 5]], np.uint8))
    with built("impact-two-step", LexiconVectors.of(documents), tmp_path) as engine:
        ids, scores = engine.search(query, 2, query_lexicons=1)
        assert (ids.tolist(), scores[0, 0]) == ([[0, -1]], 100)
        ids, scores = engine.search(query, 2, query_lexicons=4)
        assert (ids.tolist(), scores.tolist()) == ([[1, 0]], [[135, 100]])


def test_bytes_are_those_of_impact_and_of_the_forward_store(tmp_path):
    documents = LexiconVectors.of(np.ones((100, 50), np.uint8))
    sizes = {}
    for name in ("impact", "impact-two-step"):
        (tmp_path / name).mkdir()
        with built(name, documents, tmp_path / name) as engine:
            sizes[name] = engine.bytes_on_disk(tmp_path / name)
    headers = 3 * 128
    assert sizes["impact-two-step"] - sizes["impact"] == 101 * 4 + 5000 * (2 + 1) + headers


@pytest.mark.parametrize("knobs", [{"query_lexicons": 0}, {"candidates": 0}])
def test_knobs_below_one_are_refused(tmp_path, knobs):
    rows = np.ones((2, 3), UNSIGNED[8])
    engines.get("impact-two-step").build(LexiconVectors.of(rows), tmp_path)
    with (
        engines.get("impact-two-step").open(tmp_path) as engine,
        pytest.raises(InputError, match="expected at least 1"),
    ):
        engine.search(sp.csr_array(rows), 1, **knobs)


def test_a_forward_store_of_another_index_is_refused(tmp_path):
    for name, rows in (("one", 2), ("other", 3)):
        (tmp_path / name).mkdir()
        engines.get("impact-two-step").build(LexiconVectors.of(np.ones((rows, 3), np.uint8)), tmp_path / name)
    (tmp_path / "one" / "first.npy").write_bytes((tmp_path / "other" / "first.npy").read_bytes())
    with pytest.raises(InputError, match="forward store does not match"):
        engines.get("impact-two-step").open(Path(tmp_path / "one"))
