"""Base of corpora whose images are stored as files: finds the intact images and yields them with their captions.

A broken image is logged, counted and skipped together with its captions; no other image takes its place. Image i of a
split is therefore the i-th intact one, for images and captions alike, in any order of access and from any thread.

To know which images are intact, they are decoded from the first one up to the last one requested, by one thread per
core. A stream in order decodes each image once. Captions alone, or a jump ahead, cost the decoding of every image
before. The result is kept for the lifetime of the corpus.
"""

import functools
import hashlib
import itertools
import json
import logging
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from bench.corpora import check_slice, open_corpus
from bench.corpora.readers.decode import MAX_BYTES, BrokenImage, check_pixels, decode
from bench.store.config import code_fingerprint
from bench.store.machine import cores
from models.errors import InputError

log = logging.getLogger(__name__)

CHUNK = 128  # images decoded at a time
NAMED = 3  # items without an image or a caption that warnings name; further ones are counted
CODE = (
    "bench.corpora.readers.decode",
    "bench.corpora.readers.stored",
    "bench.corpora.readers.file_list",
    "bench.corpora.readers.table",
)
TEST_SHARE, VAL_SHARE = 0.05, 0.05  # of the images without a given split; the rest is train


@dataclass(frozen=True, slots=True)
class Location:
    """Where the bytes of an image are: a whole file, or a member of a tar file."""

    file: str
    size: int
    offset: int = 0
    member: str = ""

    def read(self) -> bytes:
        """Reads the bytes. Raises InputError if the file has become shorter."""
        with open(self.file, "rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.size)
        if len(data) != self.size:
            raise InputError(f"{self}: {len(data)} bytes, expected {self.size}; it changed since the corpus was opened")
        return data

    def __str__(self) -> str:
        name = f"{self.file}: {self.member}" if self.member else self.file
        return name if name.isprintable() else ascii(name)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image and its captions, each a (caption_id, text). location: has size, read() and a name, as `Location`."""

    image_id: str
    captions: tuple[tuple[str, str], ...]
    location: Location


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item that a corpus does not yield; `reason` names the file and the fault."""

    name: str
    reason: str


class StoredCorpus:
    """The protocol `Corpus` over stored images. A subclass defines `name` and passes the items of its splits.

    splits: per split the items in order, as a list or a lazy iterable. made_of: plain values that decide the
    fingerprint, together with the name, `pixels` and the code, and data_id with the name only. hidden: more splits,
    which are read where they are named; their images are in `splits` too. Raises InputError for `pixels` out of range.

    sizes: images listed per split, broken ones included; without the splits that are lazy.
    """

    name: str
    spec: str | dict  # argument of `open_corpus`, which sets it

    def __init__(
        self,
        pixels: int,
        splits: Mapping[str, Iterable[StoredImage | Skipped]],
        made_of,
        hidden: Mapping[str, Iterable[StoredImage | Skipped]] = MappingProxyType({}),
    ):
        self.pixels = check_pixels(pixels)
        self.splits, self.hidden_splits = tuple(splits), tuple(hidden)
        every = {**splits, **hidden}
        self.sizes = {split: len(items) for split, items in every.items() if isinstance(items, list)}
        code = code_fingerprint(*CODE, type(self).__module__)
        self.fingerprint = hashlib.sha256(json.dumps([self.name, code, pixels, made_of]).encode()).hexdigest()
        self.data_id = hashlib.sha256(json.dumps([self.name, made_of]).encode()).hexdigest()
        self._intact = {
            split: _IntactImages(f"{self.name}, {split}", items, self.pixels) for split, items in every.items()
        }

    def images(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (image_id, uint8 (pixels, pixels, 3)) of intact images start..stop-1, or to the end.

        Raises InputError for an unknown split, a damaged tar file, or an image that changed since it was found intact.
        """
        intact = self._of(split, start, stop)
        for first, last in _steps(start, stop):
            count = 0
            for image in intact.images(first, last):
                yield image
                count += 1
            if count < last - first:
                return

    def captions(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, str, str]]:
        """Yields (caption_id, text, image_id) for intact images start..stop-1, or to the end, in order."""
        intact = self._of(split, start, stop)
        for first, last in _steps(start, stop):
            found = intact.items(first, last)
            for item in found:
                for caption_id, text in item.captions:
                    yield caption_id, text, item.image_id
            if len(found) < last - first:
                return

    def broken(self, split: str | None = None) -> list[Skipped]:
        """The items skipped so far, of one split or of all; complete once a split was streamed to its end."""
        of_splits = (intact.skipped for name, intact in self._intact.items() if split in (None, name))
        return list(dict.fromkeys(itertools.chain.from_iterable(of_splits)))  # one can be in a hidden split too

    def __reduce__(self) -> tuple:
        return ReopenedCorpus, (self.spec, self.fingerprint)

    def _of(self, split: str, start: int, stop: int | None) -> "_IntactImages":
        check_slice(self, split, start, stop)
        return self._intact[split]


class ReopenedCorpus:
    """A stored corpus unpickled in another process: opened again from its paths at first use.

    Raises InputError then if its fingerprint differs from the original's.
    """

    def __init__(self, spec: str | dict, fingerprint: str):
        self._spec, self._fingerprint = spec, fingerprint

    def __getattr__(self, name: str):
        return getattr(self._corpus, name)

    @functools.cached_property
    def _corpus(self) -> StoredCorpus:
        corpus = open_corpus(self._spec)
        if corpus.fingerprint != self._fingerprint:
            raise InputError(
                f"corpus {corpus.name}: its files on {socket.gethostname()} differ from those that the run started with"
            )
        return corpus


class _IntactImages:
    """The intact images of a split, found up to the last one requested."""

    def __init__(self, label: str, items: Iterable[StoredImage | Skipped], pixels: int):
        self.label, self.pixels, self.skipped = label, pixels, []
        self._remaining, self._found, self._seen = iter(items), [], 0
        self._incomplete, self._ended = 0, False
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def items(self, first: int, last: int) -> list[StoredImage]:
        self._find(last, last)
        return self._found[first:last]

    def images(self, first: int, last: int) -> Iterator[tuple[str, np.ndarray]]:
        decoded = self._find(first, last)
        for position, item in enumerate(self._found[first:last], first):
            image = decoded.pop(position, None)
            if image is None:
                image = decode(item.location.read(), str(item.location), self.pixels)
            yield item.image_id, image

    def _find(self, first: int, last: int) -> dict[int, np.ndarray]:
        """Searches until `last` intact images are known; returns those decoded from `first` on, by position."""
        with self._lock:
            if isinstance(self._error, InputError):
                raise self._error
            if self._error:
                raise InputError(f"{self.label}: reading failed earlier ({self._error!r}); open the corpus again")
            if len(self._found) >= last:
                return {}
            try:
                return self._search(first, last)
            except BaseException as error:
                self._error = error  # items taken from `_remaining` are lost: the split must not appear to end here
                raise

    def _search(self, first: int, last: int) -> dict[int, np.ndarray]:
        decoded = {}
        with ThreadPoolExecutor(cores(), thread_name_prefix="decode") as pool:
            while missing := max(0, last - len(self._found)):
                items = list(itertools.islice(self._remaining, min(missing, CHUNK)))
                if not items:
                    self._end()
                    break
                for item, image in zip(items, pool.map(self._decoded, items), strict=True):
                    self._seen += 1
                    if isinstance(image, Skipped):
                        self._skip(image, incomplete=image is item)
                        continue
                    if len(self._found) >= first:
                        decoded[len(self._found)] = image
                    self._found.append(item)
        return decoded

    def _decoded(self, item: StoredImage | Skipped) -> np.ndarray | Skipped:
        if isinstance(item, Skipped):
            return item
        location = item.location
        if location.size > MAX_BYTES:
            return Skipped(item.image_id, f"{location}: {location.size:,} bytes, expected at most {MAX_BYTES:,}")
        try:
            return decode(location.read(), str(location), self.pixels)
        except BrokenImage as error:
            return Skipped(item.image_id, str(error))

    def _skip(self, item: Skipped, incomplete: bool) -> None:
        """incomplete: whether the corpus itself gave no image or no caption."""
        self.skipped.append(item)
        self._incomplete += incomplete
        if incomplete and self._incomplete > NAMED:
            return
        more = "; more like this are only counted" if incomplete and self._incomplete == NAMED else ""
        counts = len(self.skipped), self._seen
        log.warning("%s: skipped with its captions, %d of %d so far: %s%s", self.label, *counts, item.reason, more)

    def _end(self) -> None:
        if self._incomplete > NAMED and not self._ended:
            counts = len(self.skipped), self._seen, self._incomplete
            log.warning("%s: skipped %d of %d in all, %d without an image or a caption", self.label, *counts)
        self._ended = True


def _steps(start: int, stop: int | None) -> Iterator[tuple[int, int]]:
    while stop is None or start < stop:
        yield start, start + CHUNK if stop is None else min(start + CHUNK, stop)
        start += CHUNK


def hash_split(name: str) -> str:
    """The split of an image without a given one: 5% test, 5% val, else train, by the sha256 of its name alone."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / (1 << 64)
    return "test" if share < TEST_SHARE else "val" if share < TEST_SHARE + VAL_SHARE else "train"


def ordered_splits(splits: Mapping[str, list]) -> dict[str, list]:
    """The same splits, ordered: train, val and test first, then the others by name."""
    usual = [split for split in ("train", "val", "test") if split in splits]
    return {split: splits[split] for split in (*usual, *sorted(set(splits) - set(usual)))}
