"""What LexLIP is trained on: phase 1 (lexicon bottleneck), phase 2 (momentum contrast), or plain in-batch contrast.

An objective owns the retrieval model and all that training needs beside it (decoder, momentum copies, queues), so that a
training state is one state dict. The trainer calls `begin(phase)`, then for each step `losses(...)`, and `after_step()`.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from models.decoder import WeakenedDecoder
from models.errors import InputError
from models.lexicon import active_lexicons, bag_of_words, retrieval_weights
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
            self.momentum = Momentum(self.model, self.config.momentum.decay)
            self.image_queue = KeyQueue(self.config.momentum.queue, self.model.dimension)
            self.text_queue = KeyQueue(self.config.momentum.queue, self.model.dimension)

    def losses(self, batch: Batch, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The weighted losses of a step, and what is worth logging beside them (no gradient). `generator` draws the masks."""
        if self.phase == "bottleneck":
            return self._bottleneck_losses(batch, generator)
        image_BV = retrieval_weights(self.model.image_states(batch.images_BHWC)[1])
        text_BV = retrieval_weights(self.model.text_states(batch.tokens_BL)[1])
        contrast = self._momentum_contrast if self.phase == "momentum" else self._batch_contrast
        return {"contrastive": contrast(image_BV, text_BV, batch), "flops": self._flops(image_BV, text_BV)}, _activity(image_BV, text_BV)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the momentum encoders, once per optimiser step."""
        if self.momentum is not None:
            self.momentum.update(self.model)

    def _batch_contrast(self, image_BV: torch.Tensor, text_BV: torch.Tensor, batch: Batch) -> torch.Tensor:
        return symmetric_info_nce(F.normalize(image_BV, dim=-1), F.normalize(text_BV, dim=-1), self.config.temperature)

    def _momentum_contrast(self, image_BV: torch.Tensor, text_BV: torch.Tensor, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            teacher = self.momentum.module
            image_keys_BV = F.normalize(retrieval_weights(teacher.image_states(batch.images_BHWC)[1]), dim=-1)
            text_keys_BV = F.normalize(retrieval_weights(teacher.text_states(batch.tokens_BL)[1]), dim=-1)
            all_images_NV = torch.cat([image_keys_BV, self.image_queue.filled()])
            all_texts_NV = torch.cat([text_keys_BV, self.text_queue.filled()])
        temperature = self.config.temperature
        to_images = info_nce(F.normalize(text_BV, dim=-1), all_images_NV, temperature)
        to_texts = info_nce(F.normalize(image_BV, dim=-1), all_texts_NV, temperature)
        self.image_queue.push(image_keys_BV)
        self.text_queue.push(text_keys_BV)
        return (to_images + to_texts) / 2

    def _flops(self, image_BV: torch.Tensor, text_BV: torch.Tensor) -> torch.Tensor:
        if self.config.flops.acts_on == "normalised":
            image_BV, text_BV = F.normalize(image_BV, dim=-1), F.normalize(text_BV, dim=-1)
        return self.config.flops.weight * (flops(image_BV) + flops(text_BV))

    def _bottleneck_losses(self, batch: Batch, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        config, model = self.config.bottleneck, self.model
        tokens_BL, tokenizer, size = batch.tokens_BL, model.tokenizer, len(batch.tokens_BL)
        for_encoder_BL, hidden_from_encoder_BL = mask_words(tokens_BL, batch.words_BL, config.encoder_mask, tokenizer.mask_id, generator)
        for_decoder_BL, hidden_from_decoder_BL = mask_words(tokens_BL, batch.words_BL, config.decoder_mask, tokenizer.mask_id, generator)

        # The whole and the masked captions share one pass through the encoder, the two bottlenecks one through the decoder.
        text_2BLD, pooled_text_2BV = model.text_states(torch.cat([tokens_BL, for_encoder_BL]))
        image_BLD, pooled_image_BV = model.image_states(batch.images_BHWC)
        masked_text_BLD, pooled_masked_BV = text_2BLD[size:], pooled_text_2BV[size:]
        image_BV, text_BV = retrieval_weights(pooled_image_BV), retrieval_weights(pooled_text_2BV[:size])

        if config.source == "lexicon":
            embedding_VD = model.text.encoder.embeddings.word_embeddings.weight
            bottleneck_2BD = bag_of_words(torch.cat([pooled_masked_BV, pooled_image_BV]), embedding_VD)
        else:
            bottleneck_2BD = torch.cat([masked_text_BLD[:, 0], image_BLD[:, 0]])
        mask_BL = tokens_BL != tokenizer.pad_id
        decoded_2BLD = self.decoder(bottleneck_2BD, for_decoder_BL.repeat(2, 1), mask_BL.repeat(2, 1))

        def mlm(states_BLD: torch.Tensor, masked_BL: torch.Tensor) -> torch.Tensor:
            return masked_token_loss(model.text.head(states_BLD[masked_BL]), tokens_BL[masked_BL])

        losses = {
            "self_mlm": config.self_mlm * mlm(masked_text_BLD, hidden_from_encoder_BL),
            "text_mlm": config.text_mlm * mlm(decoded_2BLD[:size], hidden_from_decoder_BL),
            "image_mlm": config.image_mlm * mlm(decoded_2BLD[size:], hidden_from_decoder_BL),
            "contrastive": config.contrastive * self._batch_contrast(image_BV, text_BV, batch),
            "flops": self._flops(image_BV, text_BV),
        }
        return losses, _activity(image_BV, text_BV)


def _activity(image_BV: torch.Tensor, text_BV: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "active_lexicons_image": active_lexicons(image_BV).float().mean(),
        "active_lexicons_text": active_lexicons(text_BV).float().mean(),
    }
