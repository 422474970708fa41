"""Phase 2, in-batch contrast, FLOPS, and the training state."""

import pytest
import torch
from torch.nn.functional import normalize

from models.clip import ClipObjective
from models.config import FlopsConfig, HeadConfig, MomentumConfig
from models.errors import InputError
from models.objective import LexLIPObjective
from tests.models.steps import begun, equal, generator, naive_info_nce, step, weights_of


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


def test_momentum_copies_of_untrained_weights(make_model, make_batch):
    model = make_model(momentum=MomentumConfig(start="untrained"))
    start = weights_of(model)
    objective = begun(model, "bottleneck")
    step(objective, make_batch(), torch.optim.AdamW(objective.parameters(), lr=0.01))
    objective.begin("momentum")
    assert equal(weights_of(objective.momentum.module), start)
    assert not equal(weights_of(model), start)
    assert sum(name.startswith("momentum") for name in objective.state_dict()) == len(model.state_dict()), "stored once"


def test_momentum_moves_once_per_step_by_its_formula(make_model, make_batch, images, captions):
    model = make_model()  # decay 0.5
    objective = begun(model, "momentum")
    adam = torch.optim.AdamW([parameter for parameter in objective.parameters() if parameter.requires_grad], lr=0.01)
    for at in range(3):
        before = weights_of(objective.momentum)
        objective.losses(make_batch(at), generator())
        assert equal(weights_of(objective.momentum), before), "computing losses moves nothing"
        step(objective, make_batch(at), adam)
        expected = [0.5 * old + 0.5 * new for old, new in zip(before, weights_of(model), strict=True)]
        for average, value in zip(weights_of(objective.momentum), expected, strict=True):
            torch.testing.assert_close(average, value)
    before = weights_of(objective.momentum)
    model.eval()
    model.encode_image(images), model.encode_text(captions)
    model.train()
    assert equal(weights_of(objective.momentum), before)


def test_more_lexicons_than_a_sparse_queue_can_index_are_refused_before_phase_1(make_model, monkeypatch):
    monkeypatch.setattr("models.objective.MOST_ENTRIES", 20)
    with pytest.raises(InputError, match=r"momentum.queue_top_k: \d+ lexicons: expected at most 20, or null"):
        LexLIPObjective(make_model(momentum=MomentumConfig(queue_top_k=4)))
    LexLIPObjective(make_model())


def test_momentum_contrast_by_its_definition(make_model, make_batch):
    """Three steps; the queue (12 keys) wraps in the second. Keys: those of the batch, then the last 12 earlier ones."""
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


def test_momentum_encoders_and_queues_have_no_gradient(make_model, make_batch):
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


def test_in_batch_contrast_has_no_momentum(make_model, make_batch):
    objective = begun(make_model(), "contrastive")
    losses, logged = objective.losses(make_batch(), generator())
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
    assert logged["active_lexicons_image"].item() == pytest.approx((images > 0).sum(1).double().mean().item())
    assert logged["active_lexicons_text"].item() == pytest.approx((texts > 0).sum(1).double().mean().item())


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


def test_zero_vectors_give_finite_losses(make_model, make_batch):
    """Without active lexicons there is no division by zero."""
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


def test_flops_of_raw_and_normalised_weights(make_model, make_batch):
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
    assert losses["normalised"] < 2 < losses["raw"], "each normalised side is at most 1"
