"""Photographs: measured cells are those of records, published rows say so, pictures stay out of bundles."""

import dataclasses

import pytest

from bench.store.records import RecordStore
from reports.build import build
from reports.findings import published
from reports.pages import photographs
from reports.records import bundle
from reports.records.corpora import is_photographs
from reports.records.evidence import Evidence, Reading
from tests.reports.html import Page

PAIRS = {"judgements_tau_c": 5_664, "judgements_tau_b": 47_830}
TAUS = {"judgements_tau_c": ("expert", 0.3), "judgements_tau_b": ("crowd", 0.2)}


@pytest.fixture
def judged(made):
    """Recall and judgements on flickr8k, lexlip of two seeds, clip of one; and scenes."""
    for variant, seeds in (("lexlip", (0, 1)), ("clip", (0,))):
        for seed in seeds:
            searched = made.point(variant, seed=seed, corpus="flickr8k", data_id="photos")
            made.retrieval(searched, 0.4, made.examples(variant))
            plain = dataclasses.replace(searched, task="judgements", engine="", direction="", depth=None, queries=None)
            for metric, (kind, value) in TAUS.items():
                for top_k, bits in ((None, None), (32, 8)) if variant == "lexlip" else ((None, None),):
                    scaled = {"query_top_k": None, "scale": 100.0} if bits else {}  # as records of lexicon vectors
                    point = dataclasses.replace(plain, knobs={"judgements": kind} | scaled, top_k=top_k, bits=bits)
                    write(
                        made,
                        dataclasses.replace(point, data_id=f"photos-{kind}"),
                        metric,
                        value + 0.1 * seed - 0.05 * bool(top_k),
                    )
    return made


def write(made, point, metric, value):
    spread = made.rng.normal(0, 0.5, made.images)
    outcomes = value + spread - spread.mean()
    rows = [{"query_id": str(i), "group": str(i), "outcome": outcome} for i, outcome in enumerate(outcomes)]
    made.store.write(
        point, {metric: value, "judgements_rows": PAIRS[metric]}, rows, started="2026-01-02T03:04:05+00:00"
    )


def row(table, model):
    return next(row for row in table.rows if row["variant"].value == model)


def test_tau_is_that_of_the_records_with_an_interval(judged):
    table = photographs.judgements(Evidence(judged.store))
    rows = judged.store.read()
    for metric, (_, value) in TAUS.items():
        for key, top_k, less in ((metric, None, 0), (f"pruned {metric}", 32, 0.05)):
            cell = row(table, "lexlip")[key]
            assert cell.value == pytest.approx(value + 0.05 - less) and cell.low < cell.value < cell.high
            mine = rows[(rows.metric == metric) & (rows.variant == "lexlip")]
            mine = mine[mine.top_k.isna() if top_k is None else mine.top_k == top_k]
            assert set(cell.points) == set(mine.point_id) and cell.n == "60 images, 2 seeds"
    assert row(table, "clip")["pruned judgements_tau_c"].value == "dense"
    pairs = [[row(table, model)[judge].value for judge in ("expert", "crowd")] for model in ("lexlip", "clip")]
    assert pairs == [[5_664, 47_830]] * 2, "the column used to mix both"


def test_published_values_are_marked_and_are_no_records(judged):
    evidence = Evidence(judged.store)
    recalls, taus = photographs.sections(evidence)[0].tables
    beside = row(recalls, "CLIP ViT-B/32, zero-shot")
    assert beside["source"].value.startswith("published, ") and not beside["recall@1 text_to_image"].points
    assert beside["recall@1 image_to_text"].value == "–" and beside["recall@1 text_to_image"].value == 0.511
    assert row(taus, "CLIPScore (CLIP ViT-B/32)")["judgements_tau_c"].value == 0.512
    measured = evidence.cell("lexlip", "recall@1", **evidence.retrieval(), **evidence.operating_point("lexlip"))
    assert row(recalls, "lexlip")["recall@1 text_to_image"] == measured
    names = {one.model for one in (*published.RECALL, *published.JUDGEMENTS)}
    assert not names & {*evidence.variants, *judged.store.read().variant}


def test_lexicon_models_have_a_row_for_each_top_k_that_was_measured(judged):
    at_32 = judged.point("lexlip", corpus="flickr8k", data_id="photos")
    judged.retrieval(dataclasses.replace(at_32, top_k=64), 0.6)
    of_words = dataclasses.replace(at_32, task="sparsity", engine="", bits=None, direction="", depth=None)
    judged.store.write(of_words, {"caption_precision_weighted": 0.3})
    rows = [row for row in photographs.recall(Evidence(judged.store)).rows if row["source"].value == "measured"]
    found = {(row["variant"].value, row["top_k"].value): row["recall@1 text_to_image"].value for row in rows}
    assert set(found) == {("lexlip", 64), ("lexlip", 32), ("clip", "–")}
    words = {row["top_k"].value: row["words weight"] for row in rows if row["variant"].value == "lexlip"}
    assert words[64].value == "–" and words[32].value == pytest.approx(0.3), "measured at 32 lexicons"
    assert found["lexlip", 64] == pytest.approx(0.6, abs=0.05) and found["lexlip", 32] == pytest.approx(0.4, abs=0.05)


def test_the_chart_holds_the_measured_rows_and_marks_published_ones(judged):
    evidence = Evidence(judged.store)
    (section,) = photographs.sections(evidence)
    (t2i,) = section.charts[0].panels  # image to text was not measured
    lexicon, dense, beside = t2i.series
    assert (lexicon.name, dense.name) == ("lexicon vectors", "dense vectors")
    cells = {model: row(section.tables[0], model)["recall@1 text_to_image"] for model in ("lexlip", "clip")}
    found = {t2i.y.names[int(mark.y)]: (mark.x, mark.low, mark.high) for mark in lexicon.marks + dense.marks}
    expected = {"lexlip top-32": cells["lexlip"], "clip": cells["clip"]}
    assert found == {n: tuple(100 * v for v in (c.value, c.low, c.high)) for n, c in expected.items()}
    assert beside.hollow and beside.name == "published" and len(beside.marks) == len(t2i.y.names) - 2
    best = max(expected, key=lambda name: expected[name].value)
    assert section.charts[0].title.startswith(f"{best} has the highest R@1: "), "never a published one"


def test_models_of_a_second_profile_stand_in_the_same_tables(judged):
    """Text encoders that have and have not seen the test captions are to be read beside each other."""
    searched = judged.point(
        "lexlip", corpus="flickr8k", data_id="photos", profile="photos_scratch", checkpoint_id="own"
    )
    judged.retrieval(searched, 0.25, judged.examples("lexlip"))
    (section,) = photographs.sections(Evidence(judged.store, Reading(profile="quick")))
    for table in section.tables:
        measured = [row for row in table.rows if row["source"].value == "measured"]
        models = [(row["variant"].value, row["profile"].value) for row in measured]
        assert models == [("lexlip", "quick"), ("clip", "quick"), ("lexlip", "photos_scratch")]
        assert "profile" in [column.key for column in table.columns]
        assert any(note.startswith("Profile photos_scratch: its text encoder was trained here") for note in table.notes)
    recalls = section.tables[0].rows
    assert [row["recall@1 text_to_image"].value for row in (recalls[0], recalls[2])] == pytest.approx(
        [0.4, 0.25], abs=0.1
    )
    names = section.charts[0].panels[0].y.names
    assert {"lexlip top-32", "lexlip photos_scratch top-32", "clip"} <= set(names)


def test_the_site_of_another_corpus_has_them_beside_its_own(judged, tmp_path):
    for variant in ("lexlip", "clip"):
        judged.variant(variant, 0.5)
    site = build(judged.store.folder.parent, tmp_path / "site").parent
    for page in (site / "photographs.html", site / "corpus-flickr8k" / "photographs.html"):
        shown = Page(page.read_text(encoding="utf-8"))
        assert shown.row("Recall on flickr8k", "CCA on VGG features")[3:6] == ["19.1", "45.3", "60.4"]
        assert shown.row("Agreement with people", "CLIPScore (CLIP ViT-B/32)")[2:4] == ["51.2", "34.4"]
        assert (page.parent / "tables" / "photographs_flickr8k.csv").is_file()


def test_a_site_of_photographs_alone(judged, tmp_path):
    site = build(judged.store.folder.parent, tmp_path / "site").parent
    assert "Recall on flickr8k" in (site / "photographs.html").read_text(encoding="utf-8")
    assert "data:image/webp" in (site / "look.html").read_text(encoding="utf-8"), "a user's own build has pictures"


def test_pictures_and_captions_of_photographs_stay_out_of_bundles(judged, tmp_path):
    judged.retrieval(judged.point("lexlip"), 0.5, judged.examples("lexlip"))  # on scenes
    bundle.write([judged.store], tmp_path / "bundle")
    shared = bundle.Bundle(tmp_path / "bundle")
    rows = judged.store.read()
    kept = {c: rows[(rows.corpus == c) & (rows.task == "retrieval") & (rows.variant == "lexlip")].point_id.iloc[0]
            for c in ("scenes", "flickr8k")}  # fmt: skip
    assert shared.examples(kept["scenes"]).image.notna().all()
    assert judged.store.examples(kept["flickr8k"]) is not None and shared.examples(kept["flickr8k"]) is None


def test_composed_and_own_vectors_are_no_photographs(home):
    assert photographs.sections(Evidence(RecordStore(home))) == []
    names = {"scenes": False, "scenes@12345678": False, "vectors:x": False, "": False, "coco": True, "my photos": True}
    assert {name: is_photographs(name) for name in names} == names


def test_tau_is_written_times_100_with_a_real_minus():
    assert [photographs.hundredfold(value) for value in (0.512, -0.027, -0.0001, 0)] == ["51.2", "−2.7", "0.0", "0.0"]
