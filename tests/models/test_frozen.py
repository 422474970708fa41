"""Frozen towers: what is trained on top, what is shared, and training on states in place of pixels and tokens."""

import dataclasses

import pytest
import torch

from models import checkpoint
from models.config import ImageTopConfig, TopConfig
from models.errors import InputError
from models.export import sparse_encoder
from models.momentum import copy_but_frozen
from models.pretrained import warm_start
from models.towers.frozen import FrozenTower, Top, encoder_of
from models.towers.transformer import frozen_image_states, frozen_text_states, pixel_values, pooled_to_grid
from tests.models.steps import begun, equal, generator, step, weights_of

IMAGE, TEXT = {"top": ImageTopConfig(heads=2)}, {"top": TopConfig(heads=2)}


def objective_of(model, phase: str):
    if phase == "contrastive":
        objective = checkpoint.objective(model).train()
        objective.begin(phase)
        return objective
    return begun(model, phase)


@pytest.fixture(params=["bottleneck", "momentum", "contrastive"])
def phase(request) -> str:
    """A phase; clip has the contrastive one."""
    return request.param


@pytest.fixture
def model(make, phase):
    model = make("clip" if phase == "contrastive" else "lexlip", IMAGE, TEXT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # layers of a top start at zero
    return model


def with_states(model, batch):
    """The batch with the states of both frozen encoders in float16, and without pixels."""
    values_BCHW, is_token_BL = pixel_values(batch.images_BHWC), batch.tokens_BL != model.tokenizer.pad_id
    return dataclasses.replace(
        batch,
        images_BHWC=None,
        image_states_BLX=frozen_image_states(model.image_encoder, values_BCHW).half(),
        text_states_BLX=frozen_text_states(model.text_encoder, batch.tokens_BL, is_token_BL).half(),
    )


def test_states_give_the_losses_of_pixels_and_tokens(model, phase, make_batch):
    objective, batch = objective_of(model, phase), make_batch()
    expected, _ = objective.losses(batch, generator())
    found, _ = objective.losses(with_states(model, batch), generator())
    assert expected.keys() == found.keys() and len(expected) >= 1
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=2e-3), name
        assert value.requires_grad


def test_states_give_finite_losses_in_bfloat16(model, phase, make_batch):
    objective = objective_of(model, phase)
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = objective.losses(with_states(model, make_batch()), generator())
        torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.image_encoder.top.parameters())


def test_only_the_top_is_trained(model, phase, make_batch):
    objective, frozen = objective_of(model, phase), (model.image_encoder.encoder, model.text_encoder.encoder)
    before, trained = [weights_of(side) for side in frozen], weights_of(model.image_encoder.top)
    adam = torch.optim.AdamW([one for one in objective.parameters() if one.requires_grad], lr=1e-2)
    for at in range(2):
        step(objective, with_states(model, make_batch(at)), adam)
    assert all(equal(weights_of(side), old) for side, old in zip(frozen, before, strict=True))
    assert not equal(weights_of(model.image_encoder.top), trained)
    assert objective.training and not any(side.training for side in frozen)


def test_momentum_copies_share_the_frozen_encoders(make, make_batch):
    model = make(image=IMAGE, text=TEXT)
    objective = begun(model, "momentum")
    copied = objective.momentum.module
    assert copied.image_encoder.encoder is model.image_encoder.encoder
    assert copied.text_encoder.encoder is model.text_encoder.encoder
    assert copied.text_encoder.top is not model.text_encoder.top
    top, head = weights_of(copied.image_encoder.top), weights_of(copied.image.head)
    adam = torch.optim.AdamW([one for one in objective.parameters() if one.requires_grad], lr=1e-2)
    step(objective, make_batch(), adam)
    assert not equal(weights_of(copied.image_encoder.top), top) and not equal(weights_of(copied.image.head), head)
    assert copy_but_frozen(model).image_encoder.encoder is model.image_encoder.encoder


def test_a_checkpoint_holds_the_frozen_weights(model, tmp_path, images, captions):
    checkpoint.save(model, tmp_path / "best")
    again = checkpoint.load(tmp_path / "best")
    model.eval()
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    assert torch.equal(again.encode_text(captions[:5]), model.encode_text(captions[:5]))
    assert not any(parameter.requires_grad for parameter in again.text_encoder.encoder.parameters())


def test_pretrained_weights_are_in_the_frozen_encoder_and_the_head(make, folders):
    image = {"encoder": "vit", "pretrained": str(folders / "vit"), "pixels": 16, "patch": 8, "heads": 2}
    text = {"pretrained": str(folders / "plain"), "max_tokens": 14}
    model, plain = make(image=image | IMAGE, text=text | TEXT), make(image=image, text=text)
    warm_start.start(model)
    warm_start.start(plain)
    for side in ("image_encoder", "text_encoder"):
        assert equal(weights_of(getattr(model, side).encoder), weights_of(getattr(plain, side)))
    words_TD = plain.text_encoder.embeddings.word_embeddings.weight
    assert torch.equal(model.text.head.weight_VD, words_TD) and torch.equal(model.image.head.weight_VD, words_TD)
    assert model.text.head.weight_VD.requires_grad
    tokens_BL = torch.tensor([[2, 9, 11, 3]])
    torch.testing.assert_close(model.text_states(tokens_BL)[0], plain.text_states(tokens_BL)[0])


def test_a_top_without_width_starts_as_the_identity():
    states_BLX = torch.randn(2, 3, 8)
    assert torch.equal(Top(TopConfig(layers=2), 8)(states_BLX), states_BLX)
    assert Top(TopConfig(layers=0), 8, width=5)(states_BLX).shape == (2, 3, 5)


def test_padding_does_not_change_the_tokens(make, tokenizer):
    model = make(text=TEXT).eval()
    with torch.no_grad():
        model.text_encoder.top.layers[0].attended.weight.normal_()
    tokens_BL = torch.from_numpy(tokenizer.encode(["a red apple"])[0]).long()
    length = int((tokens_BL != tokenizer.pad_id).sum())
    padded_BLD, cut_BLD = model.text_states(tokens_BL)[0], model.text_states(tokens_BL[:, :length])[0]
    torch.testing.assert_close(padded_BLD[:, :length], cut_BLD)


def test_a_grid_averages_squares_of_patches():
    rows_S = torch.arange(4.0)
    places_SS = 10 * rows_S[:, None] + rows_S
    tokens_BLX = torch.cat([torch.tensor([99.0]), places_SS.flatten()])[None, :, None]
    assert pooled_to_grid(tokens_BLX, 2)[0, :, 0].tolist() == [99.0, 5.5, 7.5, 25.5, 27.5]
    assert pooled_to_grid(tokens_BLX, None) is tokens_BLX


def test_the_width_of_a_top_is_that_of_the_model(make):
    model = make(image={"width": 24, "heads": 3, "top": ImageTopConfig(width=16, heads=2, grid=1)}, text=TEXT)
    assert isinstance(model.image_encoder, FrozenTower) and encoder_of(model.image_encoder).config.hidden_size == 24
    hidden_BLD, _ = model.image_states(torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    assert hidden_BLD.shape == (2, 2, 16)
    with pytest.raises(InputError, match=r"model: image.top.width \(24\) and text.width \(16\) must be equal"):
        make(image={"width": 24, "heads": 3, "top": ImageTopConfig(heads=2)})
    with pytest.raises(InputError, match=r"model.text.top: heads \(3\) must divide width \(16\)"):
        make(text={"top": TopConfig(heads=3)})


def test_a_sparse_encoder_cannot_hold_a_top(make, tmp_path):
    with pytest.raises(InputError, match="frozen text encoder: not supported"):
        sparse_encoder.write(make(text=TEXT).eval(), tmp_path)
