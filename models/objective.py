"""Training objectives, and that of LexLIP: phase 1 (lexicon bottleneck), phase 2 (momentum contrast), in-batch
contrast.

An objective holds the retrieval model and everything else that is trained or updated (decoder, momentum copies,
queues), so a training state is one state dict. The trainer calls `begin(phase)`, then, for each step, sets `progress`
and calls `losses(...)` and `after_step()`.

There are two kinds of losses: contrastive ones, which need the vectors of the whole global batch, and sums over pairs.
`Objective` computes them separately, so a batch can be split over processes (`models.distributed`) and micro-batches.
"""

import abc
import dataclasses

import torch
from torch import nn
from torch.nn import functional as F

from models.batch import Batch, MaskedBatch, by_length, mask_words
from models.config import PHASES, Phase
from models.decoder import WeakenedDecoder
from models.distributed import gather, rows, world
from models.errors import InputError
from models.lexicon.head import Pooled, active_lexicons, bag_of_tokens, bag_of_weights, bag_of_words, strongest
from models.lexlip import LexLIP
from models.losses import df_flops, flops, info_nce, l1, masked_token_loss, shrinking, symmetric_info_nce, word_loss
from models.momentum import MOST_ENTRIES, KeyQueue, Momentum, copy_but_frozen
from models.towers.frozen import encoder_of, trained_part
from models.towers.transformer import frozen_text_states

Losses = dict[str, torch.Tensor]
Sides = tuple[torch.Tensor, torch.Tensor]
"""Vectors of the images and of the texts, (B, X) each."""


class Objective(nn.Module, abc.ABC):
    """A training objective: the losses of a step as a dict of weighted parts, whose sum is minimised.

    With several processes, each has a slice of the batch; the mean of their losses is the loss of the global batch.
    """

    phases: tuple[Phase, ...]
    model: nn.Module
    progress: float = 1.0
    """Share of the run's steps that are done, for weights that grow."""

    def begin(self, phase: Phase) -> None:
        """Enters a phase with the current weights. Raises InputError for a phase that is not in `phases`."""
        if phase not in self.phases:
            raise InputError(
                f"{self.model.config.kind} has no phase {phase!r}; expected one of {', '.join(self.phases)}"
            )

    def losses(self, batch: Batch, generator: torch.Generator) -> tuple[Losses, Losses]:
        """The weighted losses of a step, and further values to log (without gradient). `generator` draws the masks."""
        drawn = self.draw(batch, generator)
        sides, losses = self.encode(drawn)
        contrasts, logged = self.contrast(sides, self.keys(drawn))
        return losses | contrasts, logged

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with everything random in the step, which does not depend on the number of processes."""
        return batch

    @abc.abstractmethod
    def vectors(self, batch: Batch) -> Sides:
        """Vectors of a drawn batch, or of a part of it, for `contrast`."""

    def encode(self, batch: Batch) -> tuple[Sides, Losses]:
        """`vectors`, and the losses that are sums over pairs: those of the parts of a batch add up."""
        return self.vectors(batch), {}

    def keys(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Further vectors for `contrast`, without gradient."""
        return ()

    @abc.abstractmethod
    def contrast(self, sides: Sides, keys: tuple[torch.Tensor, ...]) -> tuple[Losses, Losses]:
        """The losses that need the vectors of the whole batch, and values to log. Processes synchronise here only."""

    def after_step(self) -> None:
        """Updates everything that moves once per optimiser step. Call after the optimiser."""

    @abc.abstractmethod
    def towers(self) -> list[nn.Module]:
        """The encoders and decoders, which take most of the time and memory."""

    def compile_towers(self) -> None:
        """Compiles each tower in place, which keeps the names of its weights. Call after `begin`."""
        for tower in self.towers():
            tower.compile(isolate_recompiles=True)  # the limit of recompilations then holds per tower

    def recompute_activations(self) -> None:
        """Turns on gradient checkpointing: layers recompute their activations in the backward pass. Call after `begin`.

        Raises InputError for a tower that does not support it.
        """
        for tower in self.towers():
            # transformers 5.23 renames the method, and 6 drops the old name
            old_name = getattr(tower, "gradient_checkpointing_enable", None)
            enable = getattr(tower, "activation_checkpointing_enable", old_name)
            if enable is None:
                raise InputError(
                    f"gradient checkpointing: {type(tower).__name__} does not support it; "
                    "expected a tower of transformers or open_clip"
                )
            tower.config.use_cache = False  # avoids a warning of transformers
            enable()


class LexLIPObjective(Objective):
    """The losses of LexLIP's phases (Luo et al., 2023). Raises InputError for more lexicons than the queue can hold."""

    phases = PHASES["lexlip"]

    def __init__(self, model: LexLIP):
        super().__init__()
        self.model = model
        self.config = model.config.lexlip
        if self.config.momentum.queue_top_k and model.dimension > MOST_ENTRIES:
            raise InputError(
                f"model.lexlip.momentum.queue_top_k: {model.dimension} lexicons: "
                f"expected at most {MOST_ENTRIES}, or null"
            )
        self.phase: Phase | None = None
        # In a tuple, to exclude it from the training state: a resumed run recreates these weights from its seed.
        self._untrained = (copy_but_frozen(model),) if self.config.momentum.start == "untrained" else ()
        self.decoder: WeakenedDecoder | None = None
        self.momentum: Momentum | None = None
        self.image_queue: KeyQueue | None = None
        self.text_queue: KeyQueue | None = None

    def begin(self, phase: Phase) -> None:
        """Enters a phase with the current weights. Momentum copies are made here, so after phase 1."""
        super().begin(phase)
        self.phase = phase
        self.decoder = self.momentum = self.image_queue = self.text_queue = None
        if phase == "bottleneck":
            layers = self.config.bottleneck.decoder_layers
            self.decoder = WeakenedDecoder(self.model.config.text, layers, encoder_of(self.model.text.encoder))
        if phase == "momentum":
            momentum = self.config.momentum
            start = self._untrained[0] if self._untrained else self.model
            self.momentum = Momentum(start, momentum.decay, momentum.updates)
            shape = (momentum.queue, self.model.dimension, momentum.queue_top_k, momentum.queue_start == "noise")
            self.image_queue, self.text_queue = KeyQueue(*shape), KeyQueue(*shape)

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """In phase 1, adds masks drawn for the global batch."""
        if self.phase != "bottleneck":
            return batch
        own, tokens_NL, words_NL = rows(len(batch.tokens_BL)), gather(batch.tokens_BL), gather(batch.words_BL)
        is_lexicon_NL, masks = self.model.lexicon_of_T[tokens_NL] >= 0, {}
        for side in ("encoder", "decoder"):
            share = getattr(self.config.bottleneck, f"{side}_mask")
            masked_NL, hidden_NL = mask_words(tokens_NL, words_NL, share, self.model.tokenizer.mask_id, generator)
            hidden_NL &= is_lexicon_NL  # the head has no logit for the others
            masks[f"for_{side}_BL"], masks[f"hidden_from_{side}_BL"] = masked_NL[own], hidden_NL[own]
            masks[f"hidden_from_{side}"] = int(hidden_NL.sum()) / world()
        pairs = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        return MaskedBatch(**pairs, **masks)

    def vectors(self, batch: Batch) -> Sides:
        return self._weights(self.model, batch)

    def encode(self, batch: Batch) -> tuple[Sides, Losses]:
        if self.phase == "bottleneck":
            return self._mlm_losses(batch)
        _, image = self.model.image_states(batch.images_BHWC, batch.image_states_BLX)
        _, text = self._text_states(self.model, batch.tokens_BL, batch.text_states_BLX)
        return self._strongest(image.weights_BV, text.weights_BV), self._words(image.logits_BV, batch)

    @torch.no_grad()
    def keys(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """In phase 2, the vectors of the momentum encoders, L2-normalised."""
        if self.momentum is None:
            return ()
        return tuple(F.normalize(side_BV, dim=-1) for side_BV in self._weights(self.momentum.module, batch))

    def contrast(self, sides: Sides, keys: tuple[torch.Tensor, ...]) -> tuple[Losses, Losses]:
        image_BV, text_BV = sides
        losses, weight = {}, self.config.bottleneck.contrastive if self.phase == "bottleneck" else 1.0
        if weight:
            unit_BV = F.normalize(image_BV, dim=-1), F.normalize(text_BV, dim=-1)
            if keys:
                losses["contrastive"] = self._momentum_contrast(*unit_BV, *map(gather, keys))
            else:
                losses["contrastive"] = weight * symmetric_info_nce(*unit_BV, self.config.temperature)
        return losses | self._flops(image_BV, text_BV), _activity(image_BV, text_BV)

    def towers(self) -> list[nn.Module]:
        models = [self.model] if self.momentum is None else [self.model, self.momentum.module]
        towers = [trained_part(side.encoder) for model in models for side in (model.image, model.text)]
        return towers if self.decoder is None else [*towers, self.decoder.bert]

    @torch.no_grad()
    def after_step(self) -> None:
        """Updates the momentum encoders and the queues."""
        if self.momentum is not None:
            self.momentum.update(self.model)
            self.image_queue.push(self._new_keys[0])
            self.text_queue.push(self._new_keys[1])

    def _weights(self, model: LexLIP, batch: Batch) -> Sides:
        """Lexicon weights of `model`, the trained one or its momentum copy."""
        _, image = model.image_states(batch.images_BHWC, batch.image_states_BLX)
        _, text = self._text_states(model, batch.tokens_BL, batch.text_states_BLX)
        return self._strongest(image.weights_BV, text.weights_BV)

    def _strongest(self, image_BV: torch.Tensor, text_BV: torch.Tensor) -> Sides:
        """The highest weights of each item: as many as the configuration says for this share of the run."""
        head, now = self.config.head, (self.model.dimension, self.config.head.top_k_anneal, self.progress)
        of_sides = (image_BV, head.image_top_k), (text_BV, head.text_top_k)
        return tuple(strongest(weights_BV, shrinking(top_k, *now)) for weights_BV, top_k in of_sides)

    def _momentum_contrast(self, image_BV, text_BV, image_keys_NV, text_keys_NV) -> torch.Tensor:
        """InfoNCE against the momentum keys of all processes and the queues; stores the new keys."""
        temperature = self.config.temperature
        to_images = info_nce(text_BV, image_keys_NV, temperature, self.image_queue.scores(text_BV))
        to_texts = info_nce(image_BV, text_keys_NV, temperature, self.text_queue.scores(image_BV))
        self._new_keys = image_keys_NV, text_keys_NV
        return (to_images + to_texts) / 2

    def _flops(self, image_BV: torch.Tensor, text_BV: torch.Tensor) -> Losses:
        """The regulariser; {} if its weight is 0."""
        config = self.config.flops
        if not config.weight:
            return {}
        if config.acts_on == "normalised":
            image_BV, text_BV = F.normalize(image_BV, dim=-1), F.normalize(text_BV, dim=-1)
        grown = min(self.progress / config.ramp, 1.0) ** 2 if config.ramp else 1.0
        cost = {"flops": flops, "df_flops": df_flops, "l1": l1}[config.form]
        return {"flops": grown * config.weight * (cost(image_BV) + config.text_factor * cost(text_BV))}

    def _words(self, logits_BV: torch.Tensor, batch: Batch) -> Losses:
        """The caption-word loss of the images; {} if its weight is 0."""
        config = self.config.words
        if not config.weight:
            return {}
        tokens_BM = batch.tokens_BL if config.captions == "one" else batch.captions_BM
        count_BV = bag_of_tokens(self.model.lexicons(tokens_BM), self.model.dimension, "sum")
        settings = config.form, config.absent, batch.pairs
        return {"words": config.weight * word_loss(logits_BV.float(), count_BV, self.model.idf_V, *settings)}

    def _text_states(
        self, model: LexLIP, tokens_BL: torch.Tensor, states_BLX: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Pooled]:
        """`model.text_states`, computed in groups of similar length."""

        def encode(tokens_bL: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
            hidden_bLD, pooled = model.text_states(tokens_bL, *states)
            return hidden_bLD, *pooled

        cut = [tokens_BL] if states_BLX is None else [tokens_BL, states_BLX]
        hidden_BLD, *pooled = by_length(encode, (tokens_BL != model.tokenizer.pad_id).sum(dim=1), cut)
        return hidden_BLD, Pooled(*pooled)

    def _frozen_states(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """States of the frozen text encoder for masked captions, which no cache has."""
        tower, is_token_BL = self.model.text.encoder, tokens_BL != self.model.tokenizer.pad_id
        lengths_B, both = is_token_BL.sum(dim=1), (tokens_BL, is_token_BL)
        (states_BLX,) = by_length(lambda *part: [frozen_text_states(tower, *part)], lengths_B, both)
        return states_BLX.float()  # autocast does not concatenate float16

    def _bottleneck(self, states_BLD: torch.Tensor, pooled: Pooled) -> torch.Tensor:
        """Bottleneck vectors (B, D) of the items, for the decoder."""
        embedding_VD = self.model.word_embeddings_VD
        match self.config.bottleneck.source:
            case "lexicon":
                return bag_of_words(pooled.logits_BV, embedding_VD)
            case "log1p":
                return bag_of_weights(pooled.weights_BV, embedding_VD)
            case "cls":
                return states_BLD[:, 0]

    def _mlm_losses(self, batch: MaskedBatch) -> tuple[Sides, Losses]:
        """Lexicon weights and masked-language-model losses of phase 1; skips losses of weight 0 and unused passes."""
        config, model = self.config.bottleneck, self.model
        tokens_BL, tokenizer, size = batch.tokens_BL, model.tokenizer, len(batch.tokens_BL)

        # Whole and masked captions share one pass of the encoder, the two bottlenecks one pass of the decoder.
        masked = [batch.for_encoder_BL] if config.self_mlm or config.text_mlm else []
        states_2BLX = batch.text_states_BLX
        if states_2BLX is not None:
            states_2BLX = torch.cat([states_2BLX.float(), *(self._frozen_states(tokens_BL) for tokens_BL in masked)])
        text_2BLD, pooled_text = self._text_states(model, torch.cat([tokens_BL, *masked]), states_2BLX)
        image_BLD, pooled_image = model.image_states(batch.images_BHWC, batch.image_states_BLX)
        masked_text_BLD = text_2BLD[size:]

        def mlm(states_BLD: torch.Tensor, hidden_BL: torch.Tensor, hidden: float) -> torch.Tensor:
            lexicons_M = model.lexicon_of_T[tokens_BL[hidden_BL]]
            return masked_token_loss(model.text.head(states_BLD[hidden_BL]), lexicons_M, hidden)

        losses = self._words(pooled_image.logits_BV, batch)
        if config.self_mlm:
            loss = mlm(masked_text_BLD, batch.hidden_from_encoder_BL, batch.hidden_from_encoder)
            losses["self_mlm"] = config.self_mlm * loss
        sources = {
            "text_mlm": (masked_text_BLD, Pooled(*(part[size:] for part in pooled_text))),
            "image_mlm": (image_BLD, pooled_image),
        }
        if sources := {name: source for name, source in sources.items() if getattr(config, name)}:
            bottleneck_2BD = torch.cat([self._bottleneck(*source) for source in sources.values()])
            (decoded_2BLD,) = by_length(
                lambda tokens_bL, vectors_bD: [self.decoder(vectors_bD, tokens_bL, tokens_bL != tokenizer.pad_id)],
                (tokens_BL != tokenizer.pad_id).sum(dim=1).repeat(len(sources)),
                [batch.for_decoder_BL.repeat(len(sources), 1)],
                [bottleneck_2BD],
            )
            for name, states_BLD in zip(sources, decoded_2BLD.split(size), strict=True):
                loss = mlm(states_BLD, batch.hidden_from_decoder_BL, batch.hidden_from_decoder)
                losses[name] = getattr(config, name) * loss
        return self._strongest(pooled_image.weights_BV, pooled_text.weights_BV[:size]), losses


def _activity(image_BV: torch.Tensor, text_BV: torch.Tensor) -> Losses:
    return {
        "active_lexicons_image": active_lexicons(image_BV).float().mean(),
        "active_lexicons_text": active_lexicons(text_BV).float().mean(),
    }
