"""Hybrid search of two tiny models: points of every method, against brute force, by the command too."""

import json

import numpy as np
import pytest

from bench.__main__ import main
from bench.store.records import RecordStore
from bench.tasks.hybrid import measure
from bench.tasks.hybrid.measure import HybridOptions, Side, measure_hybrid
from bench.tasks.subject import Measurement
from models.errors import InputError
from tests.bench.tasks.conftest import IMAGES, SPEC, TOP_K

OPTIONS = HybridOptions(TOP_K, val_images=6)
METHODS = ["first", "second", "rrf", "dbsf", "convex", "first_then_second", "second_then_first", "union"]


@pytest.fixture(scope="module")
def fused(measured, tmp_path_factory):
    """Both models measured together: rows by method, and the two sides."""
    home = tmp_path_factory.mktemp("hybrid")
    ids = measure_hybrid(home, tuple(measured.subjects), measured.slice, OPTIONS)
    rows = RecordStore(home).read()
    assert set(rows.point_id) == set(ids)
    sides = [Side(Measurement(home, subject, measured.slice), OPTIONS) for subject in measured.subjects]
    return home, {json.loads(knobs)["method"]: part for knobs, part in rows.groupby("knobs")}, sides


def values(rows) -> dict:
    return rows.set_index("metric").value.to_dict()


def test_every_method_is_a_point_with_both_models(fused):
    _, rows, sides = fused
    assert sorted(rows) == sorted(METHODS)
    for method, part in rows.items():
        assert set(part.metric) == {"recall@1", "recall@5", "recall@10", "bytes_per_image"}, method
        assert (part.kind == "").all() and (part.engine == "").all(), "a pair is no model of a kind"
        knobs = json.loads(part.knobs.iloc[0])
        assert (knobs["with_variant"], knobs["kinds"]) == ("clip", ["lexicon", "dense"])
    assert json.loads(rows["first_then_second"].knobs.iloc[0])["first"] == IMAGES  # cascades stop at the gallery


def test_each_alone_is_its_own_search_and_bytes_add_up(fused):
    _, rows, sides = fused
    sizes = [values(rows[name])["bytes_per_image"] for name in ("first", "second")]
    assert values(rows["rrf"])["bytes_per_image"] == pytest.approx(sum(sizes))
    for name, side in zip(("first", "second"), sides, strict=True):
        ranks, _ = side.search.relevance.ranks(side.results[0])
        expected = np.mean([len(of_query) > 0 and of_query[0] <= 1 for of_query in ranks])
        assert values(rows[name])["recall@1"] == pytest.approx(expected)


def test_a_cascade_over_the_whole_gallery_is_the_second_model_alone(fused):
    """Dense flat search returns every image, so re-ranking all of it by lexicons orders those that share a lexicon."""
    _, rows, sides = fused
    lexicon, dense = sides
    scores = lexicon.scores_of(dense.results[0])
    full = (
        lexicon.search.query_matrix(8).toarray().astype(float)
        @ lexicon.search.documents(lexicon.setting).to_scipy().toarray().T
    )
    assert np.array_equal(scores, np.take_along_axis(full, dense.results[0], axis=1))
    dense_scores = dense.scores_of(dense.results[0])
    assert np.allclose(dense_scores, dense.results[1], atol=1e-5)
    assert values(rows["second_then_first"])["recall@1"] == values(rows["first"])["recall@1"]


def test_the_union_bounds_every_method_at_every_depth(fused):
    _, rows, _ = fused
    for method in METHODS:
        if "then" not in method and method not in ("rrf", "dbsf", "convex"):
            assert values(rows["union"])["recall@1"] >= values(rows[method])["recall@1"], method


def test_the_weight_is_the_best_on_val(fused, measured, monkeypatch):
    home, rows, _ = fused
    weight = json.loads(rows["convex"].knobs.iloc[0])["weight"]
    assert weight in measure.WEIGHTS
    held = [
        Side(Measurement(home, subject, measure._val(measured.slice, OPTIONS)), OPTIONS)
        for subject in measured.subjects
    ]
    found = {}
    for candidate in measure.WEIGHTS:
        monkeypatch.setattr(measure, "WEIGHTS", (candidate,))
        union = measure.fusion.Union.of(*zip(held[0].results, held[1].results, strict=True))
        ids = union.best(measure.fusion.convex(union, candidate), 1)
        groups = np.array(held[0].search.gallery.groups)
        found[candidate] = np.mean(groups[ids[:, 0]] == np.array(held[0].search.queries.groups))
    assert found[weight] == max(found.values())


def test_the_command_prints_a_line_per_method_and_measures_once(measured, tmp_path, capsys):
    models = [str(subject.model) for subject in measured.subjects]
    flags = ["--home", str(tmp_path), "--checkpoint", models[0], "--with", models[1], "--val-images", "4"]
    command = ["hybrid", *flags, "--corpus", json.dumps(SPEC), "--images", str(IMAGES)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == METHODS
    assert lines[-1] == f"used scenes, test: {IMAGES} images, {5 * IMAGES} queries"
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "results").iterdir()}
    assert main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "results").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--with": "same"}, "the same model as --checkpoint"),
        ({"--top-k": "0"}, "expected at least 1"),
        ({"--depth": "4"}, "--depth: at least 10"),
        ({"--with": "/nowhere"}, "nowhere"),
    ],
)
def test_bad_flags_end_in_one_line(measured, tmp_path, capsys, change, message):
    models = [str(subject.model) for subject in measured.subjects]
    flags = {"--home": str(tmp_path), "--checkpoint": models[0], "--with": models[1], "--corpus": json.dumps(SPEC)}
    flags |= {"--images": "4"} | change
    flags["--with"] = models[0] if flags["--with"] == "same" else flags["--with"]
    assert main(["hybrid", *(part for pair in flags.items() for part in pair)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and len(error.strip().splitlines()) == 1


def test_a_corpus_without_val_is_refused(measured, tmp_path):
    with pytest.raises(InputError, match="val"):
        measure_hybrid(tmp_path, tuple(measured.subjects), measured.slice, HybridOptions(TOP_K, val_images=10**9))


def test_two_dense_models_have_no_lexicons_and_leave_tables_as_they_are(measured, make_model, copied):
    """A report reads the kind of a variant from its records; a pair must not change it."""
    from bench.tasks.subject import Subject
    from reports.records.evidence import Evidence

    home, dense = copied.home, measured.subjects[1]
    before = Evidence(RecordStore(home)).kinds
    other = Subject(make_model("clip", image_bias=0.0), "other", 1)
    measure_hybrid(home, (dense, other), measured.slice, OPTIONS)
    rows = RecordStore(home).read()
    assert rows[rows.task == measure.TASK].top_k.isna().all()
    assert {name: kind for name, kind in Evidence(RecordStore(home)).kinds.items() if name in before} == before
