"""Checkpoints of retrieval models: a folder with `model.safetensors`, `model.json` and `tokenizer.json`, and with
`lexicon.json` if the lexicon is a part of the vocabulary.

`model.json` holds the configuration and the SHA-256 of the configuration and of the other files; a truncated or
changed file is refused by name. (Checkpoints written before the configuration had a checksum are read without it.)
Nothing is unpickled. torch and transformers are imported when a model is made, so `fingerprint` is cheap.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from models.config import ModelConfig
from models.errors import InputError, one_line
from models.files import atomic_folder, read_json, sha256, sha256_text, write_json
from models.tokenizer import LEXICON, LexiconTokenizer

if TYPE_CHECKING:
    from torch import nn

    from models.objective import Objective

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "model.json", "tokenizer.json"
CONFIG_SUM = "config"
"""Key of the configuration's checksum, beside those of the files."""
VECTORS = {"lexlip": "lexicon", "clip": "dense"}
"""Kind of a model -> kind of its vectors."""

ENCODER_CODE = (
    "models.clip",
    "models.config",
    "models.lexicon.head",
    "models.lexicon.max_linear",
    "models.lexicon.max_linear_triton",
    "models.lexlip",
    "models.tokenizer",
    "models.towers.config",
    "models.towers.efficientnet",
    "models.towers.frozen",
    "models.towers.transformer",
)
"""Modules that decide the vectors of a checkpoint, for `bench.store.config.code_fingerprint`."""


def create(config: ModelConfig, tokenizer: LexiconTokenizer) -> nn.Module:
    """A new retrieval model of `config.kind` with random weights, in training mode. Raises InputError."""
    if config.kind == "clip":
        from models.clip import Clip

        return Clip(config, tokenizer)
    from models.lexlip import LexLIP

    return LexLIP(config, tokenizer)


def objective(model: nn.Module) -> Objective:
    """The training objective of a retrieval model."""
    if model.config.kind == "clip":
        from models.clip import ClipObjective

        return ClipObjective(model)
    from models.objective import LexLIPObjective

    return LexLIPObjective(model)


def save(model: nn.Module, folder: Path) -> None:
    """Writes a checkpoint atomically, in place of an existing one. Raises OSError if the disk is full."""
    from safetensors.torch import save_model

    folder = Path(folder)
    with atomic_folder(folder) as partial:
        try:
            save_model(model, str(partial / WEIGHTS))
        except SafetensorError as error:  # only the disk can fail here
            raise OSError(f"{folder / WEIGHTS}: {error}") from None
        files = [partial / WEIGHTS, *model.tokenizer.save(partial / TOKENIZER)]
        config = TypeAdapter(ModelConfig).dump_python(model.config, mode="json")
        sums = {file.name: sha256(file) for file in files} | {CONFIG_SUM: _config_sum(config)}
        write_json(partial / CONFIG, {"config": config, "sha256": sums})


def load(folder: Path, device: str = "cpu") -> nn.Module:
    """The retrieval model of a checkpoint folder, in eval mode on `device`.

    Raises InputError, which names the file, if one is missing, truncated or changed, or does not fit the configuration.
    """
    from safetensors.torch import load_model

    folder = Path(folder)
    description = _read_verified(folder)
    try:
        config = TypeAdapter(ModelConfig).validate_python(description["config"])
        model = create(config, LexiconTokenizer.load(folder / TOKENIZER, config.text.max_tokens))
        load_model(model, str(folder / WEIGHTS))  # restores tied parameters too
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{folder / CONFIG}: config.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder}: not a checkpoint this version can read: {str(error).splitlines()[0]}") from None
    return model.to(device).eval()


def load_weights(model: nn.Module, folder: Path) -> None:
    """Loads the weights of a checkpoint into a model with the same parts, in place.

    The image size and everything else that has no weights may differ.

    Raises InputError if a file is missing or broken, if the checkpoint has another kind or vocabulary, or for the first
    weight that does not fit.
    """
    from safetensors.torch import load_model

    folder = Path(folder)
    config = _read_verified(folder)["config"]
    if config.get("kind") != model.config.kind:
        raise InputError(f"{folder}: a checkpoint of a {config.get('kind')}, but model.kind is {model.config.kind}")
    if LexiconTokenizer.load(folder / TOKENIZER, model.tokenizer.max_tokens).vocabulary != model.tokenizer.vocabulary:
        raise InputError(f"{folder / TOKENIZER}: its vocabulary differs from the model's; expected the same lexicon")
    try:
        load_model(model, str(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        expected = f"compare it with {folder / CONFIG}"
        raise InputError(
            f"{folder / WEIGHTS}: does not fit the configuration of model.*: {one_line(error)}; {expected}"
        ) from None


def fingerprint(folder: Path) -> str:
    """A 16-digit hash of a checkpoint's weights, tokenizer and configuration, computed from `model.json` alone."""
    return sha256_text(json.dumps(_read_description(Path(folder)), sort_keys=True))[:16]


def kind(folder: Path) -> str:
    """The kind of a checkpoint's vectors, "dense" or "lexicon", from `model.json` alone. Raises InputError."""
    model = _read_description(Path(folder))["config"].get("kind")
    if model not in VECTORS:
        raise InputError(f"{Path(folder) / CONFIG}: config.kind is {model!r}; expected {' or '.join(VECTORS)}")
    return VECTORS[model]


def _read_verified(folder: Path) -> dict:
    """The description of a checkpoint, after a check of all its files against their checksums."""
    description = _read_description(folder)
    if (folder / LEXICON).is_file() and LEXICON not in description["sha256"]:
        raise InputError(f"{folder / LEXICON}: not of this checkpoint, whose tokens all are lexicons; remove it")
    for name in sorted(description["sha256"].keys() - {CONFIG_SUM}):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: no such file; {_EXPECTED}")
        if sha256(folder / name) != description["sha256"][name]:
            raise InputError(f"{folder / name}: truncated or changed since it was written (sha256 differs); {_REMEDY}")
    return description


def _read_description(folder: Path) -> dict:
    file = folder / CONFIG
    description = read_json(file, _EXPECTED)
    try:
        config, sums = description["config"], description["sha256"]
        fits = isinstance(config, dict) and {*sums, CONFIG_SUM, LEXICON} == {WEIGHTS, TOKENIZER, CONFIG_SUM, LEXICON}
        unchanged = sums.get(CONFIG_SUM) in (None, _config_sum(config))
    except (KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise InputError(f"{file}: not a checkpoint description: expected the keys config and sha256")
    if not unchanged:
        raise InputError(f"{file}: its configuration changed since it was written (sha256 differs); {_REMEDY}")
    return description


_EXPECTED = f"expected a checkpoint folder with {WEIGHTS}, {CONFIG}, {TOKENIZER}"
_REMEDY = "train it again or restore the file"


def _config_sum(config: dict) -> str:
    return sha256_text(json.dumps(config, sort_keys=True))
