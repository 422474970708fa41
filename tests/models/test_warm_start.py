"""Pre-trained parts: a started model gives the outputs of the model that transformers saved."""

import json
import shutil

import pytest
import torch
from transformers import BeitModel, BertForMaskedLM, BertModel, Dinov2Model, ViTModel

from models import checkpoint
from models.config import HeadConfig
from models.errors import InputError
from models.pretrained import warm_start
from models.towers.transformer import image_tokens

RELATIVE = {"use_shared_relative_position_bias": True}


def started(model):
    warm_start.start(model)
    return model.eval()


@torch.no_grad()
def test_bert_with_its_head_gives_the_logits_of_transformers(folders, make, make_batch):
    model = started(make(text={"pretrained": str(folders / "mlm")}))
    own, tokens_BL = BertForMaskedLM.from_pretrained(folders / "mlm").eval(), make_batch().tokens_BL
    mask_BL = tokens_BL != model.tokenizer.pad_id
    expected_BLV = own(input_ids=tokens_BL, attention_mask=mask_BL.long()).logits
    logits_BLV = model.text.head(model.text_states(tokens_BL)[0])
    torch.testing.assert_close(logits_BLV[mask_BL], expected_BLV[mask_BL], rtol=1e-4, atol=1e-4)


def test_the_image_head_is_a_copy_of_the_text_head_except_its_bias(folders, make):
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
def test_bert_without_a_head_leaves_the_configured_head(folders, make, make_batch):
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
def test_image_encoders_give_the_states_of_transformers(folders, make, name, own, architecture, pixels):
    model = started(make(image={"encoder": name, "architecture": architecture, "pretrained": str(folders / name)}))
    values_BCHW = torch.randn(2, 3, pixels, pixels)
    options = {} if name == "dinov2" else {"interpolate_pos_encoding": True}
    expected_BLD = own.from_pretrained(folders / name).eval()(values_BCHW, **options).last_hidden_state
    assert torch.equal(image_tokens(model.image.encoder, values_BCHW), expected_BLD)


def test_clip_starts_from_the_same_encoders(folders, make):
    image = {"encoder": "beit", "architecture": RELATIVE, "pretrained": str(folders / "beit")}
    text = {"pretrained": str(folders / "mlm")}
    lexlip, clip = (started(make(kind, image, text)) for kind in ("lexlip", "clip"))
    for side in ("image_encoder", "text_encoder"):
        ours, theirs = getattr(lexlip, side).state_dict(), getattr(clip, side).state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_checkpoint_does_not_need_the_folder(folders, make, images, captions, tmp_path):
    here = shutil.copytree(folders / "mlm", tmp_path / "berts" / "mine")
    model = started(make(text={"pretrained": str(here)}))
    checkpoint.save(model, tmp_path / "saved")
    shutil.rmtree(here)
    again = checkpoint.load(tmp_path / "saved")
    assert torch.equal(again.encode_text(captions), model.encode_text(captions))
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    assert str(tmp_path) not in (tmp_path / "saved" / "model.json").read_text()
    assert again.config.text.pretrained.startswith("mine sha256:")


# Differences from the configuration: one line that names the key to set


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def without(key):
    """Removes a key from the weights."""
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
    """Reading a file must not create it."""


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
            "has 9 positions; set model.text.max_tokens=9 or less",
        ),
        (lambda folder: rewrite(folder / "config.json", model_type="roberta"), "model_type is roberta; expected bert"),
        (lambda folder: rewrite(folder / "config.json", tie_word_embeddings=False), "tie_word_embeddings is false"),
        (lambda folder: rewrite(folder / "config.json", hidden_size="wide"), "not a configuration of bert"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: no such file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights; expected one of"),
        (without("query.bias"), "the weights lack bert.encoder.layer.0.attention.self.query.bias, and 0 more"),
        (without("predictions.transform.dense.bias"), "the weights lack cls.predictions.transform.dense.bias"),
        (truncated, "weights are broken or of another model: .*incomplete"),
        (pickled, "weights are broken or of another model: "),
    ],
)
def test_a_text_encoder_that_does_not_fit(folders, make, tmp_path, harm, message):
    folder = shutil.copytree(folders / "mlm", tmp_path / "bert")
    harm(folder)
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
