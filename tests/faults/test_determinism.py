"""The same command in two homes: checkpoints, vectors, rankings and tables are equal, bit for bit, on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.store.records import SCHEMA, RecordStore
from reports.build import build

ROOT = Path(__file__).resolve().parents[2]
MEASURED = {"s", "us", "queries/s", "pairs/s", "images/s", "texts/s", "bytes/s"}
MEMORY = {"build_peak_bytes", "resident_bytes", "limit_qps"}
SAME = ("data/*/*.npy", "data/*/*.json", "runs/*/best/*", "vectors/**/*.npy", "vectors/**/*.json", "indexes/**/*.npy")
OF_ONE_RUN = {"summary.json", "index.json"}  # contain times


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> list[Path]:
    made = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for home in made:
        flags = ["--profile", "smoke", "--variants", "lexlip,clip", "--home", str(home)]
        command = [sys.executable, "-m", "ablations.run", *flags]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, done.stderr
    return made


def files(home: Path) -> dict[str, bytes]:
    found = {path for pattern in SAME for path in home.glob(pattern) if path.is_file() and path.name not in OF_ONE_RUN}
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in found}


@pytest.mark.fault("the same command twice: other checkpoints, vectors or indexes")
def test_checkpoints_vectors_and_indexes_are_the_same_bytes(homes):
    first, second = map(files, homes)
    assert {"model.safetensors", "model.json", "tokenizer.json"} <= {Path(name).name for name in first}
    assert sum(name.startswith("vectors/") for name in first) > 10
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.fault("the same command twice: other rankings or numbers")
def test_rankings_and_numbers_are_the_same(homes):
    stores = [RecordStore(home) for home in homes]
    rows = [untimed(store.read()).drop(columns=["command"]) for store in stores]
    pd.testing.assert_frame_equal(*rows, check_exact=True)
    for point in rows[0].point_id.unique():
        queries = [store.queries(point) for store in stores]
        assert (queries[0] is None) == (queries[1] is None)
        if queries[0] is not None:
            pd.testing.assert_frame_equal(
                *(found.drop(columns="latency_us", errors="ignore") for found in queries), check_exact=True
            )
        examples = [store.examples(point) for store in stores]
        if examples[0] is not None:
            pd.testing.assert_frame_equal(*examples, check_exact=True)


@pytest.mark.fault("the same command twice: other tables")
def test_tables_are_the_same_bytes(homes, tmp_path):
    """Measured times are set to 1 in both before the tables are made."""
    tables = []
    for home in homes:
        results = tmp_path / home.name
        results.mkdir()
        for path in sorted((home / "results").glob("*.parquet")):
            table = pq.read_table(path)
            if path.name.count(".") == 1:
                table = pa.Table.from_pandas(
                    untimed(table.to_pandas()).assign(command="python"), schema=SCHEMA, preserve_index=False
                )
            elif "latency_us" in table.column_names:
                table = table.to_pandas().assign(latency_us=1.0)
                table = pa.Table.from_pandas(table, preserve_index=False)
            pq.write_table(table, results / path.name)
        build(results, tmp_path / f"site of {home.name}")
        tables.append(
            {path.name: path.read_bytes() for path in (tmp_path / f"site of {home.name}" / "tables").iterdir()}
        )
    assert len(tables[0]) > 20
    assert tables[0].keys() == tables[1].keys()
    assert [name for name in tables[0] if tables[0][name] != tables[1][name]] == []


def untimed(rows: pd.DataFrame) -> pd.DataFrame:
    """Records without values that depend on time or memory."""
    measured = rows.unit.isin(MEASURED) | rows.metric.isin(MEMORY)
    return rows.assign(value=rows.value.mask(measured, 1.0), started="2026-01-01T00:00:00+00:00", seconds=1.0, note="")
