"""What a record is called: variant, seed and profile of a checkpoint are those of the run that made it."""

import shutil

import pytest
import yaml

from bench.store import cli
from bench.store.config import run_of
from bench.store.records import RecordStore
from bench.tasks import disagreement, recall, sparsity
from bench.tasks.classification import zero_shot
from bench.tasks.subject import Subject
from models.errors import InputError
from reports.records.evidence import Evidence

CORPUS = ("--corpus", "{name: scenes, concepts: 12, pixels: 64}", "--images", "8")


@pytest.fixture
def runs(make_model, tiny_models, tmp_path):
    """Checkpoints `best/` of three runs: two trainings of lexlip, one of clip."""

    def run(name: str, model, variant: str):
        folder = tmp_path / "home" / "runs" / name
        shutil.copytree(model, folder / "best")
        described = {"profile": "quick", "variant": variant, "seed": 3, "data": {}}
        (folder / "config.yaml").write_text(yaml.safe_dump(described))
        return folder / "best"

    other = make_model("lexlip", image_bias=-0.4)
    return run("one", tiny_models["lexicon"], "lexlip"), run("two", other, "lexlip"), run("three", other, "no_queue")


def command(module, home, *flags) -> None:
    assert cli.run(module.main, module.parser(), ["--home", str(home), *map(str, flags)]) == 0


def test_checkpoints_of_two_runs_are_two_variants(runs, tmp_path):
    """The folder of every checkpoint is called `best`: of 32 points, a page kept 10."""
    home = tmp_path / "home"
    for folder in (runs[0], runs[2]):
        command(recall, home, "--checkpoint", folder, *CORPUS, "--top-k", "32", "--no-timing")
        command(zero_shot, home, "--checkpoint", folder, *CORPUS)
        command(sparsity, home, "--checkpoint", folder, *CORPUS)
    command(disagreement, home, "--checkpoint", runs[0], "--baseline", runs[2], *CORPUS)
    rows = RecordStore(home).read()
    assert set(zip(rows.variant, rows.seed, rows.profile, strict=True)) == {
        ("lexlip", 3, "quick"),
        ("no_queue", 3, "quick"),
    }
    assert set(rows.task) >= {"retrieval", "zero_shot", "sparsity", "disagreement"}
    assert set(rows[rows.task == "retrieval"].config_id) == {"one", "three"}
    assert set(Evidence(RecordStore(home)).rows.point_id) == set(rows.point_id), "a page keeps every point"


def test_two_trainings_of_one_variant_and_seed_are_not_merged(runs, tmp_path):
    home = tmp_path / "home"
    for folder in runs[:2]:
        command(recall, home, "--checkpoint", folder, *CORPUS, "--top-k", "32", "--no-timing")
    rows = RecordStore(home).read()
    assert rows.checkpoint_id.nunique() == 2
    evidence = Evidence(RecordStore(home))
    assert evidence.rows.checkpoint_id.nunique() == 1
    assert evidence.earlier == {("lexlip", 3, (set(rows.checkpoint_id) - set(evidence.rows.checkpoint_id)).pop())}


def test_flags_come_first_and_a_lone_folder_keeps_its_name(runs, tiny_models, tmp_path):
    flags = recall.parser()
    given = flags.parse_args(["--checkpoint", str(runs[0]), "--variant", "mine", "--seed", "0"])
    subject = Subject.of(given)
    assert (subject.variant, subject.seed, subject.profile, subject.config_id) == ("mine", 0, "quick", "one")
    assert run_of(tiny_models["lexicon"]) == {"variant": "lexlip"}
    foreign = runs[1].parent / "config.yaml"
    foreign.write_text("variant: [of another tool]")
    assert run_of(runs[1]) == {"variant": "best"}
    foreign.write_text("variant: [")
    with pytest.raises(InputError, match="config.yaml"):
        run_of(runs[1])
