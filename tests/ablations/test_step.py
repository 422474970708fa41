"""One step gives the same result with micro-batches, with gradient checkpointing and compiled."""

import copy
import dataclasses

import pytest
import torch

from ablations import config as configs
from ablations.data import prepare
from ablations.step import optimiser, take_step
from models import checkpoint

CASES = {"bottleneck": "lexlip_words", "momentum": "lexlip_words", "contrastive": "no_momentum", "clip": "clip"}


@pytest.fixture(scope="module")
def begun(made_home, resolve):
    """The objective of a case (a phase, or clip) after one step, its next batch, and its settings."""

    def begun(case: str, *overrides: str):
        run = resolve(CASES[case], *overrides)
        data = prepare(made_home, run.data, run.model.text)
        torch.manual_seed(0)
        model = checkpoint.create(configs.with_vocabulary(run, len(data.tokenizer)).model, data.tokenizer)
        objective = checkpoint.objective(model).train()
        objective.begin("contrastive" if case == "clip" else case)
        step(objective, data.batch(0, 8, seed=0), run.train)
        return objective, data.batch(1, 8, seed=0), run.train

    return begun


def step(objective, batch, train, precision=torch.float32) -> tuple[dict, dict, dict]:
    """One step with SGD: its values, the gradients, and the weights after it."""
    groups = optimiser(objective, train).param_groups
    sgd = torch.optim.SGD([parameter for group in groups for parameter in group["params"]], lr=0.1)
    told = take_step(objective, batch, torch.Generator().manual_seed(0), sgd, 0.1, precision, train)
    gradients = {name: parameter.grad for name, parameter in objective.named_parameters() if parameter.grad is not None}
    return {name: value.item() for name, value in told.items()}, gradients, objective.state_dict()


def both(begun, case, change, *overrides, precision=torch.float32, before=lambda objective: None):
    """The same step twice: as it is, and on a copy of the objective after `before` with changed settings."""
    objective, batch, train = begun(case, *overrides)
    other = copy.deepcopy(objective)
    before(other)
    return step(objective, batch, train, precision), step(other, batch, dataclasses.replace(train, **change), precision)


def assert_same(one, other, rtol=1e-4, atol=1e-6):
    for these, those in zip(one, other, strict=True):
        assert these.keys() == those.keys()
        for name in these:
            torch.testing.assert_close(
                torch.as_tensor(those[name]),
                torch.as_tensor(these[name]),
                rtol=rtol,
                atol=atol,
                msg=lambda text, name=name: f"{name}: {text}",
            )


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("case", CASES)
def test_micro_batches_give_the_losses_gradients_and_weights_of_the_whole_batch(case, size, begun):
    assert_same(*both(begun, case, {"micro_batch": size}))


def test_micro_batches_without_any_contrast(begun):
    dropped = ("model.lexlip.bottleneck.contrastive=0", "model.lexlip.flops.weight=0")
    one, other = both(begun, "bottleneck", {"micro_batch": 3}, *dropped)
    assert set(one[0]) >= {"loss_self_mlm", "loss_image_mlm"} and "loss_contrastive" not in one[0]
    assert_same(one, other)


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_in_bfloat16_reach_every_weight(case, begun):
    """Weights that autocast cast in the pass without a graph must not be reused in the pass with it."""
    (told, gradients, _), (told_too, gradients_too, _) = both(begun, case, {"micro_batch": 3}, precision=torch.bfloat16)
    assert told_too["loss"] == pytest.approx(told["loss"], rel=0.05)
    assert gradients_too.keys() == gradients.keys()
    for name in gradients:
        assert gradients_too[name].any() == gradients[name].any(), name


def test_a_micro_batch_holds_the_activations_of_its_pairs_alone(begun):
    objective, batch, train = begun("bottleneck")
    sizes = []
    objective.model.image.encoder.register_forward_hook(
        lambda module, given, out: sizes.append(len(out.last_hidden_state))
    )
    step(objective, batch, dataclasses.replace(train, micro_batch=3))
    assert sizes == [3, 3, 2] * 2


@pytest.mark.parametrize("case", ["bottleneck", "momentum", "clip"])
def test_gradient_checkpointing_changes_the_memory_and_not_the_step(case, begun):
    again = []

    def count(objective) -> None:
        objective.recompute_activations()
        layer = (
            objective.model.clip.transformer.resblocks[0].ln_1
            if case == "clip"
            else objective.model.text.encoder.encoder.layer[0].output
        )
        layer.register_forward_hook(lambda *_: again.append(torch.is_grad_enabled()))

    one, other = both(begun, case, {}, before=count)
    assert_same(one, other)
    assert len(again) >= 2 and len(again) % 2 == 0, "a second forward pass each"


@pytest.mark.parametrize("case", [pytest.param("bottleneck", marks=pytest.mark.nightly), "clip"])
def test_compiled_towers_take_the_same_step(case, begun, monkeypatch):
    """Traced for real, but run eagerly, since code generation takes a minute."""
    traced, compile = [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda call, **given: traced.append(call) or compile(call, backend="eager", **given)
    )
    one, other = both(begun, case, {}, before=lambda objective: objective.compile_towers())
    assert len(traced) == {"bottleneck": 3, "clip": 2}[case]
    assert_same(one, other)
