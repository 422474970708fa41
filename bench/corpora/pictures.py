"""`pictures`: the single pictures of the embedded data pack on a plain ground, captioned with their names and keywords.

Two artists drew nearly every thing. One of them (`noto`) is train; the other (`fluent`) is val for a fifth of the things and test for the
rest. So a picture of val or test was never seen, but its captions were. Some things have several pictures (a dog, a dog's face) and their
first captions in common: a caption that fits two pictures of a gallery has one that is called right.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet
from PIL import Image

from bench.corpora.readers.decode import checked_pixels, fit
from bench.corpora.scenes.pack import DATA, PACK, Concept, Picture, open_pack
from bench.store.config import code_fingerprint
from models.errors import InputError, nearest

TRAIN_STYLE = "noto"
VAL_EVERY = 5  # things whose other picture is val
GROUND = (200, 200, 200, 255)  # white things and black ones both show on it
MARGIN = 16  # the ground seen on each side of the longer one is 1/16 of it


class Pictures:
    """concepts: the first n of the curated order (None: all). Raises InputError for values out of range or a damaged pack."""

    name = "pictures"
    splits = ("train", "val", "test")

    def __init__(self, pixels: int = 64, concepts: int | None = None):
        self.pixels = checked_pixels(pixels)
        if concepts is not None and (isinstance(concepts, bool) or not isinstance(concepts, int)):
            raise InputError(f"concepts: {concepts!r} is not a whole number")
        pack = open_pack(concepts=concepts)
        code = code_fingerprint("bench.corpora.pictures", "bench.corpora.readers.decode")
        made_of = f"{self.name} {code} {pack.sha256} {pixels} {len(pack.concepts)}"
        self.fingerprint = hashlib.sha256(made_of.encode()).hexdigest()
        keywords = pyarrow.parquet.read_table(DATA / PACK, columns=["file", "tags"]).to_pydict()
        self._keywords = dict(zip(keywords["file"], keywords["tags"], strict=True))
        self._items: dict[str, list[tuple[Concept, Picture]]] = {split: [] for split in self.splits}
        for concept in pack.concepts:
            for sprite in (pack.sprites[index] for index in concept.sprites):
                self._items[_split(concept, sprite)].append((concept, sprite))

    def images(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """(image_id, uint8 (pixels, pixels, 3)) of pictures start..stop-1, or to the end."""
        for _, sprite in self._slice(split, start, stop):
            yield sprite.file, on_ground(sprite.pixels(), self.pixels)

    def captions(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, str, str]]:
        """(caption_id, text, image_id): each of its names with its article, then the name and the keywords."""
        for concept, sprite in self._slice(split, start, stop):
            texts = [f"{article} {singular}" for article, singular, _ in concept.names]
            texts.append(", ".join(dict.fromkeys([concept.name, *self._keywords[sprite.file]])))
            for k, text in enumerate(texts):
                yield f"{sprite.file}#{k}", text, sprite.file

    def _slice(self, split: str, start: int, stop: int | None) -> list[tuple[Concept, Picture]]:
        if split not in self._items:
            raise InputError(f"corpus {self.name}: unknown split {split!r}{nearest(str(split), self.splits)}")
        if start < 0 or (stop is not None and stop < start):
            raise InputError(f"{split}: {start} to {stop} is no range of images")
        return self._items[split][start:stop]


def _split(concept: Concept, sprite: Picture) -> str:
    if sprite.style == TRAIN_STYLE:
        return "train"
    number = int.from_bytes(hashlib.sha256(concept.name.encode()).digest()[:8], "big")
    return "test" if number % VAL_EVERY else "val"


def on_ground(sprite_HWC: np.ndarray, pixels: int) -> np.ndarray:
    """A sprite, uint8 (H, W, 3 or 4), in the middle of a square of ground, as uint8 (pixels, pixels, 3)."""
    sprite = Image.fromarray(sprite_HWC).convert("RGBA")
    longer = max(sprite.size)
    side = longer + 2 * max(1, longer // MARGIN)
    ground = Image.new("RGBA", (side, side), GROUND)
    ground.alpha_composite(sprite, ((side - sprite.width) // 2, (side - sprite.height) // 2))
    return fit(ground.convert("RGB"), pixels)
