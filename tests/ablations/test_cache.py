"""The cache of frozen encoders' states: kills, broken files, and runs that train and validate on it."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ablations.train as trainer
from ablations import start
from ablations.cache import states as cache
from ablations.cache.rows import cached_rows
from ablations.data import prepare
from ablations.validate import ValidationSet, validate
from models import checkpoint
from models.errors import InputError
from models.tokenizer import LexiconTokenizer

from transformers import BertConfig, BertModel, ViTConfig, ViTModel  # isort: skip  # after models, see torchvision_ops

ROOT = Path(__file__).resolve().parents[2]

# --- the array on disk ------------------------------------------------------------------------------------------------

ENDS = np.array([2, 4, 6, 7])
ROWS_RX = np.arange(21, dtype=np.float16).reshape(7, 3)
KILLED = """
import os, signal, sys, numpy as np
from pathlib import Path
from ablations.cache.rows import cached_rows
ends, rows = np.array([2, 4, 6, 7]), np.arange(21, dtype=np.float16).reshape(7, 3)
def block(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return rows[2 * number : ends[number]]
cached_rows(Path(sys.argv[1]), ends, (3,), block, {"title": "images"})
"""


def read(folder: Path, rows_RX: np.ndarray = ROWS_RX) -> tuple[np.ndarray, list[int]]:
    """The array, and the numbers of the blocks that had to be computed."""
    computed = []

    def block(number: int) -> np.ndarray:
        computed.append(number)
        return rows_RX[2 * number : ENDS[number]]

    return cached_rows(folder, ENDS, (3,), block, {"title": "images"}), computed


@pytest.fixture
def killed(tmp_path) -> Path:
    """The folder of an array whose process was killed before its third block."""
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "states"], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    return tmp_path / "states"


def test_a_killed_computation_resumes(killed):
    found, computed = read(killed)
    assert computed == [2, 3], "finished blocks are not computed again"
    assert found.dtype == np.float16 and np.array_equal(found, ROWS_RX)
    found, computed = read(killed)
    assert computed == [] and np.array_equal(found, ROWS_RX)
    assert {file.name for file in killed.iterdir()} == {"states.npy", "meta.json", ".lock"}


def damage(file: Path, how: str) -> None:
    whole = file.read_bytes()
    match how:
        case "missing":
            file.unlink()
        case "truncated":
            file.write_bytes(whole[:-40])
        case "changed":
            file.write_bytes(whole[:150] + bytes([whole[150] ^ 1]) + whole[151:])  # in the first block


@pytest.mark.parametrize("how", ["missing", "truncated", "changed"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_broken_array_is_named(killed, how, whole):
    if whole:
        read(killed)
    damage(killed / "states.npy", how)
    with pytest.raises(InputError, match="states.npy: missing, truncated or changed .*remove the folder"):
        read(killed)


def test_broken_descriptions_are_named(killed):
    (killed / "progress.json").write_text('{"blocks": [1], "seal": "0"}')
    with pytest.raises(InputError, match="progress.json: changed since it was written .*remove the folder"):
        read(killed)
    shutil.rmtree(killed)
    read(killed)
    (killed / "meta.json").write_text("{")
    with pytest.raises(InputError, match="meta.json: not valid JSON .*remove the folder"):
        read(killed)


def test_values_beyond_float16_are_refused(tmp_path):
    with pytest.raises(InputError, match="images: states do not fit into float16; set train.cache=none"):
        read(tmp_path, np.full((7, 3), 70_000.0))


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overrides(made_home, resolve, tmp_path_factory) -> list[str]:
    """Settings of the tiny profile with both encoders pre-trained and frozen."""
    folder, run = tmp_path_factory.mktemp("pretrained"), resolve()
    sizes = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer = prepare(made_home, run.data, run.model.text).tokenizer
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "bert")
    tokenizer.save(folder / "bert" / "tokenizer.json")
    ViTModel(ViTConfig(image_size=64, patch_size=32, **sizes)).save_pretrained(folder / "vit")
    return [
        f"model.image={{pretrained: {folder / 'vit'}, top: {{heads: 2, grid: 1}}}}",
        f"model.text={{pretrained: {folder / 'bert'}, top: {{heads: 2}}}}",
        "model.clip.towers=lexlip",
        "train.steps=8",
        "train.validate_every=4",
    ]


@pytest.fixture(scope="module")
def frozen_home(made_home, tmp_path_factory) -> Path:
    return shutil.copytree(made_home, tmp_path_factory.mktemp("frozen") / "home")


@pytest.mark.parametrize("variant", ["lexlip_words", "clip"])
def test_a_run_on_the_cache_learns_the_same(frozen_home, resolve, tiny, overrides, variant):
    by_cache = {}
    for mode in ("none", "image", "text", "both"):
        run = resolve(variant, *overrides, f"train.cache={mode}")
        by_cache[mode] = trainer.train(frozen_home, tiny, variant, 0, run)
    assert len({trained.run_id for trained in by_cache.values()}) == 4
    plain = by_cache["none"].summary["curve"]
    for trained in by_cache.values():
        for row, expected in zip(trained.summary["curve"], plain, strict=True):
            for name, value in expected["train"].items():
                assert row["train"][name] == pytest.approx(value, rel=0.02, abs=1e-3), name
    assert len(list((frozen_home / "states").iterdir())) == 4, "train and val of each side, shared by all runs"
    model = checkpoint.load(by_cache["both"].checkpoint)
    assert model.encode_image(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, model.dimension)


def frozen_model(home: Path, resolve, overrides, *more: str):
    run = resolve("lexlip", *overrides, "train.cache=both", *more)
    data = prepare(home, run.data, run.model.text, tokenizer=start.tokenizer(run))
    torch.manual_seed(0)
    model = checkpoint.create(run.model, data.tokenizer)
    start.load(model, run)
    return run, data, model


def test_validation_on_states_gives_the_measures_of_pixels(frozen_home, resolve, overrides):
    run, data, model = frozen_model(frozen_home, resolve, overrides)
    held = ValidationSet.of(run.data)
    cached_data, cached = cache.with_states(frozen_home, model, run, data, held)
    expected, found = validate(model, held), validate(model, cached)
    assert found == pytest.approx(expected, abs=0.1) and found.keys() == expected.keys()
    blind = dataclasses.replace(cached, images_NHWC=None)
    assert validate(model, blind) == found, "pixels are not read"
    batch = cached_data.batch(3, 8, seed=0)
    assert batch.images_BHWC is None and batch.image_states_BLX.shape == (8, 2, 16)
    assert torch.equal(batch.tokens_BL, data.batch(3, 8, seed=0).tokens_BL)
    assert (batch.text_states_BLX.abs().sum(dim=-1) > 0).equal(batch.tokens_BL != model.tokenizer.pad_id)


def test_other_weights_pixels_items_and_captions_have_other_states(frozen_home, resolve, overrides):
    """The layers on top, and the seed, change nothing."""
    folders = set()

    def made(change=lambda model: None, *more: str) -> int:
        run, data, model = frozen_model(frozen_home, resolve, overrides, *more)
        with torch.no_grad():
            change(model)
        data, _ = cache.with_states(frozen_home, model, run, data, None)
        folders.update(Path(states.filename) for states in (data.image_states_NLX, data.text_states.states_TX))
        return len(folders)

    assert made() == made(lambda model: None, "model.image.top.layers=2", "model.text.top.heads=4") == 2
    assert made(lambda model: model.image_encoder.encoder.embeddings.cls_token.add_(1)) == 3
    assert made(lambda model: model.text_encoder.encoder.embeddings.word_embeddings.weight.add_(1)) == 4
    assert made(lambda model: None, "model.image.top.grid=2") == 5
    assert made(lambda model: None, "model.text.max_tokens=12") == 6
    assert made(lambda model: None, "data.train_images=48") == 8
    assert made(lambda model: None, "data.corpus.seed=1") == 10


@pytest.mark.parametrize("name", ["states.npy", "meta.json"])
def test_a_run_refuses_broken_states(frozen_home, resolve, tiny, overrides, tmp_path, name):
    run, data, model = frozen_model(frozen_home, resolve, overrides)
    cache.with_states(frozen_home, model, run, data, None)
    home = shutil.copytree(frozen_home, tmp_path / "home")
    for file in (home / "states").glob(f"*/{name}"):
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=f"{name}: .*remove the folder to compute the states again"):
        trainer.train(home, tiny, "lexlip", 1, run)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.image.top=null", "train.cache=both"], "train.cache: both: the image encoder is not frozen"),
        (["model.text.top=null", "train.cache=text"], "the text encoder is not frozen; expected model.text.top"),
        (["model.image.pretrained=null"], "model.image.top freezes the encoder; expected model.image.pretrained"),
        (["train.cache=image", "train.augment=randaugment"], "train.cache: image: images are not changed"),
        (["train.cache=image", "train.phase2.pixels=[64]"], "expected augment: none and pixels: "),
        (["model.image.top.layer=1"], "unknown key model.image.top.layer .nearest: layers"),
        (["train.cache=images"], "train.cache: "),
    ],
)
def test_settings_that_do_not_fit_are_refused(resolve, overrides, more, message):
    with pytest.raises(InputError, match=message) as refused:
        resolve("lexlip", *overrides, *more)
    assert "\n" not in str(refused.value)


def test_the_description_says_what_the_states_are_of(frozen_home, resolve, overrides):
    run, data, model = frozen_model(frozen_home, resolve, overrides)
    data, _ = cache.with_states(frozen_home, model, run, data, None)
    about = json.loads(Path(data.image_states_NLX.filename).with_name("meta.json").read_text())
    assert (about["title"], about["split"], about["items"]) == ("train images", "train", 64)
    assert about["settings"]["pixels"] == 64 and len(about["weights"]) == 64
    assert isinstance(data.tokenizer, LexiconTokenizer)
