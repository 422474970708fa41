"""Latency of single queries: cold apart from warm, and against the postings that a query touches."""

import numpy as np
import pytest

from reports.build import build
from reports.pages import latency, scale
from reports.records.sweep import sweeps
from tests.reports.scale.records import FLAT, IMPACT, LEXICON, STARTED, cell

COLOURS = {"lexlip, lexicon vectors": 2}
COLD = {"open_seconds": 1.25, "first_query_us": 5400.0}
TOUCHED = np.linspace(1_000, 200_000, 40)


def timed(made, latencies, **fields):
    """Single queries of a lexicon engine, each with the postings that it touches."""
    fields = {"knobs": LEXICON, "batch_mode": "single", "threads": 1, **IMPACT, "top_k": 32, **fields}
    rows = [
        {"query_id": f"q{i}", "latency_us": us, "touched": int(touched)}
        for i, (us, touched) in enumerate(zip(latencies, TOUCHED, strict=True))
    ]
    values = {"qps": 600.0, "latency_p50_us": 1500.0, "latency_p95_us": 2500.0, "latency_p99_us": 2700.0}
    made.store.write(made.point("lexicon", **fields), values | COLD, rows, started=STARTED)


@pytest.fixture
def swept(small):
    timed(small, 100 + TOUCHED / 100)
    timed(small, 500 - TOUCHED / 1000, engine="seismic", exact=False)
    return sweeps(small.evidence)[0]


def test_a_panel_for_each_engine_and_a_point_for_each_query(swept):
    chart = latency.chart(swept, COLOURS)
    assert [panel.title for panel in chart.panels] == ["impact: latency, µs", "seismic: latency, µs"]
    (of_impact,) = chart.panels[0].series
    assert (of_impact.name, of_impact.colour) == ("lexlip, lexicon vectors", 2), "as in the other charts of the sweep"
    assert [(mark.x, mark.y) for mark in of_impact.marks] == list(
        zip(TOUCHED.astype(int), 100 + TOUCHED / 100, strict=True)
    )
    assert chart.title == "Latency depends most on postings in impact, least in seismic"
    assert chart.note == "Rank correlation: impact +1.00, seismic −1.00."
    assert "rank correlation +1.00" in chart.alt and "110 to 2,100 µs" in chart.alt


def test_an_engine_with_few_queries_has_no_panel(small, monkeypatch):
    monkeypatch.setattr(latency, "FEWEST", 41)
    timed(small, TOUCHED)
    assert latency.chart(sweeps(small.evidence)[0], COLOURS) is None


def test_cold_and_warm_stand_beside_each_other(small):
    timed(small, TOUCHED)
    point = small.point("dense", batch_mode="single", threads=1, **FLAT)
    small.write(point, {"qps": 10.0, "latency_p50_us": 1e5} | COLD)
    table = latency.table(sweeps(small.evidence)[0])
    assert cell(table, "open_seconds", model="lexlip, lexicon vectors") == "1.25"
    assert cell(table, "first_query_us", model="lexlip, lexicon vectors") == "5,400"
    assert [cell(table, name, model="clip, dense vectors") for name in ("latency_p50_us", "latency_p95_us")] == [
        "100,000",
        "not measured",
    ]


def test_sweeps_of_before_have_neither(small):
    (sweep,) = sweeps(small.evidence)
    assert latency.chart(sweep, COLOURS) is None and latency.table(sweep) is None


def test_the_page_of_scale_shows_both(swept, small, tmp_path):
    (section,) = scale.sections(small.evidence)
    assert "latency" in [chart.name for chart in section.charts]
    assert "scale_cold" in [table.name for table in section.folded]
    html = build(small.home, tmp_path / "site").parent.joinpath("scale.html").read_text(encoding="utf-8")
    assert "Latency depends most on postings in impact" in html and "first query, µs" in html
