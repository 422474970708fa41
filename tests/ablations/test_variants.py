"""Every variant in every phase that it trains: one real step each, on real images, at the tiny size."""

import math

import pytest
import torch

from ablations import config as configs
from ablations.data import prepare
from ablations.step import optimiser
from models import checkpoint
from models.lexlip import LexLIP
from tests.ablations.variants import VARIANTS

PHASES = ("bottleneck", "momentum", "contrastive")
PARTS = {
    "bottleneck": {"self_mlm", "text_mlm", "image_mlm", "contrastive", "flops"},
    "momentum": {"contrastive", "flops"},
    "contrastive": {"contrastive", "flops"},
}
DROPPED = {
    "no_self_mlm": {"self_mlm"},
    "no_text_bottleneck": {"text_mlm"},
    "no_image_bottleneck": {"image_mlm"},
    "no_phase1_contrastive": {"contrastive"},
    **dict.fromkeys(("no_flops", "top_k_weak", "top_k_medium", "top_k_strong"), {"flops"}),
}
IN_EVERY_PHASE = {"flops"}
ADDED = {"lexlip_words": {"words"}}


@pytest.fixture(scope="module")
def data(made_home, resolve):
    run = resolve()
    return prepare(made_home, run.data, run.model.text)


def objective_of(data, run):
    torch.manual_seed(0)
    run = configs.with_vocabulary(run, len(data.tokenizer))
    return checkpoint.objective(checkpoint.create(run.model, data.tokenizer)).train()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_every_phase_is_finite_and_moves_every_weight_it_should(variant, phase, data, resolve):
    run = resolve(variant)
    objective = objective_of(data, run)
    if phase not in objective.phases:
        assert phase not in {phase.objective for phase, _, _ in run.train.schedule()}, "a phase that it cannot train"
        return
    objective.begin(phase)
    adam = optimiser(objective, run.train)
    for group in adam.param_groups:
        group["lr"] = 1e-3
    before = {name: parameter.detach().clone() for name, parameter in objective.model.named_parameters()}
    losses, extra = objective.losses(data.batch(0, 8, seed=0), torch.Generator().manual_seed(0))
    dropped = {part for part in DROPPED.get(variant, ()) if phase == "bottleneck" or part in IN_EVERY_PHASE}
    parts = PARTS[phase] - dropped | ADDED.get(variant, set())
    assert set(losses) == (parts if isinstance(objective.model, LexLIP) else {"contrastive"})
    assert all(math.isfinite(value.item()) for value in [*losses.values(), *extra.values()])
    torch.stack(list(losses.values())).sum().backward()
    adam.step()
    objective.after_step()
    after = dict(objective.model.named_parameters())
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert all(torch.isfinite(parameter).all() for parameter in objective.parameters())


def begun(data, resolve, variant):
    objective = objective_of(data, resolve(variant))
    objective.begin("bottleneck")
    return objective


def test_strong_decoder_has_6_layers_and_masks_15_percent(data, resolve, monkeypatch):
    import models.objective

    shares, real = [], models.objective.mask_words
    monkeypatch.setattr(models.objective, "mask_words", lambda *a: shares.append(a[2]) or real(*a))
    for variant, layers, share in (("strong_decoder", 6, 0.15), ("lexlip", 2, 0.5)):
        objective = begun(data, resolve, variant)
        assert len(objective.decoder.bert.encoder.layer) == layers
        objective.losses(data.batch(0, 8, seed=0), torch.Generator().manual_seed(0))
        assert shares == [0.3, share], "the encoder's masking stays"
        shares.clear()


def test_no_bottleneck_gives_the_decoder_the_cls_states(data, resolve, monkeypatch):
    import models.objective

    monkeypatch.setattr(
        models.objective, "by_length", lambda function, lengths_B, tokens, items=(): tuple(function(*tokens, *items))
    )
    given = {}
    for variant in ("no_bottleneck", "lexlip"):
        objective = begun(data, resolve, variant)
        objective.decoder.register_forward_pre_hook(
            lambda _, inputs, variant=variant: given.update({variant: inputs[0]})
        )
        batch = data.batch(0, 8, seed=0)
        objective.losses(batch, torch.Generator().manual_seed(0))
        cls_BD = objective.model.image_states(batch.images_BHWC)[0][:, 0]
        assert given[variant].shape == (16, 16), "text's and image's, one below the other"
        assert torch.allclose(given[variant][8:], cls_BD, atol=1e-5) == (variant == "no_bottleneck")


def test_weight_decay_spares_biases_and_norms(data, resolve):
    objective = begun(data, resolve, "lexlip")
    objective.begin("momentum")
    decayed, spared = optimiser(objective, resolve("lexlip", "train.weight_decay=0.1").train).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in objective.model.named_parameters()}
    grouped = [names[id(parameter)] for group in (decayed, spared) for parameter in group["params"]]
    assert sorted(grouped) == sorted(names.values()), "every weight of the model once, none of the momentum copy's"
    assert all(
        names[id(parameter)].endswith(("weight", "weight_VD", "token", "embeddings")) for parameter in decayed["params"]
    )
    assert all(
        "bias" in names[id(parameter)] or "norm" in names[id(parameter)].lower() for parameter in spared["params"]
    )
