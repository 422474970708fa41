"""Pre-trained dual encoders of open_clip, by published name or from local files.

    open_clip:ViT-B-32/laion2b_s34b_b79k        weights published by open_clip (ARCHITECTURE/TAG), fetched from the hub
    open_clip:ViT-B-32/weights.safetensors      a file of weights; other paths too, absolute after the first slash
    open_clip:local-dir:FOLDER                  a folder saved by open_clip (open_clip_config.json, weights, tokenizer)
    open_clip:hf-hub:ORGANISATION/REPOSITORY    the same from the hub

Notable choices
- Only published names use the hub. Local files are loaded offline: what an architecture needs from the hub (such as the
  tokenizer of a SigLIP) comes from its cache, otherwise the model is refused.
- Weights are read as safetensors or with torch's `weights_only`; no code in a file is run.
- Activation and image statistics are those of the training. Trap: open_clip only warns if a tag needs QuickGELU and the
  architecture has GELU; here the tag decides. A bare file states neither: its activation is the architecture's
  (OpenAI's weights need `ViT-B-32-quickgelu`), its mean and deviation are those shared by all published weights of the
  architecture, otherwise open_clip's default.
- Images come square and at the resolution of the model, so open_clip's `resize_mode` has no effect; the caller resizes
  (`bench.vectors.batches`: squeezed, bicubic).
- `load` alone imports torch and open_clip. The other functions read open_clip's own tables without importing it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from models.errors import InputError, nearest, one_line
from models.files import read_json, sha256, sha256_text
from models.pretrained import UNREADABLE

if TYPE_CHECKING:
    from models.pretrained.open_clip_model import PretrainedClip

log = logging.getLogger(__name__)

PREFIX, FOLDER, REPOSITORY = "open_clip:", "local-dir:", "hf-hub:"
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
CONFIG = "open_clip_config.json"
DEFAULT_PIXELS = 224
"""`image_size` of open_clip's `CLIPVisionCfg`, for configurations without one."""

UNLOADABLE = (*UNREADABLE, AssertionError, StopIteration)
"""Exceptions of open_clip for weights or configurations that are broken or of another model."""


def named(source) -> bool:
    """Whether `source` names a model of open_clip rather than a checkpoint folder."""
    return isinstance(source, str) and source.startswith(PREFIX)


def variant(source: str) -> str:
    """The variant in records, such as `clip_zeroshot:ViT-B-32/laion2b_s34b_b79k`; of a path, only the last part."""
    start, rest = _parse(source)
    if start == REPOSITORY:
        return f"clip_zeroshot:{rest}"
    name = Path(rest).absolute().name
    return f"clip_zeroshot:{name}" if start == FOLDER else f"clip_zeroshot:{start}/{name}"


def pixels(source: str) -> int:
    """The resolution in the configuration of a model, which is not loaded. Raises InputError as `load`."""
    found = _find(source)
    try:
        return side(_configuration(found)["vision_cfg"].get("image_size", DEFAULT_PIXELS))
    except UNLOADABLE as error:
        raise InputError(f"{found.place}: no configuration of {source}: {one_line(error)}") from None


def fingerprint(source: str) -> str:
    """A 16-digit hash of the name, architecture, image statistics and SHA-256 of the weights, without their path."""
    found = _find(source)
    sums = {file.name: sha256(file) for file in found.files}
    identity = found.identity | {"sha256": sums if len(sums) > 1 else list(sums.values())}
    return sha256_text(json.dumps(identity, sort_keys=True))[:16]


def kind(source: str) -> str:
    """The kind of the vectors: always "dense"."""
    return "dense"


def load(source: str, device: str = "cpu") -> PretrainedClip:
    """The model of an `open_clip:` name, in eval mode; fetches published weights that are not in the hub's cache.

    Raises InputError for an unknown name (with the nearest known one), and for weights that cannot be fetched, are
    broken or do not fit the architecture.
    """
    from models.pretrained.open_clip_model import PretrainedClip, open_clip

    found = _find(source)
    with _quiet_hub(), _offline() if found.local else contextlib.nullcontext():
        try:
            model = open_clip.create_model_from_pretrained(
                found.model, device=device, return_transform=False, **found.options
            )
            tokenizer = open_clip.get_tokenizer(found.model)
            dimension = open_clip.get_model_config(found.model)["embed_dim"]
        except UNLOADABLE as error:
            raise InputError(f"{found.place}: cannot load {source}{found.needs}: {one_line(error)}") from None
    return PretrainedClip(model, tokenizer, dimension, side(model.visual.preprocess_cfg["size"])).eval()


def side(size) -> int:
    """The side of square images from open_clip's `image_size`, an int or (height, width). Raises InputError."""
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise InputError(f"the model expects images of {height} x {width} pixels; only square ones are supported")
    return height


# --- where a model is -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A located model.

    model: its name in open_clip. place, needs: for messages. files: decide the identity by their content.
    options: of open_clip's `create_model_from_pretrained`. local: load offline.
    """

    model: str
    place: str
    files: tuple[Path, ...]
    identity: dict
    options: dict = field(default_factory=dict)
    local: bool = True
    needs: str = ""


@functools.lru_cache(maxsize=16)
def _find(source: str) -> _Found:
    """Locates a model; cached, so that `fingerprint` and `load` ask the hub once."""
    start, rest = _parse(source)
    if start == FOLDER:
        return _folder(source, Path(rest))
    if start == REPOSITORY:
        return _repository(source, rest)
    if start not in (known := _architectures()):
        raise InputError(f"{source}: unknown architecture '{start}' of open_clip{nearest(start, known, listed=False)}")
    if published := _published_weights().get_pretrained_cfg(start, rest):
        return _published(source, start, rest, published)
    return _file(source, start, Path(rest))


def _parse(source: str) -> tuple[str, str]:
    """(architecture, tag or path), (FOLDER, path) or (REPOSITORY, its name). Raises InputError."""
    name = source.removeprefix(PREFIX)
    scheme = next((scheme for scheme in (FOLDER, REPOSITORY) if name.startswith(scheme)), None)
    if scheme:
        start, rest = scheme, name.removeprefix(scheme)
    else:
        start, _, rest = name.partition("/")
    if not (source.startswith(PREFIX) and start and rest):
        forms = "ARCHITECTURE/TAG", "ARCHITECTURE/FILE", f"{FOLDER}FOLDER", f"{REPOSITORY}ORGANISATION/REPOSITORY"
        raise InputError(f"model '{source}': expected {' or '.join(PREFIX + form for form in forms)}")
    return start, rest


def _published(source: str, architecture: str, tag: str, config: dict) -> _Found:
    (file,) = _fetch(source, config["hf_hub"] or config["url"], config)
    statistics = {"image_mean": config["mean"], "image_std": config["std"]}
    quick_gelu = bool(config.get("quick_gelu"))
    options = {"pretrained": str(file), "force_quick_gelu": quick_gelu} | statistics
    identity = _identity(f"{architecture}/{tag}", architecture, statistics) | {"quick_gelu": quick_gelu}
    return _Found(architecture, str(file), (file,), identity, options, local=False)


def _file(source: str, architecture: str, file: Path) -> _Found:
    if not file.is_file():
        tags = _published_weights().list_pretrained_tags_by_model(architecture)
        raise InputError(
            f"{source}: '{file}' is neither a file nor a tag of weights published for {architecture}"
            f"{nearest(str(file), tags) or ' (which has none)'}"
        )
    if file.suffix not in SUFFIXES:
        raise InputError(f"{file}: expected weights as {', '.join(SUFFIXES)}")
    statistics = _shared_statistics(file, architecture)
    options = {"pretrained": str(file.absolute())} | statistics  # absolute, so that open_clip cannot take it for a tag
    text = _architecture(architecture)["text_cfg"]
    remote = " and ".join(sorted({text.get("hf_tokenizer_name"), text.get("hf_model_name")} - {None, ""}))
    needs = f" (the architecture needs {remote} of the hub; files are loaded offline, with its cache only)"
    identity = _identity(architecture, architecture, statistics)
    return _Found(architecture, str(file), (file,), identity, options, needs=needs if remote else "")


def _folder(source: str, folder: Path) -> _Found:
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder / CONFIG}: no such file; expected a folder saved by open_clip for {source}")
    files = tuple(sorted(file for file in folder.iterdir() if file.is_file()))  # open_clip chooses among them
    if not any(file.suffix in SUFFIXES for file in files):
        raise InputError(f"{folder}: no weights; expected them as {', '.join(SUFFIXES)} beside {CONFIG}")
    return _Found(f"{FOLDER}{folder}", str(folder), files, {"name": FOLDER})


def _repository(source: str, name: str) -> _Found:
    files = _fetch(source, name, {"hf_hub": f"{name}/{CONFIG}"}, {"hf_hub": f"{name}/"})
    return _Found(f"{REPOSITORY}{name}", name, files, {"name": f"{REPOSITORY}{name}"}, local=False)


def _fetch(source: str, what: str, *configs: dict) -> tuple[Path, ...]:
    """Files from the hub or its cache, each described as open_clip describes weights."""
    log.warning("%s: fetching %s, unless it is in the hub's cache", source, what)
    try:
        with _quiet_hub():
            return tuple(Path(_published_weights().download_pretrained(config)) for config in configs)
    except (OSError, RuntimeError) as error:
        expected = f"expected a connection, or a copy on disk as {PREFIX}ARCHITECTURE/FILE"
        raise InputError(f"{source}: {what} could not be fetched: {one_line(error)}; {expected}") from None


def _identity(name: str, architecture: str, statistics: dict) -> dict:
    return {"name": name, "architecture": _architecture(architecture)} | statistics


def _shared_statistics(file: Path, architecture: str) -> dict:
    """Mean and deviation shared by all published weights of the architecture; {} (open_clip's default) otherwise."""
    table = _published_weights()
    tags = table.list_pretrained_tags_by_model(architecture)
    configs = [table.get_pretrained_cfg(architecture, tag) for tag in tags]
    found = {(tuple(config["mean"]), tuple(config["std"])) for config in configs}
    if len(found) > 1:
        log.warning(
            "%s: the published weights of %s have several means and deviations; using open_clip's default",
            file,
            architecture,
        )
    return dict(zip(("image_mean", "image_std"), *found, strict=True)) if len(found) == 1 else {}


# --- the tables of open_clip ----------------------------------------------------------------------------------------


def _package_folder() -> Path:
    return Path(find_spec("open_clip").submodule_search_locations[0])


def _architectures() -> list[str]:
    """Names of open_clip's architectures; those registered at run time too if open_clip is imported."""
    if "open_clip" in sys.modules:
        return sys.modules["open_clip"].list_models()
    return [file.stem for file in (_package_folder() / "model_configs").glob("*.json")]


def _architecture(name: str) -> dict:
    if "open_clip" in sys.modules:
        return sys.modules["open_clip"].get_model_config(name)
    return read_json(_package_folder() / "model_configs" / f"{name}.json")


def _configuration(found: _Found) -> dict:
    file = next((file for file in found.files if file.name == CONFIG), None)
    if file is None:
        return _architecture(found.model)
    described = read_json(file)
    return described.get("model_cfg", described)


@functools.cache
def _tables() -> ModuleType:
    """A copy of the module `open_clip.pretrained` without the package around it, which imports torch.

    Trap: the module imports `safetensors.torch` to learn whether safetensors is installed, and that imports torch.
    """
    package = ModuleType("_open_clip_tables")
    package.__path__ = [str(_package_folder())]
    sys.modules[package.__name__] = package
    blocked = "safetensors.torch" not in sys.modules
    if blocked:
        sys.modules["safetensors.torch"] = None
    try:
        tables = importlib.import_module(f"{package.__name__}.pretrained")
    finally:
        if blocked:
            del sys.modules["safetensors.torch"]
    tables._has_safetensors = True
    return tables


def _published_weights() -> ModuleType:
    """open_clip's table of published weights, and its downloads."""
    return sys.modules.get("open_clip.pretrained") or _tables()


# --- the hub --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Turns off the hub's log of each attempt (ten per model); the error says what failed."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Turns off the hub's network access while a local model is loaded; only its cache is read."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
