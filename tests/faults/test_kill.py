"""`kill -9` at any moment: no child survives, and the same command ends with the records of an undisturbed run."""

import pytest

from tests.faults import commands


@pytest.mark.parametrize(
    "made",
    [
        pytest.param("data/.*/images.npy", marks=pytest.mark.fault("kill -9 while training data is made")),
        pytest.param("runs/*/state-*", marks=pytest.mark.fault("kill -9 in training")),
    ],
)
def test_a_killed_training(made, trained, checkpoint, tmp_path, keeps):
    home = tmp_path / "home"
    process = commands.start(commands.training(home))
    commands.wait_until(lambda: list(home.glob(made)), process)
    commands.kill(process)
    keeps(home)
    commands.succeed(commands.training(home))
    commands.assert_same(home, trained)
    weights = checkpoint / "model.safetensors"
    assert (home / weights.relative_to(trained)).read_bytes() == weights.read_bytes()


@pytest.mark.parametrize(
    ("made", "count"),
    [
        pytest.param("vectors/*.parts", 1, marks=pytest.mark.fault("kill -9 while vectors are encoded")),
        pytest.param("results/*.parquet", 4, marks=pytest.mark.fault("kill -9 between two records")),
    ],
)
def test_a_killed_measurement(made, count, measured, checkpoint, tmp_path, keeps):
    home = tmp_path / "home"
    process = commands.start(commands.measuring(home, checkpoint))
    commands.wait_until(lambda: len(list(home.glob(made))) >= count, process)
    commands.kill(process)
    keeps(home)
    commands.succeed(commands.measuring(home, checkpoint))
    commands.assert_same(home, measured)


@pytest.mark.fault("kill -9 of the main job between training and pages")
def test_a_killed_main_job(tmp_path, keeps):
    process = commands.start(commands.main_job(tmp_path / "killed"))
    commands.wait_until(lambda: list(tmp_path.glob("killed/vectors/*/meta.json")), process)
    commands.kill(process)
    keeps(tmp_path / "killed")
    for home in ("killed", "undisturbed"):
        commands.succeed(commands.main_job(tmp_path / home))
    assert (tmp_path / "killed" / "site" / "index.html").exists()
    commands.assert_same(tmp_path / "killed", tmp_path / "undisturbed")


@pytest.mark.parametrize(
    "job",
    [
        pytest.param("build", marks=pytest.mark.fault("kill -9 while an index is built")),
        pytest.param("accuracy", marks=pytest.mark.fault("kill -9 while an index is searched for its accuracy")),
        pytest.param("timing", marks=pytest.mark.fault("kill -9 while an index is timed")),
    ],
)
def test_a_killed_sweep(job, swept, vectors, tmp_path, keeps):
    process = commands.start(commands.sweep(tmp_path / "home", vectors))
    commands.wait_until(lambda: commands.jobs(process, job), process)
    commands.kill(process)
    keeps(tmp_path / "home")
    commands.succeed(commands.sweep(tmp_path / "home", vectors))
    commands.assert_same(tmp_path / "home", swept.home)


@pytest.mark.fault("kill -9 between two shards of a gallery")
def test_a_killed_encoding(checkpoint, tmp_path, keeps):
    process = commands.start(commands.encoding(tmp_path / "killed", checkpoint))
    commands.wait_until(lambda: list(tmp_path.glob("killed/vectors/*.parts/00000.json")), process)
    commands.kill(process)
    keeps(tmp_path / "killed")
    for home in ("killed", "undisturbed"):
        commands.succeed(commands.encoding(tmp_path / home, checkpoint))
    content = [
        {path.relative_to(tmp_path / home): path.read_bytes() for path in (tmp_path / home / "vectors").rglob("*.*")}
        for home in ("killed", "undisturbed")
    ]
    assert content[0] and content[0] == content[1]
