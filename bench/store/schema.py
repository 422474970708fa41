"""Identity of a measurement and the columns of its files.

A `Point` is one measurement; it has one row per metric. Its id is a hash of its identity, so the same measurement on
the same kind of machine has the same id everywhere, and the records of several machines merge without clashes.
"""

import dataclasses
import hashlib
import json

import pyarrow as pa

from bench.store.machine import machine

STATUSES = ("ok", "failed", "timeout", "out_of_memory", "absent")
"""How a measurement ended. "absent": its engine or backend was not installed; it is measured once it is."""

SIDECARS = ("queries", "examples", "rankings")
"""Files beside the rows of a point. A point of any task may have any of them."""


@dataclasses.dataclass(frozen=True)
class Point:
    """Identity of one measurement, and the command that repeats it.

    "" and None mean "does not apply". `knobs` may be given as a dict; it is stored as canonical JSON.
    """

    task: (
        str  # retrieval, training, hard_negatives, zero_shot, diagnostics, encoding, scale, sharded, vectors and others
    )
    corpus: str = ""
    split: str = ""
    images: int | None = None
    queries: int | None = None
    direction: str = ""  # text_to_image, image_to_text
    profile: str = ""
    variant: str = ""
    seed: int | None = None
    step: int | None = None  # of a learning curve
    kind: str = ""  # dense, lexicon
    engine: str = ""
    knobs: str | dict = "{}"
    exact: bool = False
    top_k: int | None = None  # lexicons per document; None = all
    bits: int | None = None  # 8, 16; None = float
    depth: int | None = None  # results retrieved per query
    threads: int | None = None
    batch_mode: str = ""  # single, batched
    config_id: str = ""
    data_id: str = ""
    checkpoint_id: str = ""
    vectors_id: str = ""
    index_id: str = ""
    code_id: str = ""
    machine_id: str = dataclasses.field(default_factory=lambda: machine()["machine_id"])
    command: str = dataclasses.field(default="", compare=False)  # not part of the identity

    def __post_init__(self):
        knobs = json.loads(self.knobs) if isinstance(self.knobs, str) else self.knobs
        object.__setattr__(self, "knobs", json.dumps(knobs, sort_keys=True, separators=(",", ":")))

    @property
    def id(self) -> str:
        """16 hex digits: the hash of every field but `command`."""
        identity = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


_ARROW = {"str": pa.string(), "str | dict": pa.string(), "int | None": pa.int64(), "bool": pa.bool_()}


def _arrow_type(annotation) -> pa.DataType:
    return _ARROW[annotation.__name__ if isinstance(annotation, type) else str(annotation)]


SCHEMA = pa.schema(
    [
        pa.field("point_id", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("unit", pa.string()),
        pa.field("status", pa.string()),
        pa.field("note", pa.string()),
        *(pa.field(f.name, _arrow_type(f.type)) for f in dataclasses.fields(Point)),
        pa.field("cpu", pa.string()),
        pa.field("cores", pa.int64()),
        pa.field("memory_gb", pa.float64()),
        pa.field("gpu", pa.string()),
        pa.field("versions", pa.string()),
        pa.field("git_commit", pa.string()),
        pa.field("started", pa.string()),
        pa.field("seconds", pa.float64()),
    ]
)

QUERIES_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("group", pa.string()),  # the image of a query: the captions of one image are resampled together
        pa.field("ranks", pa.list_(pa.int32())),
        pa.field("relevant", pa.int64()),
        pa.field("latency_us", pa.float64()),
        # Added later; older files lack them.
        pa.field("true", pa.bool_()),  # whether the first result makes the query true; null: unknown
        pa.field("touched", pa.int64()),  # postings of the query's lexicons in the index
    ]
)

HARD_NEGATIVES_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("group", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("correct", pa.bool_()),
    ]
)

JUDGEMENTS_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),  # number of the image: names of licensed images stay out of records
        pa.field("group", pa.string()),
        pa.field("outcome", pa.float64()),  # their mean is Kendall's tau (bench/tasks/judgements/tau.py)
    ]
)

EXAMPLES_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("query", pa.string()),
        pa.field("rank", pa.int64()),
        pa.field("image_id", pa.string()),
        pa.field("relevant", pa.bool_()),
        pa.field("score", pa.float64()),
        pa.field("lexicons", pa.string()),  # JSON [[lexicon, query weight, document weight, share of the score], ...]
        pa.field("image", pa.binary()),  # WebP or PNG
        # Columns added later; older files lack them.
        pa.field("chosen", pa.string()),  # why the query is shown; null: evenly spaced
        pa.field("heat_maps", pa.string()),  # JSON [[lexicon, first pooled token, [logit of each image token]], ...]
        pa.field("captions", pa.string()),  # JSON [caption, ...] of the image; with `words`, on one row of an image
        # JSON [[lexicon, weight, 1 for a caption word or 0, 1 for a word for what the image shows or 0; null: unknown],
        # ...], the strongest first
        pa.field("words", pa.string()),
    ]
)


RANKINGS_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("items", pa.list_(pa.string())),  # ids of the retrieved items, best first
        pa.field("scores", pa.list_(pa.float32())),
    ]
)


def sidecar_schema(name: str, task: str) -> pa.Schema:
    """Columns of a sidecar (`SIDECARS`) of a task."""
    if name != "queries":
        return {"examples": EXAMPLES_SCHEMA, "rankings": RANKINGS_SCHEMA}[name]
    of_task = {"hard_negatives": HARD_NEGATIVES_SCHEMA, "judgements": JUDGEMENTS_SCHEMA}
    return of_task.get(task, QUERIES_SCHEMA)
