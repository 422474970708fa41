"""Trains a sparse encoder on pairs of dense vectors; a killed training resumes and ends with the same weights.

The items of step s are drawn by (seed, s) alone, so a resumed run sees the same batches. The state of the training,
`training.pt`, is written every `EVERY` steps and read back without unpickling code.
"""

import logging
import time
from pathlib import Path

import numpy as np
import torch

from bench.sparsify.data import Pairs, Words, normalised, rows_of
from bench.store import cli
from models.errors import InputError
from models.files import atomic_file
from models.sparsify.config import SparsifyConfig
from models.sparsify.heads import SparseEncoder
from models.sparsify.objective import Batch, Objective

log = logging.getLogger(__name__)
EVERY = 50
CHANCE_HITS = 5  # by chance one image of the sample finds its text, and hardly ever five
SAMPLE = 1_024  # pairs from which the temperature of the dense scores is fitted
TEMPERATURES = np.geomspace(0.003, 0.3, 33)
CLIP = 1.0  # largest norm of the gradient


class Batches:
    """The batches of a training: B distinct images, one of the texts of each, and B texts without an image, if any."""

    def __init__(self, pairs: Pairs, words: Words | None, config: SparsifyConfig):
        self.pairs, self.words, self.config = pairs, words, config
        rows = pairs.pairs[np.argsort(pairs.image_of_M[pairs.pairs], kind="stable")]
        self.images, self.first = np.unique(pairs.image_of_M[rows], return_index=True)
        self.counts, self.rows = np.diff([*self.first, len(rows)]), rows
        self.size = min(config.batch, len(self.images))

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        random = np.random.default_rng((self.config.seed, step))
        chosen = random.choice(len(self.images), self.size, replace=False)
        texts = self.rows[self.first[chosen] + random.integers(self.counts[chosen])]
        if len(self.pairs.unpaired):
            texts = np.concatenate([texts, random.choice(self.pairs.unpaired, self.size)])
        images = self.images[chosen]
        image_BD, text_TD = rows_of(self.pairs.images_ND, images), rows_of(self.pairs.texts_MD, texts)
        if self.config.noise:
            image_BD, text_TD = (self._noisy(values, random) for values in (image_BD, text_TD))
        found = Batch(torch.from_numpy(image_BD), torch.from_numpy(text_TD))
        if self.words is None:
            return found
        counts = self.words.image_tokens_NV[images].toarray(), self.words.tokens_MV[texts].toarray()
        return Batch(found.image_BD, found.text_TD, *map(torch.from_numpy, counts))

    def _noisy(self, values: np.ndarray, random: np.random.Generator) -> np.ndarray:
        values = normalised(values)
        noise = random.standard_normal(values.shape, np.float32) * (self.config.noise / values.shape[1] ** 0.5)
        return values + noise


def aligned(pairs: Pairs, seed: int) -> str | None:
    """What is wrong if the dense vectors of a sample of training pairs find each other no better than by chance."""
    scores = _sample_scores(pairs, seed)
    hits = int((scores.argmax(dim=1) == torch.arange(len(scores))).sum())
    if hits >= min(CHANCE_HITS, len(scores) / 2):
        return None
    found = f"{hits} of {len(scores)} images trained on find their own text first, as by chance"
    return f"{found}; the texts' vectors may be in another order than these rows"


def fitted_temperature(pairs: Pairs, seed: int) -> float:
    """The temperature at which the softmax of the dense scores predicts training pairs best, of a sample of them."""
    scores = _sample_scores(pairs, seed)
    own = torch.arange(len(scores))
    losses = [float(torch.nn.functional.cross_entropy(scores.T / t, own)) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _sample_scores(pairs: Pairs, seed: int) -> torch.Tensor:
    """Dense scores (S, S) of images and their first texts, of a sample of the training pairs."""
    random, paired = np.random.default_rng(seed), pairs.pairs
    _, first = np.unique(pairs.image_of_M[paired], return_index=True)
    texts = paired[np.sort(random.choice(first, min(SAMPLE, len(first)), replace=False))]
    images = normalised(rows_of(pairs.images_ND, pairs.image_of_M[texts]))
    return torch.from_numpy(images @ normalised(rows_of(pairs.texts_MD, texts)).T)


def train(encoder: SparseEncoder, objective: Objective, batches: Batches, state: Path) -> dict[str, float]:
    """Trains in place; returns seconds and the losses of the last step. state: file of the interrupted training.

    Raises InputError if a loss is not finite, and for a state file that is broken.
    """
    config = encoder.config
    optimiser = torch.optim.AdamW(
        objective.parameters(), lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    step, seconds = _resumed(objective, optimiser, state)
    encoder.train()
    found: dict[str, torch.Tensor] = {}
    began = time.process_time()
    with cli.progress(desc=f"sparsify {config.objective}", unit="step", total=config.steps, initial=step) as bar:
        while step < config.steps:
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            for group in optimiser.param_groups:
                group["lr"] = config.lr * _schedule(step, config)
            found = objective(batches.at(step), step / config.steps, generator)
            loss = sum(found.values())
            if not torch.isfinite(loss):
                named = ", ".join(f"{name} {float(value):g}" for name, value in found.items())
                raise InputError(f"step {step}: a loss is not finite ({named}); try a lower lr=...")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), CLIP)
            optimiser.step()
            step += 1
            bar.update()
            if step % EVERY == 0 and step < config.steps:
                _save(objective, optimiser, step, seconds + time.process_time() - began, state)
    encoder.eval()
    return {"train_cpu_seconds": seconds + time.process_time() - began} | {
        f"loss_{name}": float(value.detach()) for name, value in found.items()
    }


def _schedule(step: int, config: SparsifyConfig) -> float:
    """Share of the learning rate: linear warm-up, then linear decay to 0."""
    warm = config.warmup * config.steps
    return (step + 1) / warm if step < warm else (config.steps - step) / max(1.0, config.steps - warm)


def _save(objective, optimiser, step: int, seconds: float, state: Path) -> None:
    values = {"objective": objective.state_dict(), "optimiser": optimiser.state_dict()}
    with atomic_file(state) as partial:
        torch.save(values | {"step": step, "seconds": seconds}, partial)


def _resumed(objective, optimiser, state: Path) -> tuple[int, float]:
    if not state.exists():
        return 0, 0.0
    try:
        values = torch.load(state, weights_only=True)
        objective.load_state_dict(values["objective"])
        optimiser.load_state_dict(values["optimiser"])
    except Exception as error:  # torch raises many types for broken files
        raise InputError(f"{state}: not a readable state of training ({type(error).__name__}); remove it") from None
    log.info("%s: resuming at step %d", state, values["step"])
    return values["step"], values["seconds"]
