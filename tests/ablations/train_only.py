"""A command that trains lexlip in a process of its own, as parallel training does, and measures nothing."""

import sys
from pathlib import Path

from ablations import config as configs
from ablations.parallel import Job, train_all
from ablations.train import is_finished, train
from bench.store import cli

TINY = str(Path(__file__).with_name("tiny.yaml"))


def main(arguments) -> None:
    """Trains the tiny profile with the overrides given."""
    run = configs.resolve(TINY, "lexlip", arguments.overrides)
    jobs = [Job(arguments.home, TINY, "lexlip", 0, run, "", False)]
    list(train_all(jobs, 2, train, lambda job: is_finished(job.home, job.seed, job.run)))


if __name__ == "__main__":
    flags = cli.parser("", writes=True)
    flags.add_argument("overrides", nargs="*")
    sys.exit(cli.run(main, flags))
