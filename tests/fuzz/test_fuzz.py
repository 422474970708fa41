"""Every reader handles valid, broken and once mishandled files; the fuzzer notices a reader that does not."""

import json
import random
import subprocess
import sys

import pytest

from bench.store.records import RecordStore
from models.errors import InputError
from tests.fuzz import __main__ as command
from tests.fuzz import harness as harnesses
from tests.fuzz import mutate, targets, worker
from tests.fuzz.harness import SEEDS, Harness

TRIED = 20  # changes of each target; `nox -s fuzz` tries any number
TRIED_SLOW = 4  # of targets that resolve a whole configuration or build a model


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    made = {}

    def of(name: str) -> Harness:
        if name not in made:
            made[name] = Harness(targets.TARGETS[name], tmp_path_factory.mktemp(name))
        return made[name]

    return of


@pytest.mark.parametrize("name", targets.TARGETS)
def test_broken_files_are_refused_in_one_line(name, harness):
    """Inputs that were mishandled once, and some new changes, the same in every run."""
    rng = random.Random(name)
    one = harness(name)
    kept = [file.read_bytes() for file in sorted((SEEDS / name).glob("*"))]
    new = [
        mutate.mutate(rng, rng.choice(one.seeds), one.seeds, one.target.form, one.target.sealed)
        for _ in range(TRIED_SLOW if one.slow else TRIED)
    ]
    assert [found for data in (*one.seeds, *kept, *new) if (found := one.mishandled(data))] == []


def test_every_seed_belongs_to_a_target():
    assert {folder.name for folder in SEEDS.glob("*") if any(folder.iterdir())} <= set(targets.TARGETS)


class Careless(targets.Target):
    """Mishandles files that begin with certain letters."""

    name, file, about, sealed = "careless", "file", "a test", True

    def build(self, folder):
        return [b"whole"]

    def read(self, folder):
        data = (folder / self.file).read_bytes()
        match data[:1]:
            case b"t":
                raise KeyError("t")
            case b"e":
                raise InputError("")
            case b"h":
                while True:
                    pass
            case b"m":
                raise OSError("a library's own")
            case b"f":
                return open(folder / "nowhere").read()
            case b"o":
                return "other"
        if data != b"whole":
            raise InputError("changed")
        return "whole"


def test_each_way_of_mishandling_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(harnesses, "CPU_SECONDS", 0.05)
    one = Harness(Careless(), tmp_path)
    ways = {
        b"t": "KeyError",
        b"e": "an error without a message",
        b"h": "Hang",
        b"m": "OSError",
        b"o": "silently other values",
    }
    assert {data: one.mishandled(data)[1][: len(what)] for data, what in ways.items()} == ways
    assert [one.mishandled(data) for data in (b"whole", b"changed", b"fine: the machine's own error")] == [None] * 3


def test_the_command_records_counts_and_saves_mishandled_inputs(tmp_path, monkeypatch, capsys):
    """In this process, with a worker that dies."""
    monkeypatch.setattr(command, "SEEDS", tmp_path / "seeds")
    monkeypatch.setitem(targets.TARGETS, "careless", Careless())
    monkeypatch.setattr(command, "_work", lambda folder, arguments: _worker(folder, arguments))
    flags = [
        "--target",
        "careless",
        "--executions",
        "30",
        "--chunk",
        "20",
        "--mutator",
        "plain",
        "--home",
        str(tmp_path),
    ]
    assert command.cli.run(command.main, command.parser(), flags) == 1
    rows = RecordStore(tmp_path).read()
    assert sorted(rows[rows.metric == "fuzz_executions"].value) == [10, 20]
    assert rows[rows.metric == "fuzz_mishandled"].value.sum() == 2, "one in each record"
    assert {json.loads(knobs)["target"] for knobs in rows.knobs} == {"careless"} and set(rows.seed) == {0, 1}
    assert [file.read_bytes() for file in (tmp_path / "seeds" / "careless").iterdir()] == [b"the last one"]


def _worker(folder, arguments) -> int:
    """Dies at its last execution."""
    (folder / "work").mkdir(exist_ok=True)
    (folder / "work" / "file").write_bytes(b"the last one")
    (folder / "stderr.txt").write_text("Segmentation fault\n")
    done, bad = command.PROGRESS.unpack((folder / "progress").read_bytes())
    (folder / "progress").write_bytes(command.PROGRESS.pack(done + int(arguments[2]), bad))
    return -11


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (
            "INFO: no Error\n\n === Uncaught Python exception: ===\nHang: long\nTraceback (most recent call last):\n"
            '  File "a.py", line 1, in one\n    b()\n  File "b.py", line 2, in b\n    raise Hang\nHang: long\n\n'
            "==1== ERROR: libFuzzer: fuzz target exited\nSUMMARY: libFuzzer: fuzz target exited\n",
            'Hang: long File "b.py", line 2, in b',
        ),
        ("one\nMemoryError: none left\ntwo\n", "MemoryError: none left"),
        ("one\nSegmentation fault\n", "one Segmentation fault"),
    ],
)
def test_why_a_worker_ended(tmp_path, printed, said):
    (tmp_path / "stderr.txt").write_text(printed)
    assert command._last_error(tmp_path) == said


def test_an_unknown_target_is_refused(tmp_path, capsys):
    assert command.cli.run(command.main, command.parser(), ["--target", "ppm", "--home", str(tmp_path)]) == 2
    assert "picture-ppm" in capsys.readouterr().err


def test_a_worker_counts_executions_and_saves_one_input_for_each_place(tmp_path, monkeypatch):
    monkeypatch.setattr(worker.resource, "setrlimit", lambda *_: None)  # of this process
    monkeypatch.setitem(targets.TARGETS, "careless", Careless())
    monkeypatch.setattr(
        mutate, "mutate", lambda rng, *_, **__: rng.choice([b"whole", b"other", b"table", b"error", b"changed"])
    )
    (tmp_path / "progress").write_bytes(bytes(worker.PROGRESS.size))
    worker.main("careless", tmp_path, 50, 0, "plain")
    done, bad = worker.PROGRESS.unpack((tmp_path / "progress").read_bytes())
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert done == 50 and 3 < bad < 50
    assert sorted((tmp_path / line["input"]).read_bytes() for line in found) == [b"error", b"other", b"table"]


WAITING = """
import sys, time
from pathlib import Path
from tests.fuzz import targets, worker

class Waiting(targets.Target):
    name, file, about = "waiting", "file", "waits for the processor, as on a loaded machine"

    def build(self, folder):
        return [b"whole"]

    def read(self, folder):
        time.sleep(2.5 if (folder / self.file).read_bytes() != b"whole" else 0)

targets.TARGETS["waiting"] = Waiting()
worker.main("waiting", Path(sys.argv[1]), 4, 0, "guided")
"""


def test_waiting_is_no_hang(tmp_path):
    """The limit is CPU time; a guided worker used to end after a second, because 0 does not turn the limit off."""
    pytest.importorskip("atheris")
    (tmp_path / "progress").write_bytes(bytes(worker.PROGRESS.size))
    done = subprocess.run([sys.executable, "-c", WAITING, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    executions, mishandled = worker.PROGRESS.unpack((tmp_path / "progress").read_bytes())
    assert executions >= 4 and mishandled == 0


@pytest.mark.parametrize("form", ["bytes", "json", "yaml"])
def test_changes_are_deterministic(form):
    data = b'{"a": [1, {"b": "text"}], "c": null}'
    first, again = ([mutate.mutate(random.Random(n), data, [data], form) for n in range(200)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 100
    whole = [found for found in first if form != "json" or _parses(found)]
    assert whole and (form != "json" or len(whole) > 60), "values are exchanged in files that stay JSON"


def _parses(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def test_a_long_message_is_cut(capsys):
    """A message quotes the first line of a file, which can have any length."""

    def refuse(_):
        raise InputError("x \n" * 10_000)

    assert command.cli.run(refuse, command.cli.parser("a test"), []) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and len(printed) < 2 * command.cli.LONGEST_ERROR and printed.endswith(" …\n")
