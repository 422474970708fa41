"""Initial weights of a run: random, pre-trained parts (`model.*.pretrained`), or a checkpoint (`train.start`)."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.config import RunConfig
from models import checkpoint
from models.errors import InputError
from models.pretrained import sources
from models.tokenizer import LexiconTokenizer

if TYPE_CHECKING:
    from torch import nn


def tokenizer(run: RunConfig) -> LexiconTokenizer | None:
    """The tokenizer that belongs to the initial weights; None if one is to be trained on the captions."""
    if run.train.start is not None:
        return LexiconTokenizer.load(_checkpoint(run) / checkpoint.TOKENIZER, run.model.text.max_tokens)
    return sources.tokenizer(run.model.text)


def identified(run: RunConfig) -> RunConfig:
    """The run with paths of initial weights replaced by hashes of their content, for its id. Raises InputError."""
    start = None if run.train.start is None else checkpoint.fingerprint(_checkpoint(run))
    train = dataclasses.replace(run.train, start=start)
    return dataclasses.replace(run, model=sources.identified(run.model), train=train)


def code(run: RunConfig) -> tuple[str, ...]:
    """Modules that decide the initial weights beside `models.checkpoint`."""
    return ("models.pretrained.sources", "models.pretrained.warm_start") if _is_pretrained(run) else ()


def load(model: "nn.Module", run: RunConfig) -> None:
    """Loads the initial weights into a new model of the run, in place. Raises InputError."""
    if run.train.start is not None:
        checkpoint.load_weights(model, _checkpoint(run))
    elif _is_pretrained(run):
        from models.pretrained import warm_start

        warm_start.start(model)


def _is_pretrained(run: RunConfig) -> bool:
    return bool(run.model.image.pretrained or run.model.text.pretrained)


def _checkpoint(run: RunConfig) -> Path:
    folder = Path(run.train.start).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"train.start: {run.train.start}: no such folder; expected a checkpoint, such as training prints: "
            "train.start=FOLDER"
        )
    return folder
