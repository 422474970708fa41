"""A part of training computed in several ways, each measured in a process of its own, as records: what `bench.tasks.parts.lexicon_head` and `bench.tasks.parts.key_queue` share.

A part is a module with `PART`, which names its ways, and `measure(request) -> values`, which runs in the process (`bench.scale.worker`). A way that cannot
run here is recorded as absent with the reason, and measured once it can be.
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch

from bench.store import cli, config
from bench.store.isolated import Limits, Outcome, run_job
from bench.store.machine import cores
from bench.store.records import Point, RecordStore

KIB = 1024


@dataclass(frozen=True)
class Part:
    """What a bench of a part needs beside its `measure`.

    task: of its records, and the name of its job. shape: a dataclass whose fields are flags, the first the size of a batch. meanings: what its
    fields are. code: modules that decide what is measured. line: what is printed of a way's values by metric. missing: why a way cannot run
    here, "" where it can.
    """

    task: str
    ways: tuple[str, ...]
    shape: type
    meanings: dict[str, str]
    code: tuple[str, ...]
    line: Callable[[pd.Series], str]
    missing: Callable[[str], str] = lambda way: ""

    def main(self, arguments: argparse.Namespace) -> None:
        """Measures what is missing and prints one line for each way."""
        store, shape = (
            RecordStore(arguments.home),
            self.shape(**{name: getattr(arguments, name) for name in self.meanings}),
        )
        knobs, code = config.as_tree(shape), config.code_fingerprint(__name__, *self.code)
        base = Point(
            task=self.task, images=next(iter(knobs.values())), knobs=knobs, threads=arguments.threads, code_id=code
        )
        for way in arguments.ways.split(","):
            point = replace(base, engine=way, command=cli.command_line())
            if arguments.force or not store.has(point):
                self._measure(store, point, knobs, arguments)
            rows = store.read()
            rows = rows[rows.point_id == point.id].set_index("metric")
            whole = rows.status.iloc[0] == "ok"
            print(f"{way:<16} {self.line(rows.value) if whole else f'{rows.status.iloc[0]}: {rows.note.iloc[0]}'}")

    def _measure(self, store: RecordStore, point: Point, knobs: dict, arguments: argparse.Namespace) -> None:
        request = {"shape": knobs, "way": point.engine, "repeats": arguments.repeats, "threads": arguments.threads}
        folder, limits, reason = (
            arguments.home / "sweeps" / f"{self.task}-{point.id}",
            Limits(arguments.time_limit),
            self.missing(point.engine),
        )
        outcome = Outcome("absent", {}, reason) if reason else run_job(self.task, request, folder, limits)
        values = {name: value for name, value in outcome.result.items() if name != "note"}
        store.write(point, values, status=outcome.status, note=outcome.note or outcome.result.get("note", ""))

    def parser(self, description: str) -> argparse.ArgumentParser:
        made = cli.parser(description, writes=True)
        for name, meaning in self.meanings.items():
            default = getattr(self.shape, name)
            choices = {"choices": ("bfloat16", "float32")} if name == "dtype" else {"type": type(default)}
            made.add_argument(f"--{name}", default=default, help=meaning, **choices)
        made.add_argument(
            "--ways", type=self._ways, default=",".join(self.ways), help=f"separated by commas: {', '.join(self.ways)}"
        )
        made.add_argument("--threads", type=int, default=cores(), help="of the CPU")
        made.add_argument("--repeats", type=int, default=3, help="timed passes")
        made.add_argument("--time-limit", type=float, default=1800.0, help="seconds for one way")
        return made

    def _ways(self, text: str) -> str:
        if unknown := next((way for way in text.split(",") if way not in self.ways), None):
            raise argparse.ArgumentTypeError(f"{unknown!r}: expected {', '.join(self.ways)}, separated by commas")
        return text


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def peak_memory() -> int:
    """The peak so far: of the GPU's allocations, or of this process."""
    if device() == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def now() -> float:
    """Seconds, when all that was asked of the GPU is done."""
    if device() == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
