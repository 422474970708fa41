"""Helpers for tests of the objectives."""

import torch

from models.objective import LexLIPObjective


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begun(model, phase: str) -> LexLIPObjective:
    """The objective of a model, in training mode, at the start of a phase."""
    torch.manual_seed(1)
    objective = LexLIPObjective(model).train()
    objective.begin(phase)
    return objective


def step(objective, batch, optimiser) -> dict[str, float]:
    """One optimiser step; its losses."""
    losses, _ = objective.losses(batch, generator())
    optimiser.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()
    objective.after_step()
    return {name: value.item() for name, value in losses.items()}


def weights_of(module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def equal(these, those) -> bool:
    return all(torch.equal(one, other) for one, other in zip(these, those, strict=True))


def naive_info_nce(queries, keys, temperature) -> float:
    """InfoNCE in float64."""
    scores = queries.double() @ keys.double().T / temperature
    return sum(torch.logsumexp(row, 0).item() - row[i].item() for i, row in enumerate(scores)) / len(scores)
