"""Trainings that a process of `ablations.parallel` imports: they do what their variant says."""

import os
import signal
import time
from pathlib import Path

import torch

from models.errors import InputError


def train(home, profile, variant, seed, run, command, force):
    """Returns (variant, process, threads), or ends as the variant says."""
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
