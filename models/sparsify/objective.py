"""The losses of a training step.

    d2s            cross-entropy of sparse to dense scores, both directions, and a regulariser; expansion masked
    d2s_joint      sparse and dense scores learn from their sum
    csr            reconstruction by k, 4k and dead units, and contrast between codes of pairs
    caption_words  contrast of pairs, and the caption loss of V-SPLADE
    splice         nothing is trained

All but `csr` may add the caption-word loss of both sides (`models.losses.word_loss`, softmax form).

Faults of published code that are absent here (tests hold it): the temperature learns; a text's vector comes from the
text also where nothing is masked; nothing is masked in evaluation (`heads` masks never); the joint teacher has no
gradient, and text to image is the transpose.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.lexicon.head import strongest
from models.losses import flops, l1, shrinking, word_loss
from models.sparsify import losses
from models.sparsify.heads import SIDES, SparseEncoder

JOINT_DENSE_SHARE = 0.5


@dataclass(frozen=True)
class Batch:
    """B pairs, and further texts without an image after them.

    image_BD, text_TD: dense vectors, T >= B; text i belongs to image i. image_words_BV, text_words_TV: how often each
    lexicon occurs in the captions of the image, and in the text; None where lexicons are not words.
    """

    image_BD: torch.Tensor
    text_TD: torch.Tensor
    image_words_BV: torch.Tensor | None = None
    text_words_TV: torch.Tensor | None = None


class Objective(nn.Module):
    """Losses of an encoder in training. temperature: of the dense scores."""

    def __init__(self, encoder: SparseEncoder, temperature: float):
        super().__init__()
        self.encoder, self.config, self.temperature = encoder, encoder.config, temperature
        self.log_temperature = nn.Parameter(torch.tensor(self.config.sparse_temperature).log())
        if self.config.objective == "d2s_joint":
            self.adapter = nn.ModuleDict({side: nn.Linear(encoder.dense, encoder.dense, bias=False) for side in SIDES})
            for adapter in self.adapter.values():
                nn.init.eye_(adapter.weight)

    def forward(self, batch: Batch, progress: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The weighted losses of a step. progress: share of the run that is done. generator: draws the masks."""
        if self.config.objective == "csr":
            return self._csr(batch, progress)
        config, encoder = self.config, self.encoder
        dense = {"image": batch.image_BD, "text": batch.text_TD}
        words = {"image": batch.image_words_BV, "text": batch.text_words_TV}
        pooled = {side: encoder.pooled(dense[side], side) for side in SIDES}
        weights = {side: pooled[side].weights_BV for side in SIDES}
        masked = losses.annealed(config.mask_anneal, progress)
        if masked:
            weights = {side: expansion_masked(weights[side], words[side], masked, generator) for side in SIDES}
        kept = {side: self._kept(weights[side], side, progress) for side in SIDES}
        unit = {side: F.normalize(kept[side], dim=-1) for side in SIDES}
        sparse_IT = unit["image"] @ unit["text"].T / self.log_temperature.exp()
        found = {}
        if config.objective == "d2s":
            if config.distillation:
                found["distillation"] = config.distillation * losses.distillation(sparse_IT, self._dense_scores(dense))
            if config.labels:
                found["labels"] = config.labels * losses.pair_loss(sparse_IT)
        elif config.objective == "d2s_joint":
            adapted = {side: self.adapter[side](F.normalize(dense[side], dim=-1)) for side in SIDES}
            found["joint"] = losses.joint_loss(self._dense_scores(adapted), sparse_IT, JOINT_DENSE_SHARE)
        else:
            found["contrast"] = config.contrast * losses.pair_loss(sparse_IT)
            pairs = slice(0, len(batch.image_BD))
            loss = losses.caption_loss(pooled["image"].logits_BV, weights["text"][pairs])
            found["caption"] = config.caption_loss * loss
        for side in SIDES:
            if weight := getattr(config, f"{side}_words"):
                logits_BV = pooled[side].logits_BV
                loss = word_loss(logits_BV, words[side], encoder.idf_V, "softmax", 0.0, len(logits_BV))
                found[f"{side}_words"] = weight * loss
        if config.regularisation:
            grown = min(progress / config.ramp, 1.0) ** 2 if config.ramp else 1.0
            of = flops if config.regulariser == "flops" else l1
            both = unit if config.regulariser == "flops" else kept
            found["regulariser"] = grown * config.regularisation * sum(of(both[side]) for side in SIDES) / 2
        return found

    def _kept(self, weights_BV: torch.Tensor, side: str, progress: float) -> torch.Tensor:
        top_k = getattr(self.config, f"{side}_top_k")
        return strongest(weights_BV, shrinking(top_k, weights_BV.shape[1], self.config.top_k_anneal, progress))

    def _dense_scores(self, dense: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.normalize(dense["image"], dim=-1) @ F.normalize(dense["text"], dim=-1).T / self.temperature

    def _csr(self, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        """The losses of CSR over both sides, whose units are shared."""
        config, encoder, codes = self.config.csr, self.encoder, {}
        found = {"reconstruction": 0.0, "wider": 0.0, "dead": 0.0}
        active_V = torch.zeros_like(encoder.silent_V, dtype=torch.bool)
        for side, dense_BD in (("image", batch.image_BD), ("text", batch.text_TD)):
            target_BD, weights_BV = encoder.centred(dense_BD, side), encoder.pooled(dense_BD, side).weights_BV
            codes[side] = self._kept(weights_BV, side, progress)
            made_BD = encoder.decode(codes[side])
            found["reconstruction"] += losses.reconstruction(made_BD, target_BD)
            top_k = getattr(self.config, f"{side}_top_k")
            wider_BV = strongest(weights_BV, top_k and 4 * top_k)
            found["wider"] += config.wider * losses.reconstruction(encoder.decode(wider_BV), target_BD)
            dead_V = encoder.silent_V >= config.dead_after
            if dead_V.any():
                rest_BD, dead_BV = (target_BD - made_BD).detach(), strongest(weights_BV * dead_V, top_k)
                found["dead"] += config.dead * losses.reconstruction(encoder.decode(dead_BV), rest_BD)
            active_V |= (codes[side] > 0).any(dim=0)
        encoder.silent_V.copy_(torch.where(active_V, 0, encoder.silent_V + 1))
        unit = [F.normalize(codes[side], dim=-1) for side in SIDES]
        found["contrast"] = config.contrast * losses.pair_loss(unit[0] @ unit[1].T / self.log_temperature.exp())
        return {name: loss for name, loss in found.items() if isinstance(loss, torch.Tensor)}


def expansion_masked(
    weights_BV: torch.Tensor, words_BV: torch.Tensor, probability: float, generator: torch.Generator
) -> torch.Tensor:
    """Weights with lexicons beyond an item's own words set to 0, each with a probability (Nguyen et al., 2024)."""
    drawn_BV = torch.rand(weights_BV.shape, generator=generator, device=weights_BV.device)
    return weights_BV * ((words_BV > 0) | (drawn_BV >= probability))
