"""What is measured: a model (`Subject`), images of a corpus (`Slice`), and one of each in a home (`Measurement`).

Tasks take a `Measurement` or a `Subject` whole. The model is opened once per subject and each slice is encoded once
per measurement, both at first use: a measurement whose points all exist loads no model.
"""

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.corpora import chosen_split, data_id
from bench.corpora.counts import ALL, count
from bench.corpora.resolution import open_at
from bench.store import cli
from bench.store.config import run_of
from bench.store.records import Point, RecordStore
from bench.vectors import encode
from bench.vectors.encode import Encoded
from bench.vectors.encoder import PRECISIONS, Encoder
from models.errors import InputError


@dataclass(frozen=True)
class Subject:
    """A model under measurement, with the fields that all its records share.

    model: checkpoint folder, or the `open_clip:` name of a pre-trained model (`models.pretrained.open_clip`).
    config_id: id of the training configuration. command: the command to record; the running command if empty.
    precision: what the model computes in, "float32" or "bfloat16".
    """

    model: Path | str
    variant: str = ""
    seed: int | None = None
    profile: str = ""
    config_id: str = ""
    command: str = ""
    precision: str = "float32"

    @classmethod
    def of(cls, arguments) -> "Subject":
        """The subject of a command with the flags of `add_subject`; of a checkpoint, those not given are its run's."""
        named = {"variant": arguments.variant, "seed": arguments.seed, "profile": arguments.profile}
        if getattr(arguments, "model", None):
            from models.pretrained import open_clip

            named["variant"] = named["variant"] or open_clip.variant(arguments.model)
            return cls(arguments.model, **named, precision=arguments.precision)
        of_run = run_of(arguments.checkpoint)
        named = of_run | {name: value for name, value in named.items() if value not in ("", None)}
        return cls(arguments.checkpoint, **named, precision=getattr(arguments, "precision", PRECISIONS[0]))

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The model, loaded at first use. Raises InputError for an unknown precision, later for a broken checkpoint."""
        return Encoder(self.model, self.precision)

    def require_lexicons(self) -> None:
        """Raises InputError for a model of dense vectors."""
        if self.encoder.kind != "lexicon":
            kind = self.encoder.kind
            raise InputError(f"{self.model}: a model of {kind} vectors; expected a model of lexicon vectors")

    def point(self, task: str, corpus, split: str, images: int | None, **fields) -> Point:
        """The point of a task on images 0..`images` of a split. Does not load the model.

        corpus: anything with `name`, and `fingerprint` or `data_id`. fields: further fields of the point; they
        override the common ones.
        """
        common = {
            "task": task,
            "corpus": corpus.name,
            "split": split,
            "images": images,
            "profile": self.profile,
            "variant": self.variant,
            "seed": self.seed,
            "config_id": self.config_id,
            "data_id": data_id(corpus),
            "checkpoint_id": self.encoder.id,
            "command": self.command or cli.command_line(),
        }
        return Point(**common | fields)


@dataclass(frozen=True)
class Slice:
    """Images 0..`images` of a split of a corpus, and their captions."""

    corpus: Any
    split: str = "test"
    images: int = 1000

    @classmethod
    def open(
        cls, spec: str | dict | None, split: str | None = None, images: int | str = 1000, models: Sequence = ()
    ) -> "Slice":
        """Opens the corpus of a specification for `models` (`bench.corpora.resolution.open_at`).

        split: None for the one of `chosen_split`. images: a number, or "all" images of the split. Raises InputError for
        an unknown corpus or split, for images < 1 and for all images of an endless split.
        """
        if images != ALL and images < 1:
            raise InputError(f"images {images}: expected at least 1")
        corpus = open_at(spec, models)
        split = chosen_split(corpus, split)
        return cls(corpus, split, count(corpus, split, images))


@dataclass(frozen=True)
class Measurement:
    """A subject on a slice, with records and vectors in `home`. force: measure and encode again what exists."""

    home: Path
    subject: Subject
    slice: Slice
    force: bool = False

    @functools.cached_property
    def store(self) -> RecordStore:
        return RecordStore(self.home)

    @functools.cached_property
    def encoded(self) -> Encoded:
        """Vectors of the slice, encoded unless they exist. Raises InputError for a broken checkpoint."""
        corpus, split, images = self.slice.corpus, self.slice.split, self.slice.images
        return encode.encode(self.home, self.subject.encoder, corpus, split, images, self.force)

    def record_encoding(self) -> Point:
        """Writes the point of the task "encoding" (`bench.vectors.encode.record_encoding`), once; returns it."""
        return self._encoding

    @functools.cached_property
    def _encoding(self) -> Point:
        encoded, slice_ = self.encoded, self.slice
        fields = {"queries": encoded.captions.count, "vectors_id": encoded.images_id}
        point = self.point("encoding", **fields, code_id=encode.record_code())
        captions = slice_.corpus.captions(slice_.split, 0, slice_.images)
        encode.record_encoding(self.store, point, self.subject.encoder, encoded, captions)
        return point

    @property
    def used(self) -> str:
        """Images and queries of the slice, and the captions that the model cuts, as commands print them; records it."""
        counts = self.encoded.images.count, self.encoded.captions.count
        cut = encode.cut_words(self.store, self.record_encoding())
        return used(self.slice.corpus.name, self.slice.split, *counts) + (f"; {cut}" if cut else "")

    def point(self, task: str, **fields) -> Point:
        """The point of a task, with the fields of subject and slice and the kind of the vectors."""
        of_slice = (self.slice.corpus, self.slice.split, self.slice.images)
        return self.subject.point(task, *of_slice, **{"kind": self.encoded.kind} | fields)

    def exists(self, point: Point) -> bool:
        """Whether the point is recorded and need not be measured (never with `force`)."""
        return not self.force and self.store.has(point)


def used(corpus: str, split: str, images: int, queries: int) -> str:
    """How much of a corpus a command used."""
    return f"used {corpus}, {split}: {images:,} images, {queries:,} queries"


def add_subject(flags: argparse.ArgumentParser, pretrained: bool = True) -> None:
    """Adds the flags that name a model in the records; pretrained: also `--model` and `--precision`."""
    if pretrained:
        model = flags.add_mutually_exclusive_group(required=True)
        model.add_argument("--checkpoint", type=Path, help="checkpoint folder")
        model.add_argument(
            "--model",
            help="pre-trained model: open_clip:ARCHITECTURE/TAG, fetched from the hub; open_clip:ARCHITECTURE/FILE of "
            "weights; open_clip:local-dir:FOLDER. The corpus is set to its resolution unless --corpus states one: "
            "'{name: scenes, pixels: 64}'",
        )
        flags.add_argument("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="what the model computes in")
    else:
        flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    made = "that of the run that made the checkpoint unless given"
    variant = (
        "variant in the records; of the run that made the checkpoint, or name of the folder or model, unless given"
    )
    flags.add_argument("--variant", default="", help=variant)
    flags.add_argument("--seed", type=int, default=None, help=f"training seed in the records; {made}")
    flags.add_argument("--profile", default="", help=f"profile in the records; {made}")
