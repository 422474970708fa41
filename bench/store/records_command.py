"""`lexlip-bench records`: lists, exports and merges records.

lexlip-bench records list --home runs
lexlip-bench records export all.csv --home runs
lexlip-bench records export --trec-run FOLDER --home runs      rankings of records measured with --rankings, a run each
lexlip-bench records merge OTHER_HOME --home runs      results of several machines in one store
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
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
    """Runs `list`, `export FILE`, `export --trec-run FOLDER` or `merge FOLDER ...`."""
    if arguments.action == "merge":
        return _merge(arguments)
    if arguments.trec_run:
        return _export_runs(arguments)
    rows = RecordStore.open(arguments.home).read()
    if arguments.action == "export":
        if len(arguments.paths) != 1:
            raise InputError("export: expected one file to write (.csv, .json or .parquet)")
        export(rows, arguments.paths[0])
        print(f"{len(rows)} rows of {rows.point_id.nunique()} points -> {arguments.paths[0]}")
    else:
        print(summary(rows).to_string(index=False, na_rep="-", float_format="%.4g") if len(rows) else "no records")


def _export_runs(arguments) -> None:
    if arguments.action != "export" or arguments.paths:
        raise InputError("--trec-run: expected `records export --trec-run FOLDER`, and no other file")
    for line in export_runs(RecordStore.open(arguments.home), arguments.trec_run):
        print(line)


def _merge(arguments) -> None:
    if arguments.trec_run or not arguments.paths:
        raise InputError("merge: expected at least one home or results folder to copy from")
    store = RecordStore(arguments.home)
    with locked(arguments.home, cli.command_line()):
        for path in arguments.paths:
            copied, present = store.merge(RecordStore.open(path), force=arguments.force)
            print(f"{path}: {copied} points copied, {present} already here")


# --- TREC runs: lines `query Q0 document rank score tag`, for trec_eval, ranx and ir_measures ---


def export_runs(store: RecordStore, folder: Path) -> Iterator[str]:
    """Writes a file for each record with rankings; yields a line about each. Raises InputError if no record has any."""
    points = store.read().drop_duplicates("point_id")
    found = False
    for point in points.itertuples():
        stored = store.rankings(point.point_id)
        if stored is not None:
            found = True
            path = folder / f"{_name(point)}.run"
            with atomic_file(path) as partial:
                escaped = _write(stored, partial, tag=point.point_id)
            spaces = f"; white space in {escaped:,} ids is written as in URLs (%20)" if escaped else ""
            yield f"{path}: {len(stored):,} queries of {point.corpus}, {point.images:,} images{spaces}"
    if not found:
        how = "measure again with --rankings (`lexlip-bench recall`, `lexlip-bench scale`)"
        raise InputError(f"{store.folder}: no record has rankings; {how}")


def _name(point) -> str:
    """What was measured, in a file name."""
    parts = [point.variant, point.split, point.direction, point.engine]
    parts += [f"{name}{value}" for name, value in (("top", point.top_k), ("bits", point.bits)) if not pd.isna(value)]
    return re.sub(r"[^\w.+-]+", "_", "-".join([*(part for part in parts if part), point.point_id]))


def _write(stored: pd.DataFrame, path: Path, tag: str) -> int:
    """Writes a run; returns the number of ids with white space."""
    spaced = set()

    def column(text: str) -> str:
        if not re.search(r"\s", text):
            return text
        spaced.add(text)
        return re.sub(r"\s", lambda found: quote(found[0]), text)

    with path.open("w", encoding="utf-8", newline="\n") as file:
        for query, items, scores in zip(stored["query_id"], stored["items"], stored["scores"], strict=True):
            name = column(query)
            for rank, (item, score) in enumerate(zip(items, descending(scores), strict=True), 1):
                file.write(f"{name} Q0 {column(item)} {rank} {score:.9g} {tag}\n")
    return len(spaced)


def descending(scores) -> np.ndarray:
    """float32 scores, each below the one before: those that are not become the next smaller number.

    trec_eval ignores the rank, sorts by score, and orders equal scores by document: it would see another order.
    """
    made = np.array(scores, np.float32)
    for place in range(1, len(made)):
        if made[place] >= made[place - 1]:
            made[place] = np.nextafter(made[place - 1], np.float32(-np.inf))
    return made


def parser():
    """Flags of `lexlip-bench records`."""
    flags = cli.parser("Lists, exports and merges records.")
    flags.add_argument("action", choices=("list", "export", "merge"))
    paths = "export: the file to write (.csv, .json, .parquet); merge: homes or results folders to copy from"
    flags.add_argument("paths", nargs="*", help=paths)
    runs = "export: a folder for the rankings of records that were measured with --rankings, as TREC runs"
    flags.add_argument("--trec-run", type=Path, default=None, metavar="FOLDER", help=runs)
    return flags
