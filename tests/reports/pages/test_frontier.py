"""Frontier: fronts at equal engine recall, hybrid search and pruning, each by hand; what is missing says so."""

import dataclasses

import pytest

from bench.__main__ import COMMANDS
from bench.store.records import RecordStore
from reports.build import build
from reports.findings import fronts
from reports.findings.studies import hybrid, pruning, query_tables
from reports.pages import frontier
from reports.records.evidence import Evidence
from tests.reports import studies
from tests.reports.made import HOSTILE
from tests.reports.scale.records import FLAT, IMPACT, MANY, ONE, cell

RIGHT = [1] * 4 + [0] * 16
GAIN = "adds +50.0 (+26.0 to +74.0) points of R@1 to the better one"


def tables_of(store) -> dict:
    return {table.name: table for section in frontier.sections(Evidence(store)) for table in section.all_tables}


# --- fronts


@pytest.fixture
def searched(tmp_path, sweep_of):
    """Lexicon: impact finds all at 400/s, bmp 92% at 1,000/s. Dense: flat all at 10/s, HNSW 96% at 800/s."""
    made = sweep_of(RecordStore(tmp_path / "home"))
    made.impact(32, 0.40, 400.0, 900.0, 64.0, found=1.0)
    made.impact(4, 0.20, 9000.0, 9000.0, 20.0, found=1.0)  # other vectors than those at the operating point
    made.search("lexicon", 0.39, {ONE: 1000.0}, 128.0, found=0.92, **IMPACT | {"engine": "bmp", "top_k": 32})
    made.search("dense", 0.50, {ONE: 10.0, MANY: 150.0}, 2048.0, found=1.0, **FLAT)
    made.search("dense", 0.49, {ONE: 800.0}, 2304.0, found=0.96, engine="faiss-hnsw", knobs={"ef": 16})
    made.search("dense", 0.50, {ONE: 50_000.0}, 8.0, found=1.0, engine="faiss-flat-gpu")
    return made


def test_the_winner_at_each_floor(searched):
    table = tables_of(searched.store)["winners"]
    (row,) = table.rows
    fast, small = ([row[f"{what} {floor}"].value for floor in fronts.FLOORS] for what in ("fast", "small"))
    assert fast == ["lexlip 1.25×", "clip 2.00×", "lexlip 40.0×", "lexlip 40.0×"]
    assert small == ["lexlip 32.0×"] * 4
    assert len(row["fast 95%"].points) == 4 and set(row["fast 95%"].points) <= set(searched.store.read().point_id)


def test_sentences_say_first_where_the_lexicon_side_loses(searched):
    said = frontier.sections(searched.evidence)[0].text
    assert said == (
        "Over 10,000 images, clip answers 2.00× as many single queries per second as lexlip at 95% engine recall.",
        "Over 10,000 images, lexlip answers 1.25× to 40.0× as many single queries per second as clip at 90% and 99% "
        "engine recall and in exact search.",
    )


def test_the_table_ranks_both_sides_together(searched):
    rows = tables_of(searched.store)["fronts"].rows
    ranked = [(row["floor"].value, row["search"].value.partition(" ")[0].strip(","), row["qps"].value) for row in rows]
    assert ranked[:6] == [("90%", "bmp", 1000), ("90%", "faiss-hnsw", 800), ("90%", "impact", 400),
                          ("90%", "faiss-flat", 10), ("95%", "faiss-hnsw", 800), ("95%", "impact", 400)]  # fmt: skip
    assert [one for one in ranked if one[0] == "exact"] == [("exact", "impact", 400), ("exact", "faiss-flat", 10)]
    impact = rows[2]
    assert [impact[key].value for key in ("batched", "bytes_per_image", "recall@1")] == [900, 64, 0.40]
    assert rows[0]["batched"].missing == "not measured"


def test_five_searches_of_a_side_and_about_equal_rates(searched):
    for ef in range(6):
        searched.search("dense", 0.5, {ONE: 385.0 + ef}, 2304.0, found=1.0, engine="faiss-hnsw", knobs={"ef": 900 + ef})
    table, (row,) = tables_of(searched.store)["fronts"], tables_of(searched.store)["winners"].rows
    dense = lambda floor: [  # noqa: E731
        row["qps"].value for row in table.rows if row["floor"].value == floor and row["kind"].value == "dense"
    ]
    assert dense("99%") == [390, 389, 388, 387, 386]
    assert dense("exact") == [10], "a graph that found all of the top 10 does not search exactly"
    assert row["fast 99%"].value == "about equal"  # 400 and 390
    said = fronts.sentences(fronts.fronts(searched.evidence)[0])
    assert said[1] == (
        "Over 10,000 images, lexlip and clip answer about as many single queries per second at 99% engine recall."
    )


def test_what_a_side_does_not_reach_or_was_not_measured(made, sweep_of):
    sweep = sweep_of(made.store)
    sweep.impact_single(32, 0.4, 400.0, 64.0, found=1.0)
    assert cell(tables_of(made.store)["winners"], "fast 90%") == "dense not measured"
    sweep.search("dense", 0.5, {ONE: 10.0}, found=0.93, **FLAT)
    table = tables_of(made.store)["winners"]
    assert (cell(table, "fast 90%"), cell(table, "fast 95%")) == ("lexlip 40.0×", "dense not reached")
    assert cell(tables_of(made.store)["fronts"], "qps", floor="95%", kind="dense") == "not reached"


def test_machines_and_sizes_never_mix(searched):
    searched.search("dense", 0.50, {ONE: 90_000.0}, 2048.0, found=1.0, machine_id="two", **FLAT)
    searched.search("dense", 0.50, {ONE: 90_000.0}, 2048.0, found=1.0, images=1_000, **FLAT)
    found = fronts.fronts(searched.evidence)
    galleries = sorted((front.sweep.machine_id, front.images) for front in found)
    assert galleries == [("one", 1_000), ("one", 10_000), ("two", 10_000)]
    assert all(len({search.machine_id for search in front.searches}) == 1 for front in found)
    (mine,) = [front for front in found if front.sweep.machine_id == "one" and front.images == 10_000]
    assert mine.faster("exact").value == "lexlip 40.0×"


# --- hybrid


def test_gains_are_over_the_better_model_with_a_paired_test(made):
    """Ten more images of 20 are right, none less: p = 2 / 2^10 by sign flips, doubled by Holm for two methods."""
    fused = [1] * 14 + [0] * 6
    hits = {"first": RIGHT, "second": [0] * 20, "rrf": RIGHT, "convex": fused, "union": [1] * 20}
    ids = studies.hybrid(made, hits)
    (pair,) = hybrid.pairs(Evidence(made.store))
    cells = {one.name: one.cells for one in pair.methods}
    assert list(cells) == ["first", "second", "rrf", "convex", "union"]
    assert cells["first"]["gain"].value == "–", "the better one"
    convex, union = cells["convex"]["gain"], cells["union"]["gain"]
    assert (convex.value, convex.p, convex.mark) == (pytest.approx(0.5), pytest.approx(4 / 2**10), "*")
    assert (union.value, union.p, union.mark) == (pytest.approx(0.8), None, "")
    assert (cells["rrf"]["gain"].value, cells["rrf"]["gain"].p) == (0, 1)
    assert cells["second"]["gain"].value == pytest.approx(-0.2) and not cells["second"]["gain"].mark
    assert convex.points == (ids[3], ids[0])
    table = tables_of(made.store)["hybrid"]
    assert cell(table, "bytes_per_image", method="lexlip") == "100 B"
    assert cell(table, "bytes_per_image", method="convex, weight 0.3") == "2.10 kB"


@pytest.mark.parametrize(
    ("fused", "control", "said"),
    [
        (14, 6, f"{GAIN}; fusing two seeds of one model, +10.0 (−4.4 to +24.4)."),
        (14, 18, f"{GAIN}; fusing two seeds of one model, +70.0 (+48.0 to +92.0)."),
        (14, None, f"{GAIN}. Two seeds of one model were not fused."),
        (5, 6, "does not clearly find more than the better one: +5.0 (−5.5 to +15.5) points of R@1."),
    ],
)
def test_a_fusion_is_held_against_its_controls(made, fused, control, said):
    alone = {"first": RIGHT, "second": [0] * 20}
    studies.hybrid(made, alone | {"convex": [1] * fused + [0] * (20 - fused)})
    if control:
        studies.hybrid(made, alone | {"convex": [1] * control + [0] * (20 - control)}, other="lexlip", seeds=(0, 1))
    found = hybrid.pairs(Evidence(made.store))
    assert hybrid.sentences(found) == (f"Fusing lexlip (seed 0) and clip (seed 0) {said}",)
    assert [pair.control for pair in found] == [False, True][: len(found)]


def test_the_chart_shows_one_size_of_cascades_and_the_table_all(made):
    hits = {"first": RIGHT, "second": RIGHT} | {f"first_then_second {number}": RIGHT for number in (10, 30, 300)}
    studies.hybrid(made, hits)
    section = next(one for one in frontier.sections(Evidence(made.store)) if one.name == "hybrid")
    (panel,) = section.charts[0].panels
    assert panel.y.names == ("lexlip", "clip", "clip re-ranks")
    assert [mark.x for series in panel.series for mark in series.marks] == [20, 20, 20]
    assert len(section.tables[0].rows) == 5


def test_a_newer_second_model_stands_alone(made):
    studies.hybrid(made, {"first": RIGHT, "second": RIGHT, "rrf": RIGHT})
    for point in studies.hybrid(made, {"first": RIGHT, "second": [1] * 20}, **{"with": "newer"}):
        rows = made.store.read()
        values = rows[rows.point_id == point].set_index("metric").value.to_dict()
        row = next(rows[rows.point_id == point].itertuples())
        point = dataclasses.replace(made.point("lexlip"), task="hybrid", kind="", engine="", knobs=row.knobs)
        made.store.write(point, values, made.store.queries(row.point_id), started="2026-03-01T00:00:00+00:00")
    (pair,) = hybrid.pairs(Evidence(made.store))
    assert [(one.name, one.cells["recall@1"].value) for one in pair.methods] == [("first", 0.2), ("second", 1.0)]


# --- queries without a text encoder


def test_a_table_is_held_against_the_encoder_of_the_same_index(made):
    """Encoder: 10 of 20 at 900 us. idf: 6 of these. learned: 8 of these, three times as fast, half of it encoding."""
    hits = {"encoder": [1] * 10 + [0] * 10, "idf": [1] * 6 + [0] * 14, "learned": [1] * 8 + [0] * 12}
    studies.query_tables(made, hits, {"encoder": 900.0, "learned": 300.0})
    table = tables_of(made.store)["query_tables"]
    at = [row["queries"].value for row in table.rows]
    assert at == ["text encoder", "table of idf", "table, learned from embeddings"]
    assert [row["gain"].value for row in table.rows] == ["–", pytest.approx(-0.2), pytest.approx(-0.1)]
    assert [row["share"].value for row in table.rows if not row["share"].missing] == [0.5, 0.5]
    assert table.rows[1]["end_to_end_p50_us"].missing == "not measured"
    (found,) = query_tables.tables(Evidence(made.store))
    assert found.sentence == (
        "lexlip (seed 0) without its text encoder: −10.0 points of R@1 at best (table, learned from embeddings); "
        f"from text to results it is 3.00× as fast over {found.images:,} images."
    )
    section = next(one for one in frontier.sections(Evidence(made.store)) if one.name == "query_tables")
    marks = [mark for series in section.charts[0].panels[0].series for mark in series.marks]
    assert [(mark.x, mark.y) for mark in marks] == [(900, 50), (300, 40)], "without a time there is no mark"


def test_tables_without_the_encoder_are_left_out_and_without_times_nothing_is_faster(made):
    studies.query_tables(made, {"idf": [1] * 20}, {})
    assert query_tables.tables(Evidence(made.store)) == []
    studies.query_tables(made, {"encoder": [1] * 20}, {})
    (found,) = query_tables.tables(Evidence(made.store))
    assert found.sentence == "lexlip (seed 0) without its text encoder: 0.0 points of R@1 at best (table of idf)."


# --- pruning


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.2375, "Skipping blocks can pay"), (0.2385, "Skipping blocks cannot pay")]
)
def test_exact_pruning_can_pay_up_to_30_percent_of_the_work(made, share, verdict):
    """Blocks of 16 read a maximum for each 16 postings: 6.25% more than the postings that are alive."""
    made.retrieval(made.point("lexlip"), 0.4)
    studies.bounds(made, {"given": (0.8, 0.9), "bisected": (share, 0.5)})
    (found,) = pruning.bounds(Evidence(made.store))
    said = f"{verdict} over 100,000 images of lexlip (seed 0), top-32: at best {100 * share + 6.25:.1f}% "
    assert found.sentence.startswith(f"{said}of the work is left (bisected, blocks of 16)")
    table = tables_of(made.store)["bounds"]
    shown = [cell(table, f"{what} {block}", order="as they come") for what in ("alive", "work") for block in (16, 64)]
    assert shown == ["80.0", "90.0", "86.2", "91.6"]


def test_bounds_of_other_data_stay_out_and_those_without_data_are_named_by_their_vectors(made):
    made.retrieval(made.point("lexlip"), 0.4)
    studies.bounds(made, images=5_000, data_id="other")
    studies.bounds(made, {"given": (0.9,)}, data_id="", checkpoint_id="")
    (found,) = pruning.bounds(Evidence(made.store))
    assert found.over == "100,000 images of vectors 01234567, top-32" and list(found.alive) == [("given", 16)]
    row = tables_of(made.store)["bounds"].rows[0]
    assert (row["alive 16"].value, row["order"].value) == (0.9, "as they come")


def test_what_skipping_blocks_gave_stands_before_what_it_could_give(searched):
    """At the size and setting of both engines: 1,000/s against 400/s, 128 bytes against 64."""
    blockmax = IMPACT | {"engine": "impact-blockmax", "top_k": 32}
    assert pruning.skipping(searched.evidence) == []
    searched.search("lexicon", 0.40, {ONE: 1000.0}, 128.0, found=1.0, **blockmax)
    searched.search("lexicon", 0.40, {ONE: 9000.0}, 128.0, found=1.0, **blockmax | {"images": 1_000})
    (section,) = (one for one in frontier.sections(searched.evidence) if one.name == "bounds")
    assert section.text == (
        "impact-blockmax answers 2.50× as many single queries as impact over 10,000 images of lexlip, with 2.00× the "
        "bytes.",
    )


def test_the_published_cut_is_a_rule_of_its_own(made):
    studies.adaptive(made, {"count": RIGHT, "published": [1] + [0] * 19})
    (said,) = pruning.sentences(pruning.adaptive(Evidence(made.store)))
    assert said.startswith("Cut as published, against a fixed number: −15.0 (lexlip)")
    assert cell(tables_of(made.store)["adaptive"], "gain published", variant="lexlip").startswith("−15.0")


def test_rules_are_held_against_the_fixed_number(made):
    studies.adaptive(made, {"count": RIGHT, "mass": [1] * 6 + [0] * 14, "threshold": [0] * 20}, flops=2.0)
    studies.adaptive(made, {"count": RIGHT, "mass": RIGHT}, budget=16, flops=4.0)
    section = next(one for one in frontier.sections(Evidence(made.store)) if one.name == "adaptive")
    assert section.text == (
        "One threshold, against a fixed number: −20.0 (lexlip) to −20.0 points of R@1 (lexlip) at equal postings.",
        "Share of the weight, against a fixed number: 0.0 (lexlip) to +10.0 points of R@1 (lexlip) at equal postings.",
    )
    (panel,) = section.charts[0].panels
    lines = {series.name: [(mark.x, mark.y) for mark in series.marks] for series in panel.series}
    assert lines["fixed number"] == [(120, 20), (240, 20)], "2 and 4 multiply-adds a pair, over 60 images"
    assert lines["one threshold"] == [(120, 0)]
    table = section.tables[0]
    assert cell(table, "gain mass", budget="8").startswith("+10.0 [")
    assert cell(table, "gain threshold", budget="16") == "not measured"


# --- the page


def test_a_section_without_records_names_the_command_that_fills_it(made):
    made.retrieval(made.point("lexlip"), 0.4)
    sections = frontier.sections(Evidence(made.store))
    assert [section.name for section in sections] == ["fronts", "hybrid", "query_tables", "bounds", "adaptive"]
    for section in sections:
        assert not section.charts and not section.all_tables and not section.text
        assert section.empty.startswith(frontier.RUN)
        assert section.empty.removeprefix(frontier.RUN).split()[0] in COMMANDS


def test_names_are_text(made, tmp_path, sweep_of):
    studies.every(made)
    studies.hybrid(made, {"first": RIGHT, "second": RIGHT}, variant=HOSTILE, other=HOSTILE + "2")
    studies.adaptive(made, {"count": RIGHT}, variant=HOSTILE)
    sweep_of(made.store).search("dense", 0.5, {ONE: 10.0}, engine=HOSTILE, variant=HOSTILE, found=1.0)
    site = build(made.store.folder.parent, tmp_path / "site").parent
    html = (site / "frontier.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html and "\u202e" not in html and "&lt;script&gt;" in html


def test_strange_records_do_not_stop_it(made):
    studies.every(made)
    for task in ("hybrid", "block_bounds", "adaptive_pruning"):
        for knobs in (
            {},
            {"method": "magic"},
            {"method": "rrf", "with_variant": "x"},
            {"order": [], "block": "16"},
            {"method": [], "with_variant": "x"},
            {"method": "first", "with_variant": 5, "first": []},
        ):
            point = dataclasses.replace(made.point("lexlip"), task=task, knobs=knobs, top_k=None)
            made.store.write(point, {"recall@1": float("nan")})
        made.store.write(dataclasses.replace(made.point("clip"), task=task), {}, status="failed", note="no memory")
    evidence = Evidence(made.store)
    assert len(hybrid.pairs(evidence)) == 2 and len(pruning.bounds(evidence)) == 1
    assert len(pruning.adaptive(evidence)) == 3
    frontier.sections(evidence)
