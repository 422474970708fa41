"""One name per data set: the fingerprint decides which records meet in a comparison."""

import dataclasses

import pytest

from models.errors import InputError
from reports.build import main, parser
from reports.findings import comparisons
from reports.records.evidence import Evidence, Reading
from reports.records.sweep import sweeps

LATER = "2026-03-01T00:00:00+00:00"


def measured(made, variant, data_id, corpus="captions", started=LATER, **fields):
    """R@1 of a variant on a data set, and the training that made it."""
    run = f"run of {variant} on {data_id}"
    point = made.point(variant, corpus=corpus, data_id=data_id, config_id=run, checkpoint_id=f"best of {run}", **fields)
    value = {"a" * 16: 0.25, "b" * 16: 0.75}.get(data_id, 0.5)
    made.store.write(point, {"recall@1": value}, made.queries(value), started=started)
    trained = {"task": "training", "engine": "", "top_k": None, "bits": None, "images": None, "queries": None}
    trained |= {"direction": "", "depth": None, "checkpoint_id": "", "split": "train", "data_id": f"tensors {data_id}"}
    made.store.write(dataclasses.replace(point, **trained), {"parameters": 1.0}, started=started)


A, B = "a" * 16, "b" * 16


def recall(evidence, variant):
    return evidence.cell(variant, "recall@1", **evidence.retrieval()).value


def test_two_data_sets_under_one_name_do_not_meet(made, page_of, tmp_path):
    """A page compared lexlip on one set with clip on another."""
    measured(made, "lexlip", A, started="2026-02-01T00:00:00+00:00")
    measured(made, "clip", B)
    evidence = Evidence(made.store)
    assert evidence.corpus == "captions@bbbbbbbb" and evidence.variants == ["clip"]
    assert recall(evidence, "clip") == 0.75 and recall(evidence, "lexlip") is None
    assert evidence.others == [("quick", "captions@aaaaaaaa")]
    assert not evidence.matching("lexlip", "parameters").size, "nor does the training of the other set"
    other = Evidence(made.store, Reading(corpus="captions@aaaaaaaa"))
    assert other.variants == ["lexlip"] and recall(other, "lexlip") == 0.25
    assert other.matching("lexlip", "parameters").size and comparisons.tests(other) == comparisons.tests(evidence)
    text = page_of(made.store.folder.parent, tmp_path / "site").text
    told = "told apart by their fingerprints: captions@bbbbbbbb, captions@aaaaaaaa."
    assert f"“captions” names 2 data sets, {told}" in text
    assert "quick on captions@aaaaaaaa; `lexlip-bench report --profile PROFILE --corpus CORPUS` shows them." in text


def test_the_same_data_under_two_names_meets(made):
    measured(made, "lexlip", A, corpus="mine", started="2026-02-01T00:00:00+00:00")
    measured(made, "clip", A, corpus="copy")
    evidence = Evidence(made.store)
    assert (evidence.corpus, evidence.variants, evidence.others) == ("copy", ["lexlip", "clip"], [])
    assert recall(evidence, "lexlip") == recall(evidence, "clip") == 0.25
    assert evidence.matching("lexlip", "parameters").size
    assert Evidence(made.store, Reading(corpus="mine")).corpus == "copy", "either name selects it"


def test_a_corpus_is_selected_by_name(made, tmp_path, capsys):
    measured(made, "lexlip", A, corpus="birds", started="2026-02-01T00:00:00+00:00")
    measured(made, "lexlip", B, corpus="cars", profile="smoke")
    assert Evidence(made.store).corpus == "cars"
    birds = Evidence(made.store, Reading(corpus="birds"))
    assert (birds.profile, birds.corpus, recall(birds, "lexlip")) == ("quick", "birds", 0.25)
    with pytest.raises(InputError, match=r"no records of corpus 'bird' \(known: birds, cars\)"):
        Evidence(made.store, Reading(corpus="bird"))
    home = made.store.folder.parent
    main(parser().parse_args(["--home", str(home), "--corpus", "birds", "--out", str(tmp_path / "site")]))
    assert "birds" in (tmp_path / "site" / "method.html").read_text()


def test_the_newest_data_of_a_split_name_is_the_default(made):
    measured(made, "lexlip", A, started="2026-02-01T00:00:00+00:00")
    measured(made, "lexlip", B)
    assert Evidence(made.store, Reading(corpus="captions")).corpus == "captions@bbbbbbbb"
    assert recall(Evidence(made.store), "lexlip") == 0.75, "not the mean, nor the older one"


def test_further_qrels_of_a_corpus_are_of_the_same_data(made):
    """COCO's protocols append the id of their qrels."""
    measured(made, "lexlip", A, corpus="coco")
    run = {"config_id": f"run of lexlip on {A}", "checkpoint_id": f"best of run of lexlip on {A}"}
    point = made.point("lexlip", corpus="coco", data_id=f"{A}-cxc", task="cxc", **run)
    made.store.write(point, {"recall@1": 0.5}, started=LATER)
    assert Evidence(made.store).corpus == "coco" and set(Evidence(made.store).rows.task) >= {"retrieval", "cxc"}


def test_sweeps_of_two_data_sets_are_two_sweeps(made, sweep_of):
    """Own vectors and encoded ones alike; vectors generated after them follow their corpus."""
    written = sweep_of(made.store)
    for kind, data in (("lexicon", A), ("dense", B)):
        for corpus, profile in (("vectors:images", ""), ("captions", "quick"), ("synthetic:captions:99", "quick")):
            written.search(kind, 0.5, 100.0, engine="dummy2", corpus=corpus, profile=profile, data_id=data, split=data)
    found = {sweep.corpus: sweep for sweep in sweeps(Evidence(made.store))}
    own = {f"vectors:images@{8 * letter}" for letter in "ab"}
    fitted = {f"synthetic:captions@{8 * letter}:99" for letter in "ab"}
    assert own | fitted <= set(found) and len(found) == 5
    assert all({search.kind for search in sweep.searches} < {"lexicon", "dense"} for sweep in found.values())
    assert found["synthetic:captions@aaaaaaaa:99"].fitted_to == "captions@aaaaaaaa"
