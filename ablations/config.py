"""What a run is: a model, how it is trained, on what, and how it is measured. A profile and a variant are differences."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bench import config
from models.config import Count, ModelConfig, Positive, Share, Weight
from models.errors import InputError

HERE = Path(__file__).parent
CORE = ("lexlip", "clip", "no_bottleneck", "no_momentum", "strong_decoder")
"""What the main job trains unless told otherwise; the whole grid takes several times as long."""


@dataclass(frozen=True)
class PhaseConfig:
    """One phase of training: its objective and its highest learning rate."""

    objective: Literal["bottleneck", "momentum", "contrastive"]
    lr: Positive = 5e-5


@dataclass(frozen=True)
class TrainConfig:
    """Steps, batch, AdamW, and the schedule: within each phase a linear warm-up, then a linear decay to 0.

    Phase 1 takes `phase1_share` of `steps` and phase 2 the rest, so every variant sees the same number of pairs.
    `precision` "auto" takes bfloat16 autocast where the hardware computes in it, else float32.
    """

    steps: Count = 1000
    batch: Annotated[int, Field(ge=2)] = 256
    phase1_share: Share = 0.5
    phase1: PhaseConfig = PhaseConfig("bottleneck")
    phase2: PhaseConfig = PhaseConfig("momentum")
    warmup: Share = 0.1
    weight_decay: Weight = 0.01
    betas: tuple[Share, Share] = (0.9, 0.999)
    clip: Positive = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    validate_every: Count = 100
    checkpoint_every: Count = 100

    def schedule(self) -> list[tuple[PhaseConfig, int, int]]:
        """The phases that take any steps, each with its first step and the step after its last."""
        turn = round(self.phase1_share * self.steps)
        return [(phase, start, end) for phase, start, end in ((self.phase1, 0, turn), (self.phase2, turn, self.steps)) if start < end]


@dataclass(frozen=True)
class DataConfig:
    """The corpus (a specification for `bench.corpora.open_corpus`), and how much of train and val is used."""

    corpus: dict = field(default_factory=lambda: {"name": "scenes"})
    train_images: Count = 50_000
    val_images: Count = 500


@dataclass(frozen=True)
class MeasureConfig:
    """What is measured on test: gallery size, lexicons kept per image (None keeps all), impact bits, pictures shown."""

    images: Count = 1000
    kept: tuple[Count | None, ...] = (4, 8, 16, 32, 64, None)
    bits: Literal[8, 16] = 8
    examples: Annotated[int, Field(ge=0)] = 10
    slices: tuple[str, ...] = ("compositional",)


@dataclass(frozen=True)
class RunConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)

    def validate(self) -> None:
        """Raise InputError for values that do not fit each other, across sections too."""
        self.model.validate()
        pixels = self.data.corpus.get("pixels", self.model.image.pixels)
        if pixels != self.model.image.pixels:
            raise InputError(f"data.corpus.pixels ({pixels}) and model.image.pixels ({self.model.image.pixels}) must be equal")


def names(folder: Literal["profiles", "variants"]) -> list[str]:
    """The profiles or variants there are: one YAML file each."""
    return sorted(file.stem for file in (HERE / folder).glob("*.yaml"))


def named_file(folder: Literal["profiles", "variants"], name: str) -> Path:
    """The YAML file of a profile or variant; an own file may be given by its path. Raises InputError naming the nearest known one."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in names(folder):
        raise InputError(f"unknown {folder.removesuffix('s')} {name!r}{config.nearest(name, names(folder))}")
    return HERE / folder / f"{name}.yaml"


def resolve(profile: str, variant: str, overrides: list[str] | None = None) -> RunConfig:
    """The configuration of one variant under one profile. Raises InputError.

    Order: defaults, profile, variant, what the profile tuned for this variant (its key `variants`), dotted overrides.
    """
    profile_file, variant_file = named_file("profiles", profile), named_file("variants", variant)
    tree = config.read_yaml(profile_file)
    tuned = tree.pop("variants", None) or {}
    if unknown := next((name for name in tuned if name not in names("variants")), None):
        raise InputError(f"{profile_file}: variants: unknown variant {unknown!r}{config.nearest(str(unknown), names('variants'))}")
    for change in (config.read_yaml(variant_file), tuned.get(variant) or {}, *map(config.parse_override, overrides or [])):
        tree = config.merge(tree, change)
    resolved = config.build(RunConfig, tree, where=f"{profile_file}, {variant_file}")
    resolved.validate()
    return resolved


def with_vocabulary(run: RunConfig, size: int) -> RunConfig:
    """The same run for a tokenizer of `size` entries: a small corpus can yield fewer than were asked for."""
    text = dataclasses.replace(run.model.text, vocabulary=size)
    return dataclasses.replace(run, model=dataclasses.replace(run.model, text=text))
