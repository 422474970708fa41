"""The phases: what each loss is made of, who shares what, and when the momentum copies are made and moved."""

import pytest
import torch
from torch.nn.functional import normalize

import models.objective
from models.clip import ClipObjective
from models.config import BottleneckConfig, FlopsConfig, HeadConfig, MomentumConfig
from models.errors import InputError
from models.lexicon.head import Pooled
from models.objective import LexLIPObjective


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begun(model, phase: str) -> LexLIPObjective:
    torch.manual_seed(1)
    objective = LexLIPObjective(model).train()
    objective.begin(phase)
    return objective


def step(objective, batch, adam) -> dict[str, float]:
    losses, _ = objective.losses(batch, generator())
    adam.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    adam.step()
    objective.after_step()
    return {name: value.item() for name, value in losses.items()}


def weights_of(module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def equal(these, those) -> bool:
    return all(torch.equal(one, other) for one, other in zip(these, those, strict=True))


def whole(function, lengths_B, tokens, items=()):
    """In place of `by_length`: the batch as it is."""
    return tuple(function(*tokens, *items))


def naive_info_nce(queries, keys, temperature) -> float:
    scores = queries.double() @ keys.double().T / temperature
    return sum(torch.logsumexp(row, 0).item() - row[i].item() for i, row in enumerate(scores)) / len(scores)


# Phase 1


def test_phase_1_has_five_losses_each_with_its_weight(make_model, make_batch):
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
def test_phase_1_losses_by_the_definition(source, make_model, make_batch, monkeypatch):
    """Every loss again, one pass each, from the masks that were drawn."""
    drawn, real = [], models.objective.mask_words
    monkeypatch.setattr(models.objective, "mask_words", lambda *a: drawn.append(real(*a)) or drawn[-1])
    model, batch = (
        make_model(bottleneck=BottleneckConfig(source=source), head=HeadConfig(identity_start=True)),
        make_batch(),
    )
    with torch.no_grad():
        model.text.head.transform.LayerNorm.weight.mul_(5)  # a bag of words that tells captions apart
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
def test_a_loss_of_weight_0_is_dropped_and_the_others_stay(dropped, make_model, make_batch):
    whole = begun(make_model(), "bottleneck").losses(make_batch(), generator())[0]
    without = (
        {"flops": FlopsConfig(weight=0.0)} if dropped == "flops" else {"bottleneck": BottleneckConfig(**{dropped: 0.0})}
    )
    left = begun(make_model(**without), "bottleneck").losses(make_batch(), generator())[0]
    assert {name: value.item() for name, value in left.items()} == pytest.approx(
        {name: value.item() for name, value in whole.items() if name != dropped}, rel=1e-4
    )


def test_captions_alone_are_encoded_where_no_loss_needs_masked_ones(make_model, make_batch, monkeypatch):
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


def test_the_decoder_shares_the_text_embeddings_and_the_encoders_head(make_model, make_batch):
    model = make_model()
    objective = begun(model, "bottleneck")
    shared = objective.decoder.bert.embeddings.word_embeddings.weight
    assert shared is model.text.encoder.embeddings.word_embeddings.weight
    assert shared.data_ptr() == model.text.head.weight_VD.data_ptr()
    own = {id(parameter) for parameter in objective.decoder.parameters()} - {
        id(parameter) for parameter in model.parameters()
    }
    assert all(id(parameter) in own for parameter in objective.decoder.bert.encoder.parameters()), "layers are its own"
    assert not any(
        parameter.shape[0] == model.dimension for parameter in objective.decoder.parameters() if id(parameter) in own
    ), "no head of its own"
    losses = objective.losses(make_batch(), generator())[0]
    losses["image_mlm"].backward()
    assert model.text.head.bias_V.grad.any(), "the head that reads the decoder is the text encoder's"
    assert objective.decoder.bert.encoder.layer[0].attention.output.dense.weight.grad.any()


def test_position_0_of_the_decoder_gives_way_to_the_bottleneck(make_model, make_batch):
    model, batch = make_model(), make_batch()
    decoder, mask_BL = begun(model, "bottleneck").decoder.eval(), batch.tokens_BL != 0
    bottleneck_BD = torch.randn(8, 16)
    states_BLD = decoder(bottleneck_BD, batch.tokens_BL, mask_BL)
    other_start_BL = batch.tokens_BL.clone()
    other_start_BL[:, 0] = 7
    assert torch.equal(decoder(bottleneck_BD, other_start_BL, mask_BL), states_BLD), "the token there is not read"
    assert (decoder(-bottleneck_BD, batch.tokens_BL, mask_BL)[:, 1:] - states_BLD[:, 1:]).abs().max() > 1e-3, (
        "words see the bottleneck"
    )


def image_gradient_around_the_lexicon(model, batch, monkeypatch) -> bool:
    """Whether the image-bottlenecked loss reaches the image encoder with the gradient of the image's logits cut."""
    objective, pooled = begun(model, "bottleneck"), model.image.head.pooled
    monkeypatch.setattr(
        model.image.head, "pooled", lambda states_BLD: Pooled(*(part.detach() for part in pooled(states_BLD)))
    )
    objective.losses(batch, generator())[0]["image_mlm"].backward()
    return any(
        parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.image.encoder.parameters()
    )


def test_the_lexicon_is_the_only_road_from_the_decoder_to_the_image_encoder(make_model, make_batch, monkeypatch):
    model = make_model()
    begun(model, "bottleneck").losses(make_batch(), generator())[0]["image_mlm"].backward()
    assert all(parameter.grad.any() for parameter in model.image.encoder.parameters() if parameter.ndim > 1), (
        "by the lexicon it learns"
    )
    assert model.image.head.weight_VD.grad.any()
    assert not image_gradient_around_the_lexicon(make_model(), make_batch(), monkeypatch)
    without = make_model(bottleneck=BottleneckConfig(source="cls"))
    assert image_gradient_around_the_lexicon(without, make_batch(), monkeypatch)


def test_the_decoder_is_as_strong_as_configured(make_model):
    assert len(begun(make_model(), "bottleneck").decoder.bert.encoder.layer) == 2
    assert (
        len(begun(make_model(bottleneck=BottleneckConfig(decoder_layers=6)), "bottleneck").decoder.bert.encoder.layer)
        == 6
    )


# FLOPS


def test_flops_act_where_configured(make_model, make_batch):
    batch, losses = make_batch(), {}
    for acts_on in ("raw", "normalised"):
        model = make_model(flops=FlopsConfig(weight=1.0, acts_on=acts_on))
        losses[acts_on] = begun(model, "contrastive").losses(batch, generator())[0]["flops"].item()
        weights = [
            states[1].weights_BV
            for states in (model.image_states(batch.images_BHWC), model.text_states(batch.tokens_BL))
        ]
        if acts_on == "normalised":
            weights = [normalize(weight_BV, dim=-1) for weight_BV in weights]
        assert losses[acts_on] == pytest.approx(
            sum(weight_BV.double().mean(0).square().sum().item() for weight_BV in weights), rel=1e-4
        )
    assert losses["normalised"] < 2 < losses["raw"], "two unit-norm sides are bounded by 1 each"


# Phase 2


def test_momentum_copies_are_made_after_phase_1(make_model, make_batch):
    model = make_model()
    objective = begun(model, "bottleneck")
    assert objective.momentum is None
    start = weights_of(model)
    step(objective, make_batch(), torch.optim.AdamW(objective.parameters(), lr=0.01))
    learned = weights_of(model)
    objective.begin("momentum")
    assert not equal(learned, start)
    assert equal(weights_of(objective.momentum.module), learned)
    assert objective.decoder is None
    assert len(objective.image_queue.filled()) == len(objective.text_queue.filled()) == 0


def test_the_official_copies_are_of_untrained_weights(make_model, make_batch):
    model = make_model(momentum=MomentumConfig(start="untrained"))
    start = weights_of(model)
    objective = begun(model, "bottleneck")
    step(objective, make_batch(), torch.optim.AdamW(objective.parameters(), lr=0.01))
    objective.begin("momentum")
    assert equal(weights_of(objective.momentum.module), start)
    assert not equal(weights_of(model), start)
    assert sum(name.startswith("momentum") for name in objective.state_dict()) == len(model.state_dict()), "kept once"


def test_momentum_moves_once_per_step_by_its_formula_and_not_otherwise(make_model, make_batch, pictures, captions):
    model = make_model()  # decay 0.5
    objective = begun(model, "momentum")
    adam = torch.optim.AdamW([parameter for parameter in objective.parameters() if parameter.requires_grad], lr=0.01)
    for at in range(3):
        before = weights_of(objective.momentum)
        objective.losses(make_batch(at), generator())
        assert equal(weights_of(objective.momentum), before), "the losses alone move nothing"
        step(objective, make_batch(at), adam)
        expected = [0.5 * old + 0.5 * new for old, new in zip(before, weights_of(model), strict=True)]
        for average, value in zip(weights_of(objective.momentum), expected, strict=True):
            torch.testing.assert_close(average, value)
    before = weights_of(objective.momentum)
    model.eval()
    model.encode_image(pictures), model.encode_text(captions)
    model.train()
    assert equal(weights_of(objective.momentum), before)


def test_momentum_contrast_by_the_definition(make_model, make_batch):
    """Three steps, the queue (12 keys) wrapping in the second: in-batch momentum keys first, then the last twelve of before."""
    model = make_model()
    objective = begun(model, "momentum")
    adam = torch.optim.AdamW([parameter for parameter in objective.parameters() if parameter.requires_grad], lr=0.01)
    past_images, past_texts = [], []
    for at in range(3):
        batch, teacher = make_batch(at), objective.momentum.module
        with torch.no_grad():
            images, texts, image_keys, text_keys = (
                normalize(states[1].weights_BV, dim=-1)
                for one in (model, teacher)
                for states in (one.image_states(batch.images_BHWC), one.text_states(batch.tokens_BL))
            )
        to_images = naive_info_nce(texts, torch.stack([*image_keys, *past_images[-12:]]), 0.05)
        to_texts = naive_info_nce(images, torch.stack([*text_keys, *past_texts[-12:]]), 0.05)
        past_images += list(image_keys)
        past_texts += list(text_keys)
        found = step(objective, batch, adam)
        assert set(found) == {"contrastive", "flops"}
        assert found["contrastive"] == pytest.approx((to_images + to_texts) / 2, rel=1e-4)
    assert len(objective.image_queue.filled()) == 12


def test_nothing_of_the_teacher_or_the_queues_has_a_gradient(make_model, make_batch):
    objective = begun(make_model(), "momentum")
    sum(objective.losses(make_batch(), generator())[0].values()).backward()
    assert all(parameter.grad is None for parameter in objective.momentum.parameters())
    assert not objective.image_queue.filled().requires_grad and not objective.text_queue.filled().requires_grad
    learned = {
        name
        for name, parameter in objective.model.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert {"text.head.bias_V", "image.head.bias_V"} <= learned


def test_in_batch_contrast_has_no_teacher(make_model, make_batch):
    objective = begun(make_model(), "contrastive")
    losses, beside = objective.losses(make_batch(), generator())
    assert objective.momentum is None and objective.image_queue is None
    assert set(losses) == {"contrastive", "flops"}
    images, texts = (
        normalize(states[1].weights_BV, dim=-1)
        for states in (
            objective.model.image_states(make_batch().images_BHWC),
            objective.model.text_states(make_batch().tokens_BL),
        )
    )
    expected = (naive_info_nce(images, texts, 0.05) + naive_info_nce(texts, images, 0.05)) / 2
    assert losses["contrastive"].item() == pytest.approx(expected, rel=1e-4)
    assert beside["active_lexicons_image"].item() == pytest.approx((images > 0).sum(1).double().mean().item())
    assert beside["active_lexicons_text"].item() == pytest.approx((texts > 0).sum(1).double().mean().item())


@pytest.mark.parametrize("phase", ["bottleneck", "momentum", "contrastive"])
def test_a_training_state_is_one_state_dict(phase, make_model, make_batch):
    one = begun(make_model(), phase)
    step(one, make_batch(), torch.optim.SGD(one.parameters(), lr=0.01))  # fills the queue
    other = begun(make_model(seed=3), phase)
    other.load_state_dict(one.state_dict())
    these, those = (objective.losses(make_batch(1), generator())[0] for objective in (one, other))
    assert {name: value.item() for name, value in these.items()} == {
        name: value.item() for name, value in those.items()
    }


def test_an_all_zero_side_stays_finite(make_model, make_batch):
    """A start so sparse that no lexicon is active must not divide by zero."""
    objective = begun(make_model(head=HeadConfig(text_bias=-50.0, image_bias=-50.0)), "contrastive")
    losses = objective.losses(make_batch(), generator())[0]
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(
        torch.isfinite(parameter.grad).all() for parameter in objective.parameters() if parameter.grad is not None
    )


def test_unknown_phases_are_refused(make_model):
    with pytest.raises(InputError, match="'pretraining'; expected one of bottleneck, momentum, contrastive"):
        LexLIPObjective(make_model()).begin("pretraining")
    assert set(ClipObjective.phases) < set(LexLIPObjective.phases)
