"""Pre-trained dual encoders of open_clip, by name or from the user's own files, behind the two calls of every retrieval model.

    open_clip:ViT-B-32/laion2b_s34b_b79k        weights that open_clip publishes (architecture/tag), fetched from the hub
    open_clip:ViT-B-32/weights.safetensors      a file of weights; so is any other path, /absolute after the first slash
    open_clip:local-dir:FOLDER                  a folder as open_clip saves one (open_clip_config.json, weights, tokenizer)
    open_clip:hf-hub:ORGANISATION/REPOSITORY    the same on the hub

Notable choices
- Only a published name goes to the hub. Files are loaded with the hub switched off: what an architecture wants from there (the
  tokenizer of a SigLIP, say) comes from its cache, or the model is refused.
- Weights are read as safetensors or with torch's `weights_only`; no code in a file is run.
- Activation and colour statistics are those the weights were trained with. Trap: open_clip itself only warns when a tag needs QuickGELU
  and the architecture has none; here the tag decides. A bare file tells neither: its activation is the architecture's (OpenAI's weights
  are `ViT-B-32-quickgelu`), its mean and deviation those that all published weights of the architecture share, else open_clip's default.
- Pictures come square and at the model's own resolution, so the ways to resize and crop (`resize_mode`) that open_clip names differ in
  nothing; who makes the pictures smaller does so before (`bench.vectors.rendering`: squeezed, bicubic).
"""

import contextlib
import difflib
import functools
import hashlib
import json
import logging
import textwrap
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub import constants as hub
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F

from models.errors import InputError
from models.towers import torchvision_ops
from models.towers.transformer import as_images

torchvision_ops.make_importable()
import open_clip  # noqa: E402

log = logging.getLogger(__name__)

PREFIX, FOLDER, REPOSITORY = "open_clip:", "local-dir:", "hf-hub:"
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
CONFIG = "open_clip_config.json"
UNREADABLE = (
    SafetensorError,
    UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    StopIteration,
)
"""What open_clip lets through when weights or a configuration are broken or of another model."""


class PretrainedClip(nn.Module):
    """The retrieval model: any of open_clip's, with its own tokenizer, resolution and colour statistics.

    model: as open_clip makes it, `visual.preprocess_cfg` included. dimension: D, the width of the dense vectors.
    """

    kind = "dense"
    vocabulary = None

    def __init__(self, model: nn.Module, tokenizer, dimension: int):
        super().__init__()
        self.clip, self.dimension = model, dimension
        self._tokenizer, self._one_at_a_time = tokenizer, threading.Lock()
        described = model.visual.preprocess_cfg
        self.pixels = _side(described["size"])
        for name in ("mean", "std"):
            self.register_buffer(
                name, torch.tensor(described[name], dtype=torch.float32).view(-1, 1, 1), persistent=False
            )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_one_at_a_time": None}  # a lock is of one process

    def __setstate__(self, state: dict) -> None:
        super().__setstate__({**state, "_one_at_a_time": threading.Lock()})

    @torch.inference_mode()
    def encode_image(self, images_BHWC) -> torch.Tensor:
        """uint8 (B, pixels, pixels, 3), tensor or array, to L2-normalised vectors, float32 (B, D) on the CPU."""
        images_BHWC = as_images(images_BHWC, self.pixels, self.mean.device)
        pixels_BCHW = (images_BHWC.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return F.normalize(self.clip.encode_image(pixels_BCHW).float(), dim=-1).cpu()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """Captions to L2-normalised vectors, float32 (B, D) on the CPU."""
        with (
            self._one_at_a_time
        ):  # tokenizers from the hub set their padding at each call, and refuse to in two threads
            tokens_BL = self._tokenizer(captions)
        return F.normalize(self.clip.encode_text(tokens_BL.to(self.mean.device)).float(), dim=-1).cpu()


def named(source) -> bool:
    """Whether `source` names a model of open_clip, not a checkpoint folder."""
    return isinstance(source, str) and source.startswith(PREFIX)


def variant(source: str) -> str:
    """What records call it: `clip_zeroshot:ViT-B-32/laion2b_s34b_b79k`; of a path, its last part alone."""
    start, rest = _parse(source)
    if start == REPOSITORY:
        return f"clip_zeroshot:{rest}"
    name = Path(rest).absolute().name
    return f"clip_zeroshot:{name}" if start == FOLDER else f"clip_zeroshot:{start}/{name}"


def pixels(source: str) -> int:
    """The resolution that a model's configuration states, without loading it. Raises InputError as `load` does."""
    found = _find(source)
    try:
        return _side(
            open_clip.get_model_config(found.model)["vision_cfg"].get("image_size", open_clip.CLIPVisionCfg.image_size)
        )
    except UNREADABLE as error:
        raise InputError(f"{found.place}: no configuration of {source}: {_one_line(error)}") from None


def load(source: str, device: str = "cpu") -> PretrainedClip:
    """The model of an `open_clip:` name, in eval mode; fetches published weights that the hub's cache lacks.

    Raises:
        InputError: an unknown name, with the nearest known; weights that cannot be fetched, are broken, or do not fit the architecture.
    """
    found = _find(source)
    with _quiet_hub(), _offline() if found.local else contextlib.nullcontext():
        try:
            model = open_clip.create_model_from_pretrained(
                found.model, device=device, return_transform=False, **found.options
            )
            tokenizer = open_clip.get_tokenizer(found.model)
            dimension = open_clip.get_model_config(found.model)["embed_dim"]
        except UNREADABLE as error:
            raise InputError(
                f"{found.place}: no model of {source} could be made of it{found.needs}: {_one_line(error)}"
            ) from None
    return PretrainedClip(model, tokenizer, dimension).eval()


def fingerprint(source: str) -> str:
    """A short hash of what decides the vectors: name, architecture, statistics, and the sha256 of the weights. A path is not part of it."""
    found = _find(source)
    sums = {file.name: _sha256(file) for file in found.files}
    identity = found.identity | {"sha256": sums if len(sums) > 1 else list(sums.values())}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


# --- where a model is -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """model: in open_clip's words; place, needs: for messages; files: whose content is part of the identity; options: of open_clip's maker."""

    model: str
    place: str
    files: tuple[Path, ...]
    identity: dict
    options: dict = field(default_factory=dict)
    local: bool = True
    needs: str = ""


@functools.lru_cache(maxsize=16)
def _find(source: str) -> _Found:
    """Resolved once for each name: `fingerprint` and `load` both ask, and the hub is to be asked once."""
    start, rest = _parse(source)
    if start == FOLDER:
        return _folder(source, Path(rest))
    if start == REPOSITORY:
        return _repository(source, rest)
    if start not in open_clip.list_models():
        raise InputError(
            f"{source}: open_clip has no architecture '{start}'; nearest: {_nearest(start, open_clip.list_models())}"
        )
    if published := open_clip.get_pretrained_cfg(start, rest):
        return _published(source, start, rest, published)
    return _file(source, start, Path(rest))


def _parse(source: str) -> tuple[str, str]:
    """(architecture, tag or path), (FOLDER, path) or (REPOSITORY, its name). Raises InputError."""
    name = source.removeprefix(PREFIX)
    schema = next((schema for schema in (FOLDER, REPOSITORY) if name.startswith(schema)), None)
    if schema:
        start, rest = schema, name.removeprefix(schema)
    else:
        start, _, rest = name.partition("/")
    if not (source.startswith(PREFIX) and start and rest):
        forms = "ARCHITECTURE/TAG", "ARCHITECTURE/FILE", f"{FOLDER}FOLDER", f"{REPOSITORY}ORGANISATION/REPOSITORY"
        raise InputError(f"model '{source}': expected {' or '.join(PREFIX + form for form in forms)}")
    return start, rest


def _published(source: str, architecture: str, tag: str, config: dict) -> _Found:
    (file,) = _fetch(source, config["hf_hub"] or config["url"], config)
    statistics = {"image_mean": config["mean"], "image_std": config["std"]}
    options = {"pretrained": str(file), "force_quick_gelu": bool(config.get("quick_gelu"))} | statistics
    identity = _described(f"{architecture}/{tag}", architecture, statistics) | {
        "quick_gelu": options["force_quick_gelu"]
    }
    return _Found(architecture, str(file), (file,), identity, options, local=False)


def _file(source: str, architecture: str, file: Path) -> _Found:
    if not file.is_file():
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        known = f"nearest: {_nearest(str(file), tags)}; known: {', '.join(tags)}" if tags else "there are none"
        raise InputError(
            f"{source}: '{file}' is no file, and no tag of weights that open_clip publishes for {architecture} ({known})"
        )
    if file.suffix not in SUFFIXES:
        raise InputError(f"{file}: expected weights as {', '.join(SUFFIXES)}")
    statistics = _shared_statistics(file, architecture)
    options = {"pretrained": str(file.absolute())} | statistics  # absolute, so that open_clip cannot take it for a tag
    text = open_clip.get_model_config(architecture)["text_cfg"]
    wanted = " and ".join(sorted({text.get("hf_tokenizer_name"), text.get("hf_model_name")} - {None, ""}))
    needs = (
        f" (the architecture needs {wanted} of the hub, and a file is loaded with what its cache holds)"
        if wanted
        else ""
    )
    return _Found(
        architecture, str(file), (file,), _described(architecture, architecture, statistics), options, needs=needs
    )


def _folder(source: str, folder: Path) -> _Found:
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder / CONFIG}: no such file; expected a folder as open_clip saves one for {source}")
    files = tuple(
        sorted(file for file in folder.iterdir() if file.is_file())
    )  # open_clip picks weights and tokenizer among them
    if not any(file.suffix in SUFFIXES for file in files):
        raise InputError(f"{folder}: no weights in it; expected them as {', '.join(SUFFIXES)} beside {CONFIG}")
    return _Found(f"{FOLDER}{folder}", str(folder), files, {"name": FOLDER})


def _repository(source: str, name: str) -> _Found:
    files = _fetch(source, name, {"hf_hub": f"{name}/{CONFIG}"}, {"hf_hub": f"{name}/"})
    return _Found(f"{REPOSITORY}{name}", name, files, {"name": f"{REPOSITORY}{name}"}, local=False)


def _fetch(source: str, what: str, *configs: dict) -> tuple[Path, ...]:
    """The files of the hub, each described as open_clip describes weights."""
    log.warning("%s: fetching %s, unless it is in the hub's cache", source, what)
    try:
        with _quiet_hub():
            return tuple(Path(open_clip.download_pretrained(config)) for config in configs)
    except (OSError, RuntimeError) as error:
        expected = f"expected a connection, or a copy on disk as {PREFIX}ARCHITECTURE/FILE"
        raise InputError(f"{source}: {what} could not be fetched: {_one_line(error)}; {expected}") from None


def _described(name: str, architecture: str, statistics: dict) -> dict:
    return {"name": name, "architecture": open_clip.get_model_config(architecture)} | statistics


def _shared_statistics(file: Path, architecture: str) -> dict:
    """Mean and deviation that all published weights of the architecture were trained with; {} (open_clip's default) where there are none."""
    configs = [
        open_clip.get_pretrained_cfg(architecture, tag) for tag in open_clip.list_pretrained_tags_by_model(architecture)
    ]
    found = {(tuple(config["mean"]), tuple(config["std"])) for config in configs}
    if len(found) > 1:
        log.warning(
            "%s: weights of %s were published for several means and deviations; taking open_clip's default",
            file,
            architecture,
        )
    return dict(zip(("image_mean", "image_std"), *found, strict=True)) if len(found) == 1 else {}


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Without the hub's lines about each attempt (five for each name that the weights could have, twice): the error says what failed."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """The hub's own switch, off while a local model is made: only its cache is read."""
    before, hub.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def _nearest(word: str, known: Iterable[str]) -> str:
    return ", ".join(difflib.get_close_matches(word, list(known), n=3, cutoff=0.0))


def _one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300) or type(error).__name__


def _side(size) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise InputError(f"the model takes pictures of {height} x {width} pixels; expected a square")
    return height


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
