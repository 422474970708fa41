"""Broken judgements of a corpus are found before training, not after hours of it."""

import json
from pathlib import Path

import pytest

from ablations import run
from bench.store import cli
from tests.bench.tasks.judgements import flickr8k

SIZES = ["data.train_images=8", "data.val_images=2", "measure.images=6", "train.batch=4"]


class Started(Exception):
    """Training would start."""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Runs the command on a small Flickr8k up to its first training, which raises `Started`."""
    spec = flickr8k.write(tmp_path / "flickr8k")

    def train_all(*_):
        raise Started

    def start(more: str = "") -> int:
        with open(Path(spec["root"]) / "CrowdFlowerAnnotations.txt", "a") as file:
            file.write(more)
        flags = ["--profile", "smoke", "--variants", "clip", "--home", str(tmp_path / "home")]
        flags += [f"data.corpus={json.dumps(spec | {'pixels': 64})}", *SIZES]
        return cli.run(run.main, run.parser(), flags)

    monkeypatch.setattr(run, "train_all", train_all)
    return start


def test_broken_judgements_end_the_command_before_training(start, capsys):
    assert start("a.jpg\tb.jpg#0\n") == 2
    assert "CrowdFlowerAnnotations.txt: line 37: expected image, caption id, share of yes" in capsys.readouterr().err


def test_readable_judgements_let_training_start(start):
    with pytest.raises(Started):
        start()
