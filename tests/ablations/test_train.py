"""The trainer: outputs of a run, disk and input errors through the command, phases, variants and precision."""

import errno
import os
import shutil

import pytest
import torch
import yaml

import bench.__main__
from ablations import loop, outcome
from ablations import train as trainer
from ablations.hardware import choose_precision
from bench.store import records, schema
from bench.store.machine import machine
from bench.store.records import RecordStore
from models import checkpoint
from models.momentum import Momentum
from models.objective import LexLIPObjective

METRICS = {"loss", "loss_flops", "loss_self_mlm", "lr", "recall@1", "active_lexicons_image"}
COST = {"parameters", "steps", "train_seconds", "train_cpu_seconds", "train_samples_per_second"}


def run_folder(home):
    return next(iter((home / "runs").iterdir()))


def test_a_run_leaves_the_checkpoint_that_val_chose(short_run):
    folder, summary = short_run.trained.folder, short_run.trained.summary
    checkpoint.load(folder / "best")
    scores = {
        row["step"]: row["val"]["text_to_image/recall@1"] + row["val"]["image_to_text/recall@1"]
        for row in summary["curve"]
    }
    assert summary["chosen_step"] == max(scores, key=lambda step: (scores[step], -step))
    assert (summary["steps"], summary["train_samples"]) == (40, 320)
    assert not list(folder.glob("state-*"))
    assert list((folder / "tensorboard").iterdir())


def test_the_model_card_has_the_numbers_of_its_run(short_run):
    folder, summary = short_run.trained.folder, short_run.trained.summary
    chosen = next(row for row in summary["curve"] if row["step"] == summary["chosen_step"])
    _, front, text = (folder / "best" / "README.md").read_text().split("---", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "apache-2.0" and "lexlip" in front["tags"]
    to_image = f"{100 * chosen['val']['text_to_image/recall@1']:.1f}%"
    assert f"step {summary['chosen_step']:,}, by R@1 on val: text to image {to_image}" in text
    assert f"{summary['parameters']:,} parameters" in text and f"{summary['train_samples']:,} pairs" in text
    assert "python -m ablations.train" in text


def test_learning_curve_and_cost_are_records(short_run):
    table = RecordStore(short_run.home).read()
    assert set(table["metric"]) >= METRICS | COST
    assert set(table["status"]) == {"ok"} and set(table["kind"]) == {"lexicon"}
    curve, summary = table[(table["split"] == "train") & table["step"].notna()], short_run.trained.summary
    for row in summary["curve"]:
        loss = curve[(curve["step"] == row["step"]) & (curve["metric"] == "loss")]["value"]
        assert loss.tolist() == [row["train"]["loss"]]
        for direction in ("text_to_image", "image_to_text"):
            val = table[(table["split"] == "val") & (table["step"] == row["step"]) & (table["direction"] == direction)]
            recall = val[val["metric"] == "recall@1"]["value"]
            assert recall.tolist() == [row["val"][f"{direction}/recall@1"]]


def test_a_finished_run_is_not_trained_again(short_run, resolve, tiny, short, monkeypatch):
    home = short_run.home
    before = {file: file.stat().st_mtime_ns for file in home.rglob("*") if file.is_file()}
    monkeypatch.setattr(loop, "train_loop", None)
    trained = trainer.train(home, tiny, "lexlip", 0, resolve("lexlip", *short))
    assert trained.folder == run_folder(home) and trained.checkpoint == trained.folder / "best"
    assert before == {file: file.stat().st_mtime_ns for file in home.rglob("*") if file.is_file()}


def test_another_seed_variant_or_setting_is_another_run(made_home, resolve):
    cases = (
        ("lexlip", 0, "train.batch=8"),
        ("lexlip", 1, "train.batch=8"),
        ("clip", 0, "train.batch=8"),
        ("lexlip", 0, "train.batch=10"),
        ("lexlip", 0, "data.val_images=15"),
        ("lexlip", 0, "train.precision=bfloat16"),
    )
    ids = {trainer.identify(made_home, seed, resolve(variant, override)).run_id for variant, seed, override in cases}
    assert len(ids) == len(cases)
    again = trainer.identify(made_home, 0, resolve("lexlip", "measure.images=9")).run_id
    assert again in ids, "what is measured is no part of the id"


def test_auto_and_the_precision_that_it_chooses_are_one_run(made_home, resolve):
    chosen = choose_precision("auto")
    one, other = (
        trainer.identify(made_home, 0, resolve("lexlip", f"train.precision={name}")) for name in ("auto", chosen)
    )
    assert one.run_id == other.run_id and one.precision == chosen


@pytest.fixture
def elsewhere(monkeypatch):
    """Makes this machine another one, for records."""

    def elsewhere(machine_id: str) -> None:
        for module in (records, schema, outcome, loop):
            monkeypatch.setattr(module, "machine", lambda: machine() | {"machine_id": machine_id})

    return elsewhere


def test_records_are_those_of_the_machine_that_trained(home, resolve, tiny, elsewhere):
    run, store = resolve("no_momentum", "train.steps=2"), RecordStore(home)
    elsewhere("first")
    trainer.train(home, tiny, "no_momentum", 0, run)
    elsewhere("second")
    trainer.train(home, tiny, "no_momentum", 0, run)
    assert set(store.read()["machine_id"]) == {"first"}
    forced = trainer.train(home, tiny, "no_momentum", 0, run, force=True)
    rows = store.read()
    assert set(rows["machine_id"]) == {"second"}, "their checkpoint is gone"
    assert rows[rows["metric"] == "train_cpu_seconds"]["value"].tolist() == [forced.summary["train_cpu_seconds"]]


def test_records_of_a_forced_run_replace_the_old(home, resolve, tiny):
    run, seconds = resolve("no_momentum", "train.steps=2"), []
    for force in (False, True):
        trained = trainer.train(home, tiny, "no_momentum", 0, run, force=force)
        rows = RecordStore(home).read()
        seconds += rows[rows["metric"] == "train_cpu_seconds"]["value"].tolist()
        assert seconds[-1] == trained.summary["train_cpu_seconds"]
    assert len(set(seconds)) == 2


def test_states_left_by_a_kill_after_the_summary_are_removed(home, resolve, tiny):
    run = resolve("no_momentum", "train.steps=2")
    left = trainer.train(home, tiny, "no_momentum", 0, run).folder / "state-00000001"
    left.mkdir()
    trainer.train(home, tiny, "no_momentum", 0, run)
    assert not left.exists()


# The command in this process, so that a test can make the disk fail


@pytest.fixture
def command(capsys, tiny):
    """Runs `lexlip-bench train --profile tiny --home HOME overrides...` here: (exit code, stderr without progress)."""

    def command(home, *overrides):
        capsys.readouterr()
        code = bench.__main__.main(["train", "--profile", tiny, "--home", str(home), *overrides])
        return code, [line for line in capsys.readouterr().err.splitlines() if "pairs/s" not in line]

    return command


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def states(home) -> list[str]:
    return sorted(folder.name for folder in home.glob("runs/*/state-*"))


def test_a_disk_that_fills_during_training_loses_nothing(home, made_home, tmp_path, command, monkeypatch):
    overrides = ("train.steps=12", "train.validate_every=3")
    real = os.fsync
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", lambda descriptor: no_space() if states(home) else real(descriptor))
        code, lines = command(home, *overrides)
    assert code == 2
    assert len(lines) == 1 and "No space left on device" in lines[0]
    assert states(home) == ["state-00000004"]
    assert not list(run_folder(home).glob(".state*")), "the half-written state is gone"
    checkpoint.load(run_folder(home) / "best")

    data_before, begun, real_begin = (home / "data").stat().st_mtime_ns, [], LexLIPObjective.begin
    monkeypatch.setattr(LexLIPObjective, "begin", lambda self, phase: (begun.append(phase), real_begin(self, phase))[1])
    elsewhere = shutil.copytree(made_home, tmp_path / "elsewhere")
    assert command(home, *overrides) == (0, [])
    assert begun == ["bottleneck", "momentum"]
    assert command(elsewhere, *overrides) == (0, [])
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
        (["data.corpus.name=scene"], "'scene'"),
        (["data.corpus.colours=3"], "'colours'"),
    ],
)
def test_bad_settings_end_the_command_in_one_line(tmp_path, command, overrides, message):
    code, lines = command(tmp_path / "new", *overrides)
    assert code == 2
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "new").exists()


def test_a_truncated_image_file_ends_the_command_in_one_line(home, command):
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
    begin, update, after_step = LexLIPObjective.begin, Momentum.update, LexLIPObjective.after_step
    validate = loop.validate

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
    monkeypatch.setattr(loop, "validate", seen_validate)
    overrides = ("train.steps=10", "train.phase1_share=0.4", "train.validate_every=2")
    trainer.train(home, tiny, "lexlip", 0, resolve("lexlip", *overrides))
    assert events == [("bottleneck", False), *["step"] * 4, ("momentum", True), *["step", "update"] * 6]


def test_clip_is_trained_by_the_same_loop(home, resolve, tiny):
    trained = trainer.train(home, tiny, "clip", 0, resolve("clip", "train.steps=8"))
    assert checkpoint.load(trained.checkpoint).kind == "dense"
    assert [row["step"] for row in trained.summary["curve"]] == [7, 8]
    table = RecordStore(home).read()
    assert set(table["kind"]) == {"dense"} and "loss_contrastive" in set(table["metric"])


def test_training_in_bfloat16_keeps_float32_weights(resolve, home, tiny):
    trained = trainer.train(home, tiny, "lexlip", 0, resolve("lexlip", "train.steps=4", "train.precision=bfloat16"))
    assert trained.summary["precision"] == "bfloat16"
    assert {parameter.dtype for parameter in checkpoint.load(trained.checkpoint).parameters()} == {torch.float32}


def test_seeds_of_steps_are_distinct_and_the_same_everywhere():
    assert loop.hash_seed(0, 1, "masks") == loop.hash_seed(0, 1, "masks")
    seeds = {loop.hash_seed(seed, step, "masks") for seed in range(3) for step in range(100)}
    assert len(seeds) == 300 and all(0 <= seed < 2**63 for seed in seeds)
    assert loop.hash_seed(0, 1) == 5973285143095172824
