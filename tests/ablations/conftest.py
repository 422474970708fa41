"""One tiny profile, its data made once, and the trainer's real command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ablations import config as configs
from ablations.data import prepare

ROOT = Path(__file__).resolve().parents[2]
TINY = str(Path(__file__).with_name("tiny.yaml"))

torch.set_num_threads(1)  # at this size more threads only wait for each other


@pytest.fixture(scope="session")
def tiny() -> str:
    """The tiny profile, as `--profile` takes it."""
    return TINY


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


@pytest.fixture(scope="session")
def start():
    """Start `python -m MODULE ARGUMENTS...` on one thread; a Popen with text pipes."""

    def start(module: str, *arguments) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start
