"""Changes files and reads them, by the hundred thousand: `python -m tests.fuzz --target all --executions 100000`.

Each target runs in a process of its own, guided by coverage where atheris is installed, and leaves a record:
executions, and how many of them were mishandled (a traceback, a hang, a crash, a changed file that reads as other
values). Records of several runs add up; each run draws other changes. A mishandled input is saved in
`tests/fuzz/seeds/<target>/`, one for each place in the code, and the tests read it again. Ctrl-C records what was done
so far. The exit code is 1 when something was mishandled.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.store import cli
from bench.store.config import code_fingerprint
from bench.store.records import Point, RecordStore
from models.errors import InputError
from tests.fuzz.harness import SEEDS
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import PROGRESS, report

CODE = (
    "bench.store.config",
    "bench.corpora.readers",
    "models.files",
    "bench.store.records",
    "bench.vectors.write",
    "bench.vectors.read",
    "models.checkpoint",
    "models.query_table.table",
    "ablations.config",
)
STUCK = 120  # CPU seconds without an execution, after which a worker is killed
STOPPED = "stopped"  # outcome of a worker after Ctrl-C
POLL_SECONDS = 0.5
UNCAUGHT = "Uncaught Python exception"  # atheris, in the line before the exception


def fuzz(target: str, executions: int, seed: int, mutator: str) -> tuple[int, int, list[dict]]:
    """Executions, mishandled ones, and the first finding at each place. A worker that dies or hangs is replaced."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{target}-", dir=memory) as made:
        folder = Path(made)
        (folder / "progress").write_bytes(bytes(PROGRESS.size))
        done = bad = 0
        while done < executions:
            before = done
            code = _work(folder, [target, str(folder), str(executions - done), str(seed + before), mutator])
            done, bad = PROGRESS.unpack((folder / "progress").read_bytes())
            if code == STOPPED:
                break
            if done == before:
                raise InputError(f"{target}: the worker ended before its first execution: {_last_error(folder)}")
            if code:
                bad += 1
                (folder / "progress").write_bytes(PROGRESS.pack(done, bad))
                what = "hang" if code == "hang" else f"the process ended with {code}: {_last_error(folder)}"
                report(folder, (folder / "work" / TARGETS[target].file).read_bytes(), f"native {code}", what)
        found = folder / "found.jsonl"
        lines = [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()] if found.exists() else []
        firsts = list({line["where"]: line for line in reversed(lines)}.values())
        for line in firsts:
            (SEEDS / target).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / line["input"], SEEDS / target / line["input"])
        return done, bad, firsts


def _work(folder: Path, arguments: list[str]):
    """The exit code of a worker, or "hang"."""
    with open(folder / "stderr.txt", "wb") as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", *arguments], stdout=subprocess.DEVNULL, stderr=errors
        )
    process, last = psutil.Process(worker.pid), (b"", 0.0)
    while worker.poll() is None:
        try:
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            worker.kill()
            worker.wait()
            return STOPPED
        progress = (folder / "progress").read_bytes()
        try:
            spent = sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
        if progress != last[0]:
            last = progress, spent
        elif spent - last[1] > STUCK:
            worker.kill()
            worker.wait()
            return "hang"
    return worker.returncode


def _last_error(folder: Path) -> str:
    """The exception that ended a worker, with the last line of its traceback; else its last errors."""
    lines = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    places = [place for place, line in enumerate(lines) if UNCAUGHT in line]
    if places:
        after = lines[places[-1] + 1 :]
        frames = [line.strip() for line in after if line.startswith("  File ")]
        return " ".join([*after[:1], *frames[-1:]])[:300]
    return " ".join([line for line in lines if "Error" in line or "Exception" in line][-3:] or lines[-3:])[-300:]


def main(arguments) -> int:
    """Fuzzes the chosen targets chunk by chunk; returns the exit code."""
    names = list(TARGETS) if arguments.target == ["all"] else arguments.target
    if unknown := next((name for name in names if name not in TARGETS), None):
        raise InputError(f"--target {unknown}: unknown; known: {', '.join(TARGETS)}")
    store, code_id, total = RecordStore(arguments.home), code_fingerprint(*CODE), 0
    for name in names:
        left, mutator = arguments.executions, _mutator(name, arguments.mutator)
        while left:
            seed = 0
            while store.has(point := _point(name, mutator, seed, code_id)):
                seed += 1
            began = time.perf_counter()
            wanted = min(left, arguments.chunk)
            done, bad, found = fuzz(name, wanted, 1_000_000 * seed, mutator)
            if not done:
                return cli.INTERRUPTED
            seconds, total, left = time.perf_counter() - began, total + bad, max(0, left - done)
            note = "; ".join(f"{line['where']}: {line['what']} ({line['input']})" for line in found)
            store.write(point, {"fuzz_executions": done, "fuzz_mishandled": bad}, note=note, seconds=seconds)
            print(f"{name}: {done:,} executions, {done / seconds:,.0f} a second, {bad:,} mishandled {note}", flush=True)
            if done < wanted:
                return cli.INTERRUPTED
    return int(total > 0)


def _mutator(name: str, chosen: str) -> str:
    """The mutator of a target. Coverage does not help where a checksum refuses every change."""
    if TARGETS[name].sealed:
        return "plain"
    return chosen if chosen != "auto" else "guided" if importlib.util.find_spec("atheris") else "plain"


def _point(name: str, mutator: str, seed: int, code_id: str) -> Point:
    knobs = {"target": name, "about": TARGETS[name].about, "mutator": mutator}
    return Point("reliability", seed=seed, knobs=knobs, code_id=code_id, command=cli.command_line())


def parser():
    """Flags of `python -m tests.fuzz`."""
    flags = cli.parser("Changes files and reads them, and records how many were mishandled.")
    flags.add_argument("--target", nargs="+", default=["all"], help=f"all, or some of {', '.join(TARGETS)}")
    flags.add_argument("--executions", type=int, default=10_000, help="per target")
    flags.add_argument("--chunk", type=int, default=20_000, help="executions per record: what a kill loses at most")
    mutators, text = ("auto", "guided", "plain"), "guided: by coverage, with atheris"
    flags.add_argument("--mutator", choices=mutators, default="auto", help=text)
    return flags


if __name__ == "__main__":
    sys.exit(cli.run(main, parser(), prog="python -m tests.fuzz"))
