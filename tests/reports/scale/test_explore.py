"""Explore: every search is a row and a mark, galleries never mix, the best at equal quality by hand."""

import pandas as pd

from bench.store.records import RecordStore
from reports.pages import explore
from reports.records.evidence import Evidence
from tests.reports.made import Made as Models
from tests.reports.scale.records import FLAT, LEXICON, MANY, ONE


def test_every_search_of_every_gallery_is_a_row(swept):
    evidence = Evidence(RecordStore(swept))
    galleries = explore.galleries(evidence)
    assert list(galleries) == ["100,000 images", "60 images, all models", "10,000 images", "1,000 images"]
    (section,) = explore.sections(evidence)
    (table,) = section.tables
    rows = RecordStore(swept).read()
    timed = rows[(rows.metric == "qps") & (rows.task == "scale")]
    shown = [
        row["qps"].value
        for row in table.rows
        if row["gallery"].value in ("100,000 images", "10,000 images", "1,000 images")
    ]
    assert sorted(shown) == sorted(timed.value) and len(shown) == 12
    marks = [m for chart in section.charts for panel in chart.panels for s in panel.series for m in s.marks]
    for mark in marks:
        assert table.rows[mark.key]["qps"].value == mark.x
        assert set(mark.tip.partition("records: ")[2].split(", ")) <= set(rows.point_id)


def test_only_the_first_way_of_asking_is_shown_without_scripts(small):
    (chart,) = explore.sections(small.evidence)[0].charts
    hidden = {(m.x, m.hidden) for panel in chart.panels for series in panel.series for m in series.marks}
    assert (600.0, False) in hidden and (3000.0, False) in hidden and (150.0, True) in hidden


def test_machines_are_galleries_of_their_own(small):
    small.impact(32, 0.40, 7000.0, 7000.0, 64.0, machine_id="two")
    galleries = explore.galleries(small.evidence)
    assert list(galleries) == ["10,000 images", "10,000 images (2)"]
    assert [{s.machine_id for s in found} for found in galleries.values()] in ([{"one"}, {"two"}], [{"two"}, {"one"}])


def test_shards_are_a_gallery_of_their_own(small):
    knobs = LEXICON | {"shards": 2}
    small.search("lexicon", 0.4, {ONE: 50.0}, task="sharded", engine="sharded-impact", top_k=32, bits=8, knobs=knobs)
    galleries = explore.galleries(small.evidence)
    (search,) = galleries["10,000 images, in shards"]
    assert search.rate(ONE) == 50.0 and "2 shards" in search.label


def test_a_search_without_a_rate_has_a_row_and_no_mark(tmp_path):
    made = Models(RecordStore(tmp_path / "home"))
    made.retrieval(made.point("lexlip"), 0.4)
    section = explore.sections(Evidence(made.store))[0]
    assert [row["call"].value for row in section.tables[0].rows] == ["not timed"]
    assert not section.charts


def test_the_csv_has_unrounded_numbers(small, tmp_path):
    table = explore.sections(small.evidence)[0].tables[0]
    (tmp_path / "explore.csv").write_text(table.to_csv())
    csv = pd.read_csv(tmp_path / "explore.csv")
    batched = csv[(csv.call == f"batched, {MANY.threads} threads") & (csv.engine == FLAT["engine"])]
    assert batched.qps.astype(float).tolist() == [150.0]
