"""Phase 1: the losses, the masks, and the decoder."""

import pytest
import torch
from torch.nn.functional import normalize

import models.objective
from models.config import BottleneckConfig, FlopsConfig, HeadConfig
from models.lexicon.head import Pooled
from tests.models.steps import begun, generator, naive_info_nce


def whole(function, lengths_B, tokens, items=()):
    """Replaces `by_length`: computes the batch whole."""
    return tuple(function(*tokens, *items))


def test_five_losses_with_their_weights(make_model, make_batch):
    unit = begun(make_model(), "bottleneck").losses(make_batch(), generator())[0]
    assert set(unit) == {"self_mlm", "text_mlm", "image_mlm", "contrastive", "flops"}
    weighted = BottleneckConfig(self_mlm=2.0, text_mlm=3.0, image_mlm=5.0, contrastive=7.0)
    other = begun(make_model(bottleneck=weighted, flops=FlopsConfig(weight=0.004)), "bottleneck").losses(
        make_batch(), generator()
    )[0]
    for name, factor in {"self_mlm": 2, "text_mlm": 3, "image_mlm": 5, "contrastive": 7, "flops": 2}.items():
        assert unit[name].item() > 0
        assert other[name].item() == pytest.approx(factor * unit[name].item(), rel=1e-5)


@pytest.mark.parametrize("source", ["lexicon", "log1p", "cls"])
def test_losses_by_their_definition(source, make_model, make_batch, monkeypatch):
    """Every loss again, one pass each, from the drawn masks."""
    drawn, real = [], models.objective.mask_words
    monkeypatch.setattr(models.objective, "mask_words", lambda *a: drawn.append(real(*a)) or drawn[-1])
    model, batch = (
        make_model(bottleneck=BottleneckConfig(source=source), head=HeadConfig(identity_start=True)),
        make_batch(),
    )
    with torch.no_grad():
        model.text.head.transform.LayerNorm.weight.mul_(5)  # so that bags of words of captions differ
    monkeypatch.setattr(models.objective, "by_length", whole)
    objective, given = begun(model, "bottleneck"), []
    objective.decoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    losses = objective.losses(batch, generator())[0]
    (for_encoder_BL, encoder_BL), (for_decoder_BL, decoder_BL) = drawn
    tokens_BL, mask_BL = batch.tokens_BL, batch.tokens_BL != model.tokenizer.pad_id

    image_BLD, (image_BV, image) = model.image_states(batch.images_BHWC)
    masked_BLD, (masked_BV, masked) = model.text_states(for_encoder_BL)
    embedding_VD = model.text.encoder.embeddings.word_embeddings.weight
    bottlenecks = {
        "lexicon": [torch.softmax(pooled_BV, -1) @ embedding_VD for pooled_BV in (masked_BV, image_BV)],
        "log1p": [weights_BV / weights_BV.sum(-1, keepdim=True) @ embedding_VD for weights_BV in (masked, image)],
        "cls": [masked_BLD[:, 0], image_BLD[:, 0]],
    }[source]
    torch.testing.assert_close(given[0], torch.cat(bottlenecks), rtol=1e-4, atol=1e-5)

    def likelihood(states_BLD, hidden_BL) -> float:
        logits = model.text.head(states_BLD).double().log_softmax(-1)
        picked = [-logits[b, at, tokens_BL[b, at]].item() for b, at in hidden_BL.nonzero().tolist()]
        return sum(picked) / len(picked)

    assert losses["self_mlm"].item() == pytest.approx(likelihood(masked_BLD, encoder_BL), rel=1e-4)
    for name, bottleneck_BD in zip(("text_mlm", "image_mlm"), bottlenecks, strict=True):
        states_BLD = objective.decoder(bottleneck_BD, for_decoder_BL, mask_BL)
        assert losses[name].item() == pytest.approx(likelihood(states_BLD, decoder_BL), rel=1e-4), name

    text = model.text_states(tokens_BL)[1].weights_BV
    image_unit, text_unit = normalize(image, dim=-1), normalize(text, dim=-1)
    contrast = (naive_info_nce(image_unit, text_unit, 0.05) + naive_info_nce(text_unit, image_unit, 0.05)) / 2
    assert losses["contrastive"].item() == pytest.approx(contrast, rel=1e-4)
    flops = sum(unit.double().mean(0).square().sum().item() for unit in (image_unit, text_unit))
    assert losses["flops"].item() == pytest.approx(0.002 * flops, rel=1e-4)


@pytest.mark.parametrize("dropped", ["self_mlm", "text_mlm", "image_mlm", "contrastive", "flops"])
def test_a_loss_of_weight_0_is_dropped(dropped, make_model, make_batch):
    whole = begun(make_model(), "bottleneck").losses(make_batch(), generator())[0]
    without = (
        {"flops": FlopsConfig(weight=0.0)} if dropped == "flops" else {"bottleneck": BottleneckConfig(**{dropped: 0.0})}
    )
    left = begun(make_model(**without), "bottleneck").losses(make_batch(), generator())[0]
    assert {name: value.item() for name, value in left.items()} == pytest.approx(
        {name: value.item() for name, value in whole.items() if name != dropped}, rel=1e-4
    )


def test_masked_captions_are_encoded_only_if_needed(make_model, make_batch, monkeypatch):
    model, batch = make_model(bottleneck=BottleneckConfig(self_mlm=0.0, text_mlm=0.0)), make_batch()
    objective, encoded = begun(model, "bottleneck"), []
    model.text.encoder.register_forward_hook(
        lambda *given: encoded.append(given[2].last_hidden_state.shape[0]), with_kwargs=False
    )
    objective.losses(batch, generator())
    assert sum(encoded) == len(batch.tokens_BL)


def test_encoder_and_decoder_masks_are_drawn_independently(make_model, make_batch, monkeypatch):
    drawn, real = [], models.objective.mask_words
    monkeypatch.setattr(models.objective, "mask_words", lambda *a: drawn.append((a[2], real(*a))) or drawn[-1][1])
    batch = make_batch(size=8)
    objective = begun(make_model(bottleneck=BottleneckConfig(encoder_mask=0.5, decoder_mask=0.5)), "bottleneck")
    for seed in range(20):
        objective.losses(batch, generator(seed))
    is_word_BL = batch.words_BL != 255
    assert [share for share, _ in drawn] == [0.5] * 40
    agree = [
        (one[1][1] == other[1][1])[is_word_BL].float().mean().item()
        for one, other in zip(drawn[::2], drawn[1::2], strict=True)
    ]
    assert sum(agree) / 20 == pytest.approx(0.5, abs=0.06)
    published = begun(make_model(), "bottleneck")
    del drawn[:]
    published.losses(batch, generator())
    assert [share for share, _ in drawn] == [0.3, 0.5]


def test_the_decoder_shares_the_embeddings_and_the_head_of_the_text(make_model, make_batch):
    model = make_model()
    objective = begun(model, "bottleneck")
    shared = objective.decoder.bert.embeddings.word_embeddings.weight
    assert shared is model.text.encoder.embeddings.word_embeddings.weight
    assert shared.data_ptr() == model.text.head.weight_VD.data_ptr()
    own = {id(parameter) for parameter in objective.decoder.parameters()} - {
        id(parameter) for parameter in model.parameters()
    }
    assert all(id(parameter) in own for parameter in objective.decoder.bert.encoder.parameters()), (
        "the layers are not shared"
    )
    assert not any(
        parameter.shape[0] == model.dimension for parameter in objective.decoder.parameters() if id(parameter) in own
    ), "the decoder has no head"
    losses = objective.losses(make_batch(), generator())[0]
    losses["image_mlm"].backward()
    assert model.text.head.bias_V.grad.any(), "the text head reads the decoder"
    assert objective.decoder.bert.encoder.layer[0].attention.output.dense.weight.grad.any()


def test_the_bottleneck_replaces_position_0_of_the_decoder(make_model, make_batch):
    model, batch = make_model(), make_batch()
    decoder, mask_BL = begun(model, "bottleneck").decoder.eval(), batch.tokens_BL != 0
    bottleneck_BD = torch.randn(8, 16)
    states_BLD = decoder(bottleneck_BD, batch.tokens_BL, mask_BL)
    other_start_BL = batch.tokens_BL.clone()
    other_start_BL[:, 0] = 7
    assert torch.equal(decoder(bottleneck_BD, other_start_BL, mask_BL), states_BLD), "the token there is ignored"
    assert (decoder(-bottleneck_BD, batch.tokens_BL, mask_BL)[:, 1:] - states_BLD[:, 1:]).abs().max() > 1e-3, (
        "the other positions attend to it"
    )


def image_gradient_around_the_lexicon(model, batch, monkeypatch) -> bool:
    """Whether the image-bottlenecked loss reaches the image encoder without the gradient of the pooled logits."""
    objective, pooled = begun(model, "bottleneck"), model.image.head.pooled
    monkeypatch.setattr(
        model.image.head, "pooled", lambda states_BLD: Pooled(*(part.detach() for part in pooled(states_BLD)))
    )
    objective.losses(batch, generator())[0]["image_mlm"].backward()
    return any(
        parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.image.encoder.parameters()
    )


def test_the_decoder_reaches_the_image_encoder_through_the_lexicon_only(make_model, make_batch, monkeypatch):
    model = make_model()
    begun(model, "bottleneck").losses(make_batch(), generator())[0]["image_mlm"].backward()
    assert all(parameter.grad.any() for parameter in model.image.encoder.parameters() if parameter.ndim > 1), (
        "the gradient passes the lexicon"
    )
    assert model.image.head.weight_VD.grad.any()
    assert not image_gradient_around_the_lexicon(make_model(), make_batch(), monkeypatch)
    without = make_model(bottleneck=BottleneckConfig(source="cls"))
    assert image_gradient_around_the_lexicon(without, make_batch(), monkeypatch)


def test_the_decoder_has_the_configured_depth(make_model):
    assert len(begun(make_model(), "bottleneck").decoder.bert.encoder.layer) == 2
    assert (
        len(begun(make_model(bottleneck=BottleneckConfig(decoder_layers=6)), "bottleneck").decoder.bert.encoder.layer)
        == 6
    )
