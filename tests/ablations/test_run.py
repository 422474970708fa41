"""A variant that fails is a record, the others go on, and the command says so in one line."""

import pytest

from ablations import config as configs
from ablations import run as runner
from ablations.data import prepare
from ablations.train import Trained
from bench.store import cli
from bench.store.records import RecordStore
from models import checkpoint
from models.errors import InputError


@pytest.fixture
def start(monkeypatch, tmp_path, tiny):
    """The command in this process, with training replaced: what fails is up to the test. Returns (exit code, variants measured)."""

    def start(failures: dict[str, BaseException], look_inside=lambda *_, **__: None):
        measured = []

        def train(home, profile, variant, seed, *_):
            if variant in failures:
                raise failures[variant]
            return Trained("run", tmp_path, tmp_path / variant, {})

        monkeypatch.setattr(runner, "train", train)
        monkeypatch.setattr(runner, "measure", lambda home, trained, *_: measured.append(trained.checkpoint.name))
        monkeypatch.setattr(runner, "look_inside", look_inside)
        monkeypatch.setattr(runner, "build_report", lambda home, profile: measured.append("report"))
        flags = cli.parser("")
        runner.add_training_flags(flags)
        flags.set_defaults(variants="lexlip,no_momentum,clip", seeds=[3], at_once=1)
        return cli.run(runner.main, flags, ["--home", str(tmp_path), "--profile", tiny]), measured

    return start


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("the loss is not finite"), "failed"),
        (RuntimeError("boom"), "failed"),
        (MemoryError(), "out_of_memory"),
    ],
)
def test_a_failed_variant_is_a_record_and_the_others_go_on(start, tmp_path, capsys, error, status):
    code, measured = start({"no_momentum": error})
    assert code == 2
    assert measured == ["lexlip", "clip", "report"]
    row = RecordStore(tmp_path).read().iloc[0]
    note = str(error) or "MemoryError"
    assert (row["variant"], row["seed"], row["status"], row["note"]) == ("no_momentum", 3, status, note)
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(f"1 of 3 runs failed, the others are reported: no_momentum (seed 3): {note}")
    )


def test_what_both_models_say_is_looked_at_once_both_are_measured(start, tmp_path, resolve):
    asked = []

    def look_inside(store, home, folders, *rest, **options):
        asked.append((store.folder.parent, home, folders, rest, options))

    assert start({"no_momentum": InputError("no")}, look_inside)[0] == 2
    measure = resolve().measure
    options = {"top_k": measure.top_k, "bits": measure.bits, "force": False}
    folders = [tmp_path / "lexlip", tmp_path / "clip"]
    assert asked == [(tmp_path, tmp_path, folders, (resolve().data.corpus, "test", measure.images), options)]
    assert start({"clip": InputError("no")}, look_inside)[0] == 2 and len(asked) == 1, (
        "there is nothing to compare with"
    )


def test_a_look_inside_that_fails_stops_no_report(start, capsys):
    def look_inside(*_, **__):
        raise InputError("a shard is broken")

    code, measured = start({}, look_inside)
    assert code == 2 and measured == ["lexlip", "no_momentum", "clip", "report"]
    err = capsys.readouterr().err
    assert "looking inside lexlip and clip (seed 3) failed: a shard is broken" in err and "runs failed" not in err


def test_a_failure_is_forgotten_when_the_same_run_ends_well(start, tmp_path):
    start({"no_momentum": RuntimeError("boom"), "clip": RuntimeError("boom")})
    assert set(RecordStore(tmp_path).read().variant) == {"no_momentum", "clip"}
    start({"clip": RuntimeError("boom")})
    assert set(RecordStore(tmp_path).read().variant) == {"clip"}


def test_a_full_disk_ends_the_command(start):
    code, measured = start({"no_momentum": OSError(28, "No space left on device")})
    assert code == 2
    assert measured == ["lexlip"]


def test_a_report_that_fails_is_one_line_not_a_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(runner.sys, "executable", "false")
    with pytest.raises(InputError, match="the records are kept, but the report failed"):
        runner.build_report(tmp_path, "quick")


@pytest.mark.parametrize(
    ("variant", "zero_shot", "tasks"),
    [("lexlip", 4, {"zero_shot", "sparsity"}), ("clip", 4, {"zero_shot"}), ("lexlip", 0, {"sparsity"})],
)
def test_a_variant_is_classified_and_its_lexicons_are_counted_once(
    variant, zero_shot, tasks, resolve, made_home, tmp_path, monkeypatch
):
    run = resolve(variant, "measure.images=8", f"measure.zero_shot={zero_shot}", "measure.slices=[]")
    data = prepare(made_home, run.data, run.model.text)
    run = configs.with_vocabulary(run, len(data.tokenizer))
    checkpoint.save(checkpoint.create(run.model, data.tokenizer), tmp_path / "best")
    trained = Trained("run", tmp_path, tmp_path / "best", {})
    monkeypatch.setattr(runner, "measure_recall", lambda *_, **__: None)  # has tests of its own
    for _ in range(2):
        runner.measure(tmp_path, trained, "tiny", variant, 5, run, "again")
        rows = RecordStore(tmp_path).read()
        assert set(rows.task) == tasks
        assert set(zip(rows.variant, rows.seed, rows.profile, rows.command, strict=True)) == {
            (variant, 5, "tiny", "again")
        }
        assert rows[rows.task == "zero_shot"].point_id.nunique() == (4 if zero_shot else 0), (
            "concept, place, time, colour"
        )
        monkeypatch.setattr(RecordStore, "write", lambda *_, **__: pytest.fail("measured again"))
