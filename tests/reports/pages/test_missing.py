"""Missing, failed and foreign records: the pages say so, and are built all the same."""

import dataclasses

import pandas as pd
import pytest

from models.errors import InputError
from reports.build import build
from reports.pages.site import write as write_site
from reports.records.evidence import Evidence, Reading
from tests.reports.html import Page


def test_no_records_at_all(tmp_path, page_of):
    (tmp_path / "home" / "results").mkdir(parents=True)
    page = page_of(tmp_path / "home", tmp_path / "site")
    assert "Quality was not compared" in page.text and "No chart" in page.text
    assert page.row("What was not measured", "Models: lexlip, clip, no_bottleneck, strong_decoder, no_momentum")
    assert page.text.count("Nothing was measured for this page") >= 3


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(InputError, match="no records; expected a home"):
        build(tmp_path, tmp_path / "site")


def test_only_training_was_measured(made, tmp_path, page_of):
    made.training("lexlip", 0, 0.4)
    page = page_of(made.store.folder.parent, tmp_path / "site")
    assert page.row("The models", "lexlip")[2] == "not measured"
    assert page.row("Size and training", "lexlip")[2:4] == ["250", "133"]


def test_failures_are_said(made, tmp_path, page_of):
    made.variant("lexlip", 0.4)
    made.store.write(
        dataclasses.replace(made.point("no_momentum"), task="training", engine="", top_k=None, bits=None),
        {},
        status="failed",
        note="loss is not finite",
    )
    made.store.write(made.point("clip"), {"recall@1": 0.0}, status="out_of_memory", note="faiss")
    page = page_of(made.store.folder.parent, tmp_path / "site")
    assert page.row("The models", "no_momentum")[2] == "failed: loss is not finite"
    assert page.row("The models", "clip")[2] == "out of memory: faiss"
    assert page.row("Caveats", "Out of memory")[1] == "clip, retrieval, faiss-flat, seed 0 (faiss)"


def test_nan_unknown_metric_and_missing_columns(made, tmp_path, whole):
    made.variant("lexlip", 0.4)
    made.variant("clip", 0.4)

    class Foreign:
        """A store of another version: an unknown metric, a NaN and missing columns."""

        def read(self):
            rows = made.store.read().drop(columns=["gpu", "memory_gb", "index_id", "versions"])
            strange = rows.head(1).assign(metric="astonishment", value=3.0)
            median = (rows.metric == "median_rank") & (rows.top_k == 32) & (rows.engine == "impact")
            return pd.concat([rows.assign(value=rows.value.mask(median.fillna(False))), strange])

        queries, examples = staticmethod(made.store.queries), staticmethod(made.store.examples)

    page = Page(whole(write_site(Evidence(Foreign()), tmp_path / "site")))
    assert page.row("Text to image", "lexlip")[5] == "not a number"
    assert page.row("Caveats", "Unknown metrics, in no table")[1] == "astonishment"


def test_several_seeds_are_averaged_and_widen_the_interval(made, tmp_path):
    for seed, skill in enumerate((0.2, 0.6)):
        made.variant("lexlip", skill, seed)
        made.variant("clip", 0.4, seed)
    site = build(made.store.folder.parent, tmp_path / "site").parent
    csv = pd.read_csv(site / "tables" / "ablations.csv").set_index("variant")
    store = made.store.read()
    rows = store[
        (store.variant == "lexlip")
        & (store.metric == "recall@1")
        & (store.engine == "impact")
        & (store.top_k == 32)
        & (store.split == "test")
    ]
    rows = rows[(rows.direction == "text_to_image") & (rows.task == "retrieval")]
    assert csv.loc["lexlip", "recall@1 text_to_image"] == pytest.approx(rows.value.mean())
    assert csv.loc["lexlip", "recall@1 text_to_image low"] < rows.value.min() + 0.05
    assert "2 seeds" in csv.loc["lexlip", "recall@1 text_to_image n"]


def test_the_newest_training_counts_even_if_an_earlier_one_was_measured_last(made, page_of, tmp_path):
    trained = {"task": "training", "engine": "", "top_k": None, "bits": None, "images": None, "queries": None}
    for run, ended, measured in (("old", "2026-01-01", "2026-04-01"), ("new", "2026-02-01", "2026-03-01")):
        point = made.point("lexlip", checkpoint_id=f"of {run}", config_id=run)
        made.store.write(point, {"bytes_per_image": 7.0 if run == "new" else 1.0}, started=f"{measured}T00:00:00+00:00")
        training = dataclasses.replace(point, checkpoint_id="", split="train", direction="", **trained)
        made.store.write(training, {"parameters": 1.0}, started=f"{ended}T00:00:00+00:00")
    evidence = Evidence(made.store)
    assert evidence.cell("lexlip", "bytes_per_image").value == 7.0
    assert set(evidence.matching("lexlip", "parameters").config_id) == {"new"}
    text = page_of(made.store.folder.parent, tmp_path / "site").text
    assert ": lexlip seed 0, checkpoint of old; another --variant shows them" in text


def test_an_earlier_training_is_left_out(made, tmp_path):
    made.retrieval(made.point("lexlip", checkpoint_id="older"), 0.9, bytes_per_image=1.0)
    made.store.write(
        made.point("lexlip", checkpoint_id="newer"), {"bytes_per_image": 7.0}, started="2026-02-01T00:00:00+00:00"
    )
    evidence = Evidence(made.store)
    assert evidence.superseded == 1
    assert evidence.cell("lexlip", "bytes_per_image").value == 7.0


def test_one_profile_at_a_time(made):
    made.variant("lexlip", 0.4)
    made.store.write(made.point("lexlip", profile="smoke"), {"recall@1": 0.5}, started="2020-01-01T00:00:00+00:00")
    assert Evidence(made.store).profile == "quick"
    assert Evidence(made.store, Reading(profile="smoke")).cell("lexlip", "recall@1").value == 0.5
    with pytest.raises(InputError, match="no records of profile 'paper'"):
        Evidence(made.store, Reading(profile="paper"))
