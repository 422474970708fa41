"""`lexlip-bench export` on a CLIP checkpoint: files, output, and folders that it does not touch."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer

from bench.store import cli
from bench.tasks import export
from models import checkpoint
from models.config import ClipConfig, ImageConfig, ModelConfig, TextConfig
from models.tokenizer import LexiconTokenizer

TEXTS = ["a red apple on the grass", "two blue guitars", "a red guitar near a mountain under the clouds, and a dolphin"]
WORDS = [
    f"{colour} {thing}"
    for colour in ("green", "white", "yellow")
    for thing in ("bicycle", "camera", "elephant", "helicopter")
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(folder of a checkpoint, its model)."""
    tokenizer = LexiconTokenizer.train(2 * (TEXTS + WORDS), vocabulary_size=100, max_tokens=8)
    config = ModelConfig(
        kind="clip",
        image=ImageConfig(layers=1, width=16, heads=2, pixels=32, patch=16, stem_widths=(4, 4)),
        text=TextConfig(layers=1, width=16, heads=2, max_tokens=8, vocabulary=len(tokenizer)),
        clip=ClipConfig(embedding=8),
    )
    torch.manual_seed(0)
    model = checkpoint.create(config, tokenizer).eval()
    folder = tmp_path_factory.mktemp("saved") / "clip"
    checkpoint.save(model, folder)
    return folder, model


def command(*flags) -> int:
    return cli.run(export.main, export.parser(), [str(flag) for flag in flags])


@pytest.mark.nightly
def test_a_checkpoint_becomes_onnx(saved, tmp_path, capsys):
    folder, model = saved
    out = tmp_path / "made" / "clip-onnx"
    assert command("--checkpoint", folder, "--format", "onnx", "--out", out) == 0
    image, text, place = capsys.readouterr().out.splitlines()
    assert (
        image.startswith("image  differs from the model by at most ") and text.startswith("text ") and place == str(out)
    )
    about = json.loads((out / "export.json").read_text())
    assert about["checkpoint"] == checkpoint.fingerprint(folder) and about["format"] == "onnx"
    assert f"{about['largest_difference']['image']:.1e}" in image
    assert [file.name for file in out.parent.iterdir()] == ["clip-onnx"], "nothing half-made is left"

    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    (vectors,) = onnxruntime.InferenceSession(out / "image.onnx").run(None, {"images": pictures})
    np.testing.assert_allclose(vectors, model.encode_image(pictures), atol=1e-6)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokens = np.array([encoding.ids for encoding in tokenizer.encode_batch(TEXTS)], np.int64)
    (vectors,) = onnxruntime.InferenceSession(out / "text.onnx").run(None, {"tokens": tokens})
    np.testing.assert_allclose(vectors, model.encode_text(TEXTS), atol=1e-6)

    assert command("--checkpoint", folder, "--format", "onnx", "--out", out) == 2
    assert capsys.readouterr().err.endswith(
        f"{out}: exists already; expected a new folder, or --force to replace an earlier export\n"
    )


def test_force_replaces_an_earlier_export_and_nothing_else(saved, tmp_path, capsys, monkeypatch):
    class Format:
        @staticmethod
        def write(model, folder):
            (folder / "new").touch()
            return {"largest_difference": {"text": 0.0}}

    monkeypatch.setitem(export.FORMATS, "onnx", "a_format")
    monkeypatch.setitem(sys.modules, "a_format", Format)
    own, earlier = tmp_path / "own", tmp_path / "earlier"
    for folder, name in ((own, "thesis.tex"), (earlier, "export.json")):
        folder.mkdir()
        (folder / name).touch()
    new = tmp_path / "new"
    assert command("--checkpoint", saved[0], "--format", "onnx", "--out", new) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("text   differs from the model by at most 0.0e+00")
    assert json.loads((new / "export.json").read_text())["checkpoint"] == checkpoint.fingerprint(saved[0])
    flags = ("--checkpoint", saved[0], "--format", "onnx", "--force", "--out")
    assert command(*flags, own) == 2
    assert "own: exists already; expected a new folder\n" in capsys.readouterr().err
    assert [file.name for file in own.iterdir()] == ["thesis.tex"]
    assert command(*flags, earlier) == 0
    assert {file.name for file in earlier.iterdir()} == {"export.json", "new"}


def test_a_refusal_is_one_line_and_leaves_nothing(saved, tmp_path, capsys):
    for source, form, message in (
        (saved[0], "sentence-transformers", "a model of dense vectors: a SparseEncoder holds lexicon vectors"),
        (tmp_path / "nowhere", "onnx", "nowhere/model.json: no such file"),
    ):
        assert command("--checkpoint", source, "--format", form, "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert not list(tmp_path.iterdir())
