"""Jobs of encoding: which vectors to make, the id that hashes all their inputs, and vectors that exist already.

Importing this module, and finding existing vectors, imports no torch.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.store import config
from bench.vectors.encoder import Encoder
from bench.vectors.read import Vectors, open_vectors
from bench.vectors.write import VectorsWriter, resume_vectors
from models.files import read_json

CODE = (
    "bench.vectors.batches",
    "bench.vectors.encode_pass",
    "bench.vectors.encoder",
    "bench.vectors.format",
    "bench.vectors.write",
)


@dataclass
class Job:
    """The vectors of the images, or of the captions, of one encoder.

    folder: where they are written; its name is the id. rate: items per second of the encoder alone, if it encoded
    them in this run.
    """

    encoder: Encoder
    made_from: dict
    folder: Path
    rate: float | None = None

    @classmethod
    def of(cls, home: Path, encoder: Encoder, corpus, slices: Sequence, part: str) -> "Job":
        """part: "images" or "captions" of the slices (split, count). Raises InputError for a broken checkpoint."""
        made_from = {
            "checkpoint": encoder.id,
            "precision": encoder.precision,
            "corpus": corpus.fingerprint,
            "slices": [list(each) for each in slices],
            "part": part,
            "code": config.code_fingerprint(*encoder.code, *CODE),
        }
        return cls(encoder, made_from, home / "vectors" / config.fingerprint(made_from))

    @property
    def id(self) -> str:
        """Hash of `made_from`."""
        return self.folder.name

    def find(self) -> Vectors | None:
        """The vectors if they exist, complete or as a prefix of larger ones; else None. Raises InputError if broken."""
        if self.folder.is_dir():
            return open_vectors(self.folder)
        for meta in sorted(self.folder.parent.glob("*/meta.json")):
            if "." not in meta.parent.name and _is_prefix(self.made_from, read_json(meta).get("made_from")):
                return open_vectors(meta.parent).prefix(sum(count for _, count in self.made_from["slices"]))
        return None

    def writer(self, shard_rows: int, force: bool) -> contextlib.AbstractContextManager[VectorsWriter]:
        """`resume_vectors` for this job; loads the model."""
        model = self.encoder.model
        described = model.kind, model.dimension, self.encoder.vocabulary, self.made_from
        return resume_vectors(self.folder, *described, shard_rows, force)


def _is_prefix(made_from: dict, larger) -> bool:
    """Whether the images of `made_from` are the first ones of `larger`, with all else equal."""
    if made_from["part"] != "images" or not isinstance(larger, dict):
        return False
    if {**larger, "slices": []} != {**made_from, "slices": []}:
        return False
    *whole, (split, count) = made_from["slices"]
    theirs = larger["slices"]
    if len(theirs) <= len(whole) or theirs[: len(whole)] != whole:
        return False
    their_split, their_count = theirs[len(whole)]
    return their_split == split and their_count >= count
