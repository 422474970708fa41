"""What the pages add to the tables: the answer in one screen, fronts, equal loss, differences, failures, downloads; against numbers made by hand."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from bench.store.records import Point, RecordStore
from reports.findings import headline
from reports.findings.verdict import LOSES, OPEN, WINS
from reports.pages import answer, downloads, method
from reports.pages.ablations import forest, learning
from reports.pages.efficiency import explorer, iso_recall
from reports.pages.inside import failures
from reports.pages.scale import engines as scale_engines
from reports.records import ways
from reports.records.bundle import Bundle
from reports.records.evidence import Evidence
from reports.render import plots
from reports.render.figures import Panel, Series, draw
from reports.render.tables import percent, points, text

FLAT = {"engine": "faiss-flat", "knobs": {"blas_from": 4}, "exact": True}


@pytest.fixture
def sweep(tmp_path, sweep_of):
    """Lexicons: 60, 59.5, 58.5, 40 %; dense: 50 % by flat search, 49 and 45 % by HNSW."""
    made = sweep_of(RecordStore(tmp_path / "home"))
    for top_k, *numbers in (
        (256, 0.60, 100.0, 400.0),
        (128, 0.595, 150.0, 300.0),
        (64, 0.585, 200.0, 120.0),
        (32, 0.40, 900.0, 64.0),
    ):
        made.impact(top_k, *numbers)
    made.search("dense", 0.50, 10.0, 2048.0, **FLAT)
    for ef, recall, rate in ((64, 0.49, 300.0), (16, 0.45, 800.0)):
        made.search("dense", recall, rate, 2304.0, engine="faiss-hnsw", knobs={"ef": ef})
    return made


# --- the answer


def test_the_pair_is_the_fastest_and_the_smallest_at_the_highest_recall_that_both_reach(sweep):
    speed, size, quality = headline.at_scale(sweep.evidence)
    # 50 % is the level: of the lexicon side 64 kept is fastest and smallest, of the dense side only flat search is as good.
    assert (speed.verdict, speed.headline) == (WINS, "20.0× faster")
    assert (size.verdict, size.headline) == (WINS, "17.1× smaller")
    assert "Over 10,000 images, at the highest R@1 that both reach (50.0 %)" in speed.sentence
    assert (
        "(impact, 256 kept) has R@1 60.0 %, the best dense one (faiss-flat) 50.0 %: +10.0 points (without an interval)"
        in quality.sentence
    )
    assert "impact, 64 kept, 8 bits, 200 queries/s against faiss-flat blas_from=4, 10 queries/s" in speed.detail
    assert len(speed.points) == 4 and set(speed.points) <= set(sweep.store.read().point_id)


def test_the_level_is_that_of_the_weaker_side(sweep):
    """A dense engine of 70 % makes the best lexicon R@1 the level; then only it is as good, and it is far quicker."""
    sweep.search("dense", 0.70, 1000.0, 100.0, engine="usearch")
    speed, size, _ = headline.at_scale(sweep.evidence)
    assert (speed.verdict, speed.headline) == (LOSES, "10.0× slower")  # 1000 against 100: only 256 kept reaches 60 %
    assert (size.verdict, size.headline) == (LOSES, "4.00× larger")
    assert "un-compressed" not in speed.sentence, "flat search does not reach the level"


def test_about_equal_is_open(sweep):
    sweep.search("dense", 0.60, 98.0, 405.0, engine="usearch")
    assert [(found.verdict, found.headline) for found in headline.at_scale(sweep.evidence)[:2]] == [
        (OPEN, "about equal (1.02×)"),
        (OPEN, "about equal (1.01×)"),
    ]


def test_one_side_alone_has_no_pair(tmp_path, sweep_of):
    made = sweep_of(RecordStore(tmp_path / "home"))
    made.impact(32, 0.4, 100.0, 64.0)
    assert headline.at_scale(made.evidence) == []


def test_the_first_page_answers(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    assert html.count('<p class="headline">') == 4
    assert html.index('class="statements"') < html.index('class="tiles"') < html.index("Not measured</a>: ")


def test_hard_negatives_that_are_lost_stand_first(tmp_path):
    store = RecordStore(tmp_path / "home")
    for variant, right in (("lexlip", 40), ("clip", 80)):
        point = Point(
            task="hard_negatives",
            corpus="scenes",
            split="test",
            images=100,
            queries=100,
            variant=variant,
            seed=0,
            checkpoint_id=variant,
        )
        rows = [
            {"query_id": f"{i}-count", "group": f"{i:04}", "kind": "count", "correct": i < right} for i in range(100)
        ]
        store.write(point, {"hard_negative_accuracy": right / 100}, rows)
    first = answer.section(Evidence(store)).data["findings"][0]
    assert (first.verdict, first.what) == (LOSES, answer.HARD_NEGATIVES)
    assert "lexlip before pruning has 40.0 %, clip 80.0 %: −40.0 points" in first.sentence
    assert set(first.points) == set(store.read().point_id)


def test_sentences_name_the_fairest_and_the_uncompressed_rival(sweep):
    told = dict(answer.section(sweep.evidence).data["statements"])
    assert (
        "20.0× faster than the fastest dense engine and 20.0× faster than un-compressed flat search (one query at a time, 1 thread)"
        in told["Speed and size"][0].sentence
    )
    assert (
        "17.1× smaller than the smallest dense one and 17.1× smaller than flat float32 vectors"
        in told["Speed and size"][1].sentence
    )


# --- fronts, and equal loss


def test_front_by_hand():
    assert scale_engines.pareto([(-1, 5), (-2, 5), (-2, 6), (-3, 1), (-1, 4)]) == [2, 0]  # costs, so less is better
    assert scale_engines.pareto([(-1, 1), (-1, 1)]) == [0, 1]
    assert scale_engines.pareto([]) == []


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
    sweep.impact(32, 0.4, 7000.0, 64.0, machine_id="two")
    found = ways.sources(sweep.evidence)
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
        ["lexicon", "no loss", "60.0", "impact, 256 kept, 8 bits", "60.0", "100"],
        ["lexicon", "within 1 point", "59.0", "impact, 128 kept, 8 bits", "59.5", "150"],
        ["lexicon", "within 2 points", "58.0", "impact, 64 kept, 8 bits", "58.5", "200"],
        ["lexicon", "within 5 points", "55.0", "impact, 64 kept, 8 bits", "58.5", "200"],
        ["dense", "no loss", "50.0", "faiss-flat blas_from=4", "50.0", "10.0"],
        ["dense", "within 1 point", "49.0", "faiss-hnsw ef=64", "49.0", "300"],
        ["dense", "within 2 points", "48.0", "faiss-hnsw ef=64", "49.0", "300"],
        ["dense", "within 5 points", "45.0", "faiss-hnsw ef=16", "45.0", "800"],
    ]
    assert [row[6:] for row in read[2:5]] == [["impact, 64 kept, 8 bits", "58.5", "120 B"]] * 2 + [
        ["faiss-flat blas_from=4", "50.0", "2.05 kB"]
    ]
    assert (
        "lexicon: impact, 256 kept, 8 bits of lexlip, 60.0 %; dense: faiss-flat blas_from=4 of clip, 50.0 %"
        in table.notes[0]
    )


def test_brute_force_of_variants_is_of_the_two_that_are_compared(home):
    (table,) = iso_recall.section(Evidence(RecordStore(home))).tables
    assert "lexlip, scipy, all kept" in table.notes[0] and "clip, faiss-flat" in table.notes[0]
    assert not any(
        "no_" in cell.value
        for row in table.rows
        for cell in row.values()
        if isinstance(cell.value, str) and cell.value != "no loss"
    )


# --- differences and failures


def test_the_forest_shows_the_differences_of_the_table(home, site, undrawn):
    csv = pd.read_csv(site / "tables" / "ablations.csv").set_index("variant")
    (figure,) = forest.section(Evidence(RecordStore(home))).figures
    for panel, metric in zip(figure.panels, ("recall@1", "recall@10"), strict=True):
        shown = {
            panel.names[int(y)]: (x, *bounds)
            for one in panel.series
            for x, y, bounds in zip(one.x, one.y, one.bounds, strict=True)
        }
        assert set(shown) == {"clip", "no_bottleneck", "no_momentum"}
        for variant, numbers in shown.items():
            assert numbers == pytest.approx(
                [100 * float(csv.loc[variant, f"difference {metric}{part}"]) for part in ("", " low", " high")]
            )
    clear = next(one for one in figure.panels[0].series if one.name.startswith("significant"))
    assert "no_momentum" in [figure.panels[0].names[int(y)] for y in clear.y]
    rows = plots.of_figure(figure)["rows"]
    assert {row["y"] for row in rows} == {"clip", "no_bottleneck", "no_momentum"} and all(
        "records: " in row["tip"] for row in rows
    )


def test_failures_are_the_largest_differences_of_rank(home):
    store = RecordStore(home)
    evidence = Evidence(store)
    sides = {}
    for variant in ("lexlip", "clip"):
        (point,) = evidence.measured(
            variant, "recall@1", **evidence.retrieval(), **evidence.operating_point(variant)
        ).point_id
        queries = store.queries(point)
        sides[variant] = {query: ranks[0] for query, ranks in zip(queries.query_id, queries.ranks, strict=True)}
    section = failures.section(evidence)
    gaps = {query: sides["lexlip"][query] - sides["clip"][query] for query in sides["lexlip"]}
    for table, sign in zip(section.tables, (1, -1), strict=True):
        worst = sorted(gaps, key=lambda query: (-sign * gaps[query], query))[: failures.SHOWN]
        assert [row["query"].value for row in table.rows] == worst
        assert [row["gap"].value for row in table.rows] == [abs(gaps[query]) for query in worst]
    both = sum(sides["lexlip"][query] == sides["clip"][query] == 1 for query in gaps)
    assert section.data["counts"]["both"] == both and sum(section.data["counts"].values()) == len(gaps)


def test_failures_without_ranks_say_whose_are_missing(sweep):
    assert failures.section(sweep.evidence).data["missing"] == ["lexlip", "clip"]


# --- downloads


def test_the_site_carries_its_records(home, site):
    mine, theirs = RecordStore(home).read(), Bundle(site / "data").read()
    key = ["point_id", "metric"]
    pd.testing.assert_frame_equal(
        mine.sort_values(key, ignore_index=True), theirs.sort_values(key, ignore_index=True), check_dtype=False
    )
    with zipfile.ZipFile(site / "data" / "records.csv.zip") as archive:
        csv = pd.read_csv(io.BytesIO(archive.read("records.csv")))
    assert csv.value.sum() == pytest.approx(mine.value.sum())


def test_results_per_query_that_are_too_large_are_left_out(home, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "LARGEST", 10)
    found = downloads.write(Evidence(RecordStore(home)), tmp_path / "data")
    assert [(one["name"], one["bytes"] > 10) for one in found] == [
        ("data/records.csv.zip", True),
        ("data/records.parquet", True),
        ("", True),
        ("", True),
    ]
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == ["records.csv.zip", "records.parquet"]


# --- plots


def test_a_plot_holds_the_series_and_nothing_that_json_cannot():
    series = [
        Series(
            "a\u202e</script>",
            [1.0, 10.0],
            [2.0, float("nan")],
            [(1.0, 3.0), None],
            ["x", ""],
            filled=False,
            details=["record p1", ""],
        )
    ]
    figure = draw(
        "made_up", "caption", "alt", [Panel("title", "cost", "quality", series, log_x=True, ticks=(1.0, 10.0))]
    )
    plot = plots.of_figure(figure)
    first, second = plot["rows"]
    assert (first["x"], first["y"], first["low"], first["high"], first["view"]) == (1.0, 2.0, 1.0, 3.0, 0)
    assert first["tip"] == "a\ufffd</script>\ncost: 1\nquality: 2\n95% interval: 1 to 3\nrecord p1"
    assert second["y"] is None
    json.dumps(plot, allow_nan=False)
    assert plot["views"][0]["encoding"]["x"]["axis"]["values"] == [1.0, 10.0]


def test_a_page_holds_each_line_and_each_constant_of_a_plot_once():
    rows = [
        {"x": 1.0, "kind": "a", "tip": "first\nshared", "low": None},
        {"x": 0.123456789, "kind": "a", "tip": "second\nshared"},
        {"x": 12345678.9, "kind": "a", "tip": "first\nshared"},
    ]
    packed = plots.packed(plots.plot(rows, []))
    assert packed["rows"] == 3 and packed["texts"] == ["a", "first", "shared", "second"]
    assert packed["columns"] == {
        "x": [1.0, 0.1234568, 12345680.0],  # seven digits: what is drawn
        "kind": {"all": [0]},
        "tip": [[1, 2], [3, 2], [1, 2]],
        "low": {"all": None},
    }
    assert plots.packed(plots.plot([], []))["columns"] == {}


def test_learning_curves_say_whose_a_point_is():
    rows = pd.DataFrame({0: [0.25, 0.5], 1: [0.75, 0.25]}, index=[100, 200])
    assert learning.told(rows, percent) == ["mean of seed 0 25.0, seed 1 75.0", "mean of seed 0 50.0, seed 1 25.0"]
    assert learning.told(rows[[1]], percent) == ["seed 1", "seed 1"]
    assert learning.told(rows[[1]].rename(columns={1: -1}), percent) == ["no seed", "no seed"]


def test_every_size_has_a_panel_and_a_view_of_its_own(sweep, undrawn):
    sweep.impact(32, 0.7, 5000.0, 64.0, images=1_000)
    sweep.search("dense", 0.8, 4000.0, 2048.0, images=1_000, **FLAT)
    (figure,) = explorer.section(sweep.evidence).figures
    assert [view["title"] for view in figure.plot["views"]] == ["1,000 images", "10,000 images"]
    assert sorted((row["view"], row["images"]) for row in figure.plot["rows"]) == [(0, 1_000)] * 2 + [(1, 10_000)] * 7
    assert "1,000 images: speed, lexicon: impact, 32 kept, 8 bits 70.0 %, 5,000 queries/s" in figure.alt
    assert "against speed (one query at a time, 1 thread)" in figure.caption
    # At 10,000 the dense front: flat search is best, both settings of HNSW faster.
    assert "10,000 images: speed, dense: faiss-flat blas_from=4 50.0 %, 10.0 queries/s; faiss-hnsw ef=64" in figure.alt


def test_values_of_a_choice_are_in_order():
    rows = [{"top_k": top_k} for top_k in (32, None, 8, 32)]
    assert [one["text"] for one in plots.choice(rows, "top_k", "Kept")["values"]] == ["8", "32", "–"]
    assert np.all([one["value"] is None or one["value"] > 0 for one in plots.choice(rows, "top_k", "Kept")["values"]])


def test_many_series_share_one_legend():
    """Few are named in each view; of many, the first view is the legend, and colours are the same in all."""
    panels = [
        Panel(f"panel {p}", "x", "y", [Series(f"s{i}", [1.0], [2.0], colour="#0072b2") for i in range(7 - p)])
        for p in range(2)
    ]
    plot = plots.of_panels(panels)
    legend, *views = plot["views"]
    assert legend["usermeta"] == {"legend": True} and legend["encoding"]["color"]["scale"]["domain"] == [
        f"s{i}" for i in range(7)
    ]
    assert all(view["encoding"]["color"] == legend["encoding"]["color"] | {"legend": None} for view in views)
    assert {row["view"] for row in plot["rows"]} == {1, 2}
    few = plots.of_panels([Panel("panel", "x", "y", panel.series[:6]) for panel in panels])
    assert len(few["views"]) == 2 and all("legend" not in view["encoding"]["color"] for view in few["views"])


def test_a_training_that_ended_early_is_a_caveat(home):
    evidence = Evidence(RecordStore(home))
    gains = learning.still_learning(evidence)
    assert gains == pytest.approx(
        {"clip": 0.55 / 4, "lexlip": 0.45 / 4, "no_bottleneck": 0.44 / 4, "no_momentum": 0.15 / 4}
    )  # a straight line
    (said,) = [said for said in answer.caveats(evidence) if said.startswith("Not trained to the end")]
    assert (
        f"by {points(gains['no_momentum'])} to {points(gains['clip'])} points (lexlip, clip, no_bottleneck, no_momentum)"
        in said
    )


def test_seconds_that_no_record_has_are_none(tmp_path, sweep_of):
    made = sweep_of(RecordStore(tmp_path / "home"))
    made.impact(32, 0.5, 100.0, 64.0, command="python -m bench.scale")
    commands = next(table for table in method.section(made.evidence).tables if table.name == "commands")
    assert [row["seconds"].missing for row in commands.rows] == ["not recorded"]
