"""Every number on the pages comes from a record, and changes with it."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from bench.store.metrics import METRICS
from bench.store.records import RecordStore
from reports.build import build
from tests.reports.html import Page


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
TRACED = [
    ("Text to image, and", 3, "recall@5", MAIN, "12.3"),
    ("Text to image, and", 5, "median_rank", MAIN, "0.123"),
    ("Text to image, and", 12, "recall@1", MAIN | {"split": "compositional"}, "12.3"),
    ("Text to image, and", 7, "caption_precision_weighted", {"task": "sparsity", "top_k": 32}, "12.3"),
    ("Text to image, and", 9, "typed_recall@10", {"task": "sparsity", "top_k": 32}, "12.3"),
    ("Image to text", 4, "recall@10", MAIN | {"direction": "image_to_text"}, "12.3"),
    ("Image to text", 9, "hard_negative_accuracy_count", {"task": "hard_negatives"}, "12.3"),
    ("Lexicons, size", 2, "active_lexicons_image", MAIN, "0.123"),
    ("Lexicons, size", 4, "flops_per_pair", MAIN, "0.123"),
    ("Lexicons, size", 5, "bytes_per_image", MAIN, "0 B"),
    ("Lexicons, size", 6, "train_seconds", {"task": "training", "step": None}, "0"),
    ("Lexicons, size", 7, "train_cpu_seconds", {"task": "training", "step": None}, "0"),
    ("Lexicons, size", 9, "parameters", {"task": "training", "step": None}, "0"),
]
CONTRADICTED = MAIN | {"variant": "clip", "top_k": None, "engine": "faiss-flat"}


@pytest.fixture(scope="module")
def changed(home, tmp_path_factory, whole, undraw):
    """The page after some records were given other values."""
    own = shutil.copytree(home, tmp_path_factory.mktemp("changed") / "home")
    for _, _, metric, place, _ in TRACED:
        change(own, row_of(own, metric, variant="no_bottleneck", **place), 0.123)
    change(own, row_of(own, "qps", variant="lexlip", **MAIN | {"batch_mode": "single"}), 30.0)
    change(own, row_of(own, "recall@1", **CONTRADICTED), 0.99)
    with pytest.MonkeyPatch.context() as patch:
        undraw(patch)
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
    speed = "lexlip against clip", "Queries per second, one query at a time"
    assert page.row(*speed)[1:5] == ["wins", "4.44×", "400", "90.0"]
    assert changed.row(*speed)[1:5] == ["loses", "0.333×", "30.0", "90.0"]


def test_a_record_that_its_queries_contradict_is_named(home, page, changed):
    assert "contradicts the per-query results of 2 points" in changed.text  # this one, and the R@1 that TRACED changed
    assert row_of(home, "recall@1", **CONTRADICTED).point_id in changed.text
    assert "contradicts the" not in page.text


def test_differences_come_from_the_paired_queries(home, site):
    store = RecordStore(home)
    first = {}
    for variant in ("lexlip", "no_momentum"):
        queries = store.queries(row_of(home, "recall@1", variant=variant, **MAIN).point_id)
        first[variant] = np.array([ranks[0] for ranks in queries.ranks])
    csv = pd.read_csv(site / "tables" / "ablations.csv").set_index("variant")
    for k in (1, 10):
        expected = (first["no_momentum"] <= k).mean() - (first["lexlip"] <= k).mean()
        assert float(csv.loc["no_momentum", f"difference recall@{k}"]) == pytest.approx(expected)
        assert (
            csv.loc["no_momentum", f"difference recall@{k} low"]
            < expected
            < csv.loc["no_momentum", f"difference recall@{k} high"]
        )
        assert f"difference recall@{k} p" not in csv, "one seed is not tested"
    assert "300 paired queries of 60 images, 1 seed" in csv.loc["no_momentum", "difference recall@1 n"]


def test_one_seed_has_no_mark(page):
    for variant in ("no_momentum", "no_bottleneck"):
        assert "*" not in page.row("Text to image, and", variant)[10]
        assert "*" not in page.row("Ablations against lexlip", variant)[2]


def test_untrained_baselines_are_compared_but_are_no_ablations(made, tmp_path, page_of):
    """BM25 has its own engine and no seed: paired with each seed of the reference, outside the corrected family."""
    for seed in (0, 1, 2):
        made.variant("lexlip", 0.4, seed=seed)
        made.variant("no_momentum", 0.1, seed=seed)
    made.retrieval(made.point("bm25", seed=None, engine="bm25", top_k=None, bits=None, checkpoint_id=""), 0.9)
    page = page_of(made.store.folder.parent, tmp_path / "site")
    row = page.row("Text to image, and", "bm25")
    assert row[2].startswith("9") or row[2].startswith("8"), "found, though no impact index was searched"
    assert row[10].startswith("+") and " to +" in row[10] and "*" not in row[10]
    assert not any(row[0] == "bm25" for row in page.tables["Ablations against lexlip, those better than it first"])
    csv = pd.read_csv(tmp_path / "site" / "tables" / "ablations.csv").set_index("variant")
    assert "300 paired queries of 60 images" in csv.loc["bm25", "difference recall@1 n"]
    assert pd.isna(csv.loc["bm25", "difference recall@1 p"]) and csv.loc["no_momentum", "difference recall@1 p"] < 0.05


def test_html_and_csv_agree(page, site, skill):
    csv = pd.read_csv(site / "tables" / "ablations_text_to_image.csv").set_index("variant")
    for variant in skill:
        assert page.row("Text to image, and", variant)[2].startswith(
            f"{100 * csv.loc[variant, 'recall@1 text_to_image']:.1f}"
        )


def test_pruning_and_quantisation_steps_add_up(site):
    csv = pd.read_csv(site / "tables" / "compression.csv")
    assert [str(top_k).removesuffix(".0") for top_k in csv.top_k] == ["8", "16", "32", "all"]
    for metric in ("recall@1", "recall@10"):
        lost = csv[f"pruning {metric}"] + csv[f"quantisation {metric}"]
        assert lost.to_numpy() == pytest.approx((csv[f"impacts {metric}"] - csv[f"whole {metric}"]).to_numpy())


def test_paper_cells_are_never_made_up(page):
    speed = page.row("The paper", "Large-scale retrieval against CLIP: speed, one query at a time")
    assert speed[1:5] == ["5.5× to 221.3× faster", "5.8× faster", "not measured", "not measured"]
    assert page.row("The paper", "Zero-shot image classification")[3] == "not measured"


def test_a_million_images_fill_the_measured_cell(made, tmp_path, page_of):
    for name in ("lexlip", "clip"):
        made.variant(name, 0.4)
        point = made.point(name, images=1_000_000, batch_mode="single", threads=1)
        values = (
            {"qps": 70.0, "bytes_per_image": 100.0} if name == "lexlip" else {"qps": 10.0, "bytes_per_image": 2048.0}
        )
        made.store.write(point, values)
        made.retrieval(made.point(name, images=1_000_000), 0.4)
    page, claim = page_of(made.store.folder.parent, tmp_path / "site"), "Large-scale retrieval against CLIP"
    assert page.row("The paper", f"{claim}: speed, one query at a time")[3:5] == ["7.00×", "7.00×"]
    assert page.row("The paper", f"{claim}: index storage")[3:5] == ["20.5×", "20.5×"]


def test_commands_and_definitions_are_shown(page):
    assert "python -m ablations.run --variants no_momentum" in page.text
    assert METRICS["recall@1"].definition in page.text
