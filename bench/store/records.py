"""The record store: every measured number is a row that says what, on what, from what, where, when and how long.

One *point* (`bench.store.schema.Point`) is one measurement; it has one row per metric. Files under `<home>/results/`:

    <point id>.parquet            the rows; written last, so a point whose file exists is whole
    <point id>.queries.parquet    per query: ranks of the relevant items, latency (for hard negatives: correct or not)
    <point id>.examples.parquet   retrieved images with the lexicons that matched
    <point id>.rankings.parquet   ids and scores of the results of every query, where asked for

Every file holds a SHA-256 of its values; a truncated or changed file is refused by name.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.store.machine import machine
from bench.store.metrics import METRICS
from bench.store.schema import EXAMPLES_SCHEMA, SCHEMA, SIDECARS, STATUSES, Point, sidecar_schema
from models.errors import InputError
from models.files import atomic_file

__all__ = ["EXAMPLES_SCHEMA", "SCHEMA", "SIDECARS", "STATUSES", "Point", "RecordStore", "frame", "ranking_rows"]

STORED_RESULTS = 100
"""Results of a query in the rankings sidecar, at most."""
UNMEASURED = (None, "absent")
"""Statuses of a point that is to be measured."""
SEAL = b"sha256_of_values"
"""Key of the digest in a file's metadata."""


class RecordStore:
    """The records under `<home>/results/`."""

    def __init__(self, home):
        self.folder = Path(home) / "results"

    @classmethod
    def open(cls, path) -> "RecordStore":
        """The store of a home folder, or of a folder that holds the parquet files itself.

        Raises InputError when `path` is neither.
        """
        path = Path(path)
        store = cls(path)
        if not store.folder.is_dir():
            if not path.is_dir() or not any(path.glob("*.parquet")):
                raise InputError(f"{path}: no records; expected a home with results/, or a folder of .parquet records")
            store.folder = path
        return store

    def has(self, point: Point) -> bool:
        """Whether the point is measured, with any status but "absent" (a timeout is a result too)."""
        return self.status(point) not in UNMEASURED

    def status(self, point: Point) -> str | None:
        """Status of a point; None when it has no record."""
        return self._status(point.id)

    def values(self, point: Point) -> dict[str, float]:
        """Metric -> value of a point that is "ok"; {} without a record."""
        path = self._rows(point.id)
        rows = self._read(path).to_pylist() if path.exists() else []
        return {row["metric"]: row["value"] for row in rows if row["status"] == "ok"}

    def write(
        self,
        point: Point,
        values: dict[str, float | None],
        queries=None,
        examples=None,
        status: str = "ok",
        note: str = "",
        started: str | None = None,
        seconds: float | None = None,
        rankings=None,
    ) -> str:
        """Writes one point, whole or not at all, and returns its id. Replaces an earlier measurement of the same point.

        values: metric name -> number. Stored as null unless `status` is "ok"; without values, one row with an empty
        metric.
        queries, examples, rankings: list of dicts, DataFrame or pyarrow Table with the columns of the sidecar
        (`bench.store.schema`).
        started: UTC ISO string, now unless given. seconds: how long the measurement took.
        Raises InputError for an unknown metric or status.
        """
        if status not in STATUSES:
            raise InputError(f"unknown status '{status}': expected one of {', '.join(STATUSES)}")
        if status == "ok" and not values:
            raise InputError(f"task '{point.task}': expected at least one value for a point of status 'ok'")
        common = _common_columns(point, status, note, started, seconds)
        rows = []
        for metric, value in (values or {"": None}).items():
            known = float(value) if status == "ok" and value is not None else None
            rows.append(common | {"metric": metric, "unit": _unit(metric), "value": known})
        given = zip(SIDECARS, (queries, examples, rankings), strict=True)
        sidecars = {name: _table(rows, sidecar_schema(name, point.task)) for name, rows in given if rows is not None}
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        self._replace(point.id, {"": table} | sidecars, _write)
        return point.id

    def replace_examples(self, point_id: str, examples) -> None:
        """Replaces the examples of a point that is there; `examples` as in `write`."""
        with atomic_file(self._sidecar(point_id, "examples")) as partial:
            _write(_table(examples, EXAMPLES_SCHEMA), partial)

    def remove(self, point: Point) -> None:
        """Removes a point and its sidecars, if it is there."""
        for path in (self._rows(point.id), *(self._sidecar(point.id, name) for name in SIDECARS)):
            path.unlink(missing_ok=True)

    def read(self) -> pd.DataFrame:
        """All rows, sorted by point and metric; integers are pandas' nullable Int64.

        Raises InputError that names a broken file.
        """
        tables = [self._read(path) for path in self._all()]
        table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
        return frame(table).sort_values(["point_id", "metric"], ignore_index=True)

    def queries(self, point_id: str) -> pd.DataFrame | None:
        """Per-query results of a point; None when it has none."""
        return self._read_sidecar(point_id, "queries")

    def examples(self, point_id: str) -> pd.DataFrame | None:
        """Retrieved examples of a point; None when it has none."""
        return self._read_sidecar(point_id, "examples")

    def rankings(self, point_id: str) -> pd.DataFrame | None:
        """Results of every query of a point; None when it has none."""
        return self._read_sidecar(point_id, "rankings")

    def has_rankings(self, point: Point) -> bool:
        """Whether the results of every query of a point are stored."""
        return self._sidecar(point.id, "rankings").exists()

    def merge(self, other: "RecordStore", force: bool = False) -> tuple[int, int]:
        """Copies the points of another store; returns (copied, already here). Keeps those measured here unless `force`.

        A point whose engine was absent here is replaced if it was not absent there.
        """
        copied = present = 0
        for path in other._all():
            point_id = path.name.removesuffix(".parquet")
            here = None if force else self._status(point_id)
            there = other._status(point_id)  # refuses a broken file before any part of the point is copied
            if here is not None and (here not in UNMEASURED or there in UNMEASURED):
                present += 1
                continue
            sidecars = {name: source for name in SIDECARS if (source := other._sidecar(point_id, name)).exists()}
            for source in sidecars.values():
                _whole_table(source)
            self._replace(point_id, {"": path} | sidecars, shutil.copyfile)
            copied += 1
        return copied, present

    def _status(self, point_id: str) -> str | None:
        path = self._rows(point_id)
        return self._read(path).column("status")[0].as_py() if path.exists() else None

    def _replace(self, point_id: str, contents: dict, write: Callable[[Any, Path], Any]) -> None:
        """Replaces the files of a point by `contents`: name of a sidecar, or "" for the rows -> argument of `write`.

        All of it is on disk before the earlier rows are removed, and the new rows come last. A process killed in
        between leaves a point that is not measured, and never the rows of one measurement with sidecars of another.
        """
        with contextlib.ExitStack() as files:
            for name, content in contents.items():  # the last one is renamed first
                target = self._sidecar(point_id, name) if name else self._rows(point_id)
                write(content, files.enter_context(atomic_file(target)))
            self._rows(point_id).unlink(missing_ok=True)
            for name in set(SIDECARS) - set(contents):
                self._sidecar(point_id, name).unlink(missing_ok=True)

    def _rows(self, point_id: str) -> Path:
        return self.folder / f"{point_id}.parquet"

    def _sidecar(self, point_id: str, name: str) -> Path:
        return self.folder / f"{point_id}.{name}.parquet"

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.parquet") if path.name.count(".") == 1)

    def _read(self, path: Path) -> pa.Table:
        table = _whole_table(path)
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if missing:
            raise InputError(f"{path}: not a file of records (no column '{missing[0]}')")
        if table.num_rows == 0 or table.column("point_id")[0].as_py() != path.name.removesuffix(".parquet"):
            raise InputError(f"{path}: its records belong to another point; restore the file's name or remove it")
        return table.select(SCHEMA.names).cast(SCHEMA)

    def _read_sidecar(self, point_id: str, name: str) -> pd.DataFrame | None:
        path = self._sidecar(point_id, name)
        return frame(_whole_table(path)) if path.exists() else None


def ranking_rows(query_ids: list[str], item_ids: list[str], ids: np.ndarray, scores: np.ndarray) -> list[dict]:
    """Rows of the rankings sidecar, the first `STORED_RESULTS` of each query.

    ids, scores: (Q, k) as an engine returns them, ids padded with -1.
    """
    rows = []
    for query, of_query, values in zip(query_ids, ids[:, :STORED_RESULTS], scores[:, :STORED_RESULTS], strict=True):
        found = of_query >= 0
        items = [item_ids[item] for item in of_query[found].tolist()]
        rows.append({"query_id": query, "items": items, "scores": values[found].astype(np.float32).tolist()})
    return rows


def _common_columns(point: Point, status: str, note: str, started: str | None, seconds: float | None) -> dict:
    """The columns that all rows of a point share: its identity, how it ended, where and when it was measured."""
    here = machine()
    return {field.name: getattr(point, field.name) for field in dataclasses.fields(point)} | {
        "point_id": point.id,
        "status": status,
        "note": note,
        "versions": json.dumps(here["versions"], sort_keys=True),
        "started": started or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        **{name: here[name] for name in ("cpu", "cores", "memory_gb", "gpu", "git_commit")},
    }


def _unit(metric: str) -> str:
    try:
        return METRICS[metric].unit if metric else ""
    except KeyError as error:
        raise InputError(error.args[0]) from None


def _whole_table(path: Path) -> pa.Table:
    """The content of a file of records. A file without a digest (older ones) is read unchecked.

    Page checksums do not cover the metadata that says where pages are, hence the digest of all values.
    """
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        seal = (table.schema.metadata or {}).get(SEAL)
        if seal and seal.decode() != _digest(table):
            raise ValueError("changed since it was written")
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # an error of the disk, not of the file's content
        first = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(f"{path}: broken record file ({first}); remove it to measure the point again") from None
    return table


def _digest(table: pa.Table) -> str:
    """SHA-256 of names and values, independent of their layout in memory."""
    return hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()


def _write(table: pa.Table, path: Path) -> None:
    options = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": False, "write_statistics": False}
    pq.write_table(table.replace_schema_metadata({SEAL: _digest(table)}), path, **options)


def _table(rows, schema: pa.Schema) -> pa.Table:
    if isinstance(rows, pd.DataFrame):
        return pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
    if isinstance(rows, pa.Table):
        return rows.select(schema.names).cast(schema)
    return pa.Table.from_pylist(list(rows), schema=schema)


def frame(table: pa.Table) -> pd.DataFrame:
    """The rows, integers as pandas' nullable Int64."""
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
