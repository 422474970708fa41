"""`scenes`: unlimited, deterministic image-caption pairs. Sprites of concepts on photographs, five captions each.

Scene i of a split and a seed has the same bytes on every machine and in any order of access (`layout`, `render`).
Splits share no scene. About a tenth of all (concept, colour), (concept, size), (concept, count) and (concept,
relation, concept) combinations are held out: they occur in the split `compositional` only, where each scene has at
least one that all of its captions mention.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.corpora import check_integer, check_slice
from bench.corpora.scenes import columns, layout
from bench.corpora.scenes.claims import Claims, Reader, is_true, places_of
from bench.corpora.scenes.facts import Scene, facts_of, words_of
from bench.corpora.scenes.grammar import N_CAPTIONS, Grammar
from bench.corpora.scenes.negatives import hard_negative
from bench.corpora.scenes.pack import open_pack
from bench.corpora.scenes.render import Atlas
from models.errors import InputError

BATCH = 256  # scenes drawn at a time when streaming
MIN_PIXELS, MAX_PIXELS = 64, 512  # below 64 the smallest sprite would be under 16 pixels


@dataclass(frozen=True)
class HardNegative:
    """A true caption of an image, and a false one that differs in one thing; kind: attribute, count or relation."""

    image_id: str
    caption: str
    negative: str
    kind: str


class Scenes:
    """The corpus.

    pixels: side of the images. concepts: number of concepts, the first of the curated order (None: all). Raises
    InputError for a value out of range and for a damaged pack.
    """

    name, endless = "scenes", True
    splits = columns.SPLITS

    def __init__(self, pixels: int = 64, seed: int = 0, concepts: int | None = None):
        for key, value in (("pixels", pixels), ("seed", seed), ("concepts", 10 if concepts is None else concepts)):
            check_integer(key, value)
        if not MIN_PIXELS <= pixels <= MAX_PIXELS:
            raise InputError(f"pixels: {pixels} is not between {MIN_PIXELS} and {MAX_PIXELS}")
        self.pixels, self.seed = pixels, seed
        self.pack = open_pack(concepts=concepts)
        self.concepts = [concept.name for concept in self.pack.concepts]
        self.fingerprint, self.data_id = self._fingerprint(pixels), self._fingerprint(MIN_PIXELS)
        self._grammar = Grammar(self.pack)
        self._atlas: Atlas | None = None
        self._tables = _tables(self.pack)

    def _fingerprint(self, pixels: int) -> str:
        made_of = f"{self.name} {layout.GENERATOR} {self.pack.sha256} {pixels} {self.seed} {len(self.concepts)}"
        return hashlib.sha256(made_of.encode()).hexdigest()

    def image_id(self, split: str, i: int) -> str:
        """Id of scene i."""
        return f"{split}-{i:06d}"

    def caption_id(self, split: str, i: int, k: int) -> str:
        """Id of caption k of scene i."""
        return f"{split}-{i:06d}-{k}"

    def images(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (image_id, uint8 (pixels, pixels, 3)) of scenes start..stop-1; endless if stop is None."""
        for first, last in _batches(start, stop):
            for i, image in enumerate(self.render(split, first, last), first):
                yield self.image_id(split, i), image

    def captions(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, str, str]]:
        """Yields (caption_id, text, image_id), five per scene."""
        for first, last in _batches(start, stop):
            for i, texts in enumerate(self.describe(split, first, last), first):
                for k, text in enumerate(texts):
                    yield self.caption_id(split, i, k), text, self.image_id(split, i)

    def render(self, split: str, start: int, stop: int) -> np.ndarray:
        """Images of scenes start..stop-1, uint8 (stop - start, pixels, pixels, 3)."""
        if self._atlas is None:  # decoding the pack takes a second or more; captions do not need it
            photos = self.pack.photos
            self._atlas = Atlas(
                [sprite.pixels() for sprite in self.pack.sprites],
                [photo.pixels() for photo in photos],
                [bool(photo.times) for photo in photos],
                self.pixels,
            )
        return self._atlas.render(self._draw(split, start, stop)[0])

    def describe(self, split: str, start: int, stop: int) -> list[list[str]]:
        """Captions of scenes start..stop-1, five each."""
        scenes, words = self._draw(split, start, stop)
        return [
            self._grammar.captions(scene, word) for scene, word in zip(scenes.tolist(), words.tolist(), strict=True)
        ]

    def facts(self, split: str, i: int) -> Scene:
        """Groups, relations, place and time of scene i."""
        return facts_of(self._draw(split, i, i + 1)[0][0], self.pack, self.pixels)

    def truth_words(self, split: str, i: int) -> list[tuple[str, ...]]:
        """What scene i shows: each concept, each colour, the place and the time of day, as alternative words for it."""
        return words_of(self.facts(split, i), self.pack)

    def hard_negatives(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[HardNegative]:
        """Yields one hard negative per scene."""
        for first, last in _batches(start, stop):
            scenes, words = self._draw(split, first, last)
            for i, (scene, word) in enumerate(zip(scenes.tolist(), words.tolist(), strict=True), first):
                yield HardNegative(self.image_id(split, i), *hard_negative(self._grammar, scene, word[N_CAPTIONS]))

    def satisfying_counts(self, split: str, images: int, distractors: int, edges: Sequence[int]) -> np.ndarray:
        """For each caption of images 0..images-1, the number of other gallery images that make it true (see `claims`).

        The gallery is those images, then scenes 0..distractors-1 of split `distractors`. edges: ascending gallery
        sizes; each counts the first images of the gallery. Returns int64 (captions, len(edges)). Raises InputError
        for edges out of range.
        """
        edges = np.asarray(edges, np.int64).reshape(-1)
        if len(edges) == 0 or edges[0] < 1 or edges[-1] > images + distractors or (np.diff(edges) <= 0).any():
            expected = f"expected ascending gallery sizes between 1 and {images + distractors}"
            raise InputError(f"edges: {edges.tolist()}; {expected}")
        texts = [text for _, text, _ in self.captions(split, 0, images)]
        claims = Claims(texts, np.repeat(np.arange(images), N_CAPTIONS), self.pack)
        counts = np.zeros((len(texts), len(edges)), np.int64)
        for part, offset, stop in ((split, 0, min(images, edges[-1])), ("distractors", images, edges[-1] - images)):
            for first, last in _batches(0, int(stop)):
                claims.tally(self._draw(part, first, last)[0], offset + first, edges, counts)
        return counts.cumsum(axis=1)

    @functools.lru_cache(maxsize=1 << 18)  # noqa: B019  (a corpus lives as long as the process)
    def is_true(self, caption_id: str, image_id: str) -> bool:
        """Whether a caption of the corpus is true of an image of it, whichever image it was written for."""
        image, number = caption_id.rsplit("-", 1)
        if image == image_id:
            return True
        split, i = _place(image_id)
        scene = self._draw(split, i, i + 1)[0][0]
        return is_true(self._claims(image, int(number)), scene, self._place_of)

    @functools.lru_cache(maxsize=1 << 16)  # noqa: B019
    def _claims(self, image_id: str, number: int) -> list[np.ndarray]:
        split, i = _place(image_id)
        return self._reader.read(self.describe(split, i, i + 1)[0][number])

    @functools.cached_property
    def _place_of(self) -> np.ndarray:
        return places_of(self.pack)

    @functools.cached_property
    def _reader(self) -> Reader:
        return Reader(self.pack)

    def _draw(self, split: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        check_slice(self, split, start, stop)
        scenes = np.zeros((stop - start, columns.WIDTH), np.int32)
        words = np.zeros((stop - start, columns.WORDS), np.uint64)
        key = np.uint64(layout.stream_key(self.seed, split))
        layout.draw(key, start, split == "compositional", *self._tables, scenes, words)
        if (scenes[:, columns.N_GROUPS] == 0).any():
            found = f"no scene with a held-out combination found for {len(self.concepts)} concepts"
            raise InputError(f"corpus {self.name}: {split}: {found}; use more concepts")
        return scenes, words


def _place(image_id: str) -> tuple[str, int]:
    """Split and number of a scene."""
    split, number = image_id.rsplit("-", 1)
    return split, int(number)


def _tables(pack) -> tuple[np.ndarray, ...]:
    """The arguments of `layout.draw` that depend on the pack."""
    place_of = [pack.places.index(photo.of) for photo in pack.photos]
    times = [sum(1 << columns.TIMES.index(time) for time in photo.times or columns.TIMES) for photo in pack.photos]
    return (
        np.array([layout.name_hash(concept.name) for concept in pack.concepts], np.uint64),
        np.array([concept.sprites[0] for concept in pack.concepts] + [pack.concepts[-1].sprites[-1] + 1], np.int32),
        np.array([concept.tintable for concept in pack.concepts]),
        np.searchsorted(place_of, np.arange(len(pack.places) + 1)).astype(np.int32),
        np.array(times, np.int32),
    )


def _batches(start: int, stop: int | None) -> Iterator[tuple[int, int]]:
    while stop is None or start < stop:
        end = start + BATCH if stop is None else min(start + BATCH, stop)
        yield start, end
        start = end
