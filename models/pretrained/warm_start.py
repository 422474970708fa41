"""Loads pre-trained weights into a new model: `model.text.pretrained` and `model.image.pretrained`
(`models.pretrained.sources`).

Notable choices
- Sizes and architecture come from the configuration and are compared with the folder's config.json. A difference is an
  error that names the key to set; no layer is left random. transformers reads the weights, so it handles older names.
- Rows of BERT's position and token-type tables that cannot be reached here are dropped, which changes no output.
- BERT's masked-language-model head, if the weights have one, becomes the lexicon head of the text, with the configured
  bias added; otherwise the head starts as configured. The image's head is then a copy of the text's.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from models.config import ARCHITECTURE, ImageConfig, TextConfig
from models.errors import InputError, one_line
from models.files import read_json
from models.lexicon.head import rows_of
from models.pretrained import UNREADABLE
from models.pretrained.sources import CONFIG, STATISTICS, folder, identified, weights
from models.towers.efficientnet import EfficientNetLite
from models.towers.frozen import encoder_of
from models.towers.transformer import MEAN_AND_DEVIATION, BertForMaskedLM, BertModel, transformers_logging

log = logging.getLogger(__name__)

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
"""Key of a transformers configuration -> ours, for the keys that decide the shape or meaning of weights."""

UNLOADABLE = (*UNREADABLE, StrictDataclassError)
"""Exceptions of transformers for files that are broken or of another model."""


def start(model: nn.Module) -> None:
    """Loads the pre-trained parts named by `model.config` into a new LexLIP or Clip, in place.

    `model.config` then identifies the sources by content. Raises InputError if a source does not exist, a file is
    missing or broken, or for the first difference from the configuration.
    """
    config = model.config
    if config.text.pretrained:
        bert, has_head = _start_text(encoder_of(model.text_encoder), config.text)
        if model.kind == "lexicon":
            if has_head:
                _start_head(model.text.head, bert, config.lexlip.head.text_bias)
            model.copy_head()
        head = "with" if has_head else "without"
        log.info("text: started from %s, %s its masked-language-model head", config.text.pretrained, head)
    if config.image.pretrained:
        _start_image(encoder_of(model.image_encoder), config.image)
        log.info("image: started from %s", config.image.pretrained)
    model.config = identified(config)


def _start_text(encoder: BertModel, config: TextConfig) -> tuple[BertForMaskedLM, bool]:
    """Loads the encoder. Returns the model of the weights, and whether they have an MLM head."""
    path = folder(config.pretrained, "model.text")
    found = _compare(path, encoder.config, "bert", "model.text")
    if found.max_position_embeddings < config.max_tokens:
        positions = found.max_position_embeddings
        raise InputError(f"{path / CONFIG}: has {positions} positions; set model.text.max_tokens={positions} or less")
    bert, missing = _read(BertForMaskedLM, path, found)
    head = {key for key in bert.state_dict() if key.startswith(("cls.predictions.transform.", "cls.predictions.bias"))}
    has_head = not head <= missing
    if has_head and not found.tie_word_embeddings:
        raise InputError(
            f"{path / CONFIG}: tie_word_embeddings is false; expected an MLM head tied to the word embeddings"
        )
    _refuse_missing(path, missing if has_head else {key for key in missing if not key.startswith("cls.")})
    state = bert.bert.state_dict()
    for table in ("position_embeddings", "token_type_embeddings"):
        rows = len(getattr(encoder.embeddings, table).weight)
        state[f"embeddings.{table}.weight"] = state[f"embeddings.{table}.weight"][:rows]
    encoder.load_state_dict(state)
    return bert, has_head


@torch.no_grad()
def _start_head(head: nn.Module, bert: BertForMaskedLM, bias: float) -> None:
    head.transform.load_state_dict(bert.cls.predictions.transform.state_dict())
    head.bias_V.copy_(rows_of(bert.cls.predictions.bias, head.lexicon_V) + bias)


def _start_image(encoder: nn.Module, config: ImageConfig) -> None:
    path = folder(config.pretrained, "model.image")
    if isinstance(encoder, EfficientNetLite):
        (file, *_) = weights(path)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            encoder.network.load_state_dict({key: value for key, value in state.items() if not key.startswith("_fc.")})
        except UNLOADABLE as error:
            raise InputError(f"{file}: not the weights of {config.encoder}: {one_line(error)}") from None
        return
    found = _compare(path, encoder.config, config.encoder, "model.image")
    _compare_statistics(path, config)
    found.use_mask_token = encoder.config.to_dict().get("use_mask_token")  # no image is masked here
    without_pooler = {} if config.encoder == "dinov2" else {"add_pooling_layer": False}
    model, missing = _read(type(encoder), path, found, **without_pooler)
    _refuse_missing(path, missing)
    encoder.load_state_dict(model.state_dict())


def _read(kind: type, path: Path, config, **options) -> tuple[nn.Module, set[str]]:
    """A model read by transformers, in float32, and the keys that its weights lack."""
    weights(path)
    safe = {"local_files_only": True, "weights_only": True, "dtype": torch.float32}
    with silent():
        try:
            model, report = kind.from_pretrained(path, config=config, output_loading_info=True, **safe, **options)
        except UNLOADABLE as error:
            raise InputError(f"{path}: weights are broken or of another model: {one_line(error)}") from None
    return model, set(report["missing_keys"])


def _refuse_missing(path: Path, missing: set[str]) -> None:
    if missing:
        raise InputError(
            f"{path}: the weights lack {min(missing)}, and {len(missing) - 1} more; expected all weights of {CONFIG}"
        )


def _compare(path: Path, ours, encoder: str, where: str):
    """The configuration of a folder. Raises InputError if it differs from `ours` in the meaning of weights."""
    described = _read_mapping(path / CONFIG)
    if described.get("model_type") != ours.model_type:
        expected = f"expected {ours.model_type}" + (f", or set {where}.encoder" if where == "model.image" else "")
        raise InputError(f"{path / CONFIG}: model_type is {described.get('model_type')}; {expected}")
    try:
        found = type(ours).from_pretrained(path, local_files_only=True)
    except UNLOADABLE as error:
        raise InputError(f"{path / CONFIG}: not a configuration of {ours.model_type}: {one_line(error)}") from None
    unread = ["vocab_size"] if where == "model.image" else []
    sizes = {key: name for key, name in SIZES.items() if hasattr(ours, key) and key not in unread}
    shaping = {key: f"architecture.{key}" for key in ARCHITECTURE[encoder] if key != "initializer_range"}
    for key, name in (sizes | shaping).items():
        theirs, mine = getattr(found, key), getattr(ours, key)
        if theirs != mine:
            value = theirs / found.hidden_size if key == "intermediate_size" else theirs
            raise InputError(
                f"{path / CONFIG}: {key} is {theirs}, in the configuration {mine}; set {where}.{name}={value}"
            )
    return found


def _compare_statistics(path: Path, config: ImageConfig) -> None:
    """Refuses weights trained on pixels normalised in another way, if the folder states how."""
    described = _read_mapping(path / STATISTICS) if (path / STATISTICS).is_file() else {}
    if not (described.get("image_mean") and described.get("image_std")):
        return
    theirs = (tuple(described["image_mean"]), tuple(described["image_std"]))
    if theirs != MEAN_AND_DEVIATION[config.statistics]:
        name = next((name for name, known in MEAN_AND_DEVIATION.items() if known == theirs), None)
        known = " or ".join(MEAN_AND_DEVIATION)
        remedy = f"set model.image.statistics={name}" if name else f"expected those of {known}"
        raise InputError(f"{path / STATISTICS}: mean and deviation {theirs} are not {config.statistics}; {remedy}")


def _read_mapping(file: Path) -> dict:
    described = read_json(file, "expected a folder as transformers saves one")
    if not isinstance(described, dict):
        raise InputError(f"{file}: expected a mapping, got {type(described).__name__}")
    return described


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Turns off the reports and progress bars of transformers; errors are reported here, in one line."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()
