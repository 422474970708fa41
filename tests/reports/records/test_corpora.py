"""One name per data set: the fingerprint decides which records meet in a comparison."""

import dataclasses

import pytest

from models.errors import InputError
from reports.build import main, parser
from reports.findings import comparisons
from reports.pages import limits
from reports.records.evidence import Evidence, Reading
from reports.records.sweep import sweeps
from tests.reports.scale.records import Made as Sweep

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


def test_two_data_sets_under_one_name_do_not_meet(made):
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
    assert [(one.corpus, one.others) for one in evidence.by_corpus()] == [
        ("captions@bbbbbbbb", []),
        ("captions@aaaaaaaa", []),
    ], "the site shows both"
    assert [one.corpus for one in other.by_corpus()] == ["captions@aaaaaaaa"], "unless one was asked for"


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
            made_of = data[:8] + "own" if corpus.startswith("vectors:") else data
            at = {"corpus": corpus, "profile": profile, "data_id": made_of, "split": data}
            written.search(kind, 0.5, 100.0, engine="dummy2", **at)
    found = {sweep.corpus: sweep for one in Evidence(made.store).by_corpus() for sweep in sweeps(one)}
    own = {f"vectors:images@{8 * letter}" for letter in "ab"}
    fitted = {f"synthetic:captions@{8 * letter}:99" for letter in "ab"}
    assert own | fitted <= set(found) and len(found) == 6
    assert all({search.kind for search in sweep.searches} < {"lexicon", "dense"} for sweep in found.values())
    assert found["synthetic:captions@aaaaaaaa:99"].fitted_to == "captions@aaaaaaaa"
    assert all(
        {sweep.corpus.removeprefix("synthetic:").partition(":99")[0] for sweep in sweeps(one)} <= {one.corpus}
        for one in Evidence(made.store).by_corpus()
        if one.corpus.startswith("captions")
    ), "no sweep of another corpus is beside them"


def test_one_title_under_two_profiles_is_two_data_sets_too(made):
    """Composed scenes of other concepts are other data, whatever the profile."""
    measured(made, "lexlip", A, corpus="scenes", profile="smoke", started="2026-02-01T00:00:00+00:00")
    measured(made, "lexlip", B, corpus="scenes")
    found = Evidence(made.store).by_corpus()
    assert [(one.profile, one.corpus) for one in found] == [("quick", "scenes@bbbbbbbb"), ("smoke", "scenes@aaaaaaaa")]
    assert [(one.profile, one.corpus) for one in Evidence(made.store, Reading(profile="smoke")).by_corpus()] == [
        ("smoke", "scenes@aaaaaaaa"),
        ("quick", "scenes@bbbbbbbb"),
    ], "the profile asked for comes first"
    assert [set(one.trained.config_id) for one in found] == [{f"run of lexlip on {B}"}, {f"run of lexlip on {A}"}]


def test_the_profile_asked_for_is_that_of_each_corpus_that_has_it(made):
    for corpus, data_id in (("scenes", A), ("birds", B)):
        measured(made, "lexlip", data_id, corpus=corpus, profile="smoke", started="2026-02-01T00:00:00+00:00")
    measured(made, "lexlip", A, corpus="scenes")
    shown = [(one.profile, one.corpus, one.others) for one in Evidence(made.store).by_corpus()]
    assert shown == [("quick", "scenes", [("smoke", "scenes")]), ("smoke", "birds", [("smoke", "scenes")])]
    asked = Evidence(made.store, Reading(profile="smoke")).by_corpus()
    assert {(one.profile, one.corpus) for one in asked} == {("smoke", "scenes"), ("smoke", "birds")}


def test_another_corpus_shows_the_profile_of_the_most_models(made):
    """A single model of a second profile, measured last, took the pages of the corpus over."""
    for variant in ("lexlip", "clip"):
        measured(made, variant, B, corpus="birds", profile="photos", started="2026-02-01T00:00:00+00:00")
    measured(made, "lexlip", B, corpus="birds", profile="photos_scratch")
    measured(made, "lexlip", A, corpus="scenes")
    scenes, birds = Evidence(made.store, Reading(profile="quick")).by_corpus()
    assert (birds.profile, birds.variants, birds.others) == ("photos", ["lexlip", "clip"], [])
    assert [(one.profile, one.corpus, one.variants) for one in birds.profiles] == [
        ("photos_scratch", "birds", ["lexlip"])
    ]
    assert scenes.profiles == []


def failed(made, data_id, variant="clip", corpus="captions", started=LATER):
    """A training that failed, as `ablations.run` records it; data_id: "" in records of earlier versions."""
    fields = {"task": "training", "engine": "", "images": None, "queries": None, "direction": "", "depth": None}
    point = made.point(variant, corpus=corpus, data_id=data_id, config_id=f"{variant}, {corpus}", **fields)
    made.store.write(
        dataclasses.replace(point, checkpoint_id=""), {}, status="failed", note="loss is not finite", started=started
    )


@pytest.mark.parametrize("measured_before", [True, False])
def test_a_failed_training_shows_on_its_own_data_only(made, measured_before):
    measured(made, "lexlip", A, started="2026-02-01T00:00:00+00:00")
    if measured_before:
        measured(made, "lexlip", B, started="2026-02-01T00:00:00+00:00")
    failed(made, B)
    found = {one.corpus: one for one in Evidence(made.store).by_corpus()}
    assert set(found) == {"captions@aaaaaaaa", "captions@bbbbbbbb"}
    assert list(found["captions@bbbbbbbb"].failures().variant) == ["clip"]
    assert found["captions@aaaaaaaa"].failures().empty and recall(found["captions@aaaaaaaa"], "lexlip") == 0.25


def test_a_failed_training_without_a_fingerprint_says_so(made):
    for data_id in (A, B):
        measured(made, "lexlip", data_id)
    failed(made, "")
    for one in Evidence(made.store).by_corpus():
        (said,) = [which for what, which in limits.caveats(one).texts() if what == "Failed"]
        assert said == ("clip, training, seed 0, on one of the data sets named “captions” (loss is not finite)")


def test_a_failed_training_of_one_data_set_is_on_its_pages(made):
    """Its name is unique, so its fingerprint says nothing new."""
    measured(made, "lexlip", A, corpus="mine", started="2026-02-01T00:00:00+00:00")
    measured(made, "no_momentum", A, corpus="copy")
    failed(made, A, corpus="mine")
    (only,) = Evidence(made.store).by_corpus()
    assert only.corpus == "copy" and only.variants == ["lexlip", "clip", "no_momentum"]


def test_own_vectors_have_a_lexicon_and_a_dense_side_and_other_corpora_their_variants(made, sweep_of):
    """Their variants have no names, so lexlip and clip would be wrong ones."""
    measured(made, "lexlip", A, started="2025-02-01T00:00:00+00:00")
    own = {"corpus": "vectors:mine", "profile": "", "data_id": "mine", "variant": "", "checkpoint_id": ""}
    sweep_of(made.store).search("dense", 0.5, 100.0, engine="faiss-flat", **own)
    found = [(one.corpus, one.reading.reference, one.reading.baseline) for one in Evidence(made.store).by_corpus()]
    assert found == [("vectors:mine", "lexicon", "dense"), ("captions", "lexlip", "clip")]
    assert not [row for row in limits.not_measured(Evidence(made.store)).texts() if row[0].startswith("Models")]


def test_vectors_generated_from_statistics_belong_to_the_corpus_of_their_name(made):
    """The statistics had a fingerprint of their own, and the corpus was shown as two."""
    measured(made, "lexlip", A, corpus="flickr8k")
    sweep = Sweep(made.store)
    of = {"corpus": "synthetic:flickr8k", "images": 1_000_000, "data_id": "", "checkpoint_id": ""}
    sweep.impact_single(32, None, 900.0, 64.0, **of)
    made.store.write(sweep.point("lexicon", task="vectors", **of | {"corpus": "flickr8k"}), {"vectors_items": 1.0})
    (evidence,) = Evidence(made.store, Reading(profile="quick")).by_corpus()
    assert evidence.corpus == "flickr8k" and [one.corpus for one in sweeps(evidence)] == ["synthetic:flickr8k"]
