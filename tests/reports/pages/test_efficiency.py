"""Quality against cost: fronts, sources, and equal loss of recall, against numbers made by hand."""

import pytest

from bench.store.records import RecordStore
from reports.pages.efficiency import explorer, iso_recall
from reports.records import variants
from reports.records.evidence import Evidence
from reports.records.search import pareto
from reports.render.tables import text
from tests.reports.scale.records import FLAT


def test_front_by_hand():
    assert pareto([(-1, 5), (-2, 5), (-2, 6), (-3, 1), (-1, 4)]) == [2, 0]  # costs, so less is better
    assert pareto([(-1, 1), (-1, 1)]) == [0, 1]
    assert pareto([(1, 9), (2, 8), (2, 7), (3, 8), (4, 1), (0, 9)]) == [0, 3, 4]
    assert pareto([]) == []


def test_every_point_of_the_plot_is_its_records(sweep, undrawn):
    plot = explorer.section(sweep.evidence).figures[0].plot
    rows = sweep.store.read()
    assert len(plot["rows"]) == 7
    for row in plot["rows"]:
        ids = row["tip"].rpartition("records: ")[2].split(", ")
        mine = rows[rows.point_id.isin(ids)].set_index("metric").value
        assert row["recall@1"] == pytest.approx(100 * mine["recall@1"])
        assert (row["qps"], row["bytes_per_image"], row["build_seconds"]) == (
            mine["qps"],
            mine["bytes_per_image"],
            mine["build_seconds"],
        )
        assert "5,000 queries" in row["tip"] and "median of 3 rounds" in row["tip"]
    assert {one["field"] for one in plot["filters"]} == {
        "source",
        "images",
        "mode",
        "threads",
        "top_k",
        "engine",
        "kind",
        "variant",
    }


def test_machines_are_sources_of_their_own(sweep, undrawn):
    sweep.impact_single(32, 0.4, 7000.0, 64.0, machine_id="two")
    found = variants.sources(sweep.evidence)
    assert sorted(map(len, found.values())) == [1, 7], "machines of the same make, too"
    plot = explorer.section(sweep.evidence).figures[0].plot
    assert (
        len({row["source"] for row in plot["rows"]}) == 2
        and not next(one for one in plot["filters"] if one["field"] == "source")["all"]
    )


def test_within_a_loss_of_brute_force(sweep):
    (table,) = iso_recall.section(sweep.evidence).tables
    read = [[text(table.cell(row, column), column) for column in table.columns] for row in table.rows]
    assert [row[:6] for row in read] == [
        ["lexicon", "none", "60.0", "impact, top-256, 8 bits", "60.0", "100"],
        ["lexicon", "1 point", "59.0", "impact, top-128, 8 bits", "59.5", "150"],
        ["lexicon", "2 points", "58.0", "impact, top-64, 8 bits", "58.5", "200"],
        ["lexicon", "5 points", "55.0", "impact, top-64, 8 bits", "58.5", "200"],
        ["dense", "none", "50.0", "faiss-flat blas_from=4", "50.0", "10.0"],
        ["dense", "1 point", "49.0", "faiss-hnsw ef=64", "49.0", "300"],
        ["dense", "2 points", "48.0", "faiss-hnsw ef=64", "49.0", "300"],
        ["dense", "5 points", "45.0", "faiss-hnsw ef=16", "45.0", "800"],
    ]
    smallest = ["impact, top-64, 8 bits", "58.5", "120 B"]
    assert [row[6:] for row in read[2:5]] == [smallest, smallest, ["faiss-flat blas_from=4", "50.0", "2.05 kB"]]
    assert "lexicon: lexlip, impact, top-256, 8 bits, R@1 60.0 %; dense: clip, faiss-flat" in table.notes[0]


def test_brute_force_of_variants_is_of_the_two_that_are_compared(home):
    (table,) = iso_recall.section(Evidence(RecordStore(home))).tables
    assert "lexlip, scipy, all lexicons" in table.notes[0] and "clip, faiss-flat" in table.notes[0]
    assert "no_" not in table.notes[0]


def test_every_size_has_a_panel_and_a_view_of_its_own(sweep, undrawn):
    sweep.impact_single(32, 0.7, 5000.0, 64.0, images=1_000)
    sweep.search("dense", 0.8, 4000.0, 2048.0, images=1_000, **FLAT)
    (figure,) = explorer.section(sweep.evidence).figures
    assert [view["title"] for view in figure.plot["views"]] == ["1,000 images", "10,000 images"]
    assert sorted((row["view"], row["images"]) for row in figure.plot["rows"]) == [(0, 1_000)] * 2 + [(1, 10_000)] * 7
    assert "1,000 images: speed, lexicon: impact, top-32, 8 bits 70.0 %, 5,000 queries/s" in figure.alt
    assert "speed: one query at a time, 1 thread" in figure.caption
    # At 10,000 the dense front: flat search is best, both settings of HNSW faster.
    assert "10,000 images: speed, dense: faiss-flat blas_from=4 50.0 %, 10.0 queries/s; faiss-hnsw ef=64" in figure.alt
