"""Over time: a line per trained model from superseded records too; nothing to draw for one day."""

import dataclasses

import pytest

from reports.pages import history
from reports.records.evidence import Evidence


def dated(made, name: str, skill: float, day: str, **changes) -> str:
    """R@1 of a model as measured on a day by another state of the code; returns the id of its point."""
    point = dataclasses.replace(made.point(name, **changes), code_id=day)
    made.retrieval(point, skill)
    rows = made.store.read()
    values = rows[rows.point_id == point.id].set_index("metric").value.to_dict()
    return made.store.write(point, values, made.store.queries(point.id), started=f"{day}T10:00:00+00:00")


def test_two_days_are_two_points_of_a_line(made):
    ids = [dated(made, "lexlip", skill, day) for day, skill in (("2026-11-01", 0.3), ("2026-11-20", 0.7))]
    dated(made, "lexlip", 0.5, "2026-11-20", seed=1)  # another seed, on one day
    chart = history.chart(Evidence(made.store))
    assert chart.title == "2026-11-01 to 2026-11-20"
    (panel,) = chart.panels
    (series,) = panel.series
    assert (series.name, series.line) == ("lexlip, seed 0", "all")
    rows = made.store.read()
    for place, (mark, point_id) in enumerate(zip(series.marks, ids, strict=True)):
        (expected,) = rows[(rows.point_id == point_id) & (rows.metric == "recall@1")].value
        assert (mark.x, mark.y) == (place, pytest.approx(100 * expected)) and point_id in mark.tip
        assert panel.x.format(mark.x) in mark.tip
    assert panel.x.format(0.5) == ""


def test_seeds_of_different_days_are_no_line(made):
    for seed, day in enumerate(("2026-11-01", "2026-11-20")):
        dated(made, "lexlip", 0.5, day, seed=seed)
    assert history.sections(Evidence(made.store)) == []


def test_engines_have_lines_too(made):
    for day, rate in (("2026-11-01", 100.0), ("2026-11-20", 250.0)):
        for engine, mode in (("impact", "single"), ("impact", "batched"), ("lucene", "single")):
            at = {"task": "scale", "engine": engine, "batch_mode": mode, "threads": 1, "images": 10_000, "seed": None}
            if engine == "impact" or day == "2026-11-01":
                point = dataclasses.replace(made.point("lexlip", **at), code_id=day)
                made.store.write(point, {"qps": rate}, started=f"{day}T10:00:00+00:00")
    dated(made, "lexlip", 0.5, "2026-11-01")
    (panel,) = history.chart(Evidence(made.store)).panels
    (series,) = panel.series
    assert series.name == "impact" and [mark.y for mark in series.marks] == [100, 250]
