"""Stand-ins for trainings, which the processes of `ablations.parallel` import: their variant says what they do."""

import os
import signal
import sys
import time
from pathlib import Path

from ablations.parallel import Job, train_all
from bench.store import cli
from models.errors import InputError


def train(home, profile, variant, seed, run, command, force):
    """Returns (variant, process, threads), or ends as the variant says."""
    import torch

    match variant:
        case "refused":
            raise InputError("the loss is not finite")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "full":
            raise OSError(28, "No space left on device")
        case "endless":
            (Path(home) / f"{seed}.pid").write_text(str(os.getpid()))
            time.sleep(600)
    return variant, os.getpid(), torch.get_num_threads()


def finished(job) -> bool:
    return job.variant == "finished"


def job(variant: str, home: Path = Path("nowhere"), seed: int = 0) -> Job:
    return Job(home, "tiny", variant, seed, {}, "command", False)


def main(arguments) -> None:
    """A command of two parallel trainings that never end."""
    arguments.home.mkdir(exist_ok=True)
    list(train_all([job("endless", arguments.home, seed) for seed in (0, 1)], 2, train, finished))


if __name__ == "__main__":
    sys.exit(cli.run(main, cli.parser("", writes=True)))
