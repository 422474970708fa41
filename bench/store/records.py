"""The record store: every measured number is a row that says what, on what, from what, where, when and how long.

One *point* is one measurement; it yields several rows, one per metric. Its id is a hash of its identity, so measuring the same thing twice
on the same kind of machine is the same point, and results of several machines merge without clashes. Files under `<home>/results/`:

    <point id>.parquet            the rows; written last, so its presence means that the point is whole
    <point id>.queries.parquet    per query: ranks of the relevant items, latency   (or correct, for hard negatives)
    <point id>.examples.parquet   retrieved pictures with the lexicons that matched
"""

import dataclasses
import datetime
import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.store import cli
from bench.store.lock import locked
from bench.store.machine import machine
from bench.tasks.metrics import METRICS
from models.errors import InputError
from models.files import atomic_file

STATUSES = ("ok", "failed", "timeout", "out_of_memory", "absent")
SIDECARS = ("queries", "examples")
SEAL = b"sha256_of_values"  # key of a file's metadata


@dataclasses.dataclass(frozen=True)
class Point:
    """Identity of one measurement, and the command that makes it again. "" and None: does not apply; `knobs` may be given as a dict."""

    task: str  # retrieval, training, hard_negatives, zero_shot, diagnostics, encoding, scale, sharded, vectors, lexicon_head and so on
    corpus: str = ""
    split: str = ""
    images: int | None = None
    queries: int | None = None
    direction: str = ""  # text_to_image, image_to_text
    profile: str = ""
    variant: str = ""
    seed: int | None = None
    step: int | None = None  # for learning curves
    kind: str = ""  # dense, lexicon
    engine: str = ""
    knobs: str | dict = "{}"  # canonical JSON
    exact: bool = False
    top_k: int | None = None  # document lexicons kept; None = all
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
        pa.field("group", pa.string()),  # the image a query belongs to: its captions are resampled together
        pa.field("ranks", pa.list_(pa.int32())),
        pa.field("relevant", pa.int64()),
        pa.field("latency_us", pa.float64()),
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
        pa.field(
            "chosen", pa.string()
        ),  # why the query is shown; null: evenly spaced. What follows is younger: earlier files lack it
        pa.field(
            "heat_maps", pa.string()
        ),  # JSON [[lexicon, first pooled token, [logit of each token of the picture]], ...]
    ]
)


class RecordStore:
    """The records under `<home>/results/`."""

    def __init__(self, home):
        self.folder = Path(home) / "results"

    @classmethod
    def open(cls, path) -> "RecordStore":
        """A store at a home folder, or at a folder that holds the parquet files itself. Raises InputError when it holds neither."""
        path = Path(path)
        store = cls(path)
        if not store.folder.is_dir():
            if not path.is_dir() or not any(path.glob("*.parquet")):
                raise InputError(
                    f"{path}: no records there (expected a home folder with results/, or a folder of .parquet records)"
                )
            store.folder = path
        return store

    def has(self, point: Point) -> bool:
        """Whether the point was measured, with whatever status (a time-out is a result too; see `status`). What was absent may be there by now."""
        return self.status(point) not in (None, "absent")

    def status(self, point: Point) -> str | None:
        """Status of a point, None where there is no record of it."""
        rows = self._rows(point.id)
        return self._read(rows, SCHEMA).column("status")[0].as_py() if rows.exists() else None

    def write(
        self, point: Point, values: dict, queries=None, examples=None, status="ok", note="", started=None, seconds=None
    ) -> str:
        """Writes one point, whole or not at all, and returns its id. An earlier measurement of the same point is replaced.

        `values`: metric name -> number (ignored and stored as null unless status is "ok"; one row with an empty metric when there are
        none). `queries`, `examples`: list of dicts, DataFrame or pyarrow Table with the sidecar's columns. `started`: UTC ISO string.
        Raises InputError for an unknown metric or status.
        """
        if status not in STATUSES:
            raise InputError(f"unknown status '{status}': expected one of {', '.join(STATUSES)}")
        if status == "ok" and not values:
            raise InputError(f"a point of task '{point.task}' was to be written without any value")
        here = machine()
        common = {f.name: getattr(point, f.name) for f in dataclasses.fields(point)} | {
            "point_id": point.id,
            "status": status,
            "note": note,
            "cpu": here["cpu"],
            "cores": here["cores"],
            "memory_gb": here["memory_gb"],
            "gpu": here["gpu"],
            "versions": json.dumps(here["versions"], sort_keys=True),
            "git_commit": here["git_commit"],
            "started": started or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
        }
        rows = []
        for name, value in (values or {"": None}).items():
            try:
                unit = METRICS[name].unit if name else ""
            except KeyError as error:
                raise InputError(error.args[0]) from None
            rows.append(
                common
                | {
                    "metric": name,
                    "unit": unit,
                    "value": float(value) if status == "ok" and value is not None else None,
                }
            )
        for name, rows_of_sidecar in zip(SIDECARS, (queries, examples), strict=True):
            path = self._sidecar(point.id, name)
            if rows_of_sidecar is None:
                path.unlink(missing_ok=True)
            else:
                self._write(path, _table(rows_of_sidecar, _sidecar_schema(name, point.task)))
        self._write(self._rows(point.id), pa.Table.from_pylist(rows, schema=SCHEMA))
        return point.id

    def replace_examples(self, point_id: str, examples) -> None:
        """Other examples for a point that is there, as `write` takes them."""
        self._write(self._sidecar(point_id, "examples"), _table(examples, EXAMPLES_SCHEMA))

    def remove(self, point: Point) -> None:
        """Removes a point, where it is there."""
        for path in (self._rows(point.id), *(self._sidecar(point.id, name) for name in SIDECARS)):
            path.unlink(missing_ok=True)

    def read(self) -> pd.DataFrame:
        """All rows, sorted by point and metric; integers are pandas' nullable Int64. A broken file is an InputError that names it."""
        tables = [self._read(path, SCHEMA) for path in self._all()]
        table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
        return _frame(table).sort_values(["point_id", "metric"], ignore_index=True)

    def queries(self, point_id: str) -> pd.DataFrame | None:
        """Per-query results of a point, None when it has none."""
        return self._read_sidecar(point_id, "queries")

    def examples(self, point_id: str) -> pd.DataFrame | None:
        """Retrieved examples of a point, None when it has none."""
        return self._read_sidecar(point_id, "examples")

    def merge(self, other: "RecordStore", force: bool = False) -> tuple[int, int]:
        """Copies the points of another store; returns (copied, already there). A point that is here stays unless `force`."""
        copied = present = 0
        for path in other._all():
            point_id = path.name.removesuffix(".parquet")
            if self._rows(point_id).exists() and not force:
                present += 1
                continue
            other._read(path, SCHEMA)  # refuse a broken file before anything of it is copied
            for name in SIDECARS:
                if (source := other._sidecar(point_id, name)).exists():
                    _table_or_refuse(source)
                    _copy(source, self._sidecar(point_id, name))
            _copy(path, self._rows(point_id))
            copied += 1
        return copied, present

    def _rows(self, point_id: str) -> Path:
        return self.folder / f"{point_id}.parquet"

    def _sidecar(self, point_id: str, name: str) -> Path:
        return self.folder / f"{point_id}.{name}.parquet"

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.parquet") if path.name.count(".") == 1)

    def _write(self, path: Path, table: pa.Table) -> None:
        table = table.replace_schema_metadata({SEAL: _digest(table)})
        with atomic_file(path) as partial:
            pq.write_table(
                table,
                partial,
                compression="zstd",
                write_page_checksum=True,
                use_dictionary=False,
                write_statistics=False,
            )

    def _read(self, path: Path, schema: pa.Schema) -> pa.Table:
        table = _table_or_refuse(path)
        missing = [name for name in schema.names if name not in table.column_names]
        if missing:
            raise InputError(f"{path}: not a file of records (no column '{missing[0]}')")
        if schema is SCHEMA and (
            table.num_rows == 0 or table.column("point_id")[0].as_py() != path.name.removesuffix(".parquet")
        ):
            raise InputError(f"{path}: the records in it belong to another point; restore the file's name or remove it")
        return table.select(schema.names).cast(schema)

    def _read_sidecar(self, point_id: str, name: str) -> pd.DataFrame | None:
        path = self._sidecar(point_id, name)
        return _frame(_table_or_refuse(path)) if path.exists() else None


def _table_or_refuse(path: Path) -> pa.Table:
    """A whole file of records. One that was written before files had a seal is read without comparing it."""
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        seal = (table.schema.metadata or {}).get(SEAL)
        if seal and seal.decode() != _digest(
            table
        ):  # pages have checksums of their own, and what says where they are has none
            raise ValueError("changed since it was written")
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the disk
        first = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(f"{path}: broken record file ({first}); remove it to measure the point again") from None
    return table


def _digest(table: pa.Table) -> str:
    """SHA-256 over names and values, however they are laid out in memory."""
    return hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()


def _sidecar_schema(name: str, task: str) -> pa.Schema:
    return (
        EXAMPLES_SCHEMA if name == "examples" else HARD_NEGATIVES_SCHEMA if task == "hard_negatives" else QUERIES_SCHEMA
    )


def _table(rows, schema: pa.Schema) -> pa.Table:
    if isinstance(rows, pd.DataFrame):
        return pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
    if isinstance(rows, pa.Table):
        return rows.select(schema.names).cast(schema)
    return pa.Table.from_pylist(list(rows), schema=schema)


def _frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def _copy(source: Path, target: Path) -> None:
    with atomic_file(target) as partial:
        shutil.copyfile(source, partial)


# --- lexlip-bench records ------------------------------------------------------------------------------------------------------

LISTED = [
    "point_id",
    "task",
    "variant",
    "seed",
    "split",
    "images",
    "direction",
    "engine",
    "top_k",
    "bits",
    "batch_mode",
    "status",
]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per point: what it is, its status, its main value."""
    main = {
        "retrieval": "recall@1",
        "hard_negatives": "hard_negative_accuracy",
        "training": "loss",
        "encoding": "encode_images_per_second",
    }
    points = rows.drop_duplicates("point_id")[LISTED].set_index("point_id", drop=False)
    chosen = rows[rows.metric == rows.task.map(main)].set_index("point_id")
    points["metric"], points["value"] = chosen.metric.reindex(points.index), chosen.value.reindex(points.index)
    return points.sort_values(["task", "variant", "seed", "split", "direction", "engine", "top_k"], ignore_index=True)


def export(rows: pd.DataFrame, path) -> None:
    """Writes all rows to one file; its suffix says how: .csv, .json (one object per line) or .parquet."""
    path = Path(path)
    writers = {
        ".csv": lambda to: rows.to_csv(to, index=False),
        ".json": lambda to: rows.to_json(to, orient="records", lines=True),
        ".parquet": lambda to: pq.write_table(pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False), to),
    }
    if path.suffix not in writers:
        raise InputError(f"{path}: expected a name that ends in {', '.join(writers)}")
    with atomic_file(path) as partial:
        writers[path.suffix](partial)


def main(arguments) -> None:
    """`lexlip-bench records list | export FILE | merge FOLDER ...`"""
    store = RecordStore(arguments.home)
    if arguments.action == "merge":
        if not arguments.paths:
            raise InputError("merge: name at least one home or results folder to copy from")
        with locked(arguments.home, cli.command_line()):
            for path in arguments.paths:
                copied, present = store.merge(RecordStore.open(path), force=arguments.force)
                print(f"{path}: {copied} points copied, {present} already here")
        return
    rows = RecordStore.open(arguments.home).read()
    if arguments.action == "export":
        if len(arguments.paths) != 1:
            raise InputError("export: name one file to write (.csv, .json or .parquet)")
        export(rows, arguments.paths[0])
        print(f"{len(rows)} rows of {rows.point_id.nunique()} points -> {arguments.paths[0]}")
    else:
        print(summary(rows).to_string(index=False, na_rep="-", float_format="%.4g") if len(rows) else "no records")


def parser():
    flags = cli.parser("Lists, exports and merges records.")
    flags.add_argument("action", choices=("list", "export", "merge"))
    flags.add_argument(
        "paths",
        nargs="*",
        help="export: the file to write (.csv, .json, .parquet); merge: homes or result folders to copy",
    )
    return flags
