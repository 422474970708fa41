"""Ablation tables, zero-shot classification and sparsity: every number is that of its record."""

import dataclasses

import pytest

from bench.store.metrics import METRICS
from bench.store.records import RecordStore
from reports.build import build
from reports.pages import answer
from reports.pages.ablations import forest, sparsity, zero_shot
from reports.pages.ablations import table as ablations
from reports.records.evidence import Evidence
from reports.statistics import intervals

CLASSIFIED = METRICS["zero_shot_images"].label.lower()


def cells(table, row: int = 0) -> dict[str, str]:
    """Heading -> text of a row."""
    return dict(zip(table.headings(), table.texts()[row], strict=True))


@pytest.fixture
def beside(made):
    """Points of a variant without an index."""
    return lambda variant, **fields: dataclasses.replace(
        made.point(variant, **fields), engine="", top_k=None, bits=None, direction="", depth=None
    )


def test_zero_shot_is_that_of_the_records(home):
    store = RecordStore(home)
    evidence = Evidence(store)
    (table,) = zero_shot.section(evidence).tables
    rows = store.read()
    rows = rows[
        (rows.variant == "no_momentum") & (rows.task == "zero_shot") & rows.knobs.str.contains("concept")
    ].set_index("metric")
    row = next(row for row in table.rows if row["variant"].value == "no_momentum")
    for metric in ("zero_shot_top1", "zero_shot_top5", "zero_shot_per_class"):
        cell = row[f"concept {metric}"]
        assert (cell.value, cell.points) == (rows.value[metric], (rows.point_id[metric],))
    top1 = row["concept zero_shot_top1"]
    queries = store.queries(rows.point_id.iloc[0])
    hits = [float(ranks[0] == 1) for ranks in queries.ranks]
    expected = intervals.mean(queries[["query_id", "group"]].assign(seed=0.0, outcome=hits))
    assert (top1.low, top1.high) == (expected.low, expected.high) and top1.low < top1.value < top1.high
    assert top1.n == "60 queries on 60 images, 1 seed"
    assert row["concept zero_shot_per_class"].low is None


def test_each_kind_of_class_has_its_columns_and_what_guessing_gives(home):
    (table,) = zero_shot.section(Evidence(RecordStore(home))).tables
    assert [heading for heading, _ in table.groups()[1:]] == [
        f"concept, %: 8 classes, 60 {CLASSIFIED}",
        f"time, %: 2 classes, 60 {CLASSIFIED}",
    ]
    assert [column.label for column in table.columns] == [
        "Variant",
        "Seeds",
        "top-1",
        "top-5",
        "per class",
        "top-1",
        "per class",
    ]
    chance, frequent = table.texts()[-2:]
    assert chance == ["chance", "–", "12.5", "–", "–", "50.0", "–"]
    assert frequent == ["most frequent class", "–", "60.0", "–", "–", "60.0", "–"]


def test_a_variant_without_zero_shot_is_marked(made, beside):
    made.zero_shot(beside("lexlip", task="zero_shot"), 0.5)
    made.retrieval(made.point("clip"), 0.5)
    made.store.write(
        beside("broken", task="zero_shot", knobs={"classes": "time"}), {}, status="failed", note="no prompts"
    )
    (table,) = zero_shot.section(Evidence(made.store)).tables
    by_variant = {row[0]: row[2:] for row in table.texts()}
    assert by_variant["clip"] == ["not measured"] * 5
    assert by_variant["broken"] == ["not measured"] * 3 + ["failed: no prompts"] * 2
    assert by_variant["lexlip"][3].startswith("50.0 [")


def test_broken_pictures_and_different_classes_are_said(made, beside):
    for variant, classes, broken in (("lexlip", 4, 0), ("clip", 5, 2)):
        values = {
            "zero_shot_top1": 0.5,
            "zero_shot_classes": classes,
            "zero_shot_chance": 1 / classes,
            "zero_shot_images": 60,
            "zero_shot_broken": broken,
        }
        made.store.write(beside(variant, task="zero_shot", knobs={"classes": "time"}), values)
    (table,) = zero_shot.section(Evidence(made.store)).tables
    assert table.groups()[1][0] == f"time, %: classes: differs by variant, 60 {CLASSIFIED}"
    assert table.texts()[-2][:3] == ["chance", "–", "differs by variant"]
    assert table.notes[1] == "Left out, because they could not be decoded: clip, time: 2."


def test_diagnostics_are_those_of_the_records(home):
    store = RecordStore(home)
    whole, *views = sparsity.section(Evidence(store)).tables
    rows = store.read()
    mine = rows[(rows.variant == "lexlip") & (rows.task == "sparsity")]
    assert set(mine.metric) == set(sparsity.METRICS_OF), "every metric that is measured is shown"
    row = whole.rows[0]
    for measured in mine[mine.top_k.isna()].itertuples():
        assert (row[measured.metric].value, row[measured.metric].points) == (measured.value, (measured.point_id,))
    for measured in mine[mine.top_k.notna()].itertuples():
        cell = row[f"{measured.metric} pruned"]
        assert (cell.value, cell.points) == (measured.value, (measured.point_id,))
    assert row["postings_gini"].n == "60 images, 300 captions, 1 seed"
    assert whole.texts()[1][0] == "clip" and set(whole.texts()[1][2:]) == {"dense"}
    index, lexicons, words = (cells(view) for view in views)
    assert (index["Vocabulary: Dead lexicons"], index["Posting lists: Skew of postings"]) == ("400", "0.700")
    assert index["Posting lists: Postings of the longest lists, %"] == "25.0"
    assert (lexicons["Lexicons of a caption: mean"], lexicons["Lexicons of an image: p95"]) == ("30", "30")
    assert words["Words of the captions: Weight in the captions, %"] == "3.1"
    assert words["Search by typed words: Typed words, R@10, %"] == "25.0"
    assert (words["Words used: Dead lexicons"], words["A query: Postings per query"]) == ("500", "250")


def test_words_stand_beside_recall_and_a_column_without_any_is_left_out(home, made):
    evidence = Evidence(RecordStore(home))
    *_, beside = answer.section(evidence).tables
    view = next(view for view in ablations.section(evidence).tables if view.name == "ablations_text_to_image")
    for shown in (beside, view):
        by_variant = {line[0]: dict(zip(shown.headings(), line, strict=True)) for line in shown.texts()}
        words = [f"Words, 32 lexicons, %: {label}" for _, label in ablations.WORDS.values()]
        assert [by_variant["lexlip"][label] for label in words] == ["3.1", "9.4", "25.0"]
        assert [by_variant["clip"][label] for label in words] == ["–"] * 3
    made.retrieval(made.point("lexlip"), 0.5)
    made.retrieval(made.point("clip"), 0.5)
    evidence = Evidence(made.store)
    assert [one.name for one in answer.section(evidence).tables] == ["answer", "answer_parts"]
    assert not any(column.key in ablations.WORDS for column in ablations.table(evidence).columns)
    at = dataclasses.replace(made.point("lexlip", task="sparsity"), engine="", bits=None)
    made.store.write(at, {"strongest_is_word": 0.5})
    (words,) = answer.words(Evidence(made.store))
    assert [column.key for column in words.columns][3:] == ["words strongest"]


def test_pruned_diagnostics_do_not_stand_for_the_whole(made, beside):
    made.retrieval(made.point("lexlip"), 0.5)
    made.store.write(dataclasses.replace(beside("lexlip", task="sparsity"), top_k=8), {"postings_gini": 0.9})
    assert sparsity.section(Evidence(made.store)).tables == []


def test_the_page_shows_both_with_definitions_of_the_registry(site):
    html = (site / "ablations.html").read_text(encoding="utf-8")
    assert "Zero-shot classification of test images of scenes" in html and "60 images, 300 captions, 1 seed" in html
    for metric in ("zero_shot_top1", "zero_shot_chance", "postings_gini", "caption_recall_weighted"):
        assert METRICS[metric].definition.replace("'", "&#39;") in html
    for name in ("zero_shot", "sparsity", "sparsity_index", "sparsity_lexicons"):
        assert (site / "tables" / f"{name}.csv").is_file()


def test_without_records_both_say_how_to_measure(made, tmp_path, undrawn, whole):
    made.retrieval(made.point("lexlip"), 0.5)
    html = whole(build(made.store.folder.parent, tmp_path / "site"))
    assert "lexlip-bench zero-shot" in html and "lexlip-bench sparsity" in html


def test_costs_are_those_of_the_last_period(made):
    end = dict.fromkeys(("top_k", "bits", "images")) | {
        "task": "training",
        "engine": "",
        "direction": "",
        "split": "train",
    }
    done = ("lexlip", 0, "03:00"), ("clip", 0, "04:20"), ("lexlip", 1, "06:31"), ("no_flops", 0, "06:40")
    for variant, seed, ended in done:  # each training took half an hour
        if ended == "06:31":
            evidence = Evidence(made.store)
            assert ablations.trained(evidence).period.nunique() == 1 and ablations.largest_spread(evidence) is None
        made.retrieval(made.point(variant, seed=seed), 0.5)
        values, at = {"train_cpu_seconds": 250.0 + 100 * seed}, made.point(variant, **end, seed=seed)
        made.store.write(at, values, started=f"2026-01-02T{ended}:00+00:00", seconds=1800)
    tables = {table.name: table for table in ablations.section(Evidence(made.store)).tables}
    assert "2 periods from 2026-01-02 02:30 to 2026-01-02 06:40" in tables["ablations_cost"].notes[-1]
    cost = {row["variant"].value: row["train cpu"].value for row in tables["ablations_cost"].rows}
    assert cost == {"lexlip": 350.0, "clip": 250.0, "no_flops": 250.0}
    assert "2 of 3 variants have one seed" in tables["ablations_text_to_image"].notes[-1]


def test_differences_of_one_seed_have_no_mark(made, undrawn):
    for seed in (0, 1, 2):
        made.variant("lexlip", 0.8, seed=seed)
        made.variant("no_momentum", 0.2, seed=seed)
    made.variant("no_flops", 0.1)
    evidence = Evidence(made.store)
    tables = {table.name: table for table in ablations.section(evidence).tables}
    shown = tables["ablations_text_to_image"]
    marks = {row["variant"].value: row["difference recall@1"].mark for row in shown.rows}
    assert marks == {"lexlip": "", "no_flops": "", "no_momentum": "*"}
    at = evidence.retrieval() | evidence.operating_point("lexlip")
    by_seed = [evidence.measured(variant, "recall@1", **at).value for variant in ("lexlip", "no_momentum")]
    apart = max(values.max() - values.min() for values in by_seed)
    assert ablations.largest_spread(evidence) == pytest.approx(apart)
    assert f"differs by up to {100 * apart:.1f} points" in shown.notes[-1]
    assert dict(ablations.section(evidence).data["sizes"])["Text to image"] == "300 queries on 60 images"
    (figure,) = forest.section(evidence).figures
    drawn = {one.name: [figure.panels[0].names[int(y)] for y in one.y] for one in figure.panels[0].series}
    assert drawn == {
        "significant after Holm's correction": ["no_momentum"],
        "screened with fewer than three seeds": ["no_flops"],
    }


def test_ablations_better_than_the_reference_come_first(made):
    for variant, skill in (("lexlip", 0.4), ("no_flops", 0.05), ("no_phase2", 0.8), ("no_queue", 0.4)):
        for seed in (0, 1, 2):
            made.variant(variant, skill, seed=seed)
    rows = answer.parts(Evidence(made.store)).rows
    assert [row["variant"].value for row in rows] == ["no_phase2", "no_flops", "no_queue"]
    assert rows[0]["recall@1"].value > 0 > rows[1]["recall@1"].value and "*" not in rows[2]["recall@1"].mark
