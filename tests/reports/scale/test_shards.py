"""Searches over shards, beside the same engine over one index."""

import pytest

from reports.build import build
from reports.pages.scale import shards as scale_shards
from reports.records.sweep import sweeps
from tests.reports.scale.records import HOSTILE, LEXICON, MANY, ONE, cell

SHARDED = {
    "engine": "sharded-impact",
    "top_k": 32,
    "bits": 8,
    "exact": True,
    "knobs": LEXICON | {"shards": 4},
    "task": "sharded",
    "index_id": "cut",
    "command": "python -m bench.scale --ray auto",
}


@pytest.fixture
def cut(small):
    """`small`, and impact at top-32 in four shards: half the rate of single queries, twice that of batches."""
    small.search("lexicon", 0.40, {ONE: 300.0, MANY: 6000.0}, 80.0, **SHARDED)
    for call, share in ((ONE, 0.25), (MANY, 0.125)):
        point = small.point("lexicon", **SHARDED, batch_mode=call.mode, threads=call.threads)
        rate = 300.0 if call == ONE else 6000.0
        values = {"qps": rate, "network_share": share} | ({"latency_p95_us": 5000.0} if call == ONE else {})
        small.write(point, values, note="median of 3 rounds; 2 nodes", started="2026-01-03T00:00:00+00:00")
    return small


def test_beside_one_index(cut):
    (table,) = scale_shards.section(cut.evidence).tables
    of = {"search": "impact, top-32, 8 bits", "called": ONE.label}
    assert [cell(table, key, **of) for key in ("images", "shards", "quality", "one quality")] == [
        "10,000",
        "4",
        "40.0",
        "40.0",
    ]
    assert [cell(table, key, **of) for key in ("qps", "one qps", "ratio")] == ["300", "600", "0.500×"]
    assert [cell(table, key, **of) for key in ("bytes_per_image", "one bytes_per_image")] == ["80 B", "64 B"]
    assert [cell(table, key, **of) for key in ("p95", "one p95", "network_share")] == ["5,000", "1,762", "25.0"]
    assert cell(table, "note", **of) == "median of 3 rounds; 2 nodes"
    of["called"] = MANY.label
    assert [cell(table, key, **of) for key in ("ratio", "p95", "network_share")] == ["2.00×", "–", "12.5"]
    ratio = next(row["ratio"] for row in table.rows if row["called"].value == ONE.label)
    assert len(set(ratio.points)) == 2 and set(ratio.points) <= set(cut.store.read().point_id)


def test_they_are_no_sweep(cut):
    assert not [search for sweep in sweeps(cut.evidence) for search in sweep.searches if search.shards]


def test_what_was_not_measured_over_one_index(small):
    small.search("lexicon", 0.40, {ONE: 300.0}, 80.0, **SHARDED | {"top_k": 8})
    small.search("lexicon", 0.40, {ONE: 300.0}, 80.0, **SHARDED | {"machine_id": "two"})
    for table in scale_shards.section(small.evidence).tables:
        assert [text for text in (cell(table, key, called=ONE.label) for key in ("qps", "one qps", "ratio"))] == [
            "300",
            "not measured",
            "not measured",
        ]


def test_a_shard_that_stayed_away(small):
    small.ended("lexicon", "failed", "partial: shard 1 of 4 is missing", **SHARDED)
    (table,) = scale_shards.section(small.evidence).tables
    assert cell(table, "qps", called=ONE.label) == "failed"
    assert cell(table, "one qps", called=ONE.label) == "600"
    assert cell(table, "note", called=ONE.label) == "failed: partial: shard 1 of 4 is missing"


def test_on_the_page_of_scale_and_nothing_where_there_are_none(cut, home, site, tmp_path, undrawn):
    cut.write(cut.point("lexicon", **SHARDED | {"images": 5, "command": HOSTILE}), {"recall@1": 0.5}, note=HOSTILE)
    html = (build(cut.home, tmp_path / "site").parent / "scale.html").read_text(encoding="utf-8")
    assert "Shards against one index" in html and "python -m bench.scale --ray auto" in html
    assert HOSTILE not in html and "&lt;script&gt;alert" in html
    assert (tmp_path / "site" / "tables" / "sharded.csv").exists()
    assert "Shards on several machines" not in (site / "scale.html").read_text(encoding="utf-8")
    assert not (site / "tables" / "sharded.csv").exists()
