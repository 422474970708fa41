"""The trainer under torchrun with two processes (gloo): resumed, killed and failing.

What each step computes is tested in tests/models/test_distributed.py.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import time
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import distributed

from ablations import config as configs
from ablations import loop, torchrun
from ablations import train as trainer
from ablations.data import prepare
from bench.store.records import RecordStore
from models import checkpoint
from models.errors import InputError

SHORT = ("train.steps=60", "train.validate_every=10", "train.keep_words=0.7")
SMOKE = ("train.steps=8", "train.validate_every=4", "train.checkpoint_every=3", "train.precision=float32")
SMOKE += ("data.train_images=64", "data.val_images=16")


@pytest.fixture(scope="module")
def launch(start):
    """Starts `torchrun --nproc-per-node 2 -m ablations.train ARGUMENTS...`; a Popen with text pipes."""
    return lambda *arguments: start(
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        2,
        "-m",
        "ablations.train",
        "--variant",
        "lexlip",
        *arguments,
    )


def workers_of(process) -> dict[int, psutil.Process]:
    """Rank -> process, of the workers that torchrun has started."""
    found = {}
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):
            if "RANK" in child.environ():
                found[int(child.environ()["RANK"])] = child
    return found


def curve_of(summary: dict) -> list[dict]:
    return [{"step": row["step"], **row["train"]} for row in summary["curve"]]


def assert_same_curve(one: dict, other: dict) -> None:
    for these, those in zip(curve_of(one), curve_of(other), strict=True):
        assert those == pytest.approx(these, rel=1e-3, abs=1e-5)


def own_lines(err: str) -> list[str]:
    """The lines of the trainer's processes on stderr, without torchrun's report."""
    return [line for line in err.splitlines() if line.startswith("python -m ablations.train: ")]


@pytest.fixture(scope="module")
def run(tmp_path_factory, made_home, tiny, resolve, launch):
    """Two launches: in "killed" one process is killed; "grown" resumes a run of a single process."""
    homes = {name: tmp_path_factory.mktemp(name) for name in ("killed", "grown", "alone")}
    shutil.copytree(made_home, homes["alone"], dirs_exist_ok=True)
    smoke = configs.resolve("smoke", "lexlip", list(SMOKE))

    launched = {"killed": launch("--profile", tiny, "--home", homes["killed"], *SHORT)}
    try:
        real = loop.save_state
        with pytest.MonkeyPatch.context() as until_a_state:
            until_a_state.setattr(loop, "save_state", lambda *state: (real(*state), stop()))
            with pytest.raises(InterruptedError):
                trainer.train(homes["grown"], "smoke", "lexlip", 0, smoke)
        launched["grown"] = launch("--profile", "smoke", "--home", homes["grown"], "--verbose", *SMOKE)

        process = launched["killed"]
        while not list(homes["killed"].glob("runs/*/state-*")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
        workers = workers_of(process)
        os.kill(workers[1].pid, signal.SIGKILL)
        done = {}
        for name, process in launched.items():
            out, err = process.communicate(timeout=300)
            done[name] = SimpleNamespace(home=homes[name], rc=process.returncode, out=out, err=err)
    finally:
        for process in launched.values():
            for worker in workers_of(process).values() if process.poll() is None else ():
                worker.kill()
            process.kill()
    shutil.copytree(homes["grown"] / "data", homes["alone"] / "data", dirs_exist_ok=True)
    alone = {
        "grown": trainer.train(homes["alone"], "smoke", "lexlip", 0, smoke).summary,
        "killed": trainer.train(homes["alone"], tiny, "lexlip", 0, resolve("lexlip", *SHORT)).summary,
    }
    return SimpleNamespace(**done, alone=alone, workers=workers)


def stop():
    raise InterruptedError


@pytest.mark.nightly
def test_two_processes_resume_the_run_of_one_and_end_as_one_would(run):
    assert run.grown.rc == 0, run.grown.err
    assert run.grown.err.count("lexlip seed 0: resumes at step 3") == 1, "logged once"
    (folder,) = (run.grown.home / "runs").iterdir()
    assert run.grown.out.splitlines() == [str(folder / "best")]
    checkpoint.load(folder / "best")
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["processes"], summary["steps"], summary["train_samples"]) == (2, 8, 256)
    assert_same_curve(run.alone["grown"], summary)
    assert not list(folder.glob("state-*")) and not list(folder.glob(".*"))


@pytest.mark.nightly
def test_one_process_alone_writes_the_records(run):
    table = RecordStore(run.grown.home).read()
    assert len(table) == len(table.drop_duplicates(["point_id", "metric"]))
    (note,) = set(table[table["metric"] == "train_samples"]["note"])
    assert "2 processes" in note and "lexicon head " in note


@pytest.mark.nightly
def test_a_killed_process_ends_the_other_without_a_traceback_of_ours(run):
    assert run.killed.rc != 0 and sorted(run.workers) == [0, 1]
    assert not any(worker.is_running() for worker in run.workers.values())
    lines = own_lines(run.killed.err)
    assert len(lines) <= 1 and all("another process ended" in line for line in lines), "none if torchrun was faster"
    assert not re.search("gloo|RuntimeError", run.killed.err)


@pytest.mark.nightly
def test_one_process_resumes_the_run_of_two_and_ends_as_undisturbed(run, tiny, resolve):
    """The two also made their data, the first before the second."""
    states = [int(state.name.removeprefix("state-")) for state in run.killed.home.glob("runs/*/state-*")]
    assert 0 < max(states) < 60
    trained = trainer.train(run.killed.home, tiny, "lexlip", 0, resolve("lexlip", *SHORT))
    assert trained.summary["processes"] == 1
    assert_same_curve(run.alone["killed"], trained.summary)


def test_the_slices_of_a_batch_are_the_batch_with_captions_of_one_length(made_home, resolve):
    """The same for micro-batches."""
    run = resolve()
    data = prepare(made_home, run.data, run.model.text)
    for step in range(8):
        whole = data.batch(step, 8, seed=0)
        for parts in ([data.batch(step, 8, 0, part, 4) for part in range(4)], whole.split(3)):
            for name, tensor in vars(whole).items():
                if isinstance(tensor, torch.Tensor):
                    assert torch.equal(torch.cat([getattr(part, name) for part in parts]), tensor), name
        assert {part.pairs for part in whole.split(3)} == {8} and data.batch(step, 8, 0, 1, 4).pairs == 2


def test_a_batch_that_the_processes_cannot_share_is_refused(made_home, tiny, resolve, monkeypatch):
    monkeypatch.setattr(torchrun, "world", lambda: 3)
    with pytest.raises(
        InputError, match="train.batch: 8 pairs cannot be shared by 3 processes; expected a multiple of 3"
    ):
        trainer.train(made_home, tiny, "lexlip", 0, resolve())


# In this process, alone in a process group: its report when it fails, and when another one does


@pytest.fixture
def store(monkeypatch):
    """The environment and store that torchrun gives a single process."""
    store = distributed.HashStore()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setattr(distributed, "rendezvous", lambda url: iter([(store, 0, 1)]))
    monkeypatch.setenv("LOCAL_RANK", "0")
    yield store
    if distributed.is_initialized():
        distributed.destroy_process_group()


def fail_with(error):
    with torchrun.joined():
        raise error


LOST = RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer")


@pytest.mark.parametrize(
    ("error", "first", "later"),
    [
        (InputError("train.batch: no"), (InputError, "train.batch: no"), (SystemExit, "2")),
        (OSError("No space left on device"), (OSError, "No space left"), (SystemExit, "2")),
        (LOST, (ConnectionError, "process 0 of 1: another process ended, so this one stops"), (SystemExit, "2")),
        (RuntimeError("a defect"), (RuntimeError, "a defect"), (RuntimeError, "a defect")),
    ],
)
@pytest.mark.parametrize("others_failed", [False, True])
def test_the_first_to_fail_reports_why_and_defects_always_do(error, first, later, others_failed, store):
    if others_failed:
        store.add(torchrun.FAILED, 1)
    expected, message = later if others_failed else first
    with pytest.raises(expected, match=message):
        fail_with(error)


def test_a_group_is_left_at_the_end(store):
    with torchrun.joined():
        assert distributed.get_world_size() == 1 and torchrun.is_first()
        assert torchrun.cpu_seconds(2.0) == (2.0, 0)
    assert not distributed.is_initialized()


def test_runs_that_differ_between_machines_are_refused(monkeypatch):
    torchrun.check_equal("the run id", "0a1b")
    other_1L = torch.tensor([list(b"0a1c")], dtype=torch.uint8)
    monkeypatch.setattr(torchrun, "world", lambda: 2)
    monkeypatch.setattr("models.distributed.gather", lambda own_1L: torch.cat([own_1L, other_1L]))
    with pytest.raises(InputError, match="the run id is 0a1b on process 0, but 0a1c on process 1"):
        torchrun.check_equal("the run id", "0a1b")
