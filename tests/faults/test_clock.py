"""A clock that is set back: no decision depends on file times."""

import os
import shutil
import time

import pytest

from bench.store.records import RecordStore
from tests.faults import commands

YEAR = 365 * 24 * 3600


@pytest.mark.fault("the clock is set back a year before a killed run goes on")
def test_the_second_half_of_a_run_is_earlier_than_the_first(measured, checkpoint, tmp_path, keeps):
    home = tmp_path / "home"
    process = commands.start(commands.measuring(home, checkpoint))
    commands.wait_until(lambda: len(list(home.glob("results/*.parquet"))) >= 4, process)
    commands.kill(process)
    keeps(home)
    commands.succeed(commands.measuring(home, checkpoint), **commands.injected(f"back {YEAR}"))
    assert RecordStore(home).read().started.str[:4].nunique() == 2
    commands.assert_same(home, measured)


@pytest.mark.fault("all files of a home are from the future")
def test_files_from_the_future(measured, checkpoint, tmp_path):
    home = shutil.copytree(measured, tmp_path / "home")
    lost = (
        RecordStore(home)
        .read()
        .query("task == 'retrieval' and batch_mode == '' and engine == 'impact'")
        .point_id.iloc[0]
    )
    (home / "results" / f"{lost}.parquet").unlink()
    future = time.time() + YEAR
    files = [path for path in home.rglob("*") if path.is_file() and lost not in path.name]
    for path in files:
        os.utime(path, (future, future))
    commands.succeed(commands.measuring(home, checkpoint))
    again = [str(path) for path in files if path.stat().st_mtime < future - 1]
    assert not again, "complete files were made again"
    commands.assert_same(home, measured)
