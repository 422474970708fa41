"""Graded judgements and published values: measured cells are those of records, published rows say so."""

import dataclasses

import numpy as np
import pytest

from bench.store.records import RecordStore
from reports.build import build
from reports.findings import published
from reports.pages.ablations import judgements, yardsticks
from reports.records.evidence import Evidence
from reports.statistics import intervals
from tests.reports.html import Page

TAUS = {"judgements_tau_c": ("expert", 0.3), "judgements_tau_b": ("crowd", 0.2)}
SOURCES = {one.model: f"published, {one.source}" for one in (*published.RECALL, *published.JUDGEMENTS)}


@pytest.fixture
def judged(made):
    """A home with recall and judgements on flickr8k: lexlip of two seeds, clip of one."""
    for variant, seeds in (("lexlip", (0, 1)), ("clip", (0,))):
        for seed in seeds:
            searched = made.point(variant, seed=seed, corpus="flickr8k")
            made.retrieval(searched, 0.4)
            plain = dataclasses.replace(searched, task="judgements", engine="", direction="", depth=None, queries=None)
            for metric, (kind, value) in TAUS.items():
                for top_k, bits in ((None, None), (32, 8)) if variant == "lexlip" else ((None, None),):
                    knobs = {"judgements": kind}
                    point = dataclasses.replace(plain, knobs=knobs, top_k=top_k, bits=bits, data_id=f"data-{kind}")
                    write(made, point, metric, value + 0.1 * seed - 0.05 * bool(top_k))
    return made.store


def write(made, point, metric, value):
    spread = made.rng.normal(0, 0.5, made.images)
    rows = [
        {"query_id": str(i), "group": str(i), "outcome": outcome}
        for i, outcome in enumerate(value + spread - spread.mean())
    ]
    pairs = {"judgements_rows": 5_664, "judgements_own": 158, "judgements_missing": 3}
    made.store.write(point, {metric: value} | pairs, rows, started="2026-01-02T03:04:05+00:00")


def row(table, model):
    return next(row for row in table.rows if row["variant"].value == model)


def test_tau_is_that_of_the_records_with_an_interval_over_images_and_seeds(judged):
    table, pairs = judgements.section(Evidence(judged)).tables
    rows = judged.read()
    for metric, (_, value) in TAUS.items():
        for key, top_k, less in ((metric, None, 0), (f"pruned {metric}", 32, 0.05)):
            cell = row(table, "lexlip")[key]
            assert cell.value == pytest.approx(value + 0.05 - less)
            mine = rows[(rows.metric == metric) & (rows.variant == "lexlip")]
            mine = mine[mine.top_k.isna() if top_k is None else mine.top_k == top_k]
            expected = intervals.mean(Evidence(judged).outcomes(cell.points, metric))
            assert set(cell.points) == set(mine.point_id) and len(mine) == 2
            assert (cell.low, cell.high) == (expected.low, expected.high) and cell.low < cell.value < cell.high
            assert cell.n == "60 images, 2 seeds"
    assert row(table, "clip")["pruned judgements_tau_c"].value == "dense"
    assert row(table, "clip")["source"].value == row(table, "lexlip")["source"].value == "measured"
    assert pairs.texts() == [["tau-c, experts", "5,664", "158", "3"], ["tau-b, crowd", "5,664", "158", "3"]]


def test_published_values_are_marked_and_are_no_records(judged):
    evidence = Evidence(judged)
    table, _ = judgements.section(evidence).tables
    beside = row(table, "CLIPScore (CLIP ViT-B/32)")
    assert table.rows[-1] is beside and beside["source"].value == "published, Hessel et al., 2021"
    assert table.texts()[-1][1:-1] == ["–", "51.2", "34.4", "–", "–"]
    assert not beside["judgements_tau_c"].points and not beside["judgements_tau_c"].n
    (recalls,) = yardsticks.section(evidence).tables
    assert [row["source"].value for row in recalls.rows] == ["measured", "measured", *list(SOURCES.values())[:2]]
    assert [cells[1:4] for cells in recalls.texts()[2:]] == [["51.1", "77.9", "86.4"], ["19.1", "45.3", "60.4"]]
    measured = evidence.cell("lexlip", "recall@1", **evidence.retrieval(), **evidence.operating_point("lexlip"))
    assert recalls.rows[0]["recall@1"] == measured
    names = {one.model for one in (*published.RECALL, *published.JUDGEMENTS)}
    assert not names & {*evidence.variants, *judged.read().variant}


def test_a_page_shows_both_sections(judged, tmp_path, undrawn):
    page = build(judged.folder.parent, tmp_path / "site").parent / "ablations.html"
    shown = Page(page.read_text(encoding="utf-8"))
    assert {"judgements", "yardsticks"} <= {attributes.get("id") for _, attributes in shown.tags}
    assert shown.row("Graded judgements of flickr8k", "CLIPScore (CLIP ViT-B/32)")[2:4] == ["51.2", "34.4"]
    assert shown.row("Recall on flickr8k", "CCA on VGG features")[1:5] == ["19.1", "45.3", "60.4", "1,000"]


def test_corpora_without_judgements_or_published_values_have_neither_section(home):
    evidence = Evidence(RecordStore(home))
    assert judgements.section(evidence) is None and yardsticks.section(evidence) is None


def test_a_model_whose_scores_are_all_equal_has_no_tau(made):
    point = made.point("clip", corpus="flickr8k", task="judgements", engine="", knobs={"judgements": "expert"})
    write(made, point, "judgements_tau_c", np.nan)
    table, _ = judgements.section(Evidence(made.store)).tables
    assert row(table, "clip")["judgements_tau_c"].missing == "not a number"
    assert row(table, "clip")["judgements_tau_b"].missing == "not measured"


def test_tau_is_written_times_100_with_a_real_minus():
    assert [judgements.hundredfold(value) for value in (0.512, -0.027, -0.0001, 0)] == ["51.2", "−2.7", "0.0", "0.0"]
