"""Checkpoints of retrieval models: a folder of `model.safetensors`, `model.json` and `tokenizer.json`.

`model.json` holds the configuration, its sha256 and that of the two other files; a truncated or changed one is refused by name. (A
configuration that was written before it had a sum is read without.) Nothing is unpickled.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from models.clip import Clip, ClipObjective
from models.config import ModelConfig
from models.errors import InputError
from models.lexlip import LexLIP
from models.objective import LexLIPObjective
from models.tokenizer import LexiconTokenizer

MODELS = {"lexlip": (LexLIP, LexLIPObjective), "clip": (Clip, ClipObjective)}
"""kind of a configuration -> (the retrieval model, what it is trained on)."""

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "model.json", "tokenizer.json"
OF_CONFIG = "config"
"""Key of the configuration's own sum among those of the files."""


def create(config: ModelConfig, tokenizer: LexiconTokenizer) -> torch.nn.Module:
    """A new retrieval model with random weights."""
    return MODELS[config.kind][0](config, tokenizer)


def objective(model: torch.nn.Module) -> torch.nn.Module:
    """What `model` is trained on."""
    return MODELS[model.config.kind][1](model)


def save(model: torch.nn.Module, folder: Path) -> None:
    """Write a checkpoint whole or not at all, in place of one that stands there. Raises OSError when the disk is full."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        try:
            save_model(model, str(part / WEIGHTS))
        except SafetensorError as error:  # of the disk: there is nothing else to go wrong
            raise OSError(f"{folder / WEIGHTS}: {error}") from None
        model.tokenizer.save(part / TOKENIZER)
        config = TypeAdapter(ModelConfig).dump_python(model.config, mode="json")
        sums = {name: _sha256(part / name) for name in (WEIGHTS, TOKENIZER)} | {OF_CONFIG: _sha256_of(config)}
        (part / CONFIG).write_text(json.dumps({"config": config, "sha256": sums}, indent=2), encoding="utf-8")
        for file in part.iterdir():
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        replaced = part.with_name(part.name + "-replaced")
        if folder.exists():
            os.rename(folder, replaced)
        os.rename(part, folder)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load(folder: Path, device: str = "cpu") -> torch.nn.Module:
    """The retrieval model of a checkpoint folder, in eval mode.

    Raises:
        InputError: a file that is missing, truncated, changed, or does not fit the configuration; the message names it.
    """
    folder = Path(folder)
    description = _read_whole(folder)
    try:
        config = TypeAdapter(ModelConfig).validate_python(description["config"])
        model = create(config, LexiconTokenizer.load(folder / TOKENIZER, config.text.max_tokens))
        load_model(model, str(folder / WEIGHTS))  # knows which parameters are tied
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{folder / CONFIG}: config.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder}: not a checkpoint this version can read: {str(error).splitlines()[0]}") from None
    return model.to(device).eval()


def load_weights(model: torch.nn.Module, folder: Path) -> None:
    """Give a model of the same parts the weights of a checkpoint, in place; picture size and all that has no weights may differ.

    Raises:
        InputError: a file that is missing or broken, another kind of model, another vocabulary, or the first weight that does not fit.
    """
    folder = Path(folder)
    config = _read_whole(folder)["config"]
    if config.get("kind") != model.config.kind:
        raise InputError(f"{folder}: a checkpoint of a {config.get('kind')}, but model.kind is {model.config.kind}")
    if LexiconTokenizer.load(folder / TOKENIZER, model.tokenizer.max_tokens).vocabulary != model.tokenizer.vocabulary:
        raise InputError(f"{folder / TOKENIZER}: another vocabulary than the model's; expected the same lexicon")
    try:
        load_model(model, str(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        first = " ".join(" ".join(str(error).splitlines()[:2]).split())
        raise InputError(
            f"{folder / WEIGHTS}: does not fit the configuration of model.*: {first}; compare it with {folder / CONFIG}"
        ) from None


def fingerprint(folder: Path) -> str:
    """A short hash of a checkpoint's weights, tokenizer and configuration, as `model.json` states them."""
    text = json.dumps(_read_description(Path(folder)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_whole(folder: Path) -> dict:
    """The description of a checkpoint whose files are as it says."""
    description = _read_description(folder)
    for name in (WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder / name}: no such file; expected a checkpoint of {WEIGHTS}, {CONFIG}, {TOKENIZER}"
            )
        if _sha256(folder / name) != description["sha256"][name]:
            raise InputError(
                f"{folder / name}: truncated or changed since it was written (sha256 differs); train it again or restore the file"
            )
    return description


def _read_description(folder: Path) -> dict:
    file = folder / CONFIG
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        if not (
            isinstance(description["config"], dict)
            and {*description["sha256"], OF_CONFIG} == {WEIGHTS, TOKENIZER, OF_CONFIG}
        ):
            raise ValueError("expected the keys config and sha256")
        if description["sha256"].get(OF_CONFIG) not in (None, _sha256_of(description["config"])):
            raise ValueError(
                "its configuration changed since it was written (sha256 differs); train it again or restore the file"
            )
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{file}: no such file; expected a checkpoint folder with {WEIGHTS}, {CONFIG}, {TOKENIZER}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: not a checkpoint description: {error}") from None
    return description


def _sha256_of(config: dict) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
