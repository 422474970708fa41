"""A slice of a corpus through both encoders of a checkpoint, to vectors on disk."""

import functools
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench import cli, config
from bench.vectors import Vectors, open_vectors, write_vectors
from models import checkpoint as checkpoints

log = logging.getLogger(__name__)
BATCH = 256


class Encoder:
    """The model of a checkpoint folder, loaded when it is first needed. Vectors are L2-normalised float32."""

    def __init__(self, folder):
        self.folder = Path(folder)

    @functools.cached_property
    def id(self) -> str:
        return checkpoints.fingerprint(self.folder)

    @functools.cached_property
    def model(self):
        return checkpoints.load(self.folder)

    @property
    def kind(self) -> str:
        return self.model.kind

    @property
    def vocabulary(self) -> list[str] | None:
        return self.model.vocabulary if self.kind == "lexicon" else None

    def images(self, pictures: list[np.ndarray]) -> np.ndarray:
        """uint8 (H, W, 3) pictures -> (B, D or V)."""
        pixels = self.model.pixels
        batch = np.stack([picture if picture.shape[:2] == (pixels, pixels) else _resized(picture, pixels) for picture in pictures])
        return _numpy(self.model.encode_image(batch))

    def texts(self, texts: list[str]) -> np.ndarray:
        """Strings -> (B, D or V)."""
        return _numpy(self.model.encode_text(list(texts)))


@dataclass(frozen=True)
class Encoded:
    """Vectors of a slice's images and of its captions, with their ids; `rates` (images and texts per second) only when made just now."""

    images: Vectors
    captions: Vectors
    images_id: str
    captions_id: str
    rates: dict[str, float]

    @property
    def kind(self) -> str:
        return self.images.kind


def encode(home, encoder: Encoder, corpus, split: str, images: int, force: bool = False) -> Encoded:
    """Encodes images 0..`images` of a split and their captions to `<home>/vectors/`, unless they are there.

    Each rate is of the encoder alone; rendering or decoding of pictures is not in it. Raises InputError for a broken checkpoint.
    """
    rates, folders = {}, {}
    for part in ("images", "captions"):
        made_from = {
            "checkpoint": encoder.id,
            "corpus": corpus.fingerprint,
            "split": split,
            "images": images,
            "part": part,
            "code": config.code_fingerprint("models", "bench.encode", "bench.vectors"),
        }
        folders[part] = Path(home) / "vectors" / config.fingerprint(made_from)
        if force or not folders[part].is_dir():
            rates[f"encode_{'images' if part == 'images' else 'texts'}_per_second"] = _encode_part(
                folders[part], encoder, corpus, split, images, part, made_from
            )
        else:
            log.info("%s of %s: vectors %s are there", part, split, folders[part].name)
    opened = {part: open_vectors(folder) for part, folder in folders.items()}
    return Encoded(opened["images"], opened["captions"], folders["images"].name, folders["captions"].name, rates)


def batches(items, size: int = BATCH) -> Iterator[list]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _encode_part(folder: Path, encoder: Encoder, corpus, split: str, images: int, part: str, made_from: dict) -> float:
    model = encoder.model
    items = corpus.images(split, 0, images) if part == "images" else corpus.captions(split, 0, images)
    seconds = count = 0
    with (
        write_vectors(folder, encoder.kind, model.dimension, encoder.vocabulary, made_from) as writer,
        cli.progress(desc=f"encode {split} {part}", unit="item", total=images if part == "images" else None) as bar,
    ):
        for batch in batches(items):
            start = time.perf_counter()
            values = encoder.images([item[1] for item in batch]) if part == "images" else encoder.texts([item[1] for item in batch])
            seconds += time.perf_counter() - start
            writer.append(values, [item[0] for item in batch], None if part == "images" else [item[2] for item in batch])
            count += len(batch)
            bar.update(len(batch))
    return count / seconds if seconds else 0.0


def _resized(picture: np.ndarray, pixels: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC))


def _numpy(tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else tensor, np.float32)
