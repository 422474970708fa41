"""Truncated files and files with one flipped bit are named, refused, and made again on request."""

import shutil

import pytest

from tests.faults import commands

BOTH = (commands.truncate, commands.flip)


@pytest.mark.fault("a truncated and a bit-flipped checkpoint")
def test_a_broken_checkpoint(trained, checkpoint, tmp_path):
    home = shutil.copytree(trained, tmp_path / "home")
    folder, whole = home / checkpoint.relative_to(trained), (checkpoint / "model.safetensors").read_bytes()
    for break_ in BOTH:
        (folder / "model.safetensors").write_bytes(whole)
        break_(folder / "model.safetensors")
        commands.refused(commands.measuring(home, folder), str(folder / "model.safetensors"), "truncated or changed")
    commands.succeed(commands.training(home, "--force"))
    assert (folder / "model.safetensors").read_bytes() == whole


@pytest.mark.fault("a truncated and a bit-flipped training state")
def test_a_broken_training_state(with_data, trained):
    process = commands.start(commands.training(with_data))
    commands.wait_until(lambda: list(with_data.glob("runs/*/state-*/state.pt")), process)
    commands.kill(process)
    state = max(with_data.glob("runs/*/state-*/state.pt"))
    whole = state.read_bytes()
    for break_ in BOTH:
        state.write_bytes(whole)
        break_(state)
        commands.refused(commands.training(with_data), str(state), "truncated or changed")
    commands.succeed(commands.training(with_data, "--force"))
    commands.assert_same(with_data, trained)


@pytest.mark.fault("a truncated and a bit-flipped shard of vectors")
def test_a_broken_shard(measured, checkpoint, tmp_path):
    home = shutil.copytree(measured, tmp_path / "home", ignore=shutil.ignore_patterns("results"))
    shard = max(home.glob("vectors/*/*.weights.npy"), key=lambda path: path.stat().st_size)
    for break_ in BOTH:
        shutil.copy(measured / shard.relative_to(home), shard)
        break_(shard)
        commands.refused(commands.measuring(home, checkpoint), str(shard), "encode again (--force)")
    commands.succeed(commands.measuring(home, checkpoint, "--force"))
    commands.assert_same(home, measured)


@pytest.mark.fault("a truncated and a bit-flipped index")
def test_a_broken_index(swept, vectors, tmp_path):
    home = shutil.copytree(swept.home, tmp_path / "home", ignore=shutil.ignore_patterns("results", "site", "sweeps"))
    (postings,) = home.glob("indexes/*/postings.npy")
    for break_ in BOTH:
        shutil.copy(swept.home / postings.relative_to(home), postings)
        break_(postings)
        commands.refused(
            commands.sweep(home, vectors), str(postings), f"remove {postings.parent} or use --force to build it again"
        )
    commands.succeed(commands.sweep(home, vectors, "--force"))
    commands.assert_same(home, swept.home)


@pytest.mark.fault("a truncated and a bit-flipped record")
def test_a_broken_record(swept, vectors, tmp_path):
    home = shutil.copytree(swept.home, tmp_path / "home")
    record = min(path for path in home.glob("results/*.parquet") if path.name.count(".") == 1)
    for break_ in BOTH:
        shutil.copy(swept.home / record.relative_to(home), record)
        break_(record)
        for command in (["bench", "records", "list", "--home", home], ["reports.build", "--home", home]):
            commands.refused(command, str(record), "remove it to measure the point again")
    record.unlink()
    commands.succeed(commands.sweep(home, vectors))
    commands.assert_same(home, swept.home)


@pytest.mark.fault("a truncated and a bit-flipped answer of a killed sweep")
def test_a_broken_answer(swept, vectors, tmp_path):
    home = tmp_path / "home"
    process = commands.start(commands.sweep(home, vectors))
    (ended,) = commands.wait_until(lambda: list(home.glob("sweeps/*/round-0/outcome.json")), process)
    commands.kill(process)
    answer = ended.with_name("latency-0-0.npz")
    whole = answer.read_bytes()
    for break_ in BOTH:
        answer.write_bytes(whole)
        break_(answer)
        commands.refused(commands.sweep(home, vectors), str(answer), f"remove {answer.parent} to run its job again")
    shutil.rmtree(answer.parent)
    commands.succeed(commands.sweep(home, vectors))
    commands.assert_same(home, swept.home)
