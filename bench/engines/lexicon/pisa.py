"""PISA, the academic reference: compressed posting lists, dynamic pruning (MaxScore over block maxima, or without blocks).

Source: Mallia, Siedlaczek, Mackenzie and Suel, "PISA: Performant Indexes and Search for Academia", OSIRRC at SIGIR 2019. Its wheel
(pyterrier-pisa, Linux, Python up to 3.12) pins libraries that others here cannot live with, so it runs in an environment of its own:

    python3 -m venv pisa-env && pisa-env/bin/pip install pyterrier-pisa
    export LEXLIP_BENCH_PISA_PYTHON=$PWD/pisa-env/bin/python

`pisa_server` is the half that runs there; queries are with it before the clock starts, results come back through a pipe, which is in the
timed search (some tens of microseconds).
"""

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from bench.engines import Engine, ranking
from models.errors import AbsentError, InputError
from models.files import read_json, write_json

PYTHON = "LEXLIP_BENCH_PISA_PYTHON"
SERVER = Path(__file__).with_name("pisa_server.py")
SCRATCH = "scratch"
ONLY_FOR_BUILDING = ("inv.docs", "inv.freqs", "inv.sizes", "fwd.documents", "fwd.terms")


class Pisa(Engine):
    """Integer impacts only. Search knob: `algorithm`, one of PISA's."""

    name, kind, exact, weights = "pisa", "lexicon", True, (8, 16)
    parts = ("bench.engines.lexicon.pisa_server",)

    def build(self, vectors, folder, threads=1, **knobs):
        if vectors.dtype not in (np.uint8, np.uint16):
            raise InputError(f"pisa: weights are {vectors.dtype}; quantise them to 8 or 16 bits")
        python, scratch, held = _python(), Path(folder) / SCRATCH, False
        scratch.mkdir()
        try:
            for number, shard in enumerate(vectors.shards()):
                np.savez(scratch / f"{number:06d}.npz", indptr=shard.indptr, lexicons=shard.indices, impacts=shard.data)
                held = held or shard.nnz > 0
            if held:
                command = [python, str(SERVER), "build", str(folder), str(scratch), str(threads)]
                done = subprocess.run(command, check=False, capture_output=True, text=True)
                if done.returncode:
                    raise InputError(
                        f"pisa: indexing ended with exit code {done.returncode}: {_last_line(done.stderr)}"
                    )
        finally:
            shutil.rmtree(scratch)
        for name in ONLY_FOR_BUILDING:
            (Path(folder) / name).unlink(missing_ok=True)
        write_json(Path(folder) / "pisa.json", {"held": held})

    def open(self, folder):
        self.server, self.numbers = None, itertools.count()
        if read_json(Path(folder) / "pisa.json")["held"]:
            command = [_python(), str(SERVER), "search", str(folder)]
            self.server = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                self._ask({"do": "prepare", "batch": next(self.numbers), "queries": []})
            except InputError as error:
                self.close()
                raise InputError(f"{folder}: not a whole PISA index ({error})") from None
        return self

    def prepare(self, queries, **knobs):
        """Sends the queries; what is returned stands for them until it is let go of."""
        bounds = zip(queries.indptr[:-1], queries.indptr[1:], strict=True)
        sent = [[list(map(str, queries.indices[a:b].tolist())), queries.data[a:b].tolist()] for a, b in bounds]
        batch = Batch(next(self.numbers), np.flatnonzero(np.diff(queries.indptr)), queries.shape[0])
        if self.server:
            self._ask({"do": "prepare", "batch": batch.number, "queries": sent})
        return batch

    def search(self, queries, k, threads=1, *, algorithm: str = "block_max_maxscore", **knobs):
        ids, scores = ranking.empty(queries.count, k)
        if not (self.server and k and len(queries.asked)):
            return ids, scores
        request = {"do": "search", "batch": queries.number, "k": k, "threads": threads, "algorithm": algorithm}
        found = self._ask(request)["found"]
        rows, names, values = (self._read(found, kind) for kind in (np.int32, np.int64, np.float32))
        order = np.argsort(rows, kind="stable")
        rows, names, values = rows[order], names[order], values[order]
        places = np.arange(found) - np.searchsorted(rows, rows)
        ids[rows, places], scores[rows, places] = names, values
        return ranking.sort_rows(ids, scores)

    def close(self):
        if self.server:
            self.server.kill()
            self.server.communicate()
            self.server = None

    def _ask(self, request: dict) -> dict:
        try:
            self.server.stdin.write(json.dumps(request).encode() + b"\n")
            self.server.stdin.flush()
            answer = self.server.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            _, errors = self.server.communicate()
            raise InputError(
                f"pisa: its process ended with exit code {self.server.returncode}: {_last_line(errors.decode(errors='replace'))}"
            )
        return json.loads(answer)

    def _read(self, count: int, kind) -> np.ndarray:
        return np.frombuffer(self.server.stdout.read(count * np.dtype(kind).itemsize), kind)


class Batch:
    """Queries that the server holds: their number there, and which of them have lexicons."""

    def __init__(self, number: int, asked: np.ndarray, count: int):
        self.number, self.asked, self.count = number, asked, count


def _python() -> str:
    python = os.environ.get(PYTHON)
    if not python:
        raise AbsentError(
            f"{PYTHON} is not set: pisa needs an environment of its own; python3 -m venv pisa-env && pisa-env/bin/pip install pyterrier-pisa"
        )
    if shutil.which(python) is None:
        raise InputError(f"{PYTHON}={python}: expected the Python of an environment with pyterrier-pisa")
    return python


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:300]
