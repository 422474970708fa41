"""The whole road at toy size, by the command that a user types."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store.records import RecordStore

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {"lexlip", "no_bottleneck", "strong_decoder", "no_momentum", "clip"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("smoke")


def smoke(home, variants=VARIANTS) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "ablations.run",
        "--profile",
        "smoke",
        "--variants",
        ",".join(sorted(variants)),
        "--home",
        str(home),
    ]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=600
    )


def test_one_command_trains_measures_and_reports_and_a_second_makes_nothing_again(home):
    first = smoke(home)
    assert first.returncode == 0, first.stderr
    table = RecordStore(home).read()
    assert set(table["status"]) == {"ok"}
    recall = table[
        (table["task"] == "retrieval") & (table["split"] == "test") & table["metric"].isin(["recall@1", "recall@10"])
    ]
    measured = set(zip(recall["variant"], recall["direction"], recall["metric"], strict=True))
    assert measured == {
        (variant, direction, metric)
        for variant in VARIANTS
        for direction in ("text_to_image", "image_to_text")
        for metric in ("recall@1", "recall@10")
    }
    assert recall["value"].between(0, 1).all()
    assert {"impact", "scipy"} <= set(recall[recall["variant"] == "lexlip"]["engine"])
    assert "faiss-flat" in set(recall[recall["variant"] == "clip"]["engine"])
    assert set(table[(table["task"] == "training") & (table["metric"] == "train_seconds")]["variant"]) >= VARIANTS
    page = (home / "site" / "ablations.html").read_text(encoding="utf-8")
    assert all(variant in page for variant in VARIANTS)

    made = [
        *home.glob("results/*"),
        *home.glob("data/*/*"),
        *home.glob("runs/*/best/*"),
        *home.glob("vectors/**/*"),
        *home.glob("indexes/**/*"),
    ]
    before = {file: file.stat().st_mtime_ns for file in made if file.is_file()}
    second = smoke(home, {"lexlip", "clip"})
    assert second.returncode == 0, second.stderr
    after = {file: file.stat().st_mtime_ns for file in before}
    assert after == before
    assert len(list(home.glob("results/*"))) == len([file for file in before if file.parent.name == "results"])
