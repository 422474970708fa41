"""What a run starts from: random weights, pre-trained parts (`model.*.pretrained`), or a checkpoint (`train.start`)."""

import dataclasses
from pathlib import Path

import torch

from ablations.config import RunConfig
from models import checkpoint
from models.errors import InputError
from models.pretrained import warm_start
from models.tokenizer import LexiconTokenizer


def tokenizer(run: RunConfig) -> LexiconTokenizer | None:
    """The tokenizer that the run has to keep, since its weights know no other; None where one is learned from the captions."""
    if run.train.start is None:
        return warm_start.tokenizer(run.model.text)
    return LexiconTokenizer.load(_checkpoint(run) / checkpoint.TOKENIZER, run.model.text.max_tokens)


def identified(run: RunConfig) -> RunConfig:
    """The run with each source named by what is in it, not by where it lies: part of the run's id. Raises InputError."""
    start = None if run.train.start is None else checkpoint.fingerprint(_checkpoint(run))
    return dataclasses.replace(
        run, model=warm_start.identified(run.model), train=dataclasses.replace(run.train, start=start)
    )


def load(model: torch.nn.Module, run: RunConfig) -> None:
    """Give a freshly made model of the run the weights that it starts from, in place. Raises InputError."""
    if run.train.start is None:
        warm_start.start(model)
    else:
        checkpoint.load_weights(model, _checkpoint(run))


def _checkpoint(run: RunConfig) -> Path:
    folder = Path(run.train.start).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"train.start: {run.train.start}: no such folder; expected a checkpoint, such as training prints: train.start=FOLDER"
        )
    return folder
