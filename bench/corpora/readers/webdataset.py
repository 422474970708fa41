"""`webdataset`: tar shards of KEY.jpg, KEY.txt and KEY.json, as written by img2dataset (CC3M, CC12M, SBU, LAION).

Notable choices
- The standard library reads the member table of a shard, and images are read at their offsets. So any slice can be
  read, from any thread, without unpacking; a stream of samples (the package `webdataset`) cannot do that. It also
  needs no package.
- The member table of a shard is read when its first image is requested. From then on it takes about 0.6 KB of memory
  per image.
- The ends of all shards are checked when the corpus opens: a truncated shard is reported at once, not hours later.
- The fingerprint covers names, sizes, and the first 64 KB of each shard. Hashing hundreds of GB would take longer
  than encoding.
"""

import glob
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from bench.corpora import WHOLE
from bench.corpora.readers.local import check_local, check_uncompressed
from bench.corpora.readers.pairs import IMAGES, lines_of
from bench.corpora.readers.stored import Location, Skipped, StoredCorpus, StoredImage, hash_split, ordered_splits
from models.errors import InputError

BLOCK = 512
END = bytes(2 * BLOCK)  # end mark of a tar file
HEAD = 64 << 10  # bytes of a shard that go into the fingerprint
MAX_TEXT = 1 << 20  # bytes of a KEY.txt or KEY.json
MAX_SHARDS = 1_000_000
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
SHARDS = "tar shards as written by img2dataset"
REMEDY = "download the shard again or leave it out"


class WebDataset(StoredCorpus):
    """The corpus.

    shards: a pattern such as "cc3m/{00000..00331}.tar" or "cc3m/*.tar", or a list of patterns; the split of a shard
    is the hash of its name (`hash_split`), and the split `all` has every shard. Or a mapping of splits to patterns:
    {"train": "cc3m/000*.tar", "distractors": "cc12m/*.tar"}. caption: None for KEY.txt, each line of which is a
    caption; else the key of KEY.json that holds one caption or a list of captions.

    An image id is the shard, /, and the key. An image without a caption is skipped like a broken one. Raises
    InputError for a pattern that matches nothing and for a truncated shard; and, while reading, for a damaged shard,
    links, and members outside the archive.
    """

    name, named_after = "webdataset", "shards"

    def __init__(self, shards, pixels: int = 224, caption: str | None = None):
        if not isinstance(caption, str | None):
            raise InputError(f"caption: {caption!r} is not a key of KEY.json")
        if isinstance(shards, dict):
            check_splits("shards", shards)
            files, every = {split: expand(split, pattern) for split, pattern in shards.items()}, []
        else:
            files, every = {}, expand("shards", shards)
            for file in every:
                files.setdefault(hash_split(file.stem), []).append(file)
        files = ordered_splits(files)
        label = labels([file for of_split in files.values() for file in of_split])
        states = [[split, label[file], *_state(file)] for split, of_split in files.items() for file in of_split]
        super().__init__(
            pixels,
            {split: _samples(of_split, label, caption) for split, of_split in files.items()},
            made_of=[caption, states],
            hidden={WHOLE: _samples(every, label, caption)} if every else {},
        )


def check_splits(key: str, given: dict) -> None:
    """Raises InputError for a mapping that is empty, or has keys that are no names of splits."""
    if not (given and all(isinstance(split, str) for split in given)):
        raise InputError(f"{key}: {given!r}; expected a mapping of split names to patterns")


def labels(files: list[Path]) -> dict[Path, str]:
    """The name of each shard in image ids: its path below the common folder, without suffix.

    Raises InputError for a duplicate.
    """
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise InputError(f"{twice}: the shard is in two splits, or named twice; expected each shard once")
    base = os.path.commonpath([os.path.abspath(file.parent) for file in files])
    return {file: PurePosixPath(os.path.relpath(file, base)).with_suffix("").as_posix() for file in files}


def expand(key: str, patterns: str | Sequence[str], expected: str = SHARDS) -> list[Path]:
    """The files of patterns, in order: {00000..00331} and {a,b} are expanded, * ? [ ] matched on disk and sorted.

    key: the parameter, expected: what the files are, for messages. Raises InputError for a URL, and for a pattern that
    matches nothing, or a folder.
    """
    if isinstance(patterns, str):
        patterns = [patterns]
    if not (isinstance(patterns, list | tuple) and patterns and all(isinstance(each, str) for each in patterns)):
        raise InputError(f"{key}: {patterns!r} is not a pattern of files, nor a list of patterns")
    found = []
    for pattern in patterns:
        check_local(key, pattern)
        for plain in _expand_braces(os.path.expanduser(pattern)):
            matches = sorted(glob.glob(plain)) if glob.has_magic(plain) else [plain]
            if not matches:
                raise InputError(f"{key}: no file matches {plain}; expected {expected}")
            if folders := [match for match in matches if os.path.isdir(match)]:
                raise InputError(f"{key}: {folders[0]} is a folder; expected {expected}: a pattern of files in it")
            found += map(Path, matches)
    return found


def _expand_braces(pattern: str) -> list[str]:
    patterns = [pattern]
    while match := BRACES.search(patterns[0]):
        first, last, words = match.groups()
        if words is None and not 0 <= int(last) - int(first) < MAX_SHARDS // len(patterns):
            raise InputError(f"{pattern}: {match[0]} is not a range of shards")
        if words:
            parts = words.split(",")
        else:
            parts = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        patterns = [BRACES.sub(lambda _, part=part: part, each, count=1) for each in patterns for part in parts]
    return patterns


def _state(file: Path) -> tuple[int, str]:
    """Size of a shard and sha256 of its first bytes. Raises InputError if it does not end like a tar file."""
    try:
        with open(file, "rb") as stream:
            head = stream.read(HEAD)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - len(END)))
            whole = size % BLOCK == 0 and stream.read() == END
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a tar shard") from None
    check_uncompressed(file, head)
    if not whole:
        raise InputError(f"{file}: truncated, or not a tar file: its last {len(END)} bytes are not zero; {REMEDY}")
    return size, hashlib.sha256(head).hexdigest()


def _samples(files: list[Path], label: dict[Path, str], caption: str | None) -> Iterator[StoredImage | Skipped]:
    for file in files:
        yield from read_shard(file, label[file], caption)


def read_shard(file: Path, label: str, caption: str | None = None) -> Iterator[StoredImage | Skipped]:
    """Yields the samples of a shard, in the order of their first members; `caption` as in `WebDataset`.

    Raises InputError for a damaged shard.
    """
    images: dict[str, Location | None] = {}
    texts: dict[str, bytes] = {}
    wanted = "txt" if caption is None else "json"
    for member, name, content in _members(file, wanted):
        folder, base = os.path.split(name)
        stem, _, extension = base.partition(".")
        key, extension = os.path.join(folder, stem), extension.lower()
        images.setdefault(key, None)
        if extension in IMAGES:
            if images[key] is not None:
                raise InputError(f"{file}: two images with the key {key!r}")
            images[key] = Location(str(file), member.size, member.offset_data, name)
        elif extension == wanted and content is not None:  # not k.ocr.txt beside k.txt
            if key in texts:
                raise InputError(f"{file}: two members named {name!r}")
            texts[key] = content
    for key, location in images.items():
        image_id = f"{label}/{key}"
        try:
            if location is None:
                raise ValueError("no image")
            found = _captions(texts.get(key), caption)
            yield StoredImage(image_id, tuple((f"{image_id}#{k}", text) for k, text in enumerate(found)), location)
        except ValueError as error:
            yield Skipped(image_id, f"{location or f'{file}: {key}'}: {error}")


def _members(file: Path, wanted: str) -> Iterator[tuple[tarfile.TarInfo, str, bytes | None]]:
    """Yields the plain files of a shard: member, name as UTF-8, and the content of those with the suffix `wanted`."""
    with open(file, "rb") as stream:
        try:
            end = 0
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                        raise InputError(f"{file}: member {name!r} leads outside the archive; expected plain names")
                    if member.isdir():
                        continue
                    if not member.isfile() or member.issparse():
                        raise InputError(f"{file}: member {name!r} is a link, a device or sparse; expected plain files")
                    end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                    text = name.lower().endswith(f".{wanted}") and member.size <= MAX_TEXT
                    yield member, name, archive.extractfile(member).read() if text else None
            stream.seek(end)
            if end and stream.read(len(END)) != END:  # tarfile treats a damaged header as the end of the archive
                raise InputError(f"{file}: damaged at byte {end:,}; {REMEDY}")
        except tarfile.TarError as error:
            raise InputError(f"{file}: not a valid tar file ({error}); {REMEDY}") from None


def _captions(content: bytes | None, key: str | None) -> list[str]:
    """The captions of a sample. Raises ValueError (or its subclasses of Unicode and JSON) if it has none."""
    if content is None:
        raise ValueError(f"no caption of at most {MAX_TEXT:,} bytes")
    text = content.decode("utf-8")
    if key is None:
        lines = lines_of(text)
        if not lines:
            raise ValueError("no caption")
        return lines
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    found = found.get(key) if isinstance(found, dict) else None
    captions = [found] if isinstance(found, str) else found
    if not (isinstance(captions, list) and captions and all(isinstance(t, str) and t.strip() for t in captions)):
        raise ValueError(f"no caption under {key!r}")
    return captions
