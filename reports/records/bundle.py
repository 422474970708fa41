"""The records of a whole run in three files, small enough to commit: records.parquet, queries.parquet, examples.parquet.

    lexlip-bench bundle --home runs results/reference
    lexlip-bench bundle --home runs --tasks scale,encoding,vectors,false_negatives --merge results/reference results/reference
    lexlip-bench bundle --home runs --compact results/reference

The second takes the records of a sweep alone, and adds them to those of a bundle that stands there. The third keeps the results of single
queries only where a difference between variants is tested (`Compact`), for a grid of many variants and seeds.
The rows are what `lexlip-bench records export` writes; in the other two a point_id column says whose rows they are. A folder of these
files is read like a home's results. Latencies and picture bytes are kept; only the files are fewer and better compressed.

Notable choices
- A column is one page of one row group: every point has the same queries, and a compressor sees that only within a page.
- Ranks are split into their bytes, most of which are zero.
"""

import functools
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.store import cli
from bench.store.records import SIDECARS, RecordStore
from models.errors import InputError
from models.files import atomic_folder
from reports.records.evidence import Evidence, filtered

PROFILE = "quick"  # that the reference run is of; a bundle may hold others, to compare with
ROWS = "records.parquet"
WHOLE = 2**30  # bytes, rows: of a page and of a dictionary; more than any column has
RANKS = "ranks.list.element"
HOME = r" --home(?:=|\s+)(?:'[^']*'|\S+)"  # of a command: where its records lay is no one else's business, and it runs without


class Bundle:
    """A read-only store over the three files; same `read`, `queries`, `examples` as a RecordStore."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def read(self) -> pd.DataFrame:
        return _read(self.folder / ROWS)

    def queries(self, point_id: str) -> pd.DataFrame | None:
        return self._of_point("queries", point_id)

    def examples(self, point_id: str) -> pd.DataFrame | None:
        return self._of_point("examples", point_id)

    def _of_point(self, sidecar: str, point_id: str) -> pd.DataFrame | None:
        found = self._sidecar(sidecar).get(point_id)
        return None if found is None else found.dropna(axis="columns", how="all").reset_index(drop=True)

    @functools.cache  # noqa: B019  (one bundle lives as long as one build)
    def _sidecar(self, name: str) -> dict[str, pd.DataFrame]:
        path = self.folder / f"{name}.parquet"
        return dict(iter(_read(path).groupby("point_id"))) if path.exists() else {}


class Compact:
    """A store without most sidecars of the variants that stand beside the two compared: kept are those of the operating point, of hard negatives and
    of zero-shot classification, which intervals and tests rest on. Recall with other numbers of lexicons kept then has no interval."""

    def __init__(self, store):
        self.store, self.folder = store, store.folder
        evidence = Evidence(store)
        compared = (evidence.reading.reference, evidence.reading.baseline, "")
        beside = evidence.all[~evidence.all.variant.isin(compared)].drop_duplicates("point_id")
        retrieval = beside[beside.task == "retrieval"]
        tested = pd.concat(
            [
                filtered(retrieval[retrieval.variant == name], evidence.operating_point(name))
                for name in set(retrieval.variant)
            ]
            or [retrieval]
        )
        self.untold = {"queries": set(retrieval.point_id) - set(tested.point_id), "examples": set(beside.point_id)}

    def read(self) -> pd.DataFrame:
        return self.store.read()

    def queries(self, point_id: str) -> pd.DataFrame | None:
        return None if point_id in self.untold["queries"] else self.store.queries(point_id)

    def examples(self, point_id: str) -> pd.DataFrame | None:
        return None if point_id in self.untold["examples"] else self.store.examples(point_id)


def open_records(folder):
    """The store in a folder: a bundle, a home, or a folder of single points. Raises InputError when it is none of them."""
    return Bundle(folder) if (Path(folder) / ROWS).is_file() else RecordStore.open(folder)


def write(stores, folder, tasks: set[str] | None = None) -> None:
    """Writes the records of stores as one bundle, in place of the files that stood there; of a point that several have, the first one's.

    tasks: those of the first store to take, None for all. Raises InputError for a task without records.
    """
    parts, seen = [], set()
    for store in stores:
        rows = store.read()
        if tasks and not parts:
            if absent := sorted(tasks - set(rows.task)):
                known = ", ".join(sorted(set(rows.task))) or "none"
                raise InputError(f"{store.folder}: no records of the task {absent[0]!r}; there are {known}")
            rows = rows[rows.task.isin(tasks)]
        parts.append((store, rows[~rows.point_id.isin(seen)]))
        seen |= set(rows.point_id)
    everything = pd.concat([rows for _, rows in parts], ignore_index=True)
    everything["command"] = everything.command.str.replace(HOME, "", regex=True)
    with atomic_folder(folder) as partial:
        _write(everything, partial / ROWS)
        for name in SIDECARS:
            found = [
                (point_id, getattr(store, name)(point_id))
                for store, rows in parts
                for point_id in rows.point_id.unique()
            ]
            found = [part.assign(point_id=point_id) for point_id, part in found if part is not None and len(part)]
            if found:
                _write(pd.concat(found, ignore_index=True), partial / f"{name}.parquet")


def _write(rows: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    split = {RANKS: "BYTE_STREAM_SPLIT"} if "ranks" in table.column_names else None
    pq.write_table(
        table, path, compression="zstd", compression_level=19, write_statistics=False, column_encoding=split,
        use_dictionary=[name for name in table.column_names if name != "ranks"], row_group_size=WHOLE, max_rows_per_page=WHOLE,
        data_page_size=WHOLE, dictionary_pagesize_limit=WHOLE,
    )  # fmt: skip


def _read(path: Path) -> pd.DataFrame:
    try:
        return pq.read_table(path).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: broken records ({str(error).splitlines()[0]})") from None


def main(arguments) -> None:
    tasks = {task for task in arguments.tasks.split(",") if task}
    stores = [open_records(folder) for folder in (arguments.home, *arguments.merge)]
    write([Compact(store) for store in stores] if arguments.compact else stores, arguments.folder, tasks)
    print(arguments.folder)


def parser():
    flags = cli.parser("Writes all records of a home as three files that can be committed.")
    flags.add_argument("--tasks", default="", help="records of these tasks alone, separated by commas")
    flags.add_argument(
        "--merge",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="add the records of another home or bundle",
    )
    flags.add_argument(
        "--compact",
        action="store_true",
        help="of all variants but lexlip and clip, per-query results at the operating point alone",
    )
    flags.add_argument("folder", type=Path, help="folder to write; what stands there is replaced")
    return flags
