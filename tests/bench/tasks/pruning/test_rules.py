"""Pruning rules by hand and by their definitions, and the study that compares them at equal size."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.__main__ import main
from bench.store.records import RecordStore
from bench.tasks.pruning import adaptive, rules
from bench.tasks.pruning.rules import RULES, kept
from bench.tasks.subject import Measurement
from bench.vectors.impacts import prune, unit_again
from models.errors import InputError
from tests.bench.tasks.conftest import IMAGES, SPEC

ROWS = sp.csr_array(np.array([[0.6, 0.2, 0, 0.2], [0.1, 0, 0.9, 0]], np.float32))


def test_keys_by_hand():
    assert rules.rank_in_row(ROWS).tolist() == [0, 1, 2, 1, 0]
    assert np.allclose(rules.mass_before(ROWS), [0, 0.6, 0.8, 0.9, 0])


@pytest.mark.parametrize(
    ("rule", "expected", "parameter"),
    [
        ("count", [[0.6, 0.2, 0, 0], [0, 0, 0.9, 0]], 2),
        ("mass", [[0.6, 0.2, 0, 0], [0, 0, 0.9, 0]], 0.6),
        ("threshold", [[0.6, 0.2, 0, 0], [0, 0, 0.9, 0]], 0.2),
    ],
)
def test_three_postings_by_hand(rule, expected, parameter):
    rows, found = kept(ROWS, rule, 3)
    assert np.allclose(rows.toarray(), expected) and found == pytest.approx(parameter)


weights = hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.just(6)), elements=st.sampled_from([0, 0, 0.5, 1, 3]))


@given(weights, st.integers(0, 50))
def test_rules_keep_equal_numbers_and_what_they_say(dense, postings):
    rows = sp.csr_array(dense)
    for rule in RULES:
        found, parameter = kept(rows, rule, postings)
        assert found.nnz == min(postings, rows.nnz)
        both = found.toarray()
        assert np.array_equal(both[both > 0], dense[both > 0])
        if found.nnz == 0:
            continue
        if rule == "threshold":
            assert both[both > 0].min() == pytest.approx(parameter) and dense[both == 0].max(initial=0) <= parameter
        for full, row in zip(dense, both, strict=True):
            assert row[row > 0].min(initial=9) >= full[row == 0].max(initial=0), "the largest weights of an item"
            if rule in ("count", "published"):
                assert (row > 0).sum() <= parameter
            if rule == "mass" and (row > 0).any():
                largest = np.sort(row[row > 0])[::-1]
                assert largest[:-1].sum() / full.sum() <= parameter + 1e-6, "a smaller set would not do"


@given(weights, st.integers(1, 6))
def test_counts_equal_top_k(dense, top_k):
    rows = sp.csr_array(dense)
    pruned = prune(rows, top_k)
    found = kept(rows, "count", pruned.nnz)[0]
    assert np.array_equal(found.indptr, pruned.indptr) and np.array_equal(found.indices, pruned.indices)
    assert np.array_equal(unit_again(found, rows).data, pruned.data)


def test_the_study_compares_rules_at_equal_size(measured, tmp_path, capsys):
    subject = measured.subjects[0]
    command = ["adaptive-pruning", "--home", str(tmp_path), "--checkpoint", str(subject.model), "--top-k", "2,8"]
    command += ["--corpus", json.dumps(SPEC), "--images", str(IMAGES)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:-1]] == list(RULES) * 2
    rows = RecordStore(tmp_path).read()
    rows = rows[rows.task == adaptive.TASK]
    for budget, of_budget in rows.groupby("top_k"):
        by_rule = {
            json.loads(knobs)["rule"]: part.set_index("metric").value for knobs, part in of_budget.groupby("knobs")
        }
        assert by_rule["count"].active_mean == budget
        kept_in_mean = {rule: values.active_mean for rule, values in by_rule.items()}
        assert max(kept_in_mean.values()) - min(kept_in_mean.values()) < 0.5, "but for impacts that round to 0"
        assert all(0 <= values["recall@1"] <= values["recall@10"] <= 1 for values in by_rule.values())
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "results").iterdir()}
    assert main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "results").iterdir()} == before


def test_recall_of_counts_is_that_of_the_index(measured, copied):
    """The main setting of the recall records: impact with the same number for every image."""
    subject = measured.subjects[0]
    store = RecordStore(copied.home)
    rows = store.read()
    of_index = rows[(rows.engine == "impact") & (rows.direction == "text_to_image") & (rows.top_k == measured.top_k[0])]
    expected = of_index[of_index.batch_mode == ""].set_index("metric").value
    adaptive.measure_adaptive(Measurement(copied.home, subject, measured.slice), measured.top_k)
    rows = store.read()
    found = rows[(rows.task == adaptive.TASK) & rows.knobs.str.contains("count")].set_index("metric").value
    for metric in ("recall@1", "recall@5", "flops_per_pair"):
        assert found[metric] == pytest.approx(expected[metric]), metric


def test_bad_flags_end_in_one_line(measured, tmp_path, capsys):
    flags = ["adaptive-pruning", "--home", str(tmp_path), "--checkpoint", str(measured.subjects[0].model)]
    assert main([*flags, "--top-k", "4,all"]) == 2
    assert "expected numbers, not all" in capsys.readouterr().err


def test_dense_vectors_are_refused(measured, tmp_path):
    with pytest.raises(InputError, match="expected a model of lexicon vectors"):
        adaptive.measure_adaptive(Measurement(tmp_path, measured.subjects[1], measured.slice))
