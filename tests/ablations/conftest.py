"""One tiny profile, its data made once, one short run trained once, and the trainer's real command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ablations import config as configs
from ablations import train as trainer
from ablations.data import prepare

ROOT = Path(__file__).resolve().parents[2]
TINY = str(Path(__file__).with_name("tiny.yaml"))
SHORT = ("train.steps=40",)
"""Overrides of the short run: 20 steps in each phase."""

torch.set_num_threads(1)  # at this size more threads only wait for each other


@pytest.fixture(scope="session")
def tiny() -> str:
    """The tiny profile, as `--profile` takes it."""
    return TINY


@pytest.fixture(scope="session")
def short() -> tuple[str, ...]:
    """The overrides of the short run."""
    return SHORT


@pytest.fixture(scope="session")
def resolve():
    """The tiny configuration of a variant, with dotted overrides."""

    def resolve(variant: str = "lexlip", *overrides: str) -> configs.RunConfig:
        return configs.resolve(TINY, variant, list(overrides))

    return resolve


@pytest.fixture(scope="session")
def made_home(tmp_path_factory, resolve) -> Path:
    """A home that holds the tiny training data and nothing else; copy it before writing to it."""
    home, run = tmp_path_factory.mktemp("home"), resolve()
    prepare(home, run.data, run.model.text)
    return home


@pytest.fixture
def home(made_home, tmp_path) -> Path:
    """A copy of `made_home`."""
    return shutil.copytree(made_home, tmp_path / "home")


@pytest.fixture(scope="session")
def short_run(made_home, resolve, tmp_path_factory) -> SimpleNamespace:
    """The short run of lexlip, undisturbed: its home, and what `train` returned. Copy the home before writing to it."""
    home = shutil.copytree(made_home, tmp_path_factory.mktemp("short") / "home")
    run, command = resolve("lexlip", *SHORT), "python -m ablations.train --profile tiny"
    return SimpleNamespace(home=home, trained=trainer.train(home, TINY, "lexlip", 0, run, command))


@pytest.fixture(scope="session")
def start():
    """Starts `python ARGUMENTS...` on one thread; a Popen with text pipes."""

    def start(*arguments, **options) -> subprocess.Popen:
        threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **threads, **options.pop("env", {})}
        command = [sys.executable, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **options)

    return start
