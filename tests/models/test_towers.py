"""The towers: pixel values, stems, encoders at several image sizes, and CLIP on LexLIP's encoders."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models import checkpoint
from models.clip import resized_positions
from models.config import ARCHITECTURE, ClipConfig, ImageConfig, ModelConfig, TextConfig
from models.errors import InputError
from models.towers.transformer import ConvolutionalStem, as_images, image_tokens, image_tower, pixel_values, text_tower

from open_clip.model import resize_pos_embed  # isort: skip  # after models, which make torchvision importable
from transformers import BeitConfig, BeitModel, BertModel, Dinov2Config, Dinov2Model, ViTConfig, ViTModel  # isort: skip

CPU = torch.device("cpu")


def test_pixel_values_are_in_minus_1_to_1():
    images_BHWC = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 4, 4, 3)
    values_BCHW = pixel_values(images_BHWC)
    assert values_BCHW.shape == (2, 3, 4, 4)
    assert values_BCHW[0].eq(-1).all() and values_BCHW[1].eq(1).all()
    assert images_BHWC[1].eq(255).all(), "the input is not changed"


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((1, 8, 8), np.uint8),
        np.zeros((1, 8, 9, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
    ],
    ids=["float", "grey", "wide", "one without batch"],
)
def test_other_dtypes_and_shapes_of_images_are_refused(images):
    with pytest.raises(InputError, match=r"expected uint8 \(B, 8, 8, 3\)"):
        as_images(images, 8, CPU)


def test_a_batch_of_images_is_not_changed():
    images = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    assert np.array_equal(as_images(images, 8, CPU).numpy(), images)


def test_the_stem_gives_one_token_per_patch():
    stem = ConvolutionalStem((4, 6), 10)
    assert stem(torch.zeros(2, 3, 64, 32)).shape == (2, 10, 4, 2)
    assert stem.weight is stem[-1].weight


# Encoders of transformers, at the size of their position table and at others

LIBRARY = {"vit": (ViTConfig, ViTModel), "beit": (BeitConfig, BeitModel), "dinov2": (Dinov2Config, Dinov2Model)}
RELATIVE = {"use_relative_position_bias": True}
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 224, "patch_size": 16}


def tiny(encoder: str, **changes) -> ImageConfig:
    architecture = RELATIVE if encoder == "beit" else {}
    made = {
        "pixels": 224,
        "patch": 16,
        "stem": "patch",
        "layers": 1,
        "width": 16,
        "heads": 2,
        "architecture": architecture,
    }
    return ImageConfig(encoder=encoder, **(made | changes))


@pytest.fixture(scope="module", params=LIBRARY)
def towers(request):
    """An encoder with random biases and norms, and the same one made by transformers."""
    torch.manual_seed(0)
    tower = image_tower(tiny(request.param)).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    config, model = LIBRARY[request.param]
    hidden = {"mlp_ratio": 4, "use_mask_token": False} if request.param == "dinov2" else {"intermediate_size": 64}
    own = model(config(**SIZES, **hidden, **(RELATIVE if request.param == "beit" else {}))).eval()
    own.load_state_dict(tower.state_dict(), strict=False)
    return tower, own


@torch.no_grad()
def test_vectors_at_the_size_of_the_table_equal_those_of_transformers(towers):
    tower, own = towers
    values_BCHW = torch.randn(2, 3, 224, 224)
    assert torch.equal(image_tokens(tower, values_BCHW), own(values_BCHW).last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("pixels", [112, 384])
def test_other_sizes_are_interpolated_as_in_transformers(towers, pixels):
    tower, own = towers
    values_BCHW = torch.randn(2, 3, pixels, pixels)
    states_BLD = image_tokens(tower, values_BCHW)
    assert states_BLD.shape == (2, 1 + (pixels // 16) ** 2, 16)
    assert states_BLD.isfinite().all()
    asked = {} if isinstance(own, Dinov2Model) else {"interpolate_pos_encoding": True}
    assert torch.equal(states_BLD, own(values_BCHW, **asked).last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("side", [7, 14, 24])
def test_beits_bias_follows_the_offset_of_two_patches_at_any_size(side):
    """The official code is wrong here: at 112 and 384 px, patches get the bias of other offsets."""
    bias = image_tower(tiny("beit")).layers[0].relative_position_bias
    # for 14 x 14 patches; the last three are those of [CLS]
    vertical_N = torch.cat([torch.arange(27.0).repeat_interleave(27), torch.zeros(3)])
    bias.relative_position_bias_table.copy_(vertical_N[:, None].expand_as(bias.relative_position_bias_table))
    found_LL = bias((side, side), interpolate_pos_encoding=True, dim_size=side * side + 1)[0, 0, 1:, 1:]
    rows_L = torch.arange(side * side) // side
    offset_LL = rows_L[:, None] - rows_L[None]
    means = torch.stack([found_LL[offset_LL == offset].mean() for offset in range(1 - side, side)])
    for offset, mean in zip(range(1 - side, side), means, strict=True):
        torch.testing.assert_close(
            found_LL[offset_LL == offset], mean.expand_as(found_LL[offset_LL == offset]), rtol=0, atol=1e-4
        )
    assert (means.diff() > 0).all(), "the bias grows with the vertical offset"


def test_the_table_may_have_another_size_than_the_images():
    """Fine-tuned at 384 px: the table keeps the size of the pre-training."""
    assert image_tower(tiny("vit", pixels=384, table_pixels=224)).embeddings.position_embeddings.shape == (
        1,
        1 + 14 * 14,
        16,
    )


def test_a_convolutional_stem_supports_other_sizes():
    tower = image_tower(tiny("vit", pixels=64, stem="convolutional", stem_widths=(4, 8)))
    assert image_tokens(tower, torch.zeros(1, 3, 32, 32)).shape == (1, 1 + 4, 16)


@pytest.mark.parametrize("encoder", LIBRARY)
def test_architecture_keys_reach_the_configuration_of_transformers(encoder):
    config = LIBRARY[encoder][0]()
    assert all(hasattr(config, key) for key in ARCHITECTURE[encoder])
    architecture = {"layer_norm_eps": 0.25} | (RELATIVE if encoder == "beit" else {})
    assert image_tower(tiny(encoder, architecture=architecture)).config.layer_norm_eps == 0.25
    assert text_tower(TextConfig(width=16, heads=2, architecture={"hidden_act": "relu"})).config.hidden_act == "relu"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            tiny("beit", architecture={"use_relative_position_bios": True}),
            "has no key use_relative_position_bios .*nearest: use_relative_pos",
        ),
        (tiny("vit", architecture={"hidden_dropout_prob": 0.1}), "vit has no key hidden_dropout_prob"),
        (tiny("beit", architecture={}), "no position embeddings; expected one of use_absolute"),
        (tiny("dinov2", mlp_ratio=2.5), "dinov2 expects a whole number, not 2.5"),
        (tiny("vit", table_pixels=100), "patch .16. must divide table_pixels .100."),
        (tiny("vit", stem="convolutional", pretrained="folder"), "expected patch, not convolutional"),
        (tiny("efficientnet_lite0"), "expects patch: 32 .got 16."),
        (TextConfig(architecture={"vocab_size": 9}), "model.text.architecture: bert has no key vocab_size"),
        (ModelConfig(kind="clip", image=tiny("beit")), "image.architecture; expected towers: lexlip"),
        (ModelConfig(kind="clip", image=tiny("dinov2")), "image.encoder: dinov2; expected towers: lexlip"),
        (ModelConfig(kind="clip", text=TextConfig(pretrained="x")), "text.pretrained; expected towers: lexlip"),
    ],
)
def test_impossible_encoders_are_refused(config, message):
    with pytest.raises(InputError, match=message) as refused:
        config.validate()
    assert "\n" not in str(refused.value)


def test_a_value_of_another_type_is_refused():
    with pytest.raises(InputError, match="model.image.architecture: .*layer_norm_eps.*expected float") as refused:
        image_tower(tiny("vit", architecture={"layer_norm_eps": "small"}))
    assert "\n" not in str(refused.value)


def test_statistics_of_imagenet_by_hand():
    images_BHWC = torch.tensor([255, 0, 128], dtype=torch.uint8).reshape(1, 1, 1, 3)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    assert pixel_values(images_BHWC, "imagenet").flatten().tolist() == pytest.approx(expected)


# The CLIP baseline at other sizes, and on the same encoders


def test_positions_of_clip_are_interpolated_as_in_open_clip(make_model):
    clip = make_model("clip").clip
    larger = {"visual.positional_embedding": torch.randn(1 + 36, 16)}
    ours = resized_positions(larger["visual.positional_embedding"], 2)
    resize_pos_embed(larger, clip)
    assert torch.equal(ours, larger["visual.positional_embedding"])


def test_clip_supports_other_image_sizes(make_model):
    model = make_model("clip")
    images_BHWC = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    vectors_BD = model.image_vectors(images_BHWC)
    assert vectors_BD.shape == (2, 8) and vectors_BD.isfinite().all()
    vectors_BD[:, 0].sum().backward()
    assert model.clip.visual.positional_embedding.grad.abs().sum() > 0


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_clip_on_lexlips_encoders(make_config, tokenizer, images, captions, tmp_path, pool):
    config = dataclasses.replace(make_config("clip"), clip=ClipConfig(towers="lexlip", embedding=8, image_pool=pool))
    model = checkpoint.create(config, tokenizer).eval()
    assert {type(model.image_encoder), type(model.text_encoder)} == {ViTModel, BertModel}
    with torch.no_grad():
        hidden_BLD = model.image_encoder(pixel_values(torch.from_numpy(images))).last_hidden_state
        image_BD = model.clip.image_projection(hidden_BLD[:, 0] if pool == "cls" else hidden_BLD[:, 1:].mean(dim=1))
    torch.testing.assert_close(model.encode_image(images), F.normalize(image_BD, dim=-1))
    text_BD = model.encode_text(captions[:3])
    torch.testing.assert_close(model.encode_text([captions[1]])[0], text_BD[1], rtol=1e-4, atol=1e-5)
    checkpoint.save(model, tmp_path / "saved")
    assert torch.equal(checkpoint.load(tmp_path / "saved").encode_text(captions[:3]), text_BD)


# EfficientNet-Lite0, if its package is installed


@pytest.fixture
def lite():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the package efficientnet-lite-pytorch is not installed")
    torch.manual_seed(0)
    return image_tower(ImageConfig(encoder="efficientnet_lite0", patch=32, width=16))


@pytest.mark.parametrize("pixels", [96, 128, 224])
def test_efficientnet_gives_a_token_per_place_and_their_mean(lite, pixels):
    states_BLD = image_tokens(lite.eval(), torch.randn(2, 3, pixels, pixels))
    assert states_BLD.shape == (2, 1 + (pixels // 32) ** 2, 16) and states_BLD.isfinite().all()
    torch.testing.assert_close(states_BLD[:, 0], states_BLD[:, 1:].mean(dim=1), rtol=1e-3, atol=1e-5)


def test_efficientnet_does_not_use_batch_statistics(lite):
    values_BCHW = torch.randn(3, 3, 96, 96)
    before = {name: buffer.clone() for name, buffer in lite.named_buffers()}
    states_BLD = lite.train()(values_BCHW)
    torch.testing.assert_close(lite(values_BCHW[:1])[0], states_BLD[0], rtol=1e-3, atol=1e-5)
    assert all(torch.equal(before[name], buffer) for name, buffer in lite.named_buffers())
    states_BLD.square().sum().backward()
    assert all(parameter.grad is not None for parameter in lite.parameters())


def test_efficientnet_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match="pip install --no-deps efficientnet-lite-pytorch"):
        image_tower(ImageConfig(encoder="efficientnet_lite0", patch=32, width=16))


def test_efficientnet_without_batchnorm_gives_the_same_states(lite):
    with torch.no_grad():
        for module in lite.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
        values_BCHW = torch.rand(2, 3, 64, 64) * 2 - 1
        torch.testing.assert_close(lite.fused()(values_BCHW), lite.eval()(values_BCHW), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in lite.fused().modules())
