"""Bounds of blocks by hand and against brute force; orders that bring similar documents together."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.__main__ import main
from bench.store.records import RecordStore
from bench.tasks.pruning import bounds
from bench.tasks.pruning.orders import ORDERS
from bench.vectors.impacts import Impacts
from bench.vectors.read import open_vectors
from bench.vectors.write import write_vectors
from models.errors import InputError


def write(folder, kind, rows, made_from=None) -> None:
    with write_vectors(folder, kind, rows.shape[1], made_from=made_from) as writer:
        writer.append(rows, [str(row) for row in range(rows.shape[0])])


def csr(rows) -> sp.csr_array:
    return sp.csr_array(np.asarray(rows, np.uint8))


DOCUMENTS = csr([[3, 0, 1], [0, 5, 0], [2, 2, 0], [0, 0, 0]])


def test_maxima_and_postings_of_blocks_by_hand():
    highest, postings = bounds.of_blocks(DOCUMENTS, 2)
    assert highest.toarray().tolist() == [[3, 5, 1], [2, 2, 0]]
    assert postings.toarray().tolist() == [[1, 1, 1], [1, 1, 0]]


def test_alive_blocks_by_hand():
    """The query [1, 1, 0] scores 3, 5, 4, 0; with bounds 8 and 4 of the blocks, a score of 5 leaves the first alone."""
    query = csr([[1, 1, 0]])
    assert bounds.tenth_scores(query, DOCUMENTS, 1).tolist() == [5]
    found = bounds.alive(query, DOCUMENTS, np.array([5]), 2)
    assert found == {
        "alive_blocks": 0.5,
        "alive_postings": 0.5,
        "maxima_per_posting": 1.0,  # the query's lexicons have one posting in each block
        "bound_over_tenth": pytest.approx((8 + 4) / 2 / 5),
    }
    assert bounds.alive(query, DOCUMENTS, np.array([5]), 4)["maxima_per_posting"] == 0.5, "two maxima, four postings"
    assert bounds.alive(query, DOCUMENTS, np.array([4]), 2)["alive_blocks"] == 1


def test_a_query_with_fewer_results_does_not_count():
    assert bounds.tenth_scores(csr([[1, 0, 0]]), DOCUMENTS, 3).tolist() == [0]
    assert bounds.tenth_scores(csr([[1, 0, 0]]), DOCUMENTS, 9).tolist() == [0]
    assert bounds.alive(csr([[1, 0, 0]]), DOCUMENTS, np.array([0]), 2) == {}


small = hnp.arrays(np.uint8, st.tuples(st.integers(10, 40), st.just(6)), elements=st.sampled_from([0, 0, 1, 7, 255]))


@given(documents=small, queries=small, size=st.integers(1, 12))
@settings(max_examples=60)
def test_a_block_with_a_top_result_is_alive(documents, queries, size):
    """No bound is below the score of a document in its block, so a dead block holds none of the top 10."""
    exact = queries.astype(int) @ documents.astype(int).T
    tenth = np.sort(exact, axis=1)[:, -10]
    assert bounds.tenth_scores(csr(queries), csr(documents)).tolist() == tenth.tolist()
    highest, _ = bounds.of_blocks(csr(documents), size)
    bound = queries.astype(int) @ highest.toarray().T
    for block in range(highest.shape[0]):
        assert (bound[:, block] >= exact[:, block * size : (block + 1) * size].max(axis=1)).all()
    found = bounds.alive(csr(queries), csr(documents), tenth, size)
    if (tenth > 0).any():
        assert found["alive_blocks"] == pytest.approx((bound >= tenth[:, None])[tenth > 0].mean())


@pytest.fixture(scope="module")
def topics() -> sp.csr_array:
    """2,000 documents of 20 topics in random order; each topic has lexicons of its own."""
    rng = np.random.default_rng(0)
    rows = np.zeros((2000, 200), np.uint8)
    for row, topic in zip(rows, rng.integers(0, 20, 2000), strict=True):
        row[10 * topic + rng.choice(10, 5, replace=False)] = rng.integers(20, 60, 5)
    return sp.csr_array(rows)


@pytest.mark.parametrize("name", ["clustered", "bisected"])
def test_an_order_is_a_permutation_and_brings_topics_together(topics, name):
    order = ORDERS[name](topics, 0)
    assert sorted(order.tolist()) == list(range(2000))
    assert np.array_equal(order, ORDERS[name](topics, 0)), "the same in every run"
    queries = topics[:50]
    tenth = bounds.tenth_scores(queries, topics)
    before, after = (bounds.alive(queries, rows, tenth, 32) for rows in (topics, topics[order]))
    assert after["alive_blocks"] < before["alive_blocks"] / 1.5
    assert after["bound_over_tenth"] < before["bound_over_tenth"]


def test_one_document_has_every_order():
    for order in ORDERS.values():
        assert order(csr([[1, 2, 3]]), 0).tolist() == [0]


@pytest.fixture
def folders(tmp_path, topics):
    """Lexicon vectors of the documents and of 40 queries on disk."""
    unit = sp.csr_array(topics.astype(np.float32))
    unit.data /= np.repeat(np.sqrt((unit**2).sum(axis=1)), np.diff(unit.indptr))
    for name, rows in (("documents", unit), ("queries", unit[:40])):
        write(tmp_path / name, "lexicon", rows)
    return tmp_path


def command(folders, **change) -> list[str]:
    flags = {"--home": folders / "home", "--documents": folders / "documents", "--queries": folders / "queries"}
    flags |= {"--blocks": "16,64", "--count": 20} | change
    return ["block-bounds", *(str(part) for pair in flags.items() for part in pair)]


def test_larger_weights_are_not_cut_but_scaled(folders, topics):
    """A hundred times the weights are the same impacts; the paper's scale of 100 would make nearly all of them 255."""
    unit, larger = open_vectors(folders / "documents"), sp.csr_array(topics.astype(np.float32))
    larger.data *= 100 / larger.data.max()
    write(folders / "larger", "lexicon", larger)
    queries = open_vectors(folders / "queries")
    for documents in (unit, open_vectors(folders / "larger")):
        bounds.measure_bounds(folders / "home", documents, queries, orders=("given",), blocks=(16,), asked=20)
    knobs = [json.loads(knobs) for knobs in set(RecordStore(folders / "home").read().knobs)]
    assert sorted(found.get("scale", 100.0) for found in knobs) == [2.55, 100.0]
    assert Impacts(open_vectors(folders / "larger"), 32, 8, 2.55).to_scipy().max() == 255


def test_the_command_records_every_order_and_block_once(folders, capsys):
    assert main(command(folders)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[order, size] for order in ORDERS for size in ("16", "64")]
    rows = RecordStore(folders / "home").read()
    alive = {
        (json.loads(knobs)["order"], json.loads(knobs)["block"]): part.set_index("metric").value.alive_blocks
        for knobs, part in rows.groupby("knobs")
    }
    assert alive["bisected", 16] < alive["given", 16] <= alive["given", 64]
    before = {file: file.stat().st_mtime_ns for file in (folders / "home" / "results").iterdir()}
    assert main(command(folders)) == 0
    assert {file: file.stat().st_mtime_ns for file in (folders / "home" / "results").iterdir()} == before


def test_points_name_the_data_and_the_checkpoint_of_encoded_documents(folders, topics):
    write(folders / "encoded", "lexicon", topics.astype(np.float32), {"corpus": "data", "checkpoint": "model"})
    for documents, expected in (("encoded", ("data", "model")), ("documents", ("", ""))):
        home = folders / f"home of {documents}"
        change = {"--home": home, "--documents": folders / documents, "--orders": "given", "--blocks": 16}
        assert main(command(folders, **change)) == 0
        (row,) = RecordStore(home).read().drop_duplicates("point_id").itertuples()
        assert (row.data_id, row.checkpoint_id) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--blocks": "16,x"}, "expected numbers of at least 1"),
        ({"--blocks": "0"}, "expected numbers of at least 1"),
        ({"--orders": "given,sorted"}, "--orders sorted: expected given, clustered, bisected"),
        ({"--documents": "/nowhere"}, "nowhere"),
        ({"--documents": "/"}, "--documents /: not a folder of vectors; expected one such as //lexicon/documents"),
    ],
)
def test_bad_flags_end_in_one_line(folders, capsys, change, message):
    assert main(command(folders, **change)) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_dense_vectors_are_refused(folders):
    write(folders / "dense", "dense", np.ones((3, 4), np.float32))
    documents = open_vectors(folders / "documents")
    with pytest.raises(InputError, match="expected lexicon vectors of 200 lexicons"):
        bounds.measure_bounds(folders / "home", documents, open_vectors(folders / "dense"))
