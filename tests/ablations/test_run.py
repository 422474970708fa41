"""The main job: a variant that fails is recorded, the others continue, and the command reports it in one line."""

import pytest

from ablations import config as configs
from ablations import run as runner
from ablations import train as trainer
from ablations.data import prepare
from ablations.train import Trained
from bench.corpora import data_id, open_corpus
from bench.store import cli
from bench.store.records import RecordStore
from models import checkpoint
from models.errors import InputError


@pytest.fixture
def main_job(monkeypatch, tmp_path, tiny):
    """Runs the command here with stand-ins for training and measuring; returns (exit code, variants measured)."""

    def main_job(failures: dict[str, BaseException], compare=lambda *_, **__: None):
        measured = []

        def train(home, profile, variant, seed, *_):
            if variant in failures:
                raise failures[variant]
            return Trained("run", tmp_path, tmp_path / variant, {})

        monkeypatch.setattr(runner, "train", train)
        monkeypatch.setattr(runner, "measure", lambda home, trained, *_: measured.append(trained.checkpoint.name))
        monkeypatch.setattr("bench.tasks.disagreement.measure_disagreement", compare)
        monkeypatch.setattr(runner, "build_report", lambda home, profile: measured.append("report"))
        flags = cli.parser("")
        runner.add_training_flags(flags)
        flags.set_defaults(variants="lexlip,no_momentum,clip", seeds=[3], parallel=1)
        return cli.run(runner.main, flags, ["--home", str(tmp_path), "--profile", tiny]), measured

    return main_job


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("the loss is not finite"), "failed"),
        (RuntimeError("boom"), "failed"),
        (MemoryError(), "out_of_memory"),
    ],
)
def test_a_failed_variant_is_a_record_and_the_others_continue(main_job, tmp_path, capsys, resolve, error, status):
    code, measured = main_job({"no_momentum": error})
    assert code == 2
    assert measured == ["lexlip", "clip", "report"]
    row = RecordStore(tmp_path).read().iloc[0]
    note = str(error) or "MemoryError"
    assert (row["variant"], row["seed"], row["status"], row["note"]) == ("no_momentum", 3, status, note)
    assert row["data_id"] == data_id(open_corpus(resolve().data.corpus)), "of the corpus, known before training"
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(f"1 of 3 runs failed, the others are reported: no_momentum (seed 3): {note}")
    )


def test_rankings_are_compared_if_both_variants_are_measured(main_job, tmp_path, resolve):
    calls = []

    def compare(home, subjects, slice_, *options):
        calls.append((home, [subject.model for subject in subjects], slice_.split, slice_.images, options))

    assert main_job({"no_momentum": InputError("no")}, compare)[0] == 2
    measure = resolve().measure
    folders = [tmp_path / "lexlip", tmp_path / "clip"]
    assert calls == [(tmp_path, folders, "test", measure.images, (measure.top_k, measure.bits, False))]
    assert main_job({"clip": InputError("no")}, compare)[0] == 2 and len(calls) == 1, "there is nothing to compare with"


def test_a_comparison_that_fails_does_not_stop_the_report(main_job, capsys):
    def compare(*_, **__):
        raise InputError("a shard is broken")

    code, measured = main_job({}, compare)
    assert code == 2 and measured == ["lexlip", "no_momentum", "clip", "report"]
    err = capsys.readouterr().err
    assert "the comparison of lexlip and clip (seed 3) failed: a shard is broken" in err and "runs failed" not in err


def test_a_failure_record_is_removed_when_the_same_run_succeeds(main_job, tmp_path):
    main_job({"no_momentum": RuntimeError("boom"), "clip": RuntimeError("boom")})
    assert set(RecordStore(tmp_path).read().variant) == {"no_momentum", "clip"}
    main_job({"clip": RuntimeError("boom")})
    assert set(RecordStore(tmp_path).read().variant) == {"clip"}


@pytest.mark.parametrize("module", [runner, trainer])
@pytest.mark.parametrize("seed", ["-1", "a", "1.5", str(2**63)])
def test_seeds_are_integers_from_0(module, seed, capsys):
    flag = "--seeds" if module is runner else "--seed"
    with pytest.raises(SystemExit) as ended:
        module.parser().parse_args([flag, seed])
    assert ended.value.code == 2 and f"{flag}: '{seed}': expected an integer from 0" in capsys.readouterr().err


def test_a_seed_named_twice_is_one_run():
    assert runner.parser().parse_args(["--seeds", "3,0,3"]).seeds == [3, 0]


def test_two_variants_of_one_configuration_are_refused(tmp_path, tiny, capsys):
    arguments = ["--home", str(tmp_path), "--profile", tiny, "--variants", "clip,lexlip,no_phase1"]
    assert cli.run(runner.main, runner.parser(), [*arguments, "train.phase1_share=0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--variants: lexlip and no_phase1 are one configuration here; expected one of them" in line
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_ends_the_command(main_job):
    code, measured = main_job({"no_momentum": OSError(28, "No space left on device")})
    assert code == 2
    assert measured == ["lexlip"]


def test_a_report_that_fails_is_one_line_not_a_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(InputError, match="the records are kept, but the report failed"):
        runner.build_report(tmp_path, "quick")


@pytest.mark.parametrize(
    ("variant", "zero_shot", "tasks"),
    [("lexlip", 4, {"zero_shot", "sparsity"}), ("clip", 4, {"zero_shot"}), ("lexlip", 0, {"sparsity"})],
)
def test_zero_shot_and_sparsity_are_measured_once(variant, zero_shot, tasks, resolve, made_home, tmp_path, monkeypatch):
    run = resolve(variant, "measure.images=8", f"measure.zero_shot={zero_shot}", "measure.slices=[]")
    data = prepare(made_home, run.data, run.model.text)
    run = configs.with_vocabulary(run, len(data.tokenizer))
    checkpoint.save(checkpoint.create(run.model, data.tokenizer), tmp_path / "best")
    trained = Trained("run", tmp_path, tmp_path / "best", {})
    monkeypatch.setattr("bench.tasks.measure.measure_recall", lambda *_, **__: None)  # has tests of its own
    for _ in range(2):
        runner.measure(tmp_path, trained, "tiny", variant, 5, run, "again")
        rows = RecordStore(tmp_path).read()
        assert set(rows.task) - {"encoding"} == tasks
        assert set(zip(rows.variant, rows.seed, rows.profile, rows.command, strict=True)) == {
            (variant, 5, "tiny", "again")
        }
        assert rows[rows.task == "zero_shot"].point_id.nunique() == (4 if zero_shot else 0), (
            "concept, place, time, colour"
        )
        monkeypatch.setattr(RecordStore, "write", lambda *_, **__: pytest.fail("measured again"))
