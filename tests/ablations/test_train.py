"""The trainer, through its real command: killed and started again, on a full disk, with a broken state, and left alone."""

import contextlib
import errno
import json
import os
import runpy
import shutil
import signal
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import yaml

import ablations.train as trainer
from bench.store.records import RecordStore
from models import checkpoint
from models.momentum import Momentum
from models.objective import LexLIPObjective

TIMES = {"seconds", "train_seconds", "train_cpu_seconds", "other_core_seconds"}


def run_folder(home):
    return next(iter((home / "runs").iterdir()))


def newest_state(home) -> int:
    with contextlib.suppress(FileNotFoundError):
        return max((int(folder.name.removeprefix("state-")) for folder in home.glob("runs/*/state-*")), default=0)
    return 0


def curve_of(home) -> list[dict]:
    summary = json.loads((run_folder(home) / "summary.json").read_text())
    return [{key: value for key, value in row.items() if key not in TIMES} for row in summary["curve"]]


def kill_once_beyond(process, home, step: int) -> None:
    """SIGKILL as soon as a training state later than `step` is on disk."""
    while newest_state(home) <= step:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def runs(tmp_path_factory, made_home, tiny, start):
    """One run undisturbed; one killed in phase 1, started again, killed in phase 2, started again; one whose state was then broken."""
    homes = {name: tmp_path_factory.mktemp(name) for name in ("undisturbed", "killed", "broken")}
    for name in ("undisturbed", "killed"):
        shutil.copytree(made_home, homes[name], dirs_exist_ok=True)

    def command(name):
        return start("ablations.train", "--profile", tiny, "--variant", "lexlip", "--home", homes[name])

    undisturbed = command("undisturbed")
    kill_once_beyond(command("killed"), homes["killed"], 0)
    first = newest_state(homes["killed"])
    kill_once_beyond(command("killed"), homes["killed"], 55)
    second = newest_state(homes["killed"])
    shutil.copytree(homes["killed"], homes["broken"], dirs_exist_ok=True)
    state = max(homes["broken"].glob("runs/*/state-*")) / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    done = {}
    processes = {"undisturbed": undisturbed, "killed": command("killed"), "broken": command("broken")}
    for name, process in processes.items():
        out, err = process.communicate(timeout=120)
        done[name] = SimpleNamespace(home=homes[name], rc=process.returncode, out=out, err=err)
    return SimpleNamespace(**done, kills=(first, second), broken_state=state)


def test_killed_and_started_again_ends_with_the_same_weights_bit_for_bit(runs):
    assert 0 < runs.kills[0] < 50 < runs.kills[1] < 100, "killed once in each phase"
    assert (runs.undisturbed.rc, runs.killed.rc) == (0, 0), runs.killed.err
    one, other = (run_folder(done.home) for done in (runs.undisturbed, runs.killed))
    assert one.name == other.name
    for name in ("model.safetensors", "tokenizer.json", "model.json"):
        assert (one / "best" / name).read_bytes() == (other / "best" / name).read_bytes(), name


def test_the_learning_curve_of_the_killed_run_is_the_same_number_by_number(runs):
    """Validations every 7 steps, states every 4: means over the steps in between must survive the kill too."""
    one, other = curve_of(runs.undisturbed.home), curve_of(runs.killed.home)
    assert [row["step"] for row in one] == [*range(7, 50, 7), 50, *range(56, 100, 7), 100]
    assert one == other
    assert len({row["train"]["loss"] for row in one}) == len(one)


def test_the_command_prints_the_checkpoint_that_val_chose(runs):
    for done in (runs.undisturbed, runs.killed):
        folder = run_folder(done.home)
        assert done.out.splitlines() == [str(folder / "best")]
        checkpoint.load(folder / "best")
        summary = json.loads((folder / "summary.json").read_text())
        scores = {
            row["step"]: row["val"]["text_to_image/recall@1"] + row["val"]["image_to_text/recall@1"]
            for row in summary["curve"]
        }
        assert summary["chosen_step"] == max(scores, key=lambda step: (scores[step], -step))
        assert summary["train_samples"] == 800
        assert list(folder.glob("state-*")) == []
        assert list((folder / "tensorboard").iterdir())


def test_the_checkpoint_has_a_card_with_the_numbers_of_its_run(runs):
    folder = run_folder(runs.undisturbed.home)
    summary, card = json.loads((folder / "summary.json").read_text()), (folder / "best" / "README.md").read_text()
    chosen = next(row for row in summary["curve"] if row["step"] == summary["chosen_step"])
    _, front, text = card.split("---", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "apache-2.0" and "lexlip" in front["tags"]
    assert (
        f"step {summary['chosen_step']:,}, by R@1 on val: text to image {100 * chosen['val']['text_to_image/recall@1']:.1f}%"
        in text
    )
    assert f"{summary['parameters']:,} parameters" in text and f"{summary['train_samples']:,} pairs" in text
    assert "python -m ablations.train" in text
    assert checkpoint.load(folder / "best").kind == "lexicon", "the card changes nothing of the checkpoint"


def test_the_curve_and_the_cost_are_records(runs):
    rows = [RecordStore(done.home).read() for done in (runs.undisturbed, runs.killed)]
    for table in rows:
        assert set(table["metric"]) >= {
            "loss",
            "loss_flops",
            "loss_self_mlm",
            "lr",
            "recall@1",
            "active_lexicons_image",
            "parameters",
            "steps",
            "train_seconds",
            "train_cpu_seconds",
        }
        assert set(table["status"]) == {"ok"} and set(table["kind"]) == {"lexicon"}
    plain = [table[~table["metric"].str.contains("second")].sort_values(["point_id", "metric"]) for table in rows]
    assert plain[0]["point_id"].tolist() == plain[1]["point_id"].tolist()
    assert plain[0]["value"].tolist() == plain[1]["value"].tolist()


def test_a_truncated_state_is_refused_in_one_line_that_names_it(runs):
    assert runs.broken.rc == 2
    assert len(runs.broken.err.splitlines()) == 1
    assert f"{runs.broken_state}: truncated or changed" in runs.broken.err
    assert runs.broken_state.exists(), "nothing was removed"


def test_a_finished_run_is_not_trained_again(runs, resolve, tiny, monkeypatch):
    home = runs.undisturbed.home
    before = {file: file.stat().st_mtime_ns for file in home.rglob("*") if file.is_file()}
    monkeypatch.setattr(trainer, "_loop", None)
    trained = trainer.train(home, tiny, "lexlip", 0, resolve())
    assert trained.folder == run_folder(home) and trained.checkpoint == trained.folder / "best"
    assert before == {file: file.stat().st_mtime_ns for file in home.rglob("*") if file.is_file()}


def test_another_seed_variant_or_setting_is_another_run(runs, resolve, tiny, monkeypatch):
    started = []

    def stop(folder, *_, **__):
        started.append(folder.name)
        raise InterruptedError

    monkeypatch.setattr(trainer, "_loop", stop)
    for variant, seed, override in (
        ("lexlip", 1, "train.batch=8"),
        ("clip", 0, "train.batch=8"),
        ("lexlip", 0, "train.batch=9"),
        ("lexlip", 0, "data.val_images=15"),
    ):
        with pytest.raises(InterruptedError):
            trainer.train(runs.broken.home, tiny, variant, seed, resolve(variant, override))
    assert len({*started, run_folder(runs.undisturbed.home).name}) == 5


# In this process: the same command by its `__main__`, so that the disk can be made to refuse


@pytest.fixture
def command(monkeypatch, capsys, tiny):
    """Run `python -m ablations.train --profile tiny --home HOME overrides...` here: (exit code, lines on stderr)."""

    def command(home, *overrides):
        monkeypatch.setattr(sys, "argv", ["ablations.train", "--profile", tiny, "--home", str(home), *overrides])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left, pytest.warns(RuntimeWarning, match="sys.modules"):
            runpy.run_module("ablations.train", run_name="__main__", alter_sys=True)
        return left.value.code, capsys.readouterr().err.splitlines()

    return command


@pytest.fixture
def home(made_home, tmp_path):
    return shutil.copytree(made_home, tmp_path / "home")


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_during_training_loses_nothing(home, made_home, tmp_path, command, monkeypatch):
    short = ("train.steps=12", "train.validate_every=3")
    real = os.fsync
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", lambda descriptor: no_space() if newest_state(home) else real(descriptor))
        code, lines = command(home, *short)
    assert code == 2
    assert len(lines) == 1 and "No space left on device" in lines[0]
    assert newest_state(home) == 4
    assert not list(run_folder(home).glob(".state*")), "the half-written state is gone"
    checkpoint.load(run_folder(home) / "best")

    data_before, begun, real_begin = (home / "data").stat().st_mtime_ns, [], LexLIPObjective.begin
    monkeypatch.setattr(LexLIPObjective, "begin", lambda self, phase: (begun.append(phase), real_begin(self, phase))[1])
    elsewhere = shutil.copytree(made_home, tmp_path / "elsewhere")
    assert command(home, *short) == (0, [])
    assert begun == ["bottleneck", "momentum"]
    assert command(elsewhere, *short) == (0, [])
    assert curve_of(home) == curve_of(elsewhere)
    one, other = (run_folder(place) / "best" / "model.safetensors" for place in (home, elsewhere))
    assert one.read_bytes() == other.read_bytes()
    assert (home / "data").stat().st_mtime_ns == data_before


def test_a_disk_that_fills_while_the_data_is_made_leaves_no_half(tmp_path, command, monkeypatch):
    import numpy as np

    monkeypatch.setattr(np, "save", no_space)
    code, lines = command(tmp_path)
    assert code == 2
    assert len(lines) == 1 and "No space left on device" in lines[0]
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--variant", "lexlipp"], "unknown variant 'lexlipp' (nearest: lexlip;"),
        (["train.step=3"], "unknown key train.step (nearest: steps;"),
        (["data.corpus.name=scene"], "corpus: 'scene' is unknown (nearest: scenes; known: "),
        (["data.corpus.colours=3"], "'colours' is unknown"),
    ],
)
def test_bad_settings_end_the_command_in_one_line(tmp_path, command, overrides, message):
    code, lines = command(tmp_path / "new", *overrides)
    assert code == 2
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "new").exists()


def test_a_truncated_picture_file_ends_the_command_in_one_line(home, command):
    file = next(home.glob("data/*/images.npy"))
    file.write_bytes(file.read_bytes()[:1000])
    code, lines = command(home)
    assert code == 2
    assert len(lines) == 1 and str(file) in lines[0]


@pytest.mark.parametrize(
    "overrides", [("train.phase1_share=0", "train.phase2.lr=1e30"), ("train.phase1_share=1", "train.phase1.lr=1e30")]
)
def test_a_loss_that_is_not_finite_is_an_error_and_chooses_no_checkpoint(home, command, overrides):
    code, lines = command(home, "train.steps=14", *overrides)
    assert code == 2
    assert len(lines) == 1 and "the loss is not finite by step 7" in lines[0] and "lower the learning rate" in lines[0]
    assert not (run_folder(home) / "best").exists() and not (run_folder(home) / "summary.json").exists()


def test_force_trains_again(home, resolve, tiny):
    run = resolve("no_momentum", "train.steps=2")
    first = trainer.train(home, tiny, "no_momentum", 0, run)
    marker = first.folder / "marker"
    marker.touch()
    trainer.train(home, tiny, "no_momentum", 0, run, force=True)
    assert not marker.exists() and (first.folder / "summary.json").exists()


def test_momentum_moves_once_per_step_of_phase_2_and_never_in_validation(home, resolve, tiny, monkeypatch):
    events = []
    begin, update, after_step, validate = (
        LexLIPObjective.begin,
        Momentum.update,
        LexLIPObjective.after_step,
        trainer.validate,
    )

    def equal(one, other) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))

    def seen_begin(self, phase):
        begin(self, phase)
        events.append((phase, self.momentum is not None and equal(self.momentum.module, self.model)))

    def seen_validate(model, held):
        before = len(events)
        found = validate(model, held)
        assert len(events) == before, "nothing moved while validating"
        return found

    monkeypatch.setattr(LexLIPObjective, "begin", seen_begin)
    monkeypatch.setattr(Momentum, "update", lambda self, source: (events.append("update"), update(self, source))[1])
    monkeypatch.setattr(LexLIPObjective, "after_step", lambda self: (events.append("step"), after_step(self))[1])
    monkeypatch.setattr(trainer, "validate", seen_validate)
    trainer.train(
        home, tiny, "lexlip", 0, resolve("lexlip", "train.steps=10", "train.phase1_share=0.4", "train.validate_every=2")
    )
    assert events == [("bottleneck", False), *["step"] * 4, ("momentum", True), *["step", "update"] * 6]


def test_clip_goes_through_the_same_loop(home, resolve, tiny):
    trained = trainer.train(home, tiny, "clip", 0, resolve("clip", "train.steps=8"))
    model = checkpoint.load(trained.checkpoint)
    assert model.kind == "dense"
    assert [row["step"] for row in trained.summary["curve"]] == [7, 8]
    table = RecordStore(home).read()
    assert set(table["kind"]) == {"dense"} and "loss_contrastive" in set(table["metric"])


def test_bfloat16_where_it_is_asked_for(resolve, home, tiny):
    assert trainer.choose_precision("float32") is torch.float32
    assert trainer.choose_precision("bfloat16") is torch.bfloat16
    assert trainer.choose_precision("auto") in (torch.float32, torch.bfloat16)
    trained = trainer.train(home, tiny, "lexlip", 0, resolve("lexlip", "train.steps=4", "train.precision=bfloat16"))
    assert trained.summary["precision"] == "bfloat16"
    model = checkpoint.load(trained.checkpoint)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}, "weights stay whole"


def test_seeds_of_steps_are_the_same_everywhere_and_apart():
    assert trainer.hash_seed(0, 1, "masks") == trainer.hash_seed(0, 1, "masks")
    seeds = {trainer.hash_seed(seed, step, "masks") for seed in range(3) for step in range(100)}
    assert len(seeds) == 300 and all(0 <= seed < 2**63 for seed in seeds)
    assert trainer.hash_seed(0, 1) == 5973285143095172824
