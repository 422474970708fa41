"""Checkpoints: equal vectors after loading, atomic writes, and errors for broken files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import models
from models import checkpoint
from models.config import ClipConfig
from models.errors import InputError
from models.files import sha256_text
from models.pretrained import open_clip
from models.tokenizer import LexiconTokenizer

KINDS = ["lexlip", "clip"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def saved(make_model, tmp_path_factory):
    """kind -> (model, its checkpoint folder)."""
    made = {}
    for kind in KINDS:
        model, folder = make_model(kind).eval(), tmp_path_factory.mktemp("saved") / kind
        checkpoint.save(model, folder)
        made[kind] = (model, folder)
    return made


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved["lexlip"][1], tmp_path / "broken")


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_gives_identical_vectors(kind, saved, images, captions):
    model, folder = saved[kind]
    again = models.load(folder)
    assert not again.training
    assert again.config == model.config
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    assert torch.equal(again.encode_text(captions), model.encode_text(captions))


def test_loading_keeps_tied_weights(saved):
    again = models.load(saved["lexlip"][1])
    assert again.text.head.weight_VD is again.text.encoder.embeddings.word_embeddings.weight
    assert again.image.head.weight_VD is not again.text.head.weight_VD


def test_the_kind_of_vectors_is_read_without_the_weights(saved, tmp_path):
    for kind, expected in (("lexlip", "lexicon"), ("clip", "dense")):
        folder = shutil.copytree(saved[kind][1], tmp_path / kind)
        (folder / "model.safetensors").unlink()
        assert checkpoint.kind(folder) == expected == saved[kind][0].kind


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_pickled(kind, saved, monkeypatch):
    folder = saved[kind][1]
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "model.json", "tokenizer.json"}
    json.loads((folder / "model.json").read_text())
    json.loads((folder / "tokenizer.json").read_text())
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr("pickle.Unpickler", None)
    models.load(folder)


def test_saving_replaces_a_checkpoint(saved, tmp_path, make_model):
    folder = tmp_path / "best"
    checkpoint.save(saved["lexlip"][0], folder)
    first = checkpoint.fingerprint(folder)
    checkpoint.save(make_model(seed=1), folder)
    assert checkpoint.fingerprint(folder) != first
    checkpoint.save(saved["lexlip"][0], folder)
    assert checkpoint.fingerprint(folder) == first, "equal weights have equal fingerprints"
    assert [file.name for file in tmp_path.iterdir()] == ["best"]
    assert len(first) == 16


def test_a_failed_save_keeps_the_old_checkpoint(saved, tmp_path, monkeypatch, make_model):
    folder = tmp_path / "best"
    checkpoint.save(saved["lexlip"][0], folder)
    first = checkpoint.fingerprint(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_model", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(make_model(seed=1), folder)
    assert checkpoint.fingerprint(folder) == first
    models.load(folder)
    assert [file.name for file in tmp_path.iterdir()] == ["best"]


def truncate(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])


def flip(folder, name):
    whole = bytearray((folder / name).read_bytes())
    whole[-3] ^= 1
    (folder / name).write_bytes(bytes(whole))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("harm", [truncate, flip])
def test_truncated_and_changed_files_are_named(folder, name, harm):
    harm(folder, name)
    with pytest.raises(InputError, match=f"{name}: truncated or changed"):
        models.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "model.json"])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        models.load(folder)


def test_a_missing_folder_is_named(tmp_path):
    for read in (models.load, checkpoint.fingerprint):
        with pytest.raises(InputError, match="nowhere.*no such file"):
            read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"[]",
        b'{"config": {}}',
        b'{"config": 1, "sha256": {}}',
        b"\xff\xfe\x00",
        b'{"config": {}, "sha256": 3}',
        b'{"a":' * 5000,
    ],
)
def test_a_broken_description_is_refused(folder, garbage):
    (folder / "model.json").write_bytes(garbage)
    for read in (models.load, checkpoint.fingerprint):
        with pytest.raises(InputError, match="model.json: (not a checkpoint description|not valid JSON)"):
            read(folder)


def rewrite(folder, change, summed=True):
    description = json.loads((folder / "model.json").read_text())
    change(description["config"])
    if summed:
        description["sha256"]["config"] = sha256_text(json.dumps(description["config"], sort_keys=True))
    (folder / "model.json").write_text(json.dumps(description))


def test_a_changed_configuration_is_refused(folder):
    rewrite(folder, lambda config: config["lexlip"].update(temperature=0.06), summed=False)
    for read in (models.load, checkpoint.fingerprint):
        with pytest.raises(InputError, match="model.json: its configuration changed since it was written"):
            read(folder)


def test_a_checkpoint_without_a_sum_of_its_configuration_is_read(folder):
    description = json.loads((folder / "model.json").read_text())
    del description["sha256"]["config"]
    (folder / "model.json").write_text(json.dumps(description))
    models.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(kind="clip"),
        lambda config: config.update(kind="siglip"),
        lambda config: config["text"].update(vocabulary=70),
        lambda config: config["text"].update(width="wide"),
        lambda config: config["image"].update(layers=2),
    ],
)
def test_a_configuration_that_does_not_match_the_weights(folder, change):
    rewrite(folder, change)
    with pytest.raises(
        InputError, match=r"broken.*(not a checkpoint this version can read|model.json: config\.(kind|text\.width): )"
    ) as refused:
        models.load(folder)
    assert "\n" not in str(refused.value)


def test_the_fingerprint_covers_the_configuration(folder, saved):
    before = checkpoint.fingerprint(folder)
    assert before == checkpoint.fingerprint(saved["lexlip"][1])
    rewrite(folder, lambda config: config["clip"].update(embedding=ClipConfig().embedding + 1))
    assert checkpoint.fingerprint(folder) != before


LIGHT = """
import json, sys
import models, models.errors, models.files, models.config, models.tokenizer
from models import checkpoint
from models.pretrained import open_clip, sources
found = [checkpoint.fingerprint(sys.argv[1]), open_clip.fingerprint(sys.argv[2]), open_clip.pixels(sys.argv[2])]
heavy = [name for name in ("torch", "transformers", "open_clip", "timm", "pandas") if name in sys.modules]
print(json.dumps([found, heavy]))
"""


def test_ids_are_computed_without_importing_torch(saved):
    """A rerun that finds everything done needs ids only."""
    folder = saved["lexlip"][1]
    model = f"open_clip:ViT-B-32/{folder / 'model.safetensors'}"
    command = [sys.executable, "-c", LIGHT, str(folder), model]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    expected = [checkpoint.fingerprint(folder), open_clip.fingerprint(model), open_clip.pixels(model)]
    assert json.loads(ran.stdout) == [expected, []]


# Weights of a checkpoint for another model


def test_weights_for_another_image_size(make, images, tmp_path):
    trained = make(image={"pretrained": None}, seed=3).eval()
    checkpoint.save(trained, tmp_path / "saved")
    larger = make(image={"pixels": 32, "table_pixels": 16}, seed=4).eval()
    checkpoint.load_weights(larger, tmp_path / "saved")
    ours, theirs = larger.state_dict(), trained.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert larger.text.head.weight_VD is larger.text.encoder.embeddings.word_embeddings.weight
    with torch.no_grad():
        small_BV = larger.image_states(torch.from_numpy(images))[1].weights_BV
        assert torch.equal(small_BV, trained.image_states(torch.from_numpy(images))[1].weights_BV)


@pytest.mark.parametrize(
    ("kind", "image", "message"),
    [
        ("lexlip", {"pixels": 32}, "size mismatch for image.encoder.embeddings.position_embeddings"),
        ("lexlip", {"layers": 2}, "Missing key"),
        ("clip", {}, "a checkpoint of a lexlip, but model.kind is clip"),
    ],
)
def test_weights_of_another_model_are_refused(make, tmp_path, kind, image, message):
    checkpoint.save(make(), tmp_path / "saved")
    with pytest.raises(InputError, match=message) as refused:
        checkpoint.load_weights(make(kind, image), tmp_path / "saved")
    assert "\n" not in str(refused.value)


def test_weights_of_another_vocabulary_are_refused(make, make_config, captions, tmp_path):
    checkpoint.save(make(), tmp_path / "saved")
    other = LexiconTokenizer.train([f"{caption}s" for caption in captions], 100, 14)
    model = make()
    model.tokenizer = other
    with pytest.raises(InputError, match="its vocabulary differs"):
        checkpoint.load_weights(model, tmp_path / "saved")
