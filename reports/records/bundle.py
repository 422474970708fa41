"""All records of a run in three files small enough to commit: records.parquet, queries.parquet, examples.parquet.

    lexlip-bench bundle --home runs results/reference
    lexlip-bench bundle --home runs --tasks scale,encoding,vectors --merge results/reference results/reference
    lexlip-bench bundle --home runs --compact results/reference

The second command takes the records of a sweep only, and adds those of an existing bundle. The third keeps per-query
results only where a difference between variants is tested (`Compact`), for a grid of many variants and seeds.
records.parquet holds what `lexlip-bench records export` writes; the sidecars have a point_id column. A bundle is read
like the results folder of a home, and holds the same values.

- A column is one page of one row group: every point has the same queries, and a compressor sees that only in a page.
- Ranks are split into their bytes, most of which are zero.
- Examples (captions and images) of photographs are left out: their licences may forbid to pass them on.
- Folders in commands become FOLDER: they are private, and of no use elsewhere.
"""

import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.store import cli
from bench.store.records import RecordStore, frame
from models.errors import InputError
from models.files import atomic_folder
from reports.records.corpora import is_photographs
from reports.records.evidence import Evidence, main_profile
from reports.records.rows import filtered

PROFILE = "quick"  # profile of the reference run; a bundle may hold others
ROWS = "records.parquet"
SIDECARS = ("queries", "examples")  # rankings are too large to commit
WHOLE = 2**30  # bytes, rows: larger than any column, so that each is one page
SPLIT = {"ranks": "ranks.list.element", "outcome": "outcome", "latency_us": "latency_us"}
"""Columns of numbers that rarely repeat, and their paths: stored byte by byte, which compresses better."""
HOME = re.compile(r" --home(?:=|\s+)(?:'[^']*'|\S+)")  # removed from commands
FOLDER = re.compile(
    r"(?:(?<=')(?:~|[A-Za-z]:)?[/\\][^']*(?='))|(?:(?<=\w/)|(?<![\w.~:/\\]))(?:~|[A-Za-z]:)?[/\\][^\s,'\"}\]]+"
)


class Bundle:
    """Read-only store over the three files, with `read`, `queries` and `examples` as a RecordStore."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def read(self) -> pd.DataFrame:
        """All rows. Raises InputError for a broken file."""
        return frame(_read(self.folder / ROWS))

    def queries(self, point_id: str) -> pd.DataFrame | None:
        """Per-query results of a point; None if there are none."""
        return self._of_point("queries", point_id)

    def examples(self, point_id: str) -> pd.DataFrame | None:
        """Kept results of a point, with images; None if there are none."""
        return self._of_point("examples", point_id)

    def _of_point(self, sidecar: str, point_id: str) -> pd.DataFrame | None:
        table, places = self._sidecar(sidecar)
        if point_id not in places:
            return None
        part = table.slice(*places[point_id])
        return frame(part.select([name for name in part.column_names if part[name].null_count < len(part)]))

    @functools.cache  # noqa: B019  (one bundle lives as long as one build)
    def _sidecar(self, name: str) -> tuple[pa.Table | None, dict[str, tuple[int, int]]]:
        """All rows of a sidecar, and the first row and the number of rows of each point, which stand together."""
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            return None, {}
        table = _read(path)
        codes, names = pd.factorize(table["point_id"].to_pandas())
        if (np.diff(codes) < 0).any():  # not written by `write`
            table, codes = table.take(np.argsort(codes, kind="stable")), np.sort(codes)
        counts = np.bincount(codes, minlength=len(names))
        starts = np.cumsum(counts) - counts
        return table, dict(zip(names, zip(starts.tolist(), counts.tolist(), strict=True), strict=True))


class Compact:
    """A store without most sidecars of variants other than the reference, the baseline and the one of words, and of
    profiles other than the main one of a corpus.

    Kept are those of the operating point, of hard negatives and of zero-shot classification, which intervals and tests
    need. Recall of other variants at another top_k then has no interval. Judgements of every variant keep those of
    vectors as encoded and at the operating point, in single precision.
    """

    def __init__(self, store):
        self.store, self.folder = store, store.folder
        evidence = Evidence(store)
        reading = evidence.reading
        compared = (reading.reference, reading.baseline, reading.words, "")
        points = evidence.named.drop_duplicates("point_id")
        main = {corpus: main_profile(of_corpus) for corpus, of_corpus in points.groupby("corpus")}
        beside = (points.profile != "") & (points.profile != points.corpus.map(main))
        others = points[~points.variant.isin(compared) | beside]
        retrieval = others[others.task == "retrieval"]
        tested = set()
        for name, rows in retrieval.groupby("variant"):
            tested |= set(filtered(rows, evidence.operating_point(name)).point_id)
        judged = evidence.all[evidence.all.task == "judgements"]
        elsewhere = judged[judged.top_k.notna() & (judged.top_k != reading.top_k)]
        dropped = set(retrieval.point_id) - tested | set(elsewhere.point_id)
        self.dropped = {"queries": dropped, "examples": set(others.point_id)}

    def read(self) -> pd.DataFrame:
        return self.store.read()

    def queries(self, point_id: str) -> pd.DataFrame | None:
        found = None if point_id in self.dropped["queries"] else self.store.queries(point_id)
        if found is not None and "outcome" in found:
            found = found.assign(outcome=found.outcome.astype(np.float32).astype(np.float64))
        return found

    def examples(self, point_id: str) -> pd.DataFrame | None:
        return None if point_id in self.dropped["examples"] else self.store.examples(point_id)


def open_records(folder):
    """The store in a bundle, a home, or a folder of single points. Raises InputError if it is none of them."""
    return Bundle(folder) if (Path(folder) / ROWS).is_file() else RecordStore.open(folder)


def write(stores, folder, tasks: set[str] | None = None) -> None:
    """Writes the records of stores as one bundle, replacing the folder; of a point in several stores, the first counts.

    tasks: tasks to take from the first store; None for all. Raises InputError for a task without records.
    """
    parts, seen = [], set()
    for store in stores:
        rows = store.read()
        if tasks and not parts:
            if absent := sorted(tasks - set(rows.task)):
                known = ", ".join(sorted(set(rows.task))) or "none"
                raise InputError(f"{store.folder}: no records of the task {absent[0]!r}; known tasks: {known}")
            rows = rows[rows.task.isin(tasks)]
        parts.append((store, rows[~rows.point_id.isin(seen)]))
        seen |= set(rows.point_id)
    everything = pd.concat([rows for _, rows in parts], ignore_index=True)
    for column in ("command", "note"):
        everything[column] = everything[column].map(_without_folders)
    private = set(everything[everything.corpus.fillna("").map(is_photographs)].point_id)
    with atomic_folder(folder) as partial:
        _write(everything, partial / ROWS)
        for name in SIDECARS:
            found = [
                (point_id, getattr(store, name)(point_id))
                for store, rows in parts
                for point_id in rows.point_id.unique()
                if name != "examples" or point_id not in private
            ]
            found = [part.assign(point_id=point_id) for point_id, part in found if part is not None and len(part)]
            if found:
                _write(pd.concat(found, ignore_index=True), partial / f"{name}.parquet")


def _without_folders(text):
    """A command or a note; a missing one as it is."""
    return FOLDER.sub("FOLDER", HOME.sub("", text)) if isinstance(text, str) else text


def _write(rows: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    whole = dict.fromkeys(("row_group_size", "max_rows_per_page", "data_page_size", "dictionary_pagesize_limit"), WHOLE)
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        write_statistics=False,
        column_encoding={path: "BYTE_STREAM_SPLIT" for name, path in SPLIT.items() if name in table.column_names},
        use_dictionary=[name for name in table.column_names if name not in SPLIT],
        **whole,
    )


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: broken records ({str(error).splitlines()[0]})") from None


def main(arguments) -> None:
    """`lexlip-bench bundle`"""
    tasks = {task for task in arguments.tasks.split(",") if task}
    stores = [open_records(folder) for folder in (arguments.home, *arguments.merge)]
    write([Compact(store) for store in stores] if arguments.compact else stores, arguments.folder, tasks)
    print(arguments.folder)


def parser():
    """Flags of `lexlip-bench bundle`."""
    flags = cli.parser("Writes all records of a home as three files small enough to commit.")
    flags.add_argument("--tasks", default="", help="tasks to take from the home, separated by commas (default: all)")
    merged = "add the records of another home or bundle; may be repeated"
    flags.add_argument("--merge", type=Path, action="append", default=[], metavar="FOLDER", help=merged)
    compact = "keep per-query results at the operating point only, but all recall of lexlip, clip and lexlip_words"
    flags.add_argument("--compact", action="store_true", help=compact)
    flags.add_argument("folder", type=Path, help="folder to write; its contents are replaced")
    return flags
