"""`webdataset`: tar shards as img2dataset writes them (CC3M, CC12M, SBU, LAION): 00000.tar with KEY.jpg, KEY.txt and KEY.json, never unpacked.

Notable choices
- The standard library reads the shards' tables of contents, and pictures are read at their places: any slice can be had, by any thread,
  which a stream of samples (the library `webdataset`) cannot give. It is also the one that needs no package.
- A shard's table of contents is read when its first picture is asked for; about 0.6 KB of memory is kept for each picture from then on.
- All shards are looked at when the corpus is opened: one that was cut off is named at once, not hours later.
- The fingerprint is over names, sizes, and the first 64 KB of the shards; hashing hundreds of GB would take longer than encoding some.
"""

import glob
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from bench.corpora.readers.stored import LeftOut, Place, Stored, StoredCorpus, hash_split, in_order
from models.errors import InputError

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
BLOCK = 512
END = bytes(2 * BLOCK)  # what a tar file ends with
HEAD = 64 << 10  # bytes of a shard that its fingerprint is made of
MOST_TEXT = 1 << 20  # bytes of a KEY.txt or KEY.json
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
MOST_SHARDS = 1_000_000


class WebDataset(StoredCorpus):
    """shards: a pattern such as "cc3m/{00000..00331}.tar" or "cc3m/*.tar", or a list of those; each shard's name decides its split (`hash_split`).
    Or a mapping of splits to patterns: {"train": "cc3m/000*.tar", "test": "cc3m/00331.tar", "distractors": "cc12m/*.tar"}.

    caption: None for KEY.txt as one caption; else the key of KEY.json that holds one caption or a list of them. A picture without a caption
    is left out like a broken one. The id of a picture is its shard, /, and its key. Raises InputError for a pattern without a shard and a
    shard that is cut off; and, when they are met, for a damaged shard, links, and names that lead out of the archive.
    """

    name = "webdataset"

    def __init__(self, shards, pixels: int = 224, caption: str | None = None):
        if not isinstance(caption, str | None):
            raise InputError(f"caption: {caption!r} is not a key of KEY.json")
        stated = isinstance(shards, dict)
        if stated and not (shards and all(isinstance(split, str) for split in shards)):
            raise InputError(f"shards: {shards!r}; expected a pattern for each split by its name")
        files = (
            {split: expand(split, pattern) for split, pattern in shards.items()}
            if stated
            else {"": expand("shards", shards)}
        )
        every = [file for of_split in files.values() for file in of_split]
        if (
            twice := next((file for file in every if every.count(file) > 1), None)
            if len(set(every)) < len(every)
            else None
        ):
            raise InputError(f"{twice}: the shard is in two splits, or named twice; expected each once")
        base = os.path.commonpath([os.path.abspath(file.parent) for file in every])
        label = {file: PurePosixPath(os.path.relpath(file, base)).with_suffix("").as_posix() for file in every}
        if not stated:
            files = {}
            for file in every:
                files.setdefault(hash_split(file.stem), []).append(file)
        made_of = [
            caption,
            [[split, label[file], *_state(file)] for split, of_split in in_order(files).items() for file in of_split],
        ]
        splits = {split: _samples(of_split, label, caption) for split, of_split in in_order(files).items()}
        super().__init__(pixels, splits, made_of)


def expand(key: str, patterns: str | Sequence[str]) -> list[Path]:
    """The shards of patterns, in their order; {00000..00331} and {a,b} are spelled out, * ? [ ] matched on disk and sorted. Raises InputError."""
    if isinstance(patterns, str):
        patterns = [patterns]
    if (
        not isinstance(patterns, list | tuple)
        or not patterns
        or not all(isinstance(pattern, str) for pattern in patterns)
    ):
        raise InputError(f"{key}: {patterns!r} is not a pattern of tar files, or a list of those")
    found = []
    for pattern in patterns:
        for plain in _spelled_out(os.path.expanduser(pattern)):
            matches = sorted(glob.glob(plain)) if glob.has_magic(plain) else [plain]
            if not matches:
                raise InputError(f"{key}: no file matches {plain}; expected tar shards as img2dataset writes them")
            found += map(Path, matches)
    return found


def _spelled_out(pattern: str) -> list[str]:
    patterns = [pattern]
    while match := BRACES.search(patterns[0]):
        first, last, words = match.groups()
        if words is None and not 0 <= int(last) - int(first) < MOST_SHARDS // len(patterns):
            raise InputError(f"{pattern}: {match[0]} is no range of shards")
        parts = (
            words.split(",")
            if words
            else [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        )
        patterns = [BRACES.sub(lambda _, part=part: part, each, count=1) for each in patterns for part in parts]
    return patterns


def _state(file: Path) -> tuple[int, str]:
    """Size, and sha256 of the first bytes, of a shard that ends as a tar file does."""
    try:
        with open(file, "rb") as stream:
            head = stream.read(HEAD)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - len(END)))
            whole = size % BLOCK == 0 and stream.read() == END
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a tar shard") from None
    if not whole:
        raise InputError(
            f"{file}: truncated, or no tar file: it does not end with {len(END)} zero bytes; fetch the shard again or leave it out"
        )
    return size, hashlib.sha256(head).hexdigest()


def _samples(files: list[Path], label: dict[Path, str], caption: str | None) -> Iterator[Stored | LeftOut]:
    for file in files:
        yield from read_shard(file, label[file], caption)


def read_shard(file: Path, label: str, caption: str | None = None) -> Iterator[Stored | LeftOut]:
    """The samples of a shard in the order of their first members; `caption` as in `WebDataset`. Raises InputError for a damaged shard."""
    pictures: dict[str, Place | None] = {}
    texts: dict[str, bytes] = {}
    wanted = "txt" if caption is None else "json"
    for member, name, content in _members(file, wanted):
        folder, base = os.path.split(name)
        stem, _, extension = base.partition(".")
        key, extension = os.path.join(folder, stem), extension.lower()
        pictures.setdefault(key, None)
        if extension in PICTURES:
            if pictures[key] is not None:
                raise InputError(f"{file}: two pictures of the key {key!r}")
            pictures[key] = Place(str(file), member.size, member.offset_data, name)
        elif content is not None:
            if key in texts:
                raise InputError(f"{file}: two members {name!r}")
            texts[key] = content
    for key, place in pictures.items():
        image_id = f"{label}/{key}"
        try:
            if place is None:
                raise ValueError("no picture")
            found = _captions(texts.get(key), caption)
            yield Stored(image_id, tuple((f"{image_id}#{k}", text) for k, text in enumerate(found)), place)
        except ValueError as error:
            yield LeftOut(image_id, f"{place or f'{file}: {key}'}: {error}")


def _members(file: Path, wanted: str) -> Iterator[tuple[tarfile.TarInfo, str, bytes | None]]:
    """The plain files of a shard: member, name in UTF-8, and the content of those whose names end in .`wanted`."""
    with open(file, "rb") as stream:
        try:
            end = 0
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                        raise InputError(f"{file}: member {name!r} leads out of the archive; expected plain names")
                    if member.isdir():
                        continue
                    if not member.isfile() or member.issparse():
                        raise InputError(f"{file}: member {name!r} is a link, a device or sparse; expected plain files")
                    end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                    text = name.lower().endswith(f".{wanted}") and member.size <= MOST_TEXT
                    yield member, name, archive.extractfile(member).read() if text else None
            stream.seek(end)
            if end and stream.read(len(END)) != END:  # tarfile takes a damaged header for the end
                raise InputError(f"{file}: damaged at byte {end:,}; fetch the shard again or leave it out")
        except tarfile.TarError as error:
            raise InputError(f"{file}: not a whole tar file ({error}); fetch the shard again or leave it out") from None


def _captions(content: bytes | None, key: str | None) -> list[str]:
    """Raises ValueError, UnicodeDecodeError and JSONDecodeError among them, where there is no caption."""
    if content is None:
        raise ValueError(f"no caption of at most {MOST_TEXT:,} bytes")
    text = content.decode("utf-8")
    try:
        found = text if key is None else json.loads(text)
    except RecursionError:
        raise ValueError("values within values without end") from None
    if key is not None:
        found = found.get(key) if isinstance(found, dict) else None
    captions = [found] if isinstance(found, str) else found
    if (
        not isinstance(captions, list)
        or not captions
        or not all(isinstance(text, str) and text.strip() for text in captions)
    ):
        raise ValueError("no caption" if key is None else f"no caption under {key!r}")
    return captions
