import hashlib
import json
import shutil

import pytest
import torch

import models
from models import checkpoint
from models.config import ClipConfig
from models.errors import InputError

KINDS = ["lexlip", "clip"]


@pytest.fixture(scope="module")
def saved(make_model, tmp_path_factory):
    """kind -> (model, folder), each a little off its start."""
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
def test_encodings_are_the_same_bit_for_bit(kind, saved, pictures, captions):
    model, folder = saved[kind]
    again = models.load(folder)
    assert not again.training
    assert again.config == model.config
    assert torch.equal(again.encode_image(pictures), model.encode_image(pictures))
    assert torch.equal(again.encode_text(captions), model.encode_text(captions))


def test_ties_survive(saved):
    again = models.load(saved["lexlip"][1])
    assert again.text.head.weight_VD is again.text.encoder.embeddings.word_embeddings.weight
    assert again.image.head.weight_VD is not again.text.head.weight_VD


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_pickled(kind, saved, monkeypatch):
    folder = saved[kind][1]
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "model.json", "tokenizer.json"}
    json.loads((folder / "model.json").read_text())
    json.loads((folder / "tokenizer.json").read_text())
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr("pickle.Unpickler", None)
    models.load(folder)


def test_saving_replaces_whole(saved, tmp_path, make_model):
    folder = tmp_path / "best"
    checkpoint.save(saved["lexlip"][0], folder)
    first = checkpoint.fingerprint(folder)
    checkpoint.save(make_model(seed=1), folder)
    assert checkpoint.fingerprint(folder) != first
    checkpoint.save(saved["lexlip"][0], folder)
    assert checkpoint.fingerprint(folder) == first, "equal weights, equal fingerprint"
    assert [file.name for file in tmp_path.iterdir()] == ["best"]
    assert len(first) == 16


def test_a_save_that_fails_leaves_what_stood_there(saved, tmp_path, monkeypatch, make_model):
    folder = tmp_path / "best"
    checkpoint.save(saved["lexlip"][0], folder)
    first = checkpoint.fingerprint(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_model", full)
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
def test_a_description_that_is_none(folder, garbage):
    (folder / "model.json").write_bytes(garbage)
    for read in (models.load, checkpoint.fingerprint):
        with pytest.raises(InputError, match="model.json: not a checkpoint description"):
            read(folder)


def rewrite(folder, change, summed=True):
    description = json.loads((folder / "model.json").read_text())
    change(description["config"])
    if summed:
        description["sha256"]["config"] = hashlib.sha256(
            json.dumps(description["config"], sort_keys=True).encode()
        ).hexdigest()
    (folder / "model.json").write_text(json.dumps(description))


def test_a_configuration_that_changed_is_refused(folder):
    rewrite(folder, lambda config: config["lexlip"].update(temperature=0.06), summed=False)
    for read in (models.load, checkpoint.fingerprint):
        with pytest.raises(
            InputError, match="model.json: not a checkpoint description: its configuration changed since it was written"
        ):
            read(folder)


def test_a_checkpoint_from_before_configurations_had_a_sum_is_read(folder):
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
def test_a_configuration_that_does_not_fit_the_weights(folder, change):
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
