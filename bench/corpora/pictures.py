"""`pictures`: each picture of the embedded data pack alone on a plain ground, captioned with its names and keywords.

Two artists drew nearly every concept. The pictures of one (`noto`) are train; those of the other (`fluent`) are val
for a fifth of the concepts and test for the rest. So no picture of val or test is in train, but its captions are.

Trap: some concepts have several pictures (a dog, a dog's face) that share captions. Such a caption fits several
pictures of the gallery, and only one of them is relevant.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet
from PIL import Image

from bench.corpora import check_integer, check_slice
from bench.corpora.readers.decode import check_pixels, fit
from bench.corpora.scenes.pack import DATA, PACK, Concept, Picture, open_pack
from bench.store.config import code_fingerprint

CODE = ("bench.corpora.pictures", "bench.corpora.readers.decode", "bench.corpora.scenes.pack")
TRAIN_STYLE = "noto"
PIXELS = 64
VAL_EVERY = 5  # one concept in five is val, the others test
GROUND = (200, 200, 200, 255)  # light and dark pictures both stand out on it
MARGIN = 16  # the ground on each side of the longer side is 1/16 of it


class Pictures:
    """The corpus.

    pixels: side of the images. concepts: number of concepts, the first of the curated order (None: all).
    Raises InputError for a value out of range and for a damaged pack.
    """

    name = "pictures"
    splits = ("train", "val", "test")

    def __init__(self, pixels: int = PIXELS, concepts: int | None = None):
        self.pixels = check_pixels(pixels)
        if concepts is not None:
            check_integer("concepts", concepts)
        pack = open_pack(concepts=concepts)
        made_of = f"{self.name} {code_fingerprint(*CODE)} {pack.sha256} {{}} {len(pack.concepts)}"
        self.fingerprint, self.data_id = (
            hashlib.sha256(made_of.format(side).encode()).hexdigest() for side in (pixels, PIXELS)
        )
        keywords = pyarrow.parquet.read_table(DATA / PACK, columns=["file", "tags"]).to_pydict()
        self._keywords = dict(zip(keywords["file"], keywords["tags"], strict=True))
        self._items: dict[str, list[tuple[Concept, Picture]]] = {split: [] for split in self.splits}
        for concept in pack.concepts:
            for sprite in (pack.sprites[index] for index in concept.sprites):
                self._items[_split(concept, sprite)].append((concept, sprite))

    def images(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (image_id, uint8 (pixels, pixels, 3)) of images start..stop-1, or to the end."""
        for _, sprite in self._slice(split, start, stop):
            yield sprite.file, on_ground(sprite.pixels(), self.pixels)

    def captions(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, str, str]]:
        """Yields (caption_id, text, image_id): each name with its article, then the name followed by the keywords."""
        for concept, sprite in self._slice(split, start, stop):
            texts = [f"{article} {singular}" for article, singular, _ in concept.names]
            texts.append(", ".join(dict.fromkeys([concept.name, *self._keywords[sprite.file]])))
            for k, text in enumerate(texts):
                yield f"{sprite.file}#{k}", text, sprite.file

    def _slice(self, split: str, start: int, stop: int | None) -> list[tuple[Concept, Picture]]:
        check_slice(self, split, start, stop)
        return self._items[split][start:stop]


def _split(concept: Concept, sprite: Picture) -> str:
    if sprite.style == TRAIN_STYLE:
        return "train"
    number = int.from_bytes(hashlib.sha256(concept.name.encode()).digest()[:8], "big")
    return "test" if number % VAL_EVERY else "val"


def on_ground(sprite_HWC: np.ndarray, pixels: int) -> np.ndarray:
    """A sprite, uint8 (H, W, 3 or 4), in the middle of a square of ground: uint8 (pixels, pixels, 3)."""
    sprite = Image.fromarray(sprite_HWC).convert("RGBA")
    longer = max(sprite.size)
    side = longer + 2 * max(1, longer // MARGIN)
    ground = Image.new("RGBA", (side, side), GROUND)
    ground.alpha_composite(sprite, ((side - sprite.width) // 2, (side - sprite.height) // 2))
    return fit(ground.convert("RGB"), pixels)
