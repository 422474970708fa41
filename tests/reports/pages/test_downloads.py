"""Records of the site and their commands."""

import io
import zipfile

import pandas as pd
import pytest

from bench.store.records import RecordStore
from reports.pages import downloads, method
from reports.records.bundle import Bundle
from reports.records.evidence import Evidence


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


def test_seconds_that_no_record_has_are_none(tmp_path, sweep_of):
    made = sweep_of(RecordStore(tmp_path / "home"))
    made.impact_single(32, 0.5, 100.0, 64.0, command="python -m bench.scale")
    commands = next(t for section in method.sections(made.evidence) for t in section.all_tables if t.name == "commands")
    assert [row["seconds"].missing for row in commands.rows] == ["not recorded"]
