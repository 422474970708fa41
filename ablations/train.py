"""Trains one variant: `python -m ablations.train --profile quick --variant lexlip`, or on several GPUs or machines
under `torchrun`.

A run's id is a hash of everything that decides its weights. A finished run is found by its id without importing torch.
"""

if __name__ == "__main__":  # before the imports below, so that Ctrl-C during them ends in one line too
    import sys

    from bench.__main__ import command

    sys.exit(command("train", sys.argv[1:], prog="python -m ablations.train"))

import argparse
import contextlib
import dataclasses
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from ablations import config as configs
from ablations import outcome, start, torchrun
from ablations.config import RunConfig
from ablations.data import open_data, prepare_tokenizer
from ablations.hardware import choose_precision
from bench.corpora import open_corpus
from bench.corpora.counts import check_splits
from bench.store import cli
from bench.store.config import as_tree, code_fingerprint, fingerprint
from models.errors import InputError
from models.files import BrokenFileError, read_json

log = logging.getLogger(__name__)

LOOP = ("augment", "data", "loop", "start", "step", "torchrun", "validate")
CODE = (
    *(f"ablations.{module}" for module in LOOP),
    "ablations.cache.rows",
    "ablations.cache.states",
    *(f"models.{module}" for module in ("batch", "checkpoint", "distributed", "lexlip", "objective", "tokenizer")),
    "models.towers.efficientnet",
    "models.towers.frozen",
    "models.towers.transformer",
)
"""Modules that decide the weights of every run: their code is part of its id."""
CODE_OF_KIND = {
    "clip": ("models.clip",),
    "lexlip": (
        *(f"models.{module}" for module in ("decoder", "losses", "momentum")),
        *(f"models.lexicon.{module}" for module in ("head", "max_linear", "max_linear_triton")),
    ),
}
"""`model.kind` -> further modules that decide the weights."""


@dataclass(frozen=True)
class Identity:
    """A run's id, its configuration with the real vocabulary size, its data id and the dtype of training."""

    run_id: str
    run: RunConfig
    data_id: str
    precision: str


@dataclass(frozen=True)
class Trained:
    """A finished run: its folder, the chosen checkpoint, and its summary (cost and learning curve)."""

    run_id: str
    folder: Path
    checkpoint: Path
    summary: dict


def identify(home: Path, seed: int, run: RunConfig) -> Identity:
    """The identity of a run. Makes its training data if missing: a learned vocabulary decides the model's size.

    The id hashes the dtype of training, not `train.precision`: "auto" and the dtype that it chooses are one run.
    """
    data_id, tokenizer = prepare_tokenizer(home, run.data, run.model.text, start.tokenizer(run))
    run = configs.with_vocabulary(run, len(tokenizer))
    precision = choose_precision(run.train.precision)
    source = start.identified(run)
    train = dataclasses.replace(source.train, precision="auto")
    schedule = [[as_tree(phase), run.train.batch_of(phase), *steps] for phase, *steps in run.train.schedule()]
    made_from = [as_tree(source.model), as_tree(train), schedule, as_tree(run.data), data_id, seed, precision]
    code = code_fingerprint(*CODE, *CODE_OF_KIND[run.model.kind], *start.code(run))
    return Identity(fingerprint([*made_from, code]), run, data_id, precision)


def is_finished(home: Path, seed: int, run: RunConfig) -> bool:
    """Whether `train` would find the run finished. Raises InputError as `train` does."""
    return (Path(home) / "runs" / identify(home, seed, run).run_id / "summary.json").exists()


def train(
    home: Path, profile: str, variant: str, seed: int, run: RunConfig, command: str = "", force: bool = False
) -> Trained:
    """Trains a variant, resumes it, or finds it finished; then writes its records and model card.

    Records are those of the machine that trained. `force` replaces the records of an earlier training.

    Raises:
        InputError: bad configuration or data, a broken training state, a loss that is not finite.
    """
    for phase, _, _ in run.train.schedule():
        if (size := run.train.batch_of(phase)) % torchrun.world():
            raise InputError(
                f"train.batch: {size} pairs cannot be shared by {torchrun.world()} processes; "
                f"expected a multiple of {torchrun.world()}"
            )
    with torchrun.first_then_others():
        found = identify(home, seed, run)
    run, folder = found.run, Path(home) / "runs" / found.run_id
    of_run = outcome.OfRun(profile, variant, seed, run, found.data_id, found.run_id, command)
    torchrun.check_equal("the run id", found.run_id)
    if force and torchrun.is_first():
        with contextlib.suppress(BrokenFileError):  # or missing: nothing tells which records it has
            outcome.remove_records(home, of_run, read_json(folder / "summary.json"))
        shutil.rmtree(folder, ignore_errors=True)
    torchrun.barrier()
    finished = (folder / "summary.json").exists()
    if finished:
        log.info("%s (seed %d): finished before, run %s", variant, seed, found.run_id)
    else:
        from ablations.loop import train_loop  # torch

        if torchrun.is_first():
            folder.mkdir(parents=True, exist_ok=True)
            described = {"profile": profile, "variant": variant, "seed": seed, "command": command, **as_tree(run)}
            (folder / "config.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
        data = open_data(home, found.data_id, run.model.text)
        train_loop(folder, data, run, seed, found.precision, label=f"{variant} seed {seed}")
    trained = Trained(
        found.run_id, folder, folder / "best", read_json(folder / "summary.json", f"remove {folder} to train again")
    )
    if torchrun.is_first():
        for state in folder.glob("state-*"):  # also left by a process that was killed after its summary
            shutil.rmtree(state)
        outcome.write_card(trained.checkpoint, of_run, trained.summary)
        outcome.write_records(home, of_run, trained.summary, replace=not finished)
    return trained


def seed_number(text: str) -> int:
    """A seed of the command line, as a type of argparse."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer from 0 to 2^63 - 1")
    return int(text)


def add_training_flags(parser) -> None:
    """Adds `--profile`, and dotted overrides such as `train.steps=100`."""
    parser.add_argument(
        "--profile", default="quick", help=f"one of {', '.join(configs.names('profiles'))}, or a YAML file"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="dotted overrides of the configuration, such as train.steps=100",
    )


def main(arguments) -> None:
    """Trains the variant of the flags and prints the folder of its checkpoint."""
    with torchrun.joined():
        run = configs.resolve(arguments.profile, arguments.variant, arguments.overrides)
        check_splits(open_corpus(run.data.corpus), run.trained_on())
        asked = (arguments.home, arguments.profile, arguments.variant, arguments.seed)
        trained = train(*asked, run, cli.command_line(), arguments.force)
        if torchrun.is_first():
            print(trained.checkpoint)


def parser():
    """The flags of `python -m ablations.train`."""
    flags = cli.parser("Train one variant; prints the folder of the checkpoint chosen on val.", writes=True)
    add_training_flags(flags)
    flags.add_argument(
        "--variant", default="lexlip", help=f"one of {', '.join(configs.names('variants'))}, or a YAML file"
    )
    flags.add_argument(
        "--seed", type=seed_number, default=0, help="seed of the weights and of all randomness in training"
    )
    return flags
