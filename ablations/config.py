"""Configuration of a run: model, training, data, measurement. Profiles and variants are YAML files of differences."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bench.store import config
from models.config import PHASES, Backend, Count, ModelConfig, Phase, Positive, Share, Weight
from models.errors import InputError, nearest

HERE = Path(__file__).parent
CORE = ("strong_decoder", "clip", "lexlip", "lexlip_words", "no_bottleneck", "no_momentum")
"""Variants of the main job by default, in an order in which two parallel trainings end together."""

Decay = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class PhaseConfig:
    """One phase of training: its objective and its peak learning rate.

    `batch`: batch size, if it differs from the run's; it must divide the phase's number of pairs. `pixels`: image
    sizes of which each step draws one and resizes its images to it; empty: the model's size.
    """

    objective: Phase
    lr: Positive = 5e-5
    batch: Annotated[int, Field(ge=2)] | None = None
    pixels: tuple[Count, ...] = ()


@dataclass(frozen=True)
class TrainConfig:
    """Steps, global batch size, AdamW, and the schedule: in each phase a linear warm-up, then a linear decay to 0.

    A run sees `steps` x `batch` pairs. Phase 1 takes `phase1_share` of `steps`, phase 2 the rest. A phase with
    another batch size takes more or fewer steps for the same number of pairs, so every variant sees the same number
    of pairs.

    - `augment`: "randaugment" augments every training image as published (see `ablations.augment`).
    - `keep_patches`, `keep_words`: share of an image's patch tokens, and of a caption's words, that a step sees, drawn
      for each pair. Patches need cached states. Cached states are left out after the frozen encoder has read all
      tokens; FLIP (Li et al., 2023) leaves patches out before.
    - `cache`: computes the states of a frozen encoder (`model.*.top`) once per corpus, in float16, and trains on them.
    - `start`: a checkpoint that gives the initial weights and the vocabulary.
    - `precision`: "auto" is bfloat16 autocast if the hardware computes in it, else float32.
    - `micro_batch`: pairs whose activations are in memory at a time (None: all of the process). The gradients are
      those of the whole batch; costs one more forward pass.
    - `gradient_checkpointing`: recomputes the activations within each layer, for one more forward pass.
    - `compile`: compiles the towers with torch.compile.
    - `lexicon_head`: backend of the head's max over tokens: "tiled" (torch), "triton" (kernels), or "auto", which
      is triton on a GPU if it is installed.
    """

    steps: Count = 1000
    batch: Annotated[int, Field(ge=2)] = 256
    phase1_share: Share = 0.5
    phase1: PhaseConfig = PhaseConfig("bottleneck")
    phase2: PhaseConfig = PhaseConfig("momentum")
    warmup: Share = 0.1
    weight_decay: Weight = 0.01
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    clip: Positive = 1.0
    augment: Literal["none", "randaugment"] = "none"
    keep_patches: Annotated[float, Field(gt=0, le=1)] = 1.0
    keep_words: Annotated[float, Field(gt=0, le=1)] = 1.0
    cache: Literal["none", "image", "text", "both"] = "none"
    start: str | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    micro_batch: Count | None = None
    gradient_checkpointing: bool = False
    compile: bool = False
    lexicon_head: Backend = "auto"
    validate_every: Count = 100
    checkpoint_every: Count = 100

    def schedule(self) -> list[tuple[PhaseConfig, int, int]]:
        """(phase, first step, end step) of each phase with at least one step; the end is exclusive."""
        rows, start = [], 0
        for phase, pairs in self._pairs():
            steps = pairs // self.batch_of(phase)
            rows.append((phase, start, start + steps))
            start += steps
        return rows

    def batch_of(self, phase: PhaseConfig) -> int:
        """Pairs per step of a phase."""
        return phase.batch or self.batch

    def pairs_before(self, step: int) -> int:
        """Pairs seen in all steps before `step`."""
        return sum(
            (min(step, end) - start) * self.batch_of(phase) for phase, start, end in self.schedule() if start < step
        )

    def validate(self) -> None:
        """Raises InputError if a phase's pairs are not a multiple of its batch size."""
        for phase, pairs in self._pairs():
            if pairs % self.batch_of(phase):
                raise InputError(
                    f"train: the {pairs} pairs of the {phase.objective} phase are not a multiple of its batch size, "
                    f"{self.batch_of(phase)}"
                )

    def _pairs(self) -> list[tuple[PhaseConfig, int]]:
        """(phase, number of pairs) of each phase with any."""
        turn = round(self.phase1_share * self.steps)
        shares = ((self.phase1, turn), (self.phase2, self.steps - turn))
        return [(phase, steps * self.batch) for phase, steps in shares if steps]


@dataclass(frozen=True)
class DataConfig:
    """The corpus (a specification for `bench.corpora.open_corpus`), and the number of its train and val images to use.

    `corpus.pixels` is set to the model's own unless given.
    """

    corpus: dict = field(default_factory=lambda: {"name": "scenes"})
    train_images: Count = 50_000
    val_images: Count = 500


@dataclass(frozen=True)
class MeasureConfig:
    """What is measured on test: gallery size, top-k lexicons per image (None: all), impact bits, number of example
    images.

    `slices`: further splits on which recall is measured. `zero_shot`: images per kind of class, if the corpus
    states what its images show; 0 skips zero-shot classification.
    """

    images: Count = 1000
    top_k: tuple[Count | None, ...] = (4, 8, 16, 32, 64, None)
    bits: Literal[8, 16] = 8
    examples: Annotated[int, Field(ge=0)] = 10
    slices: tuple[str, ...] = ("compositional",)
    zero_shot: Annotated[int, Field(ge=0)] = 500


@dataclass(frozen=True)
class RunConfig:
    """The configuration of one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)

    def validate(self) -> None:
        """Raises InputError for values that contradict each other, across sections too."""
        self.model.validate()
        self.train.validate()
        self._validate_phases()
        image = self.model.image
        for phase, _, _ in self.train.schedule():
            if bad := next((pixels for pixels in phase.pixels if pixels % image.patch or pixels > image.pixels), None):
                raise InputError(
                    f"train: {phase.objective} at {bad} pixels: expected multiples of "
                    f"model.image.patch ({image.patch}), at most model.image.pixels ({image.pixels})"
                )
        self._validate_frozen()
        if self.train.start and (image.pretrained or self.model.text.pretrained):
            raise InputError("train.start and model.*.pretrained exclude each other; expected one of them to be null")
        pixels = self.data.corpus.get("pixels", self.model.image.pixels)
        if pixels != self.model.image.pixels:
            raise InputError(
                f"data.corpus.pixels ({pixels}) and model.image.pixels ({self.model.image.pixels}) must be equal"
            )

    def _validate_phases(self) -> None:
        phases, known = [phase.objective for phase, _, _ in self.train.schedule()], PHASES[self.model.kind]
        if bad := next((phase for phase in phases if phase not in known), None):
            raise InputError(
                f"train.phase*.objective: {self.model.kind} has no phase {bad!r}; expected {' or '.join(known)}"
            )
        if self.model.kind == "lexlip":
            self._validate_lexlip(phases)

    def _validate_lexlip(self, phases: list[str]) -> None:
        lexlip, head, bottleneck = self.model.lexlip, self.model.lexlip.head, self.model.lexlip.bottleneck
        if head.shared and head.image_bias != head.text_bias:
            raise InputError(
                f"model.lexlip.head.shared: one head has one bias; expected image_bias ({head.image_bias:g}) and "
                f"text_bias ({head.text_bias:g}) to be equal"
            )
        weights = (bottleneck.self_mlm, bottleneck.text_mlm, bottleneck.image_mlm, bottleneck.contrastive)
        if "bottleneck" in phases and not any((*weights, lexlip.flops.weight, lexlip.words.weight)):
            raise InputError(
                "model.lexlip: every loss of the bottleneck phase has weight 0; expected one of bottleneck.self_mlm, "
                "text_mlm, image_mlm, contrastive, flops.weight, words.weight above 0"
            )
        if lexlip.momentum.start == "untrained" and (phases != ["bottleneck", "momentum"] or self.train.start):
            raise InputError(
                "model.lexlip.momentum.start: untrained: expected phase 1 (bottleneck) before phase 2 (momentum) and "
                "train.start: null; otherwise it equals trained"
            )

    def _validate_frozen(self) -> None:
        image, text, cache = self.model.image, self.model.text, self.train.cache
        for side, part in (("image", image), ("text", text)):
            if part.top and not (part.pretrained or self.train.start):
                raise InputError(f"model.{side}.top freezes the encoder; expected model.{side}.pretrained to be set")
            if cache in (side, "both") and not part.top:
                raise InputError(f"train.cache: {cache}: the {side} encoder is not frozen; expected model.{side}.top")
        if self.train.keep_patches < 1 and cache not in ("image", "both"):
            raise InputError(f"train.keep_patches: {self.train.keep_patches:g}: expected train.cache: image or both")
        sizes = any(phase.pixels for phase, _, _ in self.train.schedule())
        if cache in ("image", "both") and (sizes or self.train.augment != "none"):
            raise InputError(f"train.cache: {cache}: images are not changed; expected augment: none and pixels: []")

    def trained_on(self) -> list[tuple[str, str, int]]:
        """(split, key, number of images) that training needs."""
        return [
            ("train", "data.train_images", self.data.train_images),
            ("val", "data.val_images", self.data.val_images),
        ]

    def measured_on(self, splits: Sequence[str]) -> list[tuple[str, str, int]]:
        """(split, key, number of images) that measuring needs; `measure.slices` only where the corpus has them."""
        of_slices = [split for split in self.measure.slices if split in splits]
        return [(split, "measure.images", self.measure.images) for split in ("test", *of_slices)]


def names(folder: Literal["profiles", "variants"]) -> list[str]:
    """The names of all profiles or variants; each is a YAML file."""
    return sorted(file.stem for file in (HERE / folder).glob("*.yaml"))


def named_file(folder: Literal["profiles", "variants"], name: str) -> Path:
    """The YAML file of a profile or variant; `name` may be a path. Raises InputError with the nearest known name."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in names(folder):
        raise InputError(f"unknown {folder.removesuffix('s')} {name!r}{nearest(name, names(folder))}")
    return HERE / folder / f"{name}.yaml"


def resolve(profile: str, variant: str, overrides: list[str] | None = None) -> RunConfig:
    """The configuration of one variant under one profile. Raises InputError.

    Later ones win: defaults, profile, variant, the profile's settings for this variant (its key `variants`), dotted
    overrides.
    """
    profile_file, variant_file = named_file("profiles", profile), named_file("variants", variant)
    tree = config.read_yaml(profile_file)
    tuned = tree.pop("variants", None) or {}
    if not isinstance(tuned, dict) or not all(isinstance(change, dict | None) for change in tuned.values()):
        raise InputError(f"{profile_file}: variants: expected a mapping of variant names to settings")
    if unknown := next((name for name in tuned if name not in names("variants")), None):
        raise InputError(
            f"{profile_file}: variants: unknown variant {unknown!r}{nearest(str(unknown), names('variants'))}"
        )
    for change in (
        config.read_yaml(variant_file),
        tuned.get(variant) or {},
        *map(config.parse_override, overrides or []),
    ):
        tree = config.merge(_without_other_corpus(tree, change), change)
    resolved = _with_corpus_pixels(config.build(RunConfig, tree, where=f"{profile_file}, {variant_file}"))
    resolved.validate()
    return resolved


def _without_other_corpus(tree: dict, change: dict) -> dict:
    """`tree` without its corpus if `change` names another one: the parameters of one corpus mean nothing to another."""
    before, after = _data(tree).get("corpus") or {}, _data(change).get("corpus") or {}
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return tree
    if after.get("name", before.get("name")) == before.get("name"):
        return tree
    return tree | {"data": {key: value for key, value in _data(tree).items() if key != "corpus"}}


def _data(tree: dict) -> dict:
    """The section `data`, or {} if it is not a mapping, which `config.build` refuses later."""
    data = tree.get("data")
    return data if isinstance(data, dict) else {}


def _with_corpus_pixels(run: RunConfig) -> RunConfig:
    """Sets the corpus's `pixels` to the model's own unless given."""
    corpus = {"pixels": run.model.image.pixels} | run.data.corpus
    return dataclasses.replace(run, data=dataclasses.replace(run.data, corpus=corpus))


def with_vocabulary(run: RunConfig, size: int) -> RunConfig:
    """The run for a tokenizer of `size` entries: a small corpus can yield fewer than configured."""
    text = dataclasses.replace(run.model.text, vocabulary=size)
    return dataclasses.replace(run, model=dataclasses.replace(run.model, text=text))
