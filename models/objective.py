"""What LexLIP is trained on: phase 1 (lexicon bottleneck), phase 2 (momentum contrast), or plain in-batch contrast.

An objective owns the retrieval model and all that training needs beside it (decoder, momentum copies, queues), so that a
training state is one state dict. The trainer calls `begin(phase)`, then for each step `losses(...)`, and `after_step()`.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from models.decoder import WeakenedDecoder
from models.errors import InputError
from models.grouping import by_length
from models.lexicon import Pooled, active_lexicons, bag_of_weights, bag_of_words
from models.lexlip import LexLIP
from models.losses import flops, info_nce, masked_token_loss, symmetric_info_nce
from models.masking import mask_words
from models.momentum import KeyQueue, Momentum

Phase = Literal["bottleneck", "momentum", "contrastive"]


@dataclass(frozen=True)
class Batch:
    """Pairs of one step: uint8 images (B, H, W, 3), padded token ids (B, L) and word numbers (B, L) of one caption each."""

    images_BHWC: torch.Tensor
    tokens_BL: torch.Tensor
    words_BL: torch.Tensor

    def to(self, device: str) -> "Batch":
        return Batch(self.images_BHWC.to(device), self.tokens_BL.to(device), self.words_BL.to(device))


class LexLIPObjective(nn.Module):
    """The losses of LexLIP's phases, as a dict of weighted parts whose sum is minimised."""

    phases = ("bottleneck", "momentum", "contrastive")

    def __init__(self, model: LexLIP):
        super().__init__()
        self.model = model
        self.config = model.config.lexlip
        self.phase: Phase | None = None
        # In a tuple, which keeps it out of the training state: a run that goes on makes the same weights again from its seed.
        self._untrained = (copy.deepcopy(model),) if self.config.momentum.start == "untrained" else ()
        self.decoder: WeakenedDecoder | None = None
        self.momentum: Momentum | None = None
        self.image_queue: KeyQueue | None = None
        self.text_queue: KeyQueue | None = None

    def begin(self, phase: Phase) -> None:
        """Enter a phase with the weights as they stand: momentum copies are made here, after phase 1, never before."""
        if phase not in self.phases:
            raise InputError(f"lexlip cannot train the phase {phase!r}; expected one of {', '.join(self.phases)}")
        self.phase = phase
        self.decoder = self.momentum = self.image_queue = self.text_queue = None
        if phase == "bottleneck":
            self.decoder = WeakenedDecoder(self.model.config.text, self.config.bottleneck.decoder_layers, self.model.text.encoder)
        if phase == "momentum":
            momentum = self.config.momentum
            self.momentum = Momentum(self._untrained[0] if self._untrained else self.model, momentum.decay, momentum.updates)
            kind = (momentum.queue, self.model.dimension, momentum.queue_kept, momentum.queue_start == "noise")
            self.image_queue, self.text_queue = KeyQueue(*kind), KeyQueue(*kind)

    def losses(self, batch: Batch, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The weighted losses of a step, and what is worth logging beside them (no gradient). `generator` draws the masks."""
        if self.phase == "bottleneck":
            return self._bottleneck_losses(batch, generator)
        image_BV = self.model.image_states(batch.images_BHWC)[1].weights_BV
        text_BV = self._text_states(self.model, batch.tokens_BL)[1].weights_BV
        contrast = self._momentum_contrast if self.phase == "momentum" else self._batch_contrast
        return {"contrastive": contrast(image_BV, text_BV, batch)} | self._flops(image_BV, text_BV), _activity(image_BV, text_BV)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the momentum encoders and the queues, once per optimiser step."""
        if self.momentum is not None:
            self.momentum.update(self.model)
            self.image_queue.push(self._new_keys[0])
            self.text_queue.push(self._new_keys[1])

    def _batch_contrast(self, image_BV: torch.Tensor, text_BV: torch.Tensor, batch: Batch) -> torch.Tensor:
        return symmetric_info_nce(F.normalize(image_BV, dim=-1), F.normalize(text_BV, dim=-1), self.config.temperature)

    def _momentum_contrast(self, image_BV: torch.Tensor, text_BV: torch.Tensor, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            teacher = self.momentum.module
            image_keys_BV = F.normalize(teacher.image_states(batch.images_BHWC)[1].weights_BV, dim=-1)
            text_keys_BV = F.normalize(self._text_states(teacher, batch.tokens_BL)[1].weights_BV, dim=-1)
        temperature, image_BV, text_BV = self.config.temperature, F.normalize(image_BV, dim=-1), F.normalize(text_BV, dim=-1)
        to_images = info_nce(text_BV, image_keys_BV, temperature, self.image_queue.scores(text_BV))
        to_texts = info_nce(image_BV, text_keys_BV, temperature, self.text_queue.scores(image_BV))
        self._new_keys = image_keys_BV, text_keys_BV
        return (to_images + to_texts) / 2

    def _flops(self, image_BV: torch.Tensor, text_BV: torch.Tensor) -> dict[str, torch.Tensor]:
        """The regulariser, unless its weight is 0."""
        if not self.config.flops.weight:
            return {}
        if self.config.flops.acts_on == "normalised":
            image_BV, text_BV = F.normalize(image_BV, dim=-1), F.normalize(text_BV, dim=-1)
        return {"flops": self.config.flops.weight * (flops(image_BV) + flops(text_BV))}

    def _text_states(self, model: LexLIP, tokens_BL: torch.Tensor) -> tuple[torch.Tensor, Pooled]:
        """`model.text_states`, in groups of similar length."""

        def encode(tokens_bL: torch.Tensor) -> tuple[torch.Tensor, ...]:
            hidden_bLD, pooled = model.text_states(tokens_bL)
            return hidden_bLD, *pooled

        hidden_BLD, *pooled = by_length(encode, (tokens_BL != model.tokenizer.pad_id).sum(dim=1), [tokens_BL])
        return hidden_BLD, Pooled(*pooled)

    def _bottleneck(self, states_BLD: torch.Tensor, pooled: Pooled) -> torch.Tensor:
        """What the decoder is told of each item, (B, D)."""
        embedding_VD = self.model.text.encoder.embeddings.word_embeddings.weight
        match self.config.bottleneck.source:
            case "lexicon":
                return bag_of_words(pooled.logits_BV, embedding_VD)
            case "log1p":
                return bag_of_weights(pooled.weights_BV, embedding_VD)
            case "cls":
                return states_BLD[:, 0]

    def _bottleneck_losses(self, batch: Batch, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The losses of phase 1 whose weight is not 0; what only the others need is not computed."""
        config, model = self.config.bottleneck, self.model
        tokens_BL, tokenizer, size = batch.tokens_BL, model.tokenizer, len(batch.tokens_BL)
        for_encoder_BL, hidden_from_encoder_BL = mask_words(tokens_BL, batch.words_BL, config.encoder_mask, tokenizer.mask_id, generator)
        for_decoder_BL, hidden_from_decoder_BL = mask_words(tokens_BL, batch.words_BL, config.decoder_mask, tokenizer.mask_id, generator)

        # The whole and the masked captions share one pass through the encoder, the two bottlenecks one through the decoder.
        masked = [for_encoder_BL] if config.self_mlm or config.text_mlm else []
        text_2BLD, pooled_text = self._text_states(model, torch.cat([tokens_BL, *masked]))
        image_BLD, pooled_image = model.image_states(batch.images_BHWC)
        masked_text_BLD, image_BV, text_BV = text_2BLD[size:], pooled_image.weights_BV, pooled_text.weights_BV[:size]

        def mlm(states_BLD: torch.Tensor, masked_BL: torch.Tensor) -> torch.Tensor:
            return masked_token_loss(model.text.head(states_BLD[masked_BL]), tokens_BL[masked_BL])

        losses = {}
        if config.self_mlm:
            losses["self_mlm"] = config.self_mlm * mlm(masked_text_BLD, hidden_from_encoder_BL)
        told = {"text_mlm": (masked_text_BLD, Pooled(*(part[size:] for part in pooled_text))), "image_mlm": (image_BLD, pooled_image)}
        if told := {name: of for name, of in told.items() if getattr(config, name)}:
            bottleneck_2BD = torch.cat([self._bottleneck(*of) for of in told.values()])
            (decoded_2BLD,) = by_length(
                lambda tokens_bL, bottleneck_bD: [self.decoder(bottleneck_bD, tokens_bL, tokens_bL != tokenizer.pad_id)],
                (tokens_BL != tokenizer.pad_id).sum(dim=1).repeat(len(told)),
                [for_decoder_BL.repeat(len(told), 1)],
                [bottleneck_2BD],
            )
            for name, states_BLD in zip(told, decoded_2BLD.split(size), strict=True):
                losses[name] = getattr(config, name) * mlm(states_BLD, hidden_from_decoder_BL)
        if config.contrastive:
            losses["contrastive"] = config.contrastive * self._batch_contrast(image_BV, text_BV, batch)
        return losses | self._flops(image_BV, text_BV), _activity(image_BV, text_BV)


def _activity(image_BV: torch.Tensor, text_BV: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "active_lexicons_image": active_lexicons(image_BV).float().mean(),
        "active_lexicons_text": active_lexicons(text_BV).float().mean(),
    }
