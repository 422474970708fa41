"""What LexLIP is trained on: phase 1 (lexicon bottleneck), phase 2 (momentum contrast), or plain in-batch contrast.

An objective owns the retrieval model and all that training needs beside it (decoder, momentum copies, queues), so that a
training state is one state dict. The trainer calls `begin(phase)`, then for each step `losses(...)`, and `after_step()`.

A step's losses are of two kinds: contrasts, which need the vectors of the whole global batch, and losses that are sums over pairs.
`Objective` keeps them apart, so that a batch may be spread over processes (`models.distributed`) and come in micro-batches.
"""

import abc
import copy
import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from models.decoder import WeakenedDecoder
from models.distributed import gather, rows, world
from models.errors import InputError
from models.grouping import by_length
from models.lexicon.head import Pooled, active_lexicons, bag_of_weights, bag_of_words
from models.lexlip import LexLIP
from models.losses import flops, info_nce, masked_token_loss, symmetric_info_nce
from models.masking import mask_words
from models.momentum import KeyQueue, Momentum

Phase = Literal["bottleneck", "momentum", "contrastive"]
Losses = dict[str, torch.Tensor]
Sides = tuple[torch.Tensor, torch.Tensor]
"""Vectors of the images and of the texts, (B, X) each."""


@dataclass(frozen=True)
class Batch:
    """Pairs of one step: uint8 images (B, H, W, 3), padded token ids (B, L) and word numbers (B, L) of one caption each."""

    images_BHWC: torch.Tensor
    tokens_BL: torch.Tensor
    words_BL: torch.Tensor

    def to(self, device: str) -> "Batch":
        return self._each(lambda tensor: tensor.to(device))

    def split(self, size: int) -> list["Batch"]:
        """The same pairs in parts of `size`; the last may be smaller."""
        return [self._each(lambda tensor, at=at: tensor[at : at + size]) for at in range(0, len(self.tokens_BL), size)]

    def _each(self, function) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(
            self, **{name: function(value) for name, value in values.items() if isinstance(value, torch.Tensor)}
        )


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """With the masks of phase 1: token ids with some masked, where those are (B, L), and their number in the global batch per process."""

    for_encoder_BL: torch.Tensor
    hidden_from_encoder_BL: torch.Tensor
    hidden_from_encoder: float
    for_decoder_BL: torch.Tensor
    hidden_from_decoder_BL: torch.Tensor
    hidden_from_decoder: float


class Objective(nn.Module, abc.ABC):
    """What a model is trained on: the losses of a step, as a dict of weighted parts whose sum is minimised.

    Over several processes each has its slice of the batch, and the mean of their losses is that of the global batch.
    """

    phases: tuple[Phase, ...]
    model: nn.Module

    def begin(self, phase: Phase) -> None:
        """Enter a phase with the weights as they stand. Raises InputError for one that is not of `phases`."""
        if phase not in self.phases:
            raise InputError(
                f"{self.model.config.kind} cannot train the phase {phase!r}; expected one of {', '.join(self.phases)}"
            )

    def losses(self, batch: Batch, generator: torch.Generator) -> tuple[Losses, Losses]:
        """The weighted losses of a step, and what is worth logging beside them (no gradient). `generator` draws the masks."""
        drawn = self.draw(batch, generator)
        sides, losses = self.encode(drawn)
        contrasts, beside = self.contrast(sides, self.keys(drawn))
        return losses | contrasts, beside

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with all that is random in the step; the same for the global batch over however many processes."""
        return batch

    @abc.abstractmethod
    def vectors(self, batch: Batch) -> Sides:
        """What `contrast` compares of a part of the batch that was drawn."""

    def encode(self, batch: Batch) -> tuple[Sides, Losses]:
        """`vectors`, and those losses that are sums over the pairs: over all parts of a batch they add up."""
        return self.vectors(batch), {}

    def keys(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What else `contrast` compares them with, without gradient."""
        return ()

    @abc.abstractmethod
    def contrast(self, sides: Sides, keys: tuple[torch.Tensor, ...]) -> tuple[Losses, Losses]:
        """The losses that need the vectors of the whole batch, and what is worth logging. Only here do processes wait for each other."""

    def after_step(self) -> None:
        """What moves once per optimiser step."""

    @abc.abstractmethod
    def towers(self) -> list[nn.Module]:
        """The transformers that take the time and the memory."""

    def compile_towers(self) -> None:
        """`torch.compile` each tower where it stands: names and values of its weights stay. Call after `begin`."""
        for tower in self.towers():
            tower.compile(
                isolate_recompiles=True
            )  # of towers with the same code each has its own limit of recompilations

    def recompute_activations(self) -> None:
        """Keep no activations within the towers' layers, but compute them again going back. Call after `begin`. Raises InputError."""
        for tower in self.towers():
            # transformers gives the switch another name in 5.23, and drops the old one in 6
            enable = getattr(
                tower, "activation_checkpointing_enable", getattr(tower, "gradient_checkpointing_enable", None)
            )
            if enable is None:
                raise InputError(
                    f"gradient checkpointing: {type(tower).__name__} cannot; expected a tower of transformers or open_clip"
                )
            tower.config.use_cache = False  # or transformers warns
            enable()


class LexLIPObjective(Objective):
    """The losses of LexLIP's phases."""

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
        super().begin(phase)
        self.phase = phase
        self.decoder = self.momentum = self.image_queue = self.text_queue = None
        if phase == "bottleneck":
            self.decoder = WeakenedDecoder(
                self.model.config.text, self.config.bottleneck.decoder_layers, self.model.text.encoder
            )
        if phase == "momentum":
            momentum = self.config.momentum
            self.momentum = Momentum(
                self._untrained[0] if self._untrained else self.model, momentum.decay, momentum.updates
            )
            kind = (momentum.queue, self.model.dimension, momentum.queue_top_k, momentum.queue_start == "noise")
            self.image_queue, self.text_queue = KeyQueue(*kind), KeyQueue(*kind)

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        if self.phase != "bottleneck":
            return batch
        own, tokens_NL, words_NL = rows(len(batch.tokens_BL)), gather(batch.tokens_BL), gather(batch.words_BL)
        masks = []
        for share in (self.config.bottleneck.encoder_mask, self.config.bottleneck.decoder_mask):
            masked_NL, hidden_NL = mask_words(tokens_NL, words_NL, share, self.model.tokenizer.mask_id, generator)
            masks += [masked_NL[own], hidden_NL[own], int(hidden_NL.sum()) / world()]
        return MaskedBatch(batch.images_BHWC, batch.tokens_BL, batch.words_BL, *masks)

    def vectors(self, batch: Batch) -> Sides:
        return self._weights(self.model, batch)

    def encode(self, batch: Batch) -> tuple[Sides, Losses]:
        return self._fill_in(batch) if self.phase == "bottleneck" else (self.vectors(batch), {})

    @torch.no_grad()
    def keys(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """In phase 2 the momentum encoders' vectors, L2-normalised."""
        if self.momentum is None:
            return ()
        return tuple(F.normalize(side_BV, dim=-1) for side_BV in self._weights(self.momentum.module, batch))

    def contrast(self, sides: Sides, keys: tuple[torch.Tensor, ...]) -> tuple[Losses, Losses]:
        image_BV, text_BV = sides
        losses, weight = {}, self.config.bottleneck.contrastive if self.phase == "bottleneck" else 1.0
        if weight:
            image_unit_BV, text_unit_BV = F.normalize(image_BV, dim=-1), F.normalize(text_BV, dim=-1)
            if keys:
                losses["contrastive"] = self._momentum_contrast(image_unit_BV, text_unit_BV, *map(gather, keys))
            else:
                losses["contrastive"] = weight * symmetric_info_nce(
                    image_unit_BV, text_unit_BV, self.config.temperature
                )
        return losses | self._flops(image_BV, text_BV), _activity(image_BV, text_BV)

    def towers(self) -> list[nn.Module]:
        models = [self.model] if self.momentum is None else [self.model, self.momentum.module]
        towers = [side.encoder for model in models for side in (model.image, model.text)]
        return towers if self.decoder is None else [*towers, self.decoder.bert]

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the momentum encoders and the queues, once per optimiser step."""
        if self.momentum is not None:
            self.momentum.update(self.model)
            self.image_queue.push(self._new_keys[0])
            self.text_queue.push(self._new_keys[1])

    def _weights(self, model: LexLIP, batch: Batch) -> Sides:
        """The lexicon weights by `model`, which is the one that learns or its momentum copy."""
        return model.image_states(batch.images_BHWC)[1].weights_BV, self._text_states(model, batch.tokens_BL)[
            1
        ].weights_BV

    def _momentum_contrast(self, image_BV, text_BV, image_keys_NV, text_keys_NV) -> torch.Tensor:
        """The slice's vectors against the momentum keys of all processes, which then go into the queues."""
        temperature = self.config.temperature
        to_images = info_nce(text_BV, image_keys_NV, temperature, self.image_queue.scores(text_BV))
        to_texts = info_nce(image_BV, text_keys_NV, temperature, self.text_queue.scores(image_BV))
        self._new_keys = image_keys_NV, text_keys_NV
        return (to_images + to_texts) / 2

    def _flops(self, image_BV: torch.Tensor, text_BV: torch.Tensor) -> Losses:
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

    def _fill_in(self, batch: MaskedBatch) -> tuple[Sides, Losses]:
        """The masked-language-model losses of phase 1 whose weight is not 0; what only the others need is not computed."""
        config, model = self.config.bottleneck, self.model
        tokens_BL, tokenizer, size = batch.tokens_BL, model.tokenizer, len(batch.tokens_BL)

        # The whole and the masked captions share one pass through the encoder, the two bottlenecks one through the decoder.
        masked = [batch.for_encoder_BL] if config.self_mlm or config.text_mlm else []
        text_2BLD, pooled_text = self._text_states(model, torch.cat([tokens_BL, *masked]))
        image_BLD, pooled_image = model.image_states(batch.images_BHWC)
        masked_text_BLD = text_2BLD[size:]

        def mlm(states_BLD: torch.Tensor, hidden_BL: torch.Tensor, hidden: float) -> torch.Tensor:
            return masked_token_loss(model.text.head(states_BLD[hidden_BL]), tokens_BL[hidden_BL], hidden)

        losses = {}
        if config.self_mlm:
            losses["self_mlm"] = config.self_mlm * mlm(
                masked_text_BLD, batch.hidden_from_encoder_BL, batch.hidden_from_encoder
            )
        told = {
            "text_mlm": (masked_text_BLD, Pooled(*(part[size:] for part in pooled_text))),
            "image_mlm": (image_BLD, pooled_image),
        }
        if told := {name: of for name, of in told.items() if getattr(config, name)}:
            bottleneck_2BD = torch.cat([self._bottleneck(*of) for of in told.values()])
            (decoded_2BLD,) = by_length(
                lambda tokens_bL, bottleneck_bD: [
                    self.decoder(bottleneck_bD, tokens_bL, tokens_bL != tokenizer.pad_id)
                ],
                (tokens_BL != tokenizer.pad_id).sum(dim=1).repeat(len(told)),
                [batch.for_decoder_BL.repeat(len(told), 1)],
                [bottleneck_2BD],
            )
            for name, states_BLD in zip(told, decoded_2BLD.split(size), strict=True):
                losses[name] = getattr(config, name) * mlm(
                    states_BLD, batch.hidden_from_decoder_BL, batch.hidden_from_decoder
                )
        return (pooled_image.weights_BV, pooled_text.weights_BV[:size]), losses


def _activity(image_BV: torch.Tensor, text_BV: torch.Tensor) -> Losses:
    return {
        "active_lexicons_image": active_lexicons(image_BV).float().mean(),
        "active_lexicons_text": active_lexicons(text_BV).float().mean(),
    }
