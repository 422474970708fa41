"""Over time: a point per model and day, from superseded records too; nothing to draw for one day."""

import dataclasses

import pytest

from reports.pages import history
from reports.records.evidence import Evidence


def dated(made, name: str, skill: float, day: str, **changes) -> None:
    """R@1 of a model as measured on a day by another state of the code."""
    point = dataclasses.replace(made.point(name, **changes), code_id=day)
    made.retrieval(point, skill)
    rows = made.store.read()
    own = rows[rows.point_id == point.id]
    values = own.set_index("metric").value.to_dict()
    made.store.write(point, values, made.store.queries(point.id), started=f"{day}T10:00:00+00:00")


def test_two_days_are_two_points_of_a_line(made):
    for day, skill in (("2026-11-01", 0.3), ("2026-11-20", 0.7)):
        dated(made, "lexlip", skill, day)
    evidence = Evidence(made.store)
    found = history.quality(evidence)
    assert found.day.tolist() == ["2026-11-01", "2026-11-20"] and set(found.name) == {"lexlip"}
    rows = made.store.read()
    for row in found.itertuples():
        (expected,) = rows[(rows.point_id == row.points) & (rows.metric == "recall@1")].value
        assert row.value == pytest.approx(expected)
    (panel,) = history.chart(evidence).panels
    (series,) = panel.series
    assert [mark.x for mark in series.marks] == [739921.0, 739940.0] and series.line == "all"
    assert "lexlip, 2026-11-20" in series.marks[1].tip


def test_one_day_draws_nothing_and_says_so(made):
    dated(made, "lexlip", 0.5, "2026-11-01")
    (section,) = history.sections(Evidence(made.store))
    assert not section.charts and "one day" in section.empty
