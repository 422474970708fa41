"""Corpora of files are opened at the model's own resolution, other sizes are said, and all images can be asked for."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import corpora
from bench.corpora import resolution
from bench.corpora.counts import count
from bench.corpora.resolution import open_at
from bench.store import cli
from bench.tasks import bm25, recall
from bench.tasks.classification import zero_shot
from bench.vectors import encode
from models.errors import InputError

SIZES = {"small": 32, "large": 48, "open_clip:x/y": 96}


@pytest.fixture
def spec(tmp_path):
    """A table of five test images of noise in several formats, one of them broken, with two captions each."""
    rows = ["path,caption,split"]
    for number, kind in enumerate(("jpg", "gif", "png", "webp", "png")):
        noise = np.random.default_rng(number).integers(0, 256, (70, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.{kind}")
        rows += [f"{number}.{kind},thing {number} number {caption},test" for caption in range(2)]
    (tmp_path / "4.png").write_bytes(b"torn")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return {"name": "folder", "annotations": str(tmp_path / "table.csv")}


@pytest.fixture
def sizes(monkeypatch):
    monkeypatch.setattr(resolution, "pixels", lambda model: SIZES[str(model)])


@pytest.mark.parametrize(
    ("stated", "models", "pixels", "said"),
    [
        ({}, ["small"], 32, "images at 32 pixels, the model's own size"),
        ({}, ["small", "large"], 48, "images of 48 pixels are resized to the 32 of small"),
        ({"pixels": 32}, ["small"], 32, ""),
        ({"pixels": 64}, ["small"], 64, "images of 64 pixels are resized to the 32 of small"),
        ({}, [], 224, ""),
    ],
)
def test_files_are_opened_at_the_models_size(spec, sizes, caplog, stated, models, pixels, said):
    with caplog.at_level(logging.WARNING):
        assert open_at(spec | stated, models).pixels == pixels
    assert said in caplog.text and bool(said) == bool(caplog.text)


def test_the_corpus_of_the_training_is_the_default(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(resolution, "pixels", lambda model: 64)
    trained, alone = tmp_path / "run" / "best", tmp_path / "alone" / "best"
    for folder in (trained, alone):
        folder.mkdir(parents=True)
    (trained.parent / "config.yaml").write_text("data: {corpus: {name: scenes, pixels: 80, concepts: 20, seed: 3}}")
    with caplog.at_level(logging.WARNING):
        of_run = open_at(None, [alone, trained])
    assert (
        of_run.fingerprint
        == corpora.open_corpus({"name": "scenes", "pixels": 80, "concepts": 20, "seed": 3}).fingerprint
    )
    assert "corpus: {name: scenes, pixels: 80, concepts: 20, seed: 3}, that of the training" in caplog.text
    for models in ([alone], ["open_clip:x/y"], []):
        assert open_at(None, models).fingerprint == corpora.open_corpus("scenes").fingerprint
    (trained.parent / "config.yaml").write_text("data: [")
    with pytest.raises(InputError, match="config.yaml"):
        open_at(None, [trained])


def test_scenes_keep_their_size_for_checkpoints_and_take_that_of_a_pre_trained_model(sizes, caplog):
    with caplog.at_level(logging.WARNING):
        assert open_at("scenes", ["large"]).pixels == 64
    assert "images of 64 pixels are resized to the 48 of large" in caplog.text
    assert open_at("scenes", ["open_clip:x/y"]).pixels == 96


def test_an_unknown_corpus_is_named_as_before(sizes):
    for wrong in ({"name": "scene"}, {"annotations": "x"}, "scene"):
        with pytest.raises(InputError, match="unknown name"):
            open_at(wrong, ["small"])


def test_the_size_of_a_checkpoint_is_read_from_its_configuration(checkpoints, monkeypatch):
    from models import checkpoint

    monkeypatch.setattr(checkpoint, "load", lambda folder: pytest.fail("loads the model"))
    assert [resolution.pixels(folder) for folder in checkpoints] == [64, 64]
    with pytest.raises(InputError, match="expected a checkpoint folder"):
        resolution.pixels(Path("none"))


# --- --images all ---


def command(module, *flags) -> int:
    return cli.run(module.main, module.parser(), [str(flag) for flag in flags], prog="command")


def test_all_images_of_a_split_are_its_intact_ones(spec, checkpoints, tmp_path, capsys):
    corpus = f"{{name: folder, annotations: {spec['annotations']}}}"
    flags = ["--home", tmp_path / "home", "--corpus", corpus, "--images", "all"]
    assert command(bm25, *flags) == 0
    assert command(encode, *flags, "--checkpoint", checkpoints[0]) == 0
    assert "4 images" in capsys.readouterr().out
    assert command(recall, *flags, "--checkpoint", checkpoints[0], "--no-timing", "--top-k", "all") == 0
    assert count(corpora.open_corpus(spec), "test", "all") == 4


@pytest.mark.parametrize(
    ("module", "flags", "message"),
    [
        (bm25, ["--images", "all"], "corpus scenes is endless; give a number"),
        (recall, ["--images", "all", "--checkpoint", "CKPT"], "corpus scenes is endless; give a number"),
        (encode, ["--images", "all", "--checkpoint", "CKPT"], "corpus scenes is endless; give a number"),
        (zero_shot, ["--images", "all", "--checkpoint", "CKPT"], "corpus scenes is endless; give a number"),
        (bm25, ["--images", "all", "--split", "tests"], "unknown split 'tests'"),
    ],
)
def test_all_of_an_endless_split_is_refused(module, flags, message, checkpoints, tmp_path, capsys):
    flags = [checkpoints[0] if flag == "CKPT" else flag for flag in flags]
    assert command(module, "--home", tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_number_in_words_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        command(bm25, "--home", tmp_path, "--images", "most")
    assert "--images: 'most': expected a number, or all" in capsys.readouterr().err


def test_a_split_that_is_too_small_names_the_number_asked_for(spec, checkpoints, tmp_path, capsys):
    """It named the end of the batch: 128."""
    corpus = f"{{name: folder, annotations: {spec['annotations']}}}"
    flags = ["--home", tmp_path, "--corpus", corpus, "--images", "300", "--checkpoint", checkpoints[0]]
    assert command(encode, *flags) == 2
    assert "split test has 5 images, expected at least 300; set fewer images" in capsys.readouterr().err
