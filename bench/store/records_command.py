"""`lexlip-bench records`: lists, exports and merges records.

lexlip-bench records list --home runs
lexlip-bench records export all.csv --home runs
lexlip-bench records merge OTHER_HOME --home runs      results of several machines in one store
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.store import cli
from bench.store.lock import locked
from bench.store.records import RecordStore
from bench.store.schema import SCHEMA
from models.errors import InputError
from models.files import atomic_file

LISTED = (
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
)
MAIN_METRIC = {
    "retrieval": "recall@1",
    "hard_negatives": "hard_negative_accuracy",
    "training": "loss",
    "encoding": "encode_images_per_second",
}
"""Task -> the metric that the list shows."""


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per point: identity, status and, where its task has one, the main metric with its value."""
    points = rows.drop_duplicates("point_id")[list(LISTED)].set_index("point_id", drop=False)
    main = rows[rows.metric == rows.task.map(MAIN_METRIC)].set_index("point_id")
    points["metric"], points["value"] = main.metric.reindex(points.index), main.value.reindex(points.index)
    return points.sort_values(["task", "variant", "seed", "split", "direction", "engine", "top_k"], ignore_index=True)


def export(rows: pd.DataFrame, path) -> None:
    """Writes all rows to one .csv, .json (one object per line) or .parquet file. Raises InputError for other names."""
    path = Path(path)
    writers = {
        ".csv": lambda to: rows.to_csv(to, index=False),
        ".json": lambda to: rows.to_json(to, orient="records", lines=True),
        ".parquet": lambda to: pq.write_table(pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False), to),
    }
    if path.suffix not in writers:
        raise InputError(f"{path}: expected a file name that ends in {', '.join(writers)}")
    with atomic_file(path) as partial:
        writers[path.suffix](partial)


def main(arguments) -> None:
    """Runs `list`, `export FILE` or `merge FOLDER ...`."""
    if arguments.action == "merge":
        return _merge(arguments)
    rows = RecordStore.open(arguments.home).read()
    if arguments.action == "export":
        if len(arguments.paths) != 1:
            raise InputError("export: expected one file to write (.csv, .json or .parquet)")
        export(rows, arguments.paths[0])
        print(f"{len(rows)} rows of {rows.point_id.nunique()} points -> {arguments.paths[0]}")
    else:
        print(summary(rows).to_string(index=False, na_rep="-", float_format="%.4g") if len(rows) else "no records")


def _merge(arguments) -> None:
    if not arguments.paths:
        raise InputError("merge: expected at least one home or results folder to copy from")
    store = RecordStore(arguments.home)
    with locked(arguments.home, cli.command_line()):
        for path in arguments.paths:
            copied, present = store.merge(RecordStore.open(path), force=arguments.force)
            print(f"{path}: {copied} points copied, {present} already here")


def parser():
    """Flags of `lexlip-bench records`."""
    flags = cli.parser("Lists, exports and merges records.")
    flags.add_argument("action", choices=("list", "export", "merge"))
    paths = "export: the file to write (.csv, .json, .parquet); merge: homes or results folders to copy from"
    flags.add_argument("paths", nargs="*", help=paths)
    return flags
