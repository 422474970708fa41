"""The real commands at the smallest size with every step, how to interrupt them, how to compare their records."""

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
from bench.vectors.format import NPY_HEADER
from bench.vectors.write import write_vectors
from models.files import sha256

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "ablations" / "tiny.yaml"
PATIENCE = 3600
"""Seconds after which a command counts as hanging. Not a measure of speed."""

INJECTED = Path(__file__).with_name("injected")
"""On PYTHONPATH, its `sitecustomize.py` puts the fault named by FAULT into every Python process of a command."""

GRID = (
    *("rounds=1", "seconds=0.02", "queries=8", "exact_queries=6"),
    *("top_k=[]", "bits=[]", "query_top_k=[]", "modes=[[single,1]]"),
)
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
    flags = ["--checkpoint", checkpoint, *CORPUS, "--images", "16", "--top-k", "8", "--home", home]
    return ["bench", "recall", *flags, *more]


def main_job(home, *more) -> list[str]:
    """Train and measure a variant, and build the report."""
    flags = ["--profile", TINY, "--variants", "lexlip", "--parallel", "1", "--home", home]
    return ["ablations.run", *flags, *more, *SHORT, *MEASURED]


def sweep(home, vectors, *more, engines="impact,dummy") -> list[str]:
    """Build, check and time engines over existing vectors, each step in a process of its own."""
    folders = ["--documents", vectors / "documents", "--queries", vectors / "queries"]
    flags = ["--corpus", "vectors", *folders, "--sizes", "200", "--engines", engines, "--home", home]
    return ["bench.scale", *flags, *more, *GRID]


def encoding(home, checkpoint, *more) -> list[str]:
    """Encode a gallery, in shards."""
    slices = ["--images", "128", "--distractors", "256", "--shard-rows", "128"]
    return ["bench", "gallery", "--checkpoint", checkpoint, *CORPUS, *slices, "--home", home, *more]


def make_vectors(folder) -> Path:
    """Lexicon vectors of 200 documents and 20 queries; query q belongs to document q."""
    rng = np.random.default_rng(0)
    rows = sp.random_array((200, 50), density=0.2, random_state=rng, dtype=np.float32, format="csr")
    rows = sp.csr_array(rows / np.maximum(1e-6, np.sqrt(rows.multiply(rows).sum(axis=1)))[:, None])
    words = [f"l{i}" for i in range(50)]
    for part, count in (("documents", 200), ("queries", 20)):
        names, items = ([f"{name}{i}" for i in range(count)] for name in (part, "documents"))
        with write_vectors(folder / part, "lexicon", 50, vocabulary=words, shard_rows=100) as writer:
            writer.append(rows[:count], names, items)
    return folder


def start(command, **environment) -> subprocess.Popen:
    """`python -m MODULE FLAGS` with text pipes, on one thread: at this size, more would only wait for each other."""
    settings = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    environment = os.environ | settings | environment
    line = [sys.executable, "-m", *map(str, command)]
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def injected(fault: str) -> dict[str, str]:
    """The environment that puts a fault into a command."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(INJECTED)])), "FAULT": fault}


def run(command, **environment) -> tuple[int, list[str]]:
    """Runs a command to its end: exit code, lines on stderr."""
    process = start(command, **environment)
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors.splitlines()


def succeed(command, **environment) -> None:
    """Runs a command that must succeed."""
    code, lines = run(command, **environment)
    assert code == 0, "\n".join(lines)


def refused(command, *parts: str, **environment) -> str:
    """Runs a command that must end with exit code 2 and one line that contains `parts`; returns the line."""
    code, lines = run(command, **environment)
    assert code == 2, "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)
    for part in parts:
        assert part in lines[-1]
    return lines[-1]


@contextlib.contextmanager
def pause(process: subprocess.Popen) -> Iterator[None]:
    """Suspends a command until the block ends."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wait_until(true: Callable[[], object], process: subprocess.Popen):
    """Waits for `true` to return something true, and returns that. Fails when the process ends first."""
    while not (found := true()):
        assert process.poll() is None, f"it ended first: {process.communicate()[1]}"
        time.sleep(0.005)
    return found


def kill(process: subprocess.Popen) -> None:
    """`kill -9` of the command alone; the processes that it started must end by themselves."""
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(started, timeout=300)
    for left in alive:
        left.kill()
    assert not alive, "these processes outlived their command"


def jobs(process: subprocess.Popen, job: str = "") -> list[psutil.Process]:
    """The running workers (`bench.scale.worker`) of a command: of one job, or all."""
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


def wait_for_message(process: subprocess.Popen, text: str) -> None:
    """Reads the stderr of a command up to a line that contains `text`."""
    while text not in (line := process.stderr.readline()):
        assert line, f"it ended without the message {text!r}"


def records(home) -> pd.DataFrame:
    """Point, metric, value and status of the records of a home; NaN for a value that depends on time or memory.

    Encoding rates and steps of a sweep are left out: a command records them only for what it did itself.
    """
    rows = RecordStore(home).read()
    rows = rows[~rows.task.isin(("encoding", "steps"))]
    clocked = rows.unit.isin(TIMED) | rows.metric.isin(MEMORY)
    return rows.assign(value=rows.value.mask(clocked))[["point_id", "metric", "value", "status"]].reset_index(drop=True)


def assert_same(home, undisturbed) -> None:
    """The records of a home are those of an undisturbed one, and it has the same pages."""
    pd.testing.assert_frame_equal(records(home), records(undisturbed), check_exact=True)
    assert {file.name for file in (home / "site").glob("*.html")} == {
        file.name for file in (undisturbed / "site").glob("*.html")
    }


def finished_files(home) -> dict[Path, str]:
    """The complete files of a home (training data, vectors, indexes, records) -> their SHA-256.

    A point is complete with the file of its rows, which is written last.
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
    """Removes the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Flips one bit of a file, in its values, not in what a reader may skip."""
    content = bytearray(path.read_bytes())
    place = len(content) * 7 // 8
    if path.suffix == ".parquet":
        first = pq.ParquetFile(path).metadata.row_group(0).column(0)
        place = first.data_page_offset + first.total_compressed_size - 1
    if path.suffix == ".npz":
        place = content.index(b"\x93NUMPY") + NPY_HEADER + 3
    content[place] ^= 4
    path.write_bytes(content)
