"""Every number on the pages comes from a record, and changes with it."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from bench.store.metrics import METRICS
from bench.store.records import RecordStore
from reports.build import build
from reports.pages import method
from tests.reports.html import Page
from tests.reports.scale.records import FLAT, MANY, ONE
from tests.reports.scale.records import Made as Sweep


def row_of(home, metric, **wanted):
    """The one row of a metric among the records, as a namedtuple."""
    rows = RecordStore(home).read()
    rows = rows[rows.metric == metric]
    for name, value in wanted.items():
        rows = rows[rows[name].isna() if value is None else (rows[name] == value).fillna(False)]
    assert len(rows) == 1
    return next(rows.itertuples())


MAIN = {
    "task": "retrieval",
    "split": "test",
    "direction": "text_to_image",
    "top_k": 32,
    "engine": "impact",
    "batch_mode": "",
}


def change(home, row, value) -> None:
    """Writes another value into one record."""
    path = home / "results" / f"{row.point_id}.parquet"
    rows = pd.read_parquet(path)
    rows.loc[rows.metric == row.metric, "value"] = value
    rows.to_parquet(path)


# Table, column on the page, its record, and how 0.123 is printed there.
COSTS = {"task": "training", "step": None}
WORDS = {"task": "sparsity", "top_k": 32}
TRACED = [
    ("Text to image", 3, "recall@5", MAIN, "12.3"),
    ("Text to image", 5, "median_rank", MAIN, "0.123"),
    ("Text to image", 6, "recall@1", MAIN | {"split": "compositional"}, "12.3"),
    ("Image to text", 3, "recall@10", MAIN | {"direction": "image_to_text"}, "12.3"),
    ("Image to text", 6, "hard_negative_accuracy_count", {"task": "hard_negatives"}, "12.3"),
    ("Lexicons and words", 2, "caption_precision_weighted", WORDS, "12.3"),
    ("Lexicons and words", 6, "typed_recall@10", WORDS, "12.3"),
    ("Size and training", 2, "bytes_per_image", MAIN, "0 B"),
    ("Size and training", 3, "flops_per_pair", MAIN, "0.123"),
    ("Size and training", 4, "active_lexicons_image", MAIN, "0.123"),
    ("Size and training", 6, "train_cpu_seconds", COSTS, "0.123"),
    ("Size and training", 7, "train_seconds", COSTS, "0.123"),
    ("Size and training", 9, "parameters", COSTS, "0.123"),
]
CONTRADICTED = MAIN | {"variant": "clip", "top_k": None, "engine": "faiss-flat"}


@pytest.fixture(scope="module")
def changed(home, tmp_path_factory, whole):
    """The page after some records were given other values."""
    own = shutil.copytree(home, tmp_path_factory.mktemp("changed") / "home")
    for _, _, metric, place, _ in TRACED:
        change(own, row_of(own, metric, variant="no_bottleneck", **place), 0.123)
    change(own, row_of(own, "qps", variant="lexlip", **MAIN | {"batch_mode": "single"}), 30.0)
    change(own, row_of(own, "recall@1", **CONTRADICTED), 0.99)
    return Page(whole(build(own, own / "site")))


def test_changing_records_changes_their_cells_and_no_others(page, changed):
    for table in dict.fromkeys(table for table, *_ in TRACED):
        before, after = page.row(table, "no_bottleneck"), changed.row(table, "no_bottleneck")
        different = {
            column: new.split(" ")[0] for column, (old, new) in enumerate(zip(before, after, strict=True)) if old != new
        }
        assert different == {column: printed.split(" ")[0] for name, column, *_, printed in TRACED if name == table}
        assert page.row(table, "lexlip") == changed.row(table, "lexlip")


def test_a_number_names_its_record(home, site):
    html = (site / "ablations.html").read_text(encoding="utf-8")
    row = row_of(home, "recall@5", variant="no_bottleneck", **MAIN)
    titles = re.findall(f'title="([^"]*)"><span class="value">{100 * row.value:.1f}<', html)
    assert f"300 queries on 60 images, 1 seed; records: {row.point_id}" in titles


def test_the_answer_follows_the_records(page, changed):
    speed = "At 95% engine recall over 60 images, {} answers {} as many queries per second as {}."
    assert speed.format("lexlip", "4.44×", "clip") in page.text  # 400 against 90
    assert speed.format("clip", "3.00×", "lexlip") in changed.text


def test_a_record_that_its_queries_contradict_is_named(home, page, changed):
    found = changed.row("Caveats of the records", "R@1 contradicts the per-query results")[1]
    assert row_of(home, "recall@1", **CONTRADICTED).point_id in found and found.startswith("2 points")
    assert "contradicts the" not in page.text


def test_differences_come_from_the_paired_queries(home, site):
    store = RecordStore(home)
    first = {}
    for variant in ("lexlip", "no_momentum"):
        queries = store.queries(row_of(home, "recall@1", variant=variant, **MAIN).point_id)
        first[variant] = np.array([ranks[0] for ranks in queries.ranks])
    for k, table in ((1, "ablations"), (10, "ablations_quality")):
        csv = pd.read_csv(site / "tables" / f"{table}.csv").set_index("variant")
        expected = (first["no_momentum"] <= k).mean() - (first["lexlip"] <= k).mean()
        name = f"difference recall@{k}"
        assert float(csv.loc["no_momentum", name]) == pytest.approx(expected)
        assert csv.loc["no_momentum", f"{name} low"] < expected < csv.loc["no_momentum", f"{name} high"]
        assert "300 paired queries of 60 images, 1 seed" in csv.loc["no_momentum", f"{name} n"]


def test_untrained_baselines_are_compared_but_are_no_ablations(made, tmp_path, page_of):
    """BM25 has its own engine and no seed: paired with each seed of the reference, outside the corrected family."""
    for seed in (0, 1):
        made.variant("lexlip", 0.4, seed=seed)
        made.variant("no_momentum", 0.1, seed=seed)
    made.retrieval(made.point("bm25", seed=None, engine="bm25", top_k=None, bits=None, checkpoint_id=""), 0.9)
    page = page_of(made.store.folder.parent, tmp_path / "site")
    row = page.row("All models", "bm25")
    assert row[2].startswith("9") or row[2].startswith("8"), "found, though no impact index was searched"
    csv = pd.read_csv(tmp_path / "site" / "tables" / "ablations.csv").set_index("variant")
    assert "300 paired queries of 60 images" in csv.loc["bm25", "difference recall@1 n"]
    assert "difference recall@1 p" not in csv or pd.isna(csv.loc["bm25", "difference recall@1 p"])
    forest = (tmp_path / "site" / "figures" / "forest.svg").read_text(encoding="utf-8")
    assert "no_momentum" in forest and "bm25" not in forest


def test_html_and_csv_agree(page, site, skill):
    csv = pd.read_csv(site / "tables" / "ablations_quality.csv").set_index("variant")
    for variant in skill:
        assert page.row("Text to image", variant)[2].startswith(
            f"{100 * csv.loc[variant, 'recall@1 text_to_image']:.1f}"
        )


def test_paper_cells_are_never_made_up(page):
    speed = page.row("The paper", "Large-scale retrieval against CLIP: speed")
    assert speed[1:7] == ["–", "5.5× to 221.3× faster", "5.8× faster", *["not measured"] * 3]
    assert page.row("The paper", "Zero-shot image classification")[4] == "not measured"


def claimed(evidence, side: str) -> dict:
    rows = [row for row in method.claims(evidence).rows if row["side"].value == side]
    return {row["claim"].value.partition(": ")[2]: row for row in rows}


def test_a_sweep_fills_the_measured_cells_of_the_paper(sweep):
    """Flat search of 50 % and 10 queries/s is as good as the lexicon search of 40 % and 900 queries/s only, and the
    indexes that are as good as it take 120 and 400 bytes."""
    rows = claimed(sweep.evidence, "impact, lexlip")
    speed, size = rows["speed, one query at a time"], rows["index storage"]
    assert speed["least"].value == speed["most"].value == pytest.approx(90.0)
    assert (size["least"].value, size["most"].value) == pytest.approx((2048 / 400, 2048 / 120))
    assert speed["gallery"].value == "10,000 images, scenes"
    assert set(speed["least"].points) <= set(sweep.store.read().point_id)


def test_claims_are_of_each_model_in_both_calls_and_over_generated_vectors(tmp_path):
    made = Sweep(RecordStore(tmp_path / "home"))
    of_words = {"variant": "lexlip_words", "checkpoint_id": "of words"}
    for of, single in (({}, 40.0), (of_words, 120.0)):
        made.impact(32, 0.4, single, 500.0, 64.0, **of)
    made.search("dense", 0.4, {ONE: 10.0, MANY: 250.0}, 2048.0, **FLAT)
    generated = {"images": 1_000_000, "corpus": "synthetic:scenes"}
    made.impact(32, None, 60.0, 90.0, 64.0, **generated | of_words)
    made.impact(8, None, 90.0, 90.0, 16.0, **generated | of_words)
    galleries = {row["gallery"].value for row in method.claims(made.evidence).rows if row["side"].value != "–"}
    assert galleries == {"10,000 images, scenes"}, "without flat search there is nothing to compare"
    made.search("dense", None, {ONE: 3.0, MANY: 30.0}, 2048.0, **generated, **FLAT)
    rows = [
        (row["side"].value, row["claim"].value.partition(": ")[2], row["least"].value, row["most"].value)
        for row in method.claims(made.evidence).rows
        if not row["least"].missing
    ]
    single, batched, size = "speed, one query at a time", "speed, in batches", "index storage"
    assert rows == [
        ("impact, lexlip", single, 4.0, 4.0), ("impact, lexlip", batched, 2.0, 2.0), ("impact, lexlip", size, 32, 32),
        ("impact, lexlip_words", single, 12.0, 12.0), ("impact, lexlip_words", batched, 2.0, 2.0),
        ("impact, lexlip_words", size, 32, 32),
        ("impact, lexlip_words", single, 20.0, 30.0), ("impact, lexlip_words", batched, 3.0, 3.0),
        ("impact, lexlip_words", size, 32, 128),
    ]  # fmt: skip


def test_commands_and_definitions_are_shown(page):
    assert "python -m ablations.run --variants no_momentum" in page.text
    assert METRICS["recall@1"].definition in page.text
