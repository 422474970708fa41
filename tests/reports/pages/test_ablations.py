"""Ablations: the forest, the table and the words hold the numbers of the records."""

import dataclasses

import numpy as np
import pytest

from ablations import run
from bench.store.records import RecordStore
from reports.findings import comparisons
from reports.pages import ablations
from reports.pages.ablations import curves
from reports.pages.ablations.measures import LEXICONS_OF
from reports.records.evidence import Evidence


@pytest.fixture
def three_seeds(made):
    for seed in range(3):
        made.variant("lexlip", 0.6, seed)
        made.variant("no_momentum", 0.1, seed)
    made.variant("no_queue", 0.3)
    return Evidence(made.store)


def tables_of(evidence) -> dict:
    return {table.name: table for table in ablations.table(evidence)}


def test_planned_comparisons_stand_apart_from_screened_ones(three_seeds):
    chart = ablations.forest(three_seeds)
    names = {panel.title: panel.y.names for panel in chart.panels}
    groups = {comparisons.MAIN: ("no_momentum",), comparisons.SCREENED: ("no_queue",)}
    assert names == {ablations.GROUPS[family]: variants for family, variants in groups.items()}
    tests = comparisons.tests(three_seeds)
    for panel in chart.panels:
        for mark in (mark for series in panel.series for mark in series.marks):
            e = tests[panel.y.names[int(mark.y)], "recall@1"].estimate
            assert (mark.x, mark.low, mark.high) == (100 * e.value, 100 * e.low, 100 * e.high)
    (screened,) = chart.panels[1].series
    assert screened.hollow, "one seed has no mark of significance"
    gap = f"{abs(100 * tests['no_momentum', 'recall@1'].estimate.value):.1f}"
    assert chart.title == f"no_momentum loses {gap} points of R@1; no other model differs significantly"


def test_the_title_names_the_baseline_if_nothing_else_differs(made):
    for seed in range(3):
        made.variant("lexlip", 0.6, seed)
        made.variant("clip", 0.1, seed)
    title = ablations.forest(Evidence(made.store)).title
    assert title.startswith("clip loses ") and title.endswith("; no other model differs significantly")
    made.variant("no_queue", 0.3)
    assert ablations.forest(Evidence(made.store)).title == title, "one seed is not tested"


def test_largest_losses_come_first(home):
    panel = ablations.forest(Evidence(RecordStore(home))).panels[0]
    values = {panel.y.names[int(mark.y)]: mark.x for series in panel.series for mark in series.marks}
    assert [values[name] for name in panel.y.names] == sorted(values.values())


def test_the_table_has_at_most_eight_columns_and_the_rest_is_folded(home):
    effects, every, *_ = ablations.sections(Evidence(RecordStore(home)))
    assert len(every.tables[0].columns) <= 8 and effects.charts
    names = [table.name for table in every.folded]
    views = ("quality", "reverse", "sparsity", "cost", "zero_shot")
    assert names == [f"ablations_{view}" for view in views]


def test_every_cell_of_a_metric_is_that_of_its_record(home):
    evidence = Evidence(RecordStore(home))
    rows, tables = RecordStore(home).read(), tables_of(evidence)
    mine = rows[rows.variant == "no_bottleneck"].set_index("point_id")
    checked = 0
    for table in tables.values():
        row = next(row for row in table.rows if row["variant"].value == "no_bottleneck")
        for column in table.columns:
            cell = table.cell(row, column)
            if len(cell.points) == 1:
                found = mine.loc[[cell.points[0]]]
                assert cell.value in set(found.value), column.key
                checked += 1
    assert checked > 35


def test_zero_shot_has_a_column_for_each_kind_of_class(home):
    table = tables_of(Evidence(RecordStore(home)))["ablations_zero_shot"]
    assert [column.label for column in table.columns][2:] == ["concept", "time"]


def test_costs_are_those_of_the_last_period(made):
    end = dict.fromkeys(("top_k", "bits", "images")) | {
        "task": "training",
        "engine": "",
        "direction": "",
        "split": "train",
    }
    done = ("lexlip", 0, "03:00"), ("clip", 0, "04:20"), ("lexlip", 1, "06:31"), ("no_flops", 0, "06:40")
    for variant, seed, ended in done:  # each training took half an hour
        made.retrieval(made.point(variant, seed=seed), 0.5)
        values, at = {"train_cpu_seconds": 250.0 + 100 * seed}, made.point(variant, **end, seed=seed)
        made.store.write(at, values, started=f"2026-01-02T{ended}:00+00:00", seconds=1800)
    cost = {
        row["variant"].value: row["train_cpu_seconds"].value for row in ablations.table(Evidence(made.store))[0].rows
    }
    assert cost == {"lexlip": 350.0, "clip": 250.0, "no_flops": 250.0}


def test_words_are_a_chart_and_columns_where_they_were_measured(home, made):
    evidence = Evidence(RecordStore(home))
    weight, typed = ablations.words_chart(evidence).panels
    for panel, metric in ((weight, "caption_precision_weighted"), (typed, "typed_recall@1")):
        cells = {name: evidence.cell(name, metric, task="sparsity", split="test", top_k=32) for name in panel.y.names}
        assert {panel.y.names[int(m.y)]: m.x for m in panel.series[0].marks} == {
            n: 100 * c.value for n, c in cells.items()
        }
        assert "clip" not in panel.y.names, "dense vectors have no words"
    made.retrieval(made.point("lexlip"), 0.5)
    assert ablations.words_chart(Evidence(made.store)) is None
    assert not any(column.key in LEXICONS_OF for column in ablations.table(Evidence(made.store))[0].columns)
    at = dataclasses.replace(made.point("lexlip", task="sparsity"), engine="", bits=None, top_k=None)
    made.store.write(at, {"caption_precision_weighted": 0.5})
    (whole,) = ablations.words_chart(Evidence(made.store)).panels
    assert "un-pruned" in whole.title and whole.series[0].marks[0].x == 50.0


def test_work_is_drawn_at_every_top_k_of_the_compared_models(made):
    """lexlip at two settings and lexlip_words are lines; another model is one mark; dense vectors are none."""
    for variant, top_k, work, skill in (
        ("lexlip", 8, 2.0, 0.3), ("lexlip", 32, 7.0, 0.5), ("lexlip_words", 32, 2.0, 0.6), ("no_queue", 32, 6.0, 0.4),
        ("no_queue", 8, 1.0, 0.2), ("clip", None, 512.0, 0.5),
    ):  # fmt: skip
        at = made.point(variant) if top_k is None else made.point(variant, top_k=top_k)
        made.retrieval(at, skill, flops_per_pair=work)
    evidence = Evidence(made.store)
    (panel,) = ablations.work_chart(evidence).panels
    marks = {one.name: [(mark.label, mark.x) for mark in one.marks] for one in panel.series}
    assert marks == {
        "lexlip": [("top-8", 2.0), ("top-32", 7.0)], "lexlip_words": [("top-32", 2.0)],
        "other models": [("no_queue", 6.0)],
    }  # fmt: skip
    recall = evidence.cell("no_queue", "recall@1", **evidence.retrieval(), **evidence.operating_point("no_queue"))
    assert panel.series[-1].marks[0].y == pytest.approx(100 * recall.value)
    made.retrieval(made.point("no_flops"), 0.95, flops_per_pair=9.0)
    assert ablations.work_chart(Evidence(made.store)).title.startswith("no_flops has the highest R@1"), (
        "another model may"
    )


def test_sparsifiers_are_lines_by_strength_of_unpruned_vectors(made):
    un_pruned = {"engine": "scipy", "top_k": None, "bits": None}
    for variant, work, skill in (
        ("lexlip", 7.0, 0.5), ("l1_weak", 5.0, 0.45), ("l1_strong", 1.0, 0.2), ("top_k_medium", 2.0, 0.4),
    ):  # fmt: skip
        made.retrieval(made.point(variant, **un_pruned), skill, flops_per_pair=work, active_lexicons_image=9.0)
    made.retrieval(made.point("top_k_weak"), 0.5, flops_per_pair=3.0)  # pruned only
    chart = ablations.sparsifier_chart(Evidence(made.store))
    marks = {one.name: [(mark.label, mark.x) for mark in one.marks] for one in chart.panels[0].series}
    assert marks == {
        "L1": [("weak", 5.0), ("strong", 1.0)], "top-k": [("medium", 2.0)], "lexlip": [("", 7.0)]
    }  # fmt: skip
    assert chart.title.startswith("lexlip has the highest R@1: ")
    named = {f"{name}_{strength}" for name in curves.SPARSIFIERS for strength in curves.STRENGTHS}
    assert named == set(run.SPARSIFIERS), "reports know no package above bench, so they name the variants themselves"


def test_learning_curves_are_means_over_seeds(made):
    for seed, skill in enumerate((0.2, 0.6)):
        made.variant("lexlip", skill, seed)
        made.variant("no_queue", 0.1, seed)
    chart = ablations.learning(Evidence(made.store))
    by_step, by_time = chart.panels
    mine = next(series for series in by_step.series if series.name == "lexlip")
    assert [mark.x for mark in mine.marks] == [100, 200, 400] and mine.marks[-1].y == pytest.approx(40.0)
    seconds = next(series for series in by_time.series if series.name == "lexlip")
    assert [mark.x for mark in seconds.marks] == pytest.approx([100 / 3, 200 / 3, 400 / 3])
    assert {series.name for series in by_step.series} == {"lexlip", "other models"}
    assert chart.title == "Validation R@1 at the end: lexlip 40%"


def test_a_store_without_queries_has_no_forest(made):
    made.store.write(made.point("lexlip"), {"recall@1": 0.5})
    made.store.write(made.point("no_queue"), {"recall@1": np.nan})
    assert ablations.forest(Evidence(made.store)) is None
