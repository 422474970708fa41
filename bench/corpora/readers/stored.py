"""Corpora of stored pictures: which of them are intact, and the captions of those.

A broken picture is named in the log, counted, and left out with its captions; none takes its place. Image i of a split is therefore the i-th
intact one, whether images or captions are asked for, in any order and from any thread. To know it, pictures are decoded from the first on
as far as was asked, by one thread for each core, and given out at once to whoever asked for them: a stream in order decodes each picture
once, captions alone or a jump ahead cost the decoding of all that come before. What was found is kept as long as the corpus is.
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

import numpy as np

from bench.corpora.readers.decode import MOST_BYTES, BrokenImage, checked_pixels, decode
from bench.store.config import code_fingerprint
from bench.store.machine import cores
from models.errors import InputError, nearest

log = logging.getLogger(__name__)

CHUNK = 128  # pictures decoded at a time
CODE = (
    "bench.corpora.readers.decode",
    "bench.corpora.readers.stored",
    "bench.corpora.readers.listed",
    "bench.corpora.readers.table",
)
TEST_SHARE, VAL_SHARE = 0.05, 0.05  # of what states no split; the rest is train


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a picture lie: a file, or a member of a tar file."""

    file: str
    size: int
    offset: int = 0
    member: str = ""

    def read(self) -> bytes:
        """Raises InputError when the file has become shorter."""
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
class Stored:
    """A picture with its captions (caption_id, text)."""

    image_id: str
    captions: tuple[tuple[str, str], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a corpus does not yield; `why` names the file and what is wrong with it."""

    name: str
    why: str


class StoredCorpus:
    """The protocol `Corpus` over stored pictures. A subclass has a `name`, and says what its splits hold.

    splits: the pictures of each split in order, a list or what reads them as they are asked for. made_of: plain values that, with the
    name, `pixels` and the code, decide the fingerprint. Raises InputError for `pixels` out of range.
    """

    name: str
    spec: str | dict  # what `open_corpus` made it of

    def __init__(self, pixels: int, splits: Mapping[str, Iterable[Stored | LeftOut]], made_of):
        self.pixels = checked_pixels(pixels)
        self.splits = tuple(splits)
        code = code_fingerprint(*CODE, type(self).__module__)
        self.fingerprint = hashlib.sha256(json.dumps([self.name, code, pixels, made_of]).encode()).hexdigest()
        self._intact = {split: _Intact(f"{self.name}, {split}", items, self.pixels) for split, items in splits.items()}

    def images(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """(image_id, uint8 (pixels, pixels, 3)) of intact pictures start..stop-1, or to the end.

        Raises InputError for an unknown split, for a damaged tar file, and for a picture that changed since it was found intact.
        """
        intact = self._of(split, start, stop)
        for first, last in _steps(start, stop):
            given = 0
            for image in intact.pictures(first, last):
                yield image
                given += 1
            if given < last - first:
                return

    def captions(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, str, str]]:
        """(caption_id, text, image_id) of intact pictures start..stop-1, or to the end, in the order of the pictures."""
        intact = self._of(split, start, stop)
        for first, last in _steps(start, stop):
            found = intact.items(first, last)
            for item in found:
                for caption_id, text in item.captions:
                    yield caption_id, text, item.image_id
            if len(found) < last - first:
                return

    def broken(self, split: str | None = None) -> list[LeftOut]:
        """What was left out so far, of a split or of all; all there is once a split was streamed to its end."""
        return [left for name, intact in self._intact.items() if split in (None, name) for left in intact.left_out]

    def __reduce__(self) -> tuple:
        return Elsewhere, (self.spec, self.fingerprint)

    def _of(self, split: str, start: int, stop: int | None) -> "_Intact":
        if split not in self._intact:
            raise InputError(f"corpus {self.name}: unknown split {split!r}{nearest(str(split), self.splits)}")
        if start < 0 or (stop is not None and stop < start):
            raise InputError(f"{split}: {start} to {stop} is no range of images")
        return self._intact[split]


class Elsewhere:
    """A stored corpus that was sent to another process: opened anew at its first use, from the same paths, and refused when it is another there."""

    def __init__(self, spec: str | dict, fingerprint: str):
        self._spec, self._fingerprint = spec, fingerprint

    def __getattr__(self, name: str):
        return getattr(self._corpus, name)

    @functools.cached_property
    def _corpus(self) -> StoredCorpus:
        from bench.corpora import open_corpus

        corpus = open_corpus(self._spec)
        if corpus.fingerprint != self._fingerprint:
            raise InputError(
                f"corpus {corpus.name}: on {socket.gethostname()} it differs from the one that the run began with"
            )
        return corpus


class _Intact:
    """The intact pictures of a split, found as far as was asked for."""

    def __init__(self, label: str, items: Iterable[Stored | LeftOut], pixels: int):
        self.label, self.pixels, self.left_out = label, pixels, []
        self._coming, self._found, self._seen = iter(items), [], 0
        self._stopped: BaseException | None = None
        self._lock = threading.Lock()

    def items(self, first: int, last: int) -> list[Stored]:
        self._find(last, last)
        return self._found[first:last]

    def pictures(self, first: int, last: int) -> Iterator[tuple[str, np.ndarray]]:
        decoded = self._find(first, last)
        for position, item in enumerate(self._found[first:last], first):
            yield (
                item.image_id,
                decoded.pop(position)
                if position in decoded
                else decode(item.place.read(), str(item.place), self.pixels),
            )

    def _find(self, first: int, last: int) -> dict[int, np.ndarray]:
        """Goes on until `last` intact pictures are known; of those from `first` on, what was decoded for it, by position."""
        with self._lock:
            if isinstance(self._stopped, InputError):
                raise self._stopped
            if self._stopped:
                raise InputError(f"{self.label}: reading stopped earlier ({self._stopped!r}); open the corpus again")
            if len(self._found) >= last:
                return {}
            try:
                return self._go_on(first, last)
            except (
                BaseException
            ) as error:  # what was taken from `_coming` is lost: never go on as if the split ended here
                self._stopped = error
                raise

    def _go_on(self, first: int, last: int) -> dict[int, np.ndarray]:
        decoded = {}
        with ThreadPoolExecutor(cores(), thread_name_prefix="decode") as pool:
            while missing := max(0, last - len(self._found)):
                items = list(itertools.islice(self._coming, min(missing, CHUNK)))
                if not items:
                    break
                for item, picture in zip(items, pool.map(self._decoded, items), strict=True):
                    self._seen += 1
                    if isinstance(picture, LeftOut):
                        self._leave_out(picture)
                        continue
                    if len(self._found) >= first:
                        decoded[len(self._found)] = picture
                    self._found.append(item)
        return decoded

    def _decoded(self, item: Stored | LeftOut) -> np.ndarray | LeftOut:
        if isinstance(item, LeftOut):
            return item
        if item.place.size > MOST_BYTES:
            return LeftOut(item.image_id, f"{item.place}: {item.place.size:,} bytes, at most {MOST_BYTES:,} are read")
        try:
            return decode(item.place.read(), str(item.place), self.pixels)
        except BrokenImage as error:
            return LeftOut(item.image_id, str(error))

    def _leave_out(self, left: LeftOut) -> None:
        self.left_out.append(left)
        log.warning(
            "%s: left out with its captions, %d of %d so far: %s", self.label, len(self.left_out), self._seen, left.why
        )


def _steps(start: int, stop: int | None) -> Iterator[tuple[int, int]]:
    while stop is None or start < stop:
        yield start, start + CHUNK if stop is None else min(start + CHUNK, stop)
        start += CHUNK


def hash_split(name: str) -> str:
    """The split of a name that states none: 5% are test, 5% val, the rest train, by the sha256 of the name alone, on every machine."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / (1 << 64)
    return "test" if share < TEST_SHARE else "val" if share < TEST_SHARE + VAL_SHARE else "train"


def in_order(splits: Mapping[str, list]) -> dict[str, list]:
    """The same splits: train, val and test first, then the others by name."""
    usual = ("train", "val", "test")
    return {
        split: splits[split]
        for split in (*(split for split in usual if split in splits), *sorted(set(splits) - set(usual)))
    }
