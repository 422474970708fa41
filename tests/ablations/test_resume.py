"""Killed and interrupted trainings resume and end as undisturbed ones; broken training states are refused."""

import contextlib
import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import psutil
import pytest

from ablations import train as trainer
from bench.store.records import RecordStore
from models.errors import InputError

TIMES = {"seconds", "train_seconds", "train_cpu_seconds", "other_core_seconds"}
MEASURED = ("measure.images=16", "measure.zero_shot=4", "measure.examples=2", "measure.top_k=[8]", "measure.slices=[]")
CHECKPOINT = ("model.safetensors", "tokenizer.json", "model.json")


def newest_state(home) -> int:
    with contextlib.suppress(FileNotFoundError):
        return max((int(folder.name.removeprefix("state-")) for folder in home.glob("runs/*/state-*")), default=0)
    return 0


def curve_of(folder) -> list[dict]:
    summary = json.loads((folder / "summary.json").read_text())
    return [{key: value for key, value in row.items() if key not in TIMES} for row in summary["curve"]]


def wait_for_state_after(step: int, process, home) -> None:
    while newest_state(home) <= step:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def kill_after(step: int, process, home) -> int:
    """SIGKILL as soon as a training state later than `step` is on disk; the step of the newest state."""
    wait_for_state_after(step, process, home)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    return newest_state(home)


def assert_same_run(one, other) -> None:
    """Same id, same checkpoint bit for bit, same learning curve number by number."""
    assert one.name == other.name
    for name in CHECKPOINT:
        assert (one / "best" / name).read_bytes() == (other / "best" / name).read_bytes(), name
    assert curve_of(one) == curve_of(other)
    assert len({row["train"]["loss"] for row in curve_of(one)}) == len(curve_of(one))


@pytest.fixture(scope="module")
def killed(tmp_path_factory, made_home, tiny, resolve, start, short):
    """The short run, killed in phase 1 and then resumed; and a copy of the killed home whose state is truncated."""
    home, broken = (tmp_path_factory.mktemp(name) / "home" for name in ("killed", "broken"))
    shutil.copytree(made_home, home)
    process = start("-m", "ablations.train", "--profile", tiny, "--variant", "lexlip", "--home", home, *short)
    step = kill_after(0, process, home)
    shutil.copytree(home, broken)
    state = max(broken.glob("runs/*/state-*")) / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    command = "python -m ablations.train --profile tiny"
    trained = trainer.train(home, tiny, "lexlip", 0, resolve("lexlip", *short), command)
    return SimpleNamespace(home=home, trained=trained, step=step, broken=broken, state=state)


def test_a_killed_and_resumed_run_ends_as_undisturbed(killed, short_run):
    """Validations every 7 steps, states every 4: means over the steps in between must survive the kill too."""
    assert 0 < killed.step < 40
    assert_same_run(short_run.trained.folder, killed.trained.folder)
    assert [row["step"] for row in killed.trained.summary["curve"]] == [7, 14, 20, 21, 28, 35, 40]
    assert not list(killed.trained.folder.glob("state-*"))


def test_records_of_a_resumed_run_are_those_of_an_undisturbed_one(killed, short_run):
    tables = [RecordStore(run.home).read() for run in (short_run, killed)]
    one, other = (
        table[~table["metric"].str.contains("second")].sort_values(["point_id", "metric"]) for table in tables
    )
    assert one["point_id"].tolist() == other["point_id"].tolist()
    assert one["value"].tolist() == other["value"].tolist()


def test_a_truncated_state_is_refused_and_left_in_place(killed, resolve, tiny, short):
    with pytest.raises(InputError, match="truncated or changed") as refused:
        trainer.train(killed.broken, tiny, "lexlip", 0, resolve("lexlip", *short))
    assert str(killed.state) in str(refused.value) and "\n" not in str(refused.value)
    assert killed.state.exists()


@pytest.mark.nightly
def test_killed_once_in_each_phase(made_home, tmp_path, tiny, resolve, start):
    homes = [shutil.copytree(made_home, tmp_path / name) for name in ("killed", "undisturbed")]
    command = ("-m", "ablations.train", "--profile", tiny, "--variant", "lexlip", "--home", homes[0])
    first = kill_after(0, start(*command), homes[0])
    second = kill_after(55, start(*command), homes[0])
    assert 0 < first < 50 < second < 100
    process = start(*command)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    undisturbed = trainer.train(homes[1], tiny, "lexlip", 0, resolve())
    (folder,) = (homes[0] / "runs").iterdir()
    assert out.splitlines() == [str(folder / "best")]
    assert_same_run(undisturbed.folder, folder)
    assert [row["step"] for row in curve_of(folder)] == [*range(7, 50, 7), 50, *range(56, 100, 7), 100]


def interrupt(process, home, target: str) -> None:
    """Ctrl-C as soon as a training state exists: exit code 130, one line besides progress, no process left."""
    wait_for_state_after(0, process, home)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGINT) if target == "command" else os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    messages = [line for line in err.splitlines() if " seed 0: " not in line]
    assert len(messages) == 1 and messages[0].endswith(": interrupted; run the same command again to resume"), err
    assert len(children) >= 2 and not psutil.wait_procs(children, timeout=60)[1]
    assert not (home / ".lock").exists()


def test_a_training_in_a_process_of_its_own_resumes_after_ctrl_c(home, tiny, resolve, start, short, short_run):
    interrupt(start("-m", "tests.ablations.train_only", "--home", home, *short, start_new_session=True), home, "group")
    resumed = trainer.train(home, tiny, "lexlip", 0, resolve("lexlip", *short))
    assert_same_run(short_run.trained.folder, resumed.folder)


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["command", "group"])
def test_the_main_job_resumes_after_ctrl_c(home, made_home, tiny, resolve, start, target, tmp_path):
    command = ("-m", "ablations.run", "--profile", tiny, "--variants", "lexlip,clip", "--parallel", 2, "--home", home)
    interrupt(start(*command, *MEASURED, start_new_session=True), home, target)
    process = start(*command, *MEASURED)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    elsewhere = shutil.copytree(made_home, tmp_path / "elsewhere")
    for variant in ("lexlip", "clip"):
        undisturbed = trainer.train(elsewhere, tiny, variant, 0, resolve(variant, *MEASURED))
        assert_same_run(undisturbed.folder, home / "runs" / undisturbed.run_id)
