"""PISA, the academic reference: compressed posting lists with dynamic pruning (MaxScore, with or without block maxima).

Source: Mallia, Siedlaczek, Mackenzie and Suel, "PISA: Performant Indexes and Search for Academia", OSIRRC at SIGIR
2019. Its wheel (pyterrier-pisa, Linux, Python up to 3.12) pins libraries that conflict with others here, so it runs in
a separate environment:

    python3 -m venv pisa-env && pisa-env/bin/pip install pyterrier-pisa
    export LEXLIP_BENCH_PISA_PYTHON=$PWD/pisa-env/bin/python

`pisa_server` runs in that environment. Queries are sent before the clock starts; results return through a pipe, which
is part of the timed search (some tens of microseconds).
"""

import itertools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.engines import ranking
from bench.engines.contract import Engine
from models.errors import AbsentError, InputError
from models.files import read_json, write_json

PYTHON = "LEXLIP_BENCH_PISA_PYTHON"
SERVER = Path(__file__).with_name("pisa_server.py")
SCRATCH = "scratch"
BUILD_FILES = ("inv.docs", "inv.freqs", "inv.sizes", "fwd.documents", "fwd.terms")


class Pisa(Engine):
    """Exact; integer impacts of 8 or 16 bits. Search knob `algorithm`: "maxscore" or "block_max_maxscore"."""

    name, kind, exact, weights = "pisa", "lexicon", True, (8, 16)
    other_modules = ("bench.engines.lexicon.pisa_server",)

    def build(self, vectors, folder, threads=1, **knobs):
        self.check_impacts(vectors)
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
                    raise InputError(f"pisa: indexing exited with code {done.returncode}: {_last_line(done.stderr)}")
        finally:
            shutil.rmtree(scratch)
        for name in BUILD_FILES:
            (Path(folder) / name).unlink(missing_ok=True)
        write_json(Path(folder) / "pisa.json", {"held": held})

    def open(self, folder):
        self.server, self.numbers = None, itertools.count()
        if read_json(Path(folder) / "pisa.json")["held"]:
            command, pipe = [_python(), str(SERVER), "search", str(folder)], subprocess.PIPE
            self.server = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
            try:
                self._request({"do": "prepare", "batch": next(self.numbers), "queries": []})
            except InputError as error:
                self.close()
                raise InputError(f"{folder}: incomplete PISA index ({error})") from None
        return self

    def prepare(self, queries, **knobs):
        """Sends the queries to the server; returns a handle of the batch."""
        bounds = zip(queries.indptr[:-1], queries.indptr[1:], strict=True)
        sent = [[list(map(str, queries.indices[a:b].tolist())), queries.data[a:b].tolist()] for a, b in bounds]
        batch = Batch(next(self.numbers), np.flatnonzero(np.diff(queries.indptr)), queries.shape[0])
        if self.server:
            self._request({"do": "prepare", "batch": batch.number, "queries": sent})
        return batch

    def search(self, queries, k, threads=1, *, algorithm: str = "block_max_maxscore", **knobs):
        ids, scores = ranking.empty(queries.count, k)
        if not (self.server and k and len(queries.nonempty)):
            return ids, scores
        request = {"do": "search", "batch": queries.number, "k": k, "threads": threads, "algorithm": algorithm}
        found = self._request(request)["found"]
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

    def _request(self, request: dict) -> dict:
        try:
            self.server.stdin.write(json.dumps(request).encode() + b"\n")
            self.server.stdin.flush()
            answer = self.server.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            _, errors = self.server.communicate()
            said = _last_line(errors.decode(errors="replace"))
            raise InputError(f"pisa: its process exited with code {self.server.returncode}: {said}")
        return json.loads(answer)

    def _read(self, count: int, kind) -> np.ndarray:
        return np.frombuffer(self.server.stdout.read(count * np.dtype(kind).itemsize), kind)


@dataclass(frozen=True)
class Batch:
    """Handle of queries on the server: number of the batch, rows of queries with lexicons, number of queries."""

    number: int
    nonempty: np.ndarray
    count: int


def _python() -> str:
    python = os.environ.get(PYTHON)
    if not python:
        raise AbsentError(
            f"{PYTHON} is not set: pisa needs a separate environment; "
            "python3 -m venv pisa-env && pisa-env/bin/pip install pyterrier-pisa"
        )
    if shutil.which(python) is None:
        raise InputError(f"{PYTHON}={python}: expected the Python of an environment with pyterrier-pisa")
    return python


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:300]
