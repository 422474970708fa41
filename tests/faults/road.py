"""The real commands at the smallest size that has every step, how they are broken off, and what their records must say in the end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import scipy.sparse as sp

from bench.store.records import RecordStore
from bench.vectors.read import NPY_HEADER, write_vectors
from models.files import sha256

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "ablations" / "tiny.yaml"
PATIENCE = 3600
"""Seconds that a command may take: a hang is then an error. It is no measure of speed."""

INJECTED = Path(__file__).with_name("injected")
"""On PYTHONPATH: its `sitecustomize.py` puts the fault that FAULT names into every Python of a command."""

GRID = [
    "rounds=1",
    "seconds=0.02",
    "queries=8",
    "checked=6",
    "top_k=[]",
    "bits=[]",
    "query_top_k=[]",
    "modes=[[single,1]]",
]
SHORT = ["train.steps=12", "train.phase1_share=0.5", "train.validate_every=4", "train.checkpoint_every=4"]
MEASURED = ["measure.images=16", "measure.zero_shot=4", "measure.examples=2", "measure.top_k=[8]", "measure.slices=[]"]
CORPUS = ["--corpus", "{name: scenes, pixels: 64, concepts: 12}"]
FINISHED = ("data/*/*", "vectors/*/*", "indexes/*/**/*", "results/*.parquet")
TIMED = {"s", "us", "queries/s", "pairs/s", "images/s", "texts/s"}
MEMORY = {"build_peak_bytes", "resident_bytes"}


def training(home, *more) -> list[str]:
    """Train a variant: training data, states, checkpoint, records."""
    return ["ablations.train", "--profile", TINY, "--variant", "lexlip", "--home", home, *more, *SHORT]


def measuring(home, checkpoint, *more) -> list[str]:
    """Measure a checkpoint: vectors, indexes, records."""
    return [
        "bench",
        "recall",
        "--checkpoint",
        checkpoint,
        *CORPUS,
        "--images",
        "16",
        "--top-k",
        "8",
        "--home",
        home,
        *more,
    ]


def main_job(home, *more) -> list[str]:
    """Train and measure a variant, and build the pages."""
    return [
        "ablations.run",
        "--profile",
        TINY,
        "--variants",
        "lexlip",
        "--at-once",
        "1",
        "--home",
        home,
        *more,
        *SHORT,
        *MEASURED,
    ]


def sweep(home, vectors, *more, engines="impact,dummy") -> list[str]:
    """Build, check and time engines over vectors that are there, each step in a process of its own."""
    sides = ["--documents", vectors / "documents", "--queries", vectors / "queries"]
    return [
        "bench.scale",
        "--corpus",
        "vectors",
        *sides,
        "--sizes",
        "200",
        "--engines",
        engines,
        "--home",
        home,
        *more,
        *GRID,
    ]


def encoding(home, checkpoint, *more) -> list[str]:
    """Encode a gallery, in shards."""
    slices = ["--images", "128", "--distractors", "256", "--shard-rows", "128"]
    return ["bench", "gallery", "--checkpoint", checkpoint, *CORPUS, *slices, "--home", home, *more]


def make_vectors(folder) -> Path:
    """Lexicon vectors of 200 documents and 20 queries; query q belongs to document q."""
    rng = np.random.default_rng(0)
    rows = sp.random_array((200, 50), density=0.2, random_state=rng, dtype=np.float32, format="csr")
    rows = sp.csr_array(rows / np.maximum(1e-6, np.sqrt(rows.multiply(rows).sum(axis=1)))[:, None])
    for part, count in (("documents", 200), ("queries", 20)):
        with write_vectors(
            folder / part, "lexicon", 50, vocabulary=[f"l{i}" for i in range(50)], shard_rows=100
        ) as writer:
            writer.append(rows[:count], [f"{part}{i}" for i in range(count)], [f"documents{i}" for i in range(count)])
    return folder


def start(command, **environment) -> subprocess.Popen:
    """`python -m MODULE flags...`, with text pipes; on one thread, as more only wait for each other at this size."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        **environment,
    }
    line = [sys.executable, "-m", *map(str, command)]
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def injected(fault: str) -> dict[str, str]:
    """The environment that puts a fault into a command."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(INJECTED)])), "FAULT": fault}


def run(command, **environment) -> tuple[int, list[str]]:
    """A command to its end: exit code, lines on stderr."""
    process = start(command, **environment)
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors.splitlines()


def succeed(command, **environment) -> None:
    """A command that must end well."""
    code, lines = run(command, **environment)
    assert code == 0, "\n".join(lines)


def refused(command, *parts: str, **environment) -> str:
    """A command that must end with exit code 2 and one clear line that has `parts`; the line."""
    code, lines = run(command, **environment)
    assert code == 2, "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)
    for part in parts:
        assert part in lines[-1]
    return lines[-1]


@contextlib.contextmanager
def pause(process: subprocess.Popen) -> Iterator[None]:
    """A command stands still until the block ends, and goes on then."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wait_until(true: Callable[[], object], process: subprocess.Popen):
    """What `true` gives as soon as it gives something, while the process runs; it is an error when that ends first."""
    while not (found := true()):
        assert process.poll() is None, f"it ended before the moment came: {process.communicate()[1]}"
        time.sleep(0.005)
    return found


def kill(process: subprocess.Popen) -> None:
    """`kill -9` of the command alone; all that it started must end by itself."""
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(started, timeout=300)
    for left in alive:
        left.kill()
    assert not alive, "these outlived their command"


def jobs(process: subprocess.Popen, job: str = "") -> list[psutil.Process]:
    """The processes of its jobs (`bench.scale.worker`) that run now, of a kind or all."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            line = child.cmdline()
        except psutil.Error:
            continue
        if "bench.scale.worker" in " ".join(line) and job in ("", line[-2]):
            found.append(child)
    return found


def request_of(job: psutil.Process) -> Path:
    return ROOT / job.cmdline()[-1] / "request.json"


def until_it_says(process: subprocess.Popen, text: str) -> None:
    """Reads what a command says on stderr up to a line that has `text`."""
    while text not in (line := process.stderr.readline()):
        assert line, "it ended without saying so"


def records(home) -> pd.DataFrame:
    """What a home's records say that does not depend on the clock or on memory: point, metric, value (NaN where it does), status.

    The rates of encoding are left out whole: a command writes those of what it encoded itself.
    """
    rows = RecordStore(home).read()
    rows = rows[rows.task != "encoding"]
    clocked = rows.unit.isin(TIMED) | rows.metric.isin(MEMORY)
    return rows.assign(value=rows.value.mask(clocked))[["point_id", "metric", "value", "status"]].reset_index(drop=True)


def assert_same(home, undisturbed) -> None:
    """The records of a home are those of an undisturbed one, and it has the same pages."""
    pd.testing.assert_frame_equal(records(home), records(undisturbed), check_exact=True)
    assert {file.name for file in (home / "site").glob("*.html")} == {
        file.name for file in (undisturbed / "site").glob("*.html")
    }


def finished(home) -> dict[Path, str]:
    """The files of a home that whoever writes them is done with, for good (training data, vectors, indexes, records), and their SHA-256.

    A point of the records is whole with the file of its rows, which is written last.
    """
    found = [path for pattern in FINISHED for path in Path(home).glob(pattern) if path.is_file()]
    found = [
        path
        for path in found
        if path.parent.name != "results" or path.with_name(f"{path.name.split('.')[0]}.parquet").exists()
    ]
    return {
        path: sha256(path)
        for path in found
        if not any(part.startswith(".") or part.endswith(".parts") for part in path.parts)
    }


def truncate(path: Path) -> None:
    """The second half of a file is gone."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit of a file is another: of its values, not of what a reader may skip."""
    content = bytearray(path.read_bytes())
    place = len(content) * 7 // 8
    if path.suffix == ".parquet":
        first = pq.ParquetFile(path).metadata.row_group(0).column(0)
        place = first.data_page_offset + first.total_compressed_size - 1
    if path.suffix == ".npz":
        place = content.index(b"\x93NUMPY") + NPY_HEADER + 3
    content[place] ^= 4
    path.write_bytes(content)
