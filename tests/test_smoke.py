"""The whole pipeline at toy size, by the command that a user types."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablations import config as configs
from bench.store.records import RecordStore

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = ("results/*", "data/*/*", "runs/*/best/*", "vectors/**/*", "indexes/**/*")


def smoke(home, variants) -> subprocess.CompletedProcess:
    """`python -m ablations.run --profile smoke`."""
    chosen = ["--profile", "smoke", "--variants", ",".join(sorted(variants)), "--home", str(home)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "ablations.run", *chosen]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize(
    "variants", [("lexlip", "clip"), pytest.param(configs.CORE, marks=pytest.mark.nightly)], ids=["two", "core"]
)
def test_one_command_trains_measures_and_reports_and_a_second_computes_nothing(variants, tmp_path):
    home = tmp_path / "home"
    first = smoke(home, variants)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    for variant in variants:  # stderr is no terminal: a line per validation
        assert f"{variant} seed 0: " in first.stderr and "val R@1" in first.stderr
    table = RecordStore(home).read()
    assert set(table["status"]) == {"ok"}
    retrieval = table[(table["task"] == "retrieval") & (table["split"] == "test")]
    recall = retrieval[retrieval["metric"].isin(["recall@1", "recall@10"])]
    measured = set(zip(recall["variant"], recall["direction"], recall["metric"], strict=True))
    assert measured == {
        (variant, direction, metric)
        for variant in variants
        for direction in ("text_to_image", "image_to_text")
        for metric in ("recall@1", "recall@10")
    }
    assert recall["value"].between(0, 1).all()
    assert {"impact", "scipy"} <= set(recall[recall["variant"] == "lexlip"]["engine"])
    assert "faiss-flat" in set(recall[recall["variant"] == "clip"]["engine"])
    trained = table[(table["task"] == "training") & (table["metric"] == "train_seconds")]
    assert set(trained["variant"]) >= set(variants)
    page = (home / "site" / "ablations.html").read_text(encoding="utf-8")
    assert all(variant in page for variant in variants)

    before = {file: file.stat().st_mtime_ns for pattern in OUTPUTS for file in home.glob(pattern) if file.is_file()}
    second = smoke(home, {"lexlip", "clip"})
    assert second.returncode == 0, second.stderr
    assert "seed 0: " not in second.stderr, "nothing was trained"
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert len(list(home.glob("results/*"))) == len([file for file in before if file.parent.name == "results"])
