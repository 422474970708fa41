"""What a run is: a model, how it is trained, on what, and how it is measured. A profile and a variant are differences."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bench.store import config
from models.config import Count, ModelConfig, Positive, Share, Way, Weight
from models.errors import InputError, nearest

HERE = Path(__file__).parent
CORE = ("strong_decoder", "clip", "lexlip", "no_bottleneck", "no_momentum")
"""What the main job trains unless told otherwise; the whole grid takes several times as long. In an order in which two side by side end together."""


@dataclass(frozen=True)
class PhaseConfig:
    """One phase of training: its objective and its highest learning rate.

    `batch`: its own, else the run's; it must divide the pairs of its phase. `pixels`: sizes of which each step draws one and shrinks its
    pictures to it; none: the model's.
    """

    objective: Literal["bottleneck", "momentum", "contrastive"]
    lr: Positive = 5e-5
    batch: Annotated[int, Field(ge=2)] | None = None
    pixels: tuple[Count, ...] = ()


@dataclass(frozen=True)
class TrainConfig:
    """Steps, batch (of all processes together), AdamW, and the schedule: within each phase a linear warm-up, then a linear decay to 0.

    A run sees `steps` x `batch` pairs. Phase 1 takes `phase1_share` of `steps` and phase 2 the rest; a phase with a batch of its own
    takes as many more or fewer steps as leave its pairs the same, so every variant sees the same number of pairs.
    `augment` "randaugment" changes every picture of training as published (see `ablations.augment`).
    `start`: a checkpoint whose weights and vocabulary the run starts from.
    `precision` "auto" takes bfloat16 autocast where the hardware computes in it, else float32.

    For small GPUs: `micro_batch` pairs at a time have their activations in memory (None: all of a process), with the gradients of the
    whole batch, for one more forward pass; `gradient_checkpointing` keeps none within a layer, for one more, too. `compile`: the towers,
    by torch.compile. `lexicon_head`: how its max over tokens is computed, a tile at a time by torch ("tiled"), by Triton kernels ("triton"),
    or "auto", which takes the kernels on a GPU where triton is installed.
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
    augment: Literal["none", "randaugment"] = "none"
    start: str | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    micro_batch: Count | None = None
    gradient_checkpointing: bool = False
    compile: bool = False
    lexicon_head: Way = "auto"
    validate_every: Count = 100
    checkpoint_every: Count = 100

    def schedule(self) -> list[tuple[PhaseConfig, int, int]]:
        """The phases that take any steps, each with its first step and the step after its last."""
        rows, start = [], 0
        for phase, pairs in self._pairs():
            steps = pairs // self.batch_of(phase)
            rows.append((phase, start, start + steps))
            start += steps
        return rows

    def batch_of(self, phase: PhaseConfig) -> int:
        """Pairs of each step of a phase."""
        return phase.batch or self.batch

    def pairs_before(self, step: int) -> int:
        """Pairs seen by the steps before `step`, in all phases."""
        return sum(
            (min(step, end) - start) * self.batch_of(phase) for phase, start, end in self.schedule() if start < step
        )

    def validate(self) -> None:
        for phase, pairs in self._pairs():
            if pairs % self.batch_of(phase):
                raise InputError(
                    f"train: a {phase.objective} phase of {pairs} pairs does not come out even in batches of {self.batch_of(phase)}; "
                    "expected a batch that divides them"
                )

    def _pairs(self) -> list[tuple[PhaseConfig, int]]:
        """The phases that take any pairs, and how many."""
        turn = round(self.phase1_share * self.steps)
        shares = ((self.phase1, turn), (self.phase2, self.steps - turn))
        return [(phase, steps * self.batch) for phase, steps in shares if steps]


@dataclass(frozen=True)
class DataConfig:
    """The corpus (a specification for `bench.corpora.open_corpus`; `pixels` are the model's unless given), and how much of train and val is used."""

    corpus: dict = field(default_factory=lambda: {"name": "scenes"})
    train_images: Count = 50_000
    val_images: Count = 500


@dataclass(frozen=True)
class MeasureConfig:
    """What is measured on test: gallery size, lexicons kept per image (None keeps all), impact bits, pictures shown.

    `zero_shot`: pictures for each kind of class, where the corpus says what its pictures show; 0 leaves it out.
    """

    images: Count = 1000
    top_k: tuple[Count | None, ...] = (4, 8, 16, 32, 64, None)
    bits: Literal[8, 16] = 8
    examples: Annotated[int, Field(ge=0)] = 10
    slices: tuple[str, ...] = ("compositional",)
    zero_shot: Annotated[int, Field(ge=0)] = 500


@dataclass(frozen=True)
class RunConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)

    def validate(self) -> None:
        """Raise InputError for values that do not fit each other, across sections too."""
        self.model.validate()
        self.train.validate()
        image = self.model.image
        for phase, _, _ in self.train.schedule():
            if odd := next((pixels for pixels in phase.pixels if pixels % image.patch or pixels > image.pixels), None):
                raise InputError(
                    f"train: {phase.objective} at {odd} pixels: expected multiples of model.image.patch ({image.patch}), "
                    f"at most model.image.pixels ({image.pixels})"
                )
        if self.train.start and (image.pretrained or self.model.text.pretrained):
            raise InputError(
                "train.start and model.*.pretrained: a run starts from one of them; expected the other to be null"
            )
        pixels = self.data.corpus.get("pixels", self.model.image.pixels)
        if pixels != self.model.image.pixels:
            raise InputError(
                f"data.corpus.pixels ({pixels}) and model.image.pixels ({self.model.image.pixels}) must be equal"
            )


def names(folder: Literal["profiles", "variants"]) -> list[str]:
    """The profiles or variants there are: one YAML file each."""
    return sorted(file.stem for file in (HERE / folder).glob("*.yaml"))


def named_file(folder: Literal["profiles", "variants"], name: str) -> Path:
    """The YAML file of a profile or variant; an own file may be given by its path. Raises InputError naming the nearest known one."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in names(folder):
        raise InputError(f"unknown {folder.removesuffix('s')} {name!r}{nearest(name, names(folder))}")
    return HERE / folder / f"{name}.yaml"


def resolve(profile: str, variant: str, overrides: list[str] | None = None) -> RunConfig:
    """The configuration of one variant under one profile. Raises InputError.

    Order: defaults, profile, variant, what the profile tuned for this variant (its key `variants`), dotted overrides.
    """
    profile_file, variant_file = named_file("profiles", profile), named_file("variants", variant)
    tree = config.read_yaml(profile_file)
    tuned = tree.pop("variants", None) or {}
    if not isinstance(tuned, dict) or not all(isinstance(change, dict | None) for change in tuned.values()):
        raise InputError(f"{profile_file}: variants: expected a mapping of variants to what is tuned for each")
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
    resolved = _at_the_models_pixels(config.build(RunConfig, tree, where=f"{profile_file}, {variant_file}"))
    resolved.validate()
    return resolved


def _without_other_corpus(tree: dict, change: dict) -> dict:
    """Without the parameters of a corpus that a change replaces by another one: they are not those of its name."""
    before, after = _data(tree).get("corpus") or {}, _data(change).get("corpus") or {}
    if not (isinstance(before, dict) and isinstance(after, dict)) or after.get(
        "name", before.get("name")
    ) == before.get("name"):
        return tree
    return tree | {"data": {key: value for key, value in _data(tree).items() if key != "corpus"}}


def _data(tree: dict) -> dict:
    """The section, where it is one: what is none is refused when the tree is laid over the defaults."""
    data = tree.get("data")
    return data if isinstance(data, dict) else {}


def _at_the_models_pixels(run: RunConfig) -> RunConfig:
    """A corpus that states no `pixels` gives pictures of the model's."""
    corpus = {"pixels": run.model.image.pixels} | run.data.corpus
    return dataclasses.replace(run, data=dataclasses.replace(run.data, corpus=corpus))


def with_vocabulary(run: RunConfig, size: int) -> RunConfig:
    """The same run for a tokenizer of `size` entries: a small corpus can yield fewer than were asked for."""
    text = dataclasses.replace(run.model.text, vocabulary=size)
    return dataclasses.replace(run, model=dataclasses.replace(run.model, text=text))
