"""Families of tests, their corrections and marks; variants that did not train; trainings on a loaded machine."""

import dataclasses

import pytest

from reports.findings import comparisons, convergence
from reports.findings.comparisons import EXPLORATORY, MAIN, SCREENED
from reports.pages.ablations import measures
from reports.records.evidence import Evidence
from reports.statistics import corrections

SEEDS = (0, 1, 2)
NEVER = -1.0


@pytest.fixture
def tested(made):
    """Three seeds of three variants; two and one of others; one at chance."""
    for seed in SEEDS:
        for variant, skill in (("lexlip", 0.8), ("no_momentum", 0.2), ("no_queue", 0.78)):
            made.variant(variant, skill, seed=seed)
    made.variant("no_flops", 0.1)
    for seed in SEEDS[:2]:
        made.variant("no_phase2", 0.1, seed=seed)
    made.retrieval(made.point("no_phase1"), NEVER)
    return Evidence(made.store)


def test_families(tested):
    found = comparisons.tests(tested)
    assert {key: test.family for key, test in found.items()} == {
        ("no_momentum", "recall@1"): MAIN,
        ("no_momentum", "recall@10"): EXPLORATORY,
        ("no_queue", "recall@1"): MAIN,
        ("no_queue", "recall@10"): EXPLORATORY,
        **{(name, f"recall@{k}"): SCREENED for name in ("no_flops", "no_phase2") for k in (1, 10)},
    }
    assert found["no_flops", "recall@1"].group == "screened with one seed"
    assert found["no_phase2", "recall@1"].group == "screened with 2 seeds"


def test_each_family_is_corrected_by_itself(tested):
    found = comparisons.tests(tested).values()
    for family in (MAIN, EXPLORATORY):
        mine = [test for test in found if test.family == family]
        assert len(mine) == 2
        assert [test.adjusted for test in mine] == pytest.approx(corrections.holm([test.estimate.p for test in mine]))


def test_no_mark_with_fewer_than_three_seeds(tested):
    screened = [test for test in comparisons.tests(tested).values() if test.family == SCREENED]
    assert all(test.estimate.high < 0 for test in screened if test.variant == "no_flops"), "clear over the queries"
    assert {(test.mark, test.adjusted, test.significant, test.detectable) for test in screened} == {
        ("", None, False, None)
    }


def test_what_was_not_significant_says_what_it_could_find(tested):
    clear, unclear = (comparisons.tests(tested)[name, "recall@1"] for name in ("no_momentum", "no_queue"))
    cells = [comparisons.difference_cell(tested, test.variant, "recall@1") for test in (clear, unclear)]
    assert cells[0].mark == "*"
    assert unclear.detectable == pytest.approx(unclear.estimate.detectable(0.05 / 2)), "two planned tests"
    assert unclear.detectable > abs(unclear.estimate.value)
    assert cells[1].mark == ""
    shown = comparisons.detectable_cell(tested, unclear.variant, "recall@1")
    assert (shown.value, shown.points) == (unclear.detectable, unclear.points)
    assert comparisons.detectable_cell(tested, "no_flops", "recall@1").value == "–", "one seed: nothing was tested"


def test_a_variant_at_chance_did_not_train(tested):
    assert convergence.did_not_train(tested, "no_phase1") == "did not train"
    assert convergence.did_not_train(tested, "no_flops") == ""
    for metric in comparisons.TESTED:
        assert comparisons.difference_cell(tested, "no_phase1", metric).missing == "did not train"


def test_one_seed_of_several_that_did_not_train(made):
    for seed in SEEDS:
        made.variant("lexlip", 0.8, seed=seed)
        made.retrieval(made.point("no_momentum", seed=seed), 0.7 if seed else NEVER)
    evidence = Evidence(made.store)
    assert convergence.did_not_train(evidence, "no_momentum") == "did not train in 1 of 3 seeds"
    assert not comparisons.tests(evidence)


def test_nothing_is_compared_with_a_reference_that_did_not_train(made):
    made.retrieval(made.point("lexlip"), NEVER)
    made.variant("no_momentum", 0.5)
    evidence = Evidence(made.store)
    assert not comparisons.tests(evidence)
    missing = comparisons.difference_cell(evidence, "no_momentum", "recall@1").missing
    assert missing == "lexlip did not train"


@pytest.mark.parametrize(
    ("cpu_seconds", "note", "shown"),
    [
        (290.0, "precision bfloat16; 1 thread", True),
        (60.0, "precision bfloat16; 1 thread", False),  # five times slower in wall than in CPU time
        (290.0, "loaded machine: other work kept 1.1 of 2 cores busy; 2 threads", False),
    ],
)
def test_a_training_on_a_loaded_machine_has_no_rate(made, cpu_seconds, note, shown):
    at = {"task": "training", "engine": "", "top_k": None, "bits": None, "images": None, "queries": None}
    at |= {"direction": "", "depth": None, "checkpoint_id": "", "split": "train", "config_id": "run"}
    made.retrieval(dataclasses.replace(made.point("lexlip"), config_id="run"), 0.5)
    values = {"train_seconds": 300.0, "train_cpu_seconds": cpu_seconds, "train_samples_per_second": 58.0}
    made.store.write(made.point("lexlip", **at), values, note=note)
    row = measures.row(Evidence(made.store), "lexlip")
    assert row["train_cpu_seconds"].value == cpu_seconds
    for key, value in (("train_seconds", 300.0), ("train_samples_per_second", 58.0)):
        assert (row[key].value, row[key].missing) == ((value, "") if shown else (None, "loaded machine"))
