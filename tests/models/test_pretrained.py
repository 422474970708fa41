"""Pre-trained models of open_clip from every kind of source: equal vectors, ids, and errors."""

import json
import logging
import os
import pickle
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants as hub
from PIL import Image
from safetensors.torch import save_file

from models.errors import InputError
from models.pretrained import open_clip as pretrained
from models.pretrained.open_clip_model import PretrainedClip, open_clip

ARCHITECTURE, TAG, REPOSITORY = "tiny-test-clip", "made_up", "nobody/tiny"
CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
CAPTIONS = ["a red apple", "two dogs on a beach at sunset", ""]
STATISTICS = {"mean": (0.1, 0.2, 0.3), "std": (0.9, 0.8, 0.7)}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """The same weights as safetensors and as a state dict, and a folder as open_clip saves one."""
    folder = tmp_path_factory.mktemp("pretrained")
    for name, text in ((ARCHITECTURE, {}), ("tiny-hub-text", {"hf_tokenizer_name": "nobody/none"})):
        config = folder / f"{name}.json"
        config.write_text(json.dumps(CONFIG | {"text_cfg": CONFIG["text_cfg"] | text}))
        open_clip.add_model_config(config)
    torch.manual_seed(0)
    weights = {name: value.contiguous() for name, value in open_clip.create_model(ARCHITECTURE).state_dict().items()}
    made = {"safetensors": folder / "weights.safetensors", "pt": folder / "weights.pt", "folder": folder / "saved"}
    save_file(weights, made["safetensors"])
    torch.save(weights, made["pt"])
    made["folder"].mkdir()
    shutil.copy(made["safetensors"], made["folder"] / "open_clip_model.safetensors")
    described = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (made["folder"] / pretrained.CONFIG).write_text(json.dumps(described))
    return made


@pytest.fixture
def fake_hub(files, monkeypatch) -> list[str]:
    """A hub with the folder as a repository, published as a tag with other statistics and activation; its requests."""
    asked = []

    def download(repo_id, filename, **_):
        asked.append(f"{repo_id}/{filename}")
        file = files["folder"] / filename
        if repo_id != REPOSITORY or not file.exists():
            raise FileNotFoundError(filename)
        return str(file)

    published = {TAG: {"url": "", "hf_hub": f"{REPOSITORY}/", "quick_gelu": True, **STATISTICS}}
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", download)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, ARCHITECTURE, published)
    return asked


@pytest.fixture(autouse=True)
def _clear_cache():
    pretrained._find.cache_clear()


@pytest.fixture(scope="module")
def square() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def open_clips_own(square, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of images and captions by model, transform and tokenizer of open_clip."""
    model, preprocess = open_clip.create_model_from_pretrained(*args, **kwargs)
    pixels = torch.stack([preprocess(Image.fromarray(image)) for image in square])
    with torch.no_grad():
        tokens = open_clip.get_tokenizer(args[0])(CAPTIONS)
        return model.eval().encode_image(pixels, normalize=True), model.encode_text(tokens, normalize=True)


def assert_same(model: PretrainedClip, square, expected) -> None:
    for ours, theirs in zip((model.encode_image(square), model.encode_text(CAPTIONS)), expected, strict=True):
        assert ours.dtype == torch.float32 and ours.shape == (3, model.dimension)
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


def test_a_model_can_be_pickled(files, square):
    """For the nodes of a cluster."""
    model = pretrained.load(f"open_clip:{ARCHITECTURE}/{files['safetensors']}")
    assert_same(pickle.loads(pickle.dumps(model)), square, (model.encode_image(square), model.encode_text(CAPTIONS)))


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_file_gives_open_clips_own_vectors(files, square, kind):
    model = pretrained.load(f"open_clip:{ARCHITECTURE}/{files[kind]}")
    assert (model.kind, model.vocabulary, model.dimension, model.pixels, model.training) == (
        "dense",
        None,
        8,
        32,
        False,
    )
    assert pretrained.pixels(f"open_clip:{ARCHITECTURE}/{files[kind]}") == 32
    assert_same(model, square, open_clips_own(square, ARCHITECTURE, pretrained=str(files[kind])))


def test_a_folder_gives_open_clips_own_vectors_with_its_own_statistics(files, square):
    model = pretrained.load(f"open_clip:local-dir:{files['folder']}")
    assert_same(model, square, open_clips_own(square, f"local-dir:{files['folder']}"))
    other = pretrained.load(f"open_clip:{ARCHITECTURE}/{files['safetensors']}")
    assert not torch.allclose(model.encode_image(square), other.encode_image(square), atol=1e-3)


def test_a_tag_decides_statistics_and_activation_and_is_logged(files, fake_hub, square, caplog):
    model = pretrained.load(f"open_clip:{ARCHITECTURE}/{TAG}")
    assert [record.message for record in caplog.records if record.name == "models.pretrained.open_clip"] == [
        f"open_clip:{ARCHITECTURE}/{TAG}: fetching {REPOSITORY}/, unless it is in the hub's cache"
    ]
    named = {f"image_{name}": value for name, value in STATISTICS.items()}
    own = open_clips_own(square, ARCHITECTURE, pretrained=str(files["pt"]), force_quick_gelu=True, **named)
    assert_same(model, square, own)
    assert set(fake_hub) == {f"{REPOSITORY}/open_clip_model.safetensors"}


def test_a_repository_gives_open_clips_own_vectors(files, fake_hub, square):
    model = pretrained.load(f"open_clip:hf-hub:{REPOSITORY}")
    assert_same(model, square, open_clips_own(square, f"local-dir:{files['folder']}"))


def test_a_file_takes_the_statistics_that_all_published_weights_share(files, fake_hub, square, monkeypatch, caplog):
    source = f"open_clip:{ARCHITECTURE}/{files['pt']}"
    assert pretrained.load(source).mean.flatten().tolist() == pytest.approx(STATISTICS["mean"])
    assert not caplog.records
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED[ARCHITECTURE],
        "another",
        {"hf_hub": "x/", "mean": (0.5,) * 3, "std": (0.5,) * 3},
    )
    pretrained._find.cache_clear()
    assert pretrained.load(source).mean.flatten().tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert "several means" in caplog.text and "weights.pt" in caplog.text


def test_the_fingerprint_depends_on_the_content_only(files, fake_hub, tmp_path):
    moved = shutil.copy(files["pt"], tmp_path / "elsewhere.pt")
    same = pretrained.fingerprint(f"open_clip:{ARCHITECTURE}/{files['pt']}")
    assert pretrained.fingerprint(f"open_clip:{ARCHITECTURE}/{moved}") == same
    weights = torch.load(moved)
    weights["logit_scale"] += 1
    torch.save(weights, moved)
    sources = [
        f"{ARCHITECTURE}/{moved}",
        f"{ARCHITECTURE}/{TAG}",
        f"local-dir:{files['folder']}",
        f"hf-hub:{REPOSITORY}",
    ]
    assert len({same, *(pretrained.fingerprint(f"open_clip:{source}") for source in sources)}) == 5
    copied = shutil.copytree(files["folder"], tmp_path / "copied")
    of_folder = pretrained.fingerprint(f"open_clip:local-dir:{files['folder']}")
    assert pretrained.fingerprint(f"open_clip:local-dir:{copied}") == of_folder


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_truncated_file_is_refused_by_name(files, tmp_path, kind):
    broken = tmp_path / f"short.{kind}"
    broken.write_bytes(files[kind].read_bytes()[:-100])
    assert_refused(f"open_clip:{ARCHITECTURE}/{broken}", str(broken))
    shutil.copytree(files["folder"], tmp_path / "saved")
    weights = tmp_path / "saved" / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert_refused(f"open_clip:local-dir:{tmp_path / 'saved'}", str(tmp_path / "saved"))


def test_a_folder_with_a_broken_configuration_is_refused(files, tmp_path):
    folder = shutil.copytree(files["folder"], tmp_path / "saved")
    for broken in ('{"model_cfg": {"embed_dim"', '{"model_cfg": {}}', "[]"):
        (folder / pretrained.CONFIG).write_text(broken)
        assert_refused(f"open_clip:local-dir:{folder}", str(folder))
        with pytest.raises(InputError, match="saved"):
            pretrained.pixels(f"open_clip:local-dir:{folder}")


def test_a_folder_without_weights_is_refused(files, tmp_path):
    shutil.copy(files["folder"] / pretrained.CONFIG, tmp_path)
    assert_refused(f"open_clip:local-dir:{tmp_path}", f"{tmp_path}: no weights; expected")


def test_no_code_in_a_file_is_run(tmp_path, files):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"positional_embedding": Trap()}, tmp_path / "trap.pt")
    assert_refused(f"open_clip:{ARCHITECTURE}/{tmp_path / 'trap.pt'}", "trap.pt")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_architecture_are_refused(tmp_path, files):
    for tensors in ({"positional_embedding": torch.zeros(3, 3)}, {"weight": torch.zeros(3)}):
        save_file(tensors, tmp_path / "other.safetensors")
        assert_refused(f"open_clip:{ARCHITECTURE}/{tmp_path / 'other.safetensors'}", "other.safetensors", ARCHITECTURE)
    torch.save({}, tmp_path / "empty.pt")
    assert_refused(f"open_clip:{ARCHITECTURE}/{tmp_path / 'empty.pt'}", "empty.pt")
    shutil.copy(files["pt"], tmp_path / "weights.npz")
    assert_refused(
        f"open_clip:{ARCHITECTURE}/{tmp_path / 'weights.npz'}", "weights.npz: expected weights as .safetensors"
    )


def assert_refused(source: str, *messages: str) -> None:
    with pytest.raises(InputError) as error:
        pretrained.load(source)
    assert "\n" not in str(error.value)
    for message in messages:
        assert message in str(error.value)


def test_errors_for_unknown_names_name_the_nearest(files):
    assert_refused("open_clip:ViT-B-33/openai", "unknown architecture 'ViT-B-33'", "nearest: ViT-B-32")
    assert_refused("open_clip:ViT-B-32/laion2b_s34b_b79", "nearest: laion2b_s34b_b79k", "neither a file nor a tag")
    assert_refused(f"open_clip:{ARCHITECTURE}/nowhere/weights.pt", "'nowhere/weights.pt' is neither a file", "has none")
    assert_refused("open_clip:local-dir:nowhere", "nowhere/open_clip_config.json: no such file")


@pytest.mark.parametrize("source", ["open_clip:ViT-B-32", "open_clip:/tag", "open_clip:hf-hub:", "ViT-B-32/openai"])
def test_incomplete_names_are_refused(source):
    assert_refused(source, f"model '{source}': expected open_clip:ARCHITECTURE/TAG or")


def test_without_a_network_the_error_is_one_line(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    for source, what in (
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"),
        (f"open_clip:hf-hub:{REPOSITORY}", REPOSITORY),
    ):
        assert_refused(source, f"{what} could not be fetched", "expected a connection")
        with pytest.raises(InputError, match="could not be fetched"):
            pretrained.fingerprint(source)
        assert f"{source}: fetching {what}" in caplog.text


def test_the_attempts_of_the_hub_are_not_logged(files, fake_hub, monkeypatch, caplog):
    def fails(**_):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s")
        raise ConnectionError("refused\nagain")

    level = logging.getLogger("huggingface_hub").level
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", fails)
    assert_refused(f"open_clip:{ARCHITECTURE}/{TAG}", "could not be fetched", "refused again")
    assert "Retrying" not in caplog.text and "fetching" in caplog.text
    assert logging.getLogger("huggingface_hub").level == level


def test_local_files_never_use_the_network(files, monkeypatch, tmp_path):
    """The tokenizer of this architecture is on the hub: the model is refused, although the hub is online."""
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    connections = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: connections.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: connections.append(address) or [])
    assert_refused(f"open_clip:tiny-hub-text/{files['pt']}", "weights.pt", "needs nobody/none of the hub")
    assert connections == [] and hub.HF_HUB_OFFLINE is False


def test_variants_in_records(tmp_path):
    assert pretrained.variant("open_clip:ViT-B-32/laion2b_s34b_b79k") == "clip_zeroshot:ViT-B-32/laion2b_s34b_b79k"
    assert (
        pretrained.variant(f"open_clip:ViT-B-32/{tmp_path}/mine.safetensors")
        == "clip_zeroshot:ViT-B-32/mine.safetensors"
    )
    assert pretrained.variant(f"open_clip:local-dir:{tmp_path}/saved") == "clip_zeroshot:saved"
    assert pretrained.variant("open_clip:hf-hub:nobody/tiny") == "clip_zeroshot:nobody/tiny"


def test_only_open_clip_names_are_named(tmp_path):
    assert pretrained.named("open_clip:ViT-B-32/openai")
    assert not pretrained.named("runs/checkpoint") and not pretrained.named(tmp_path)


def test_the_tables_are_read_without_open_clip():
    """The copies used before open_clip is imported equal the tables of the package."""
    assert pretrained._tables()._PRETRAINED == open_clip.pretrained._PRETRAINED
    folder = pretrained._package_folder() / "model_configs"
    shipped = {file.stem for file in folder.glob("*.json")}
    assert shipped <= set(open_clip.list_models())
    assert open_clip.CLIPVisionCfg.image_size == pretrained.DEFAULT_PIXELS
