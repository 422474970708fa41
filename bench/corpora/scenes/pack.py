"""Opens the data pack of `scenes`: a Parquet file of WebP pictures, checked against its SHA-256 before decoding."""

import hashlib
import io
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from models.errors import InputError

DATA = Path(__file__).parent / "data"
PACK = "scenes.parquet"
LICENCES = "licences.csv"
COLUMNS = pyarrow.schema(
    [
        ("file", pyarrow.string()),  # key into licences.csv
        ("kind", pyarrow.string()),  # sprite | photo
        ("of", pyarrow.string()),  # concept | place
        ("style", pyarrow.string()),  # noto | fluent | "" for photos
        ("group", pyarrow.string()),  # emojibase's group, e.g. animals-nature
        ("tags", pyarrow.list_(pyarrow.string())),  # emojibase's keywords
        ("times", pyarrow.list_(pyarrow.string())),  # photos: the times of day it may be shown in; empty: any
        ("webp", pyarrow.binary()),
        ("crc32", pyarrow.uint32()),  # of the decoded pixels
    ]
)


@dataclass(frozen=True)
class Concept:
    """A named thing. names: (article, singular, plural), the usual name first. sprites: indices into `Pack.sprites`."""

    names: tuple[tuple[str, str, str], ...]
    tintable: bool
    sprites: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its usual name, in the singular."""
        return self.names[0][1]


@dataclass(frozen=True)
class Picture:
    """A picture of the pack, as WebP. of: its concept or place. times: times of day it may be shown in; empty: all."""

    file: str
    of: str
    style: str
    times: tuple[str, ...]
    webp: bytes = field(repr=False)
    crc32: int

    def pixels(self) -> np.ndarray:
        """The decoded picture, uint8 (H, W, 3 or 4). Raises InputError if its CRC-32 is not that of the pack."""
        pixels = decode(self.webp)
        if zlib.crc32(pixels.tobytes()) != self.crc32:
            remedy = "install the version of constraints.txt"
            raise InputError(f"{self.file}: the installed Pillow decodes the picture to different pixels; {remedy}")
        return pixels


@dataclass(frozen=True)
class Pack:
    """Content of the pack; `sprites` are in the order of `concepts`, `photos` in the order of `places`."""

    sha256: str
    concepts: tuple[Concept, ...]
    places: tuple[str, ...]
    sprites: tuple[Picture, ...]
    photos: tuple[Picture, ...]


def decode(webp: bytes) -> np.ndarray:
    """uint8 (H, W, 3 or 4) of a WebP file."""
    image = Image.open(io.BytesIO(webp))
    return np.asarray(image if image.mode in ("RGB", "RGBA") else image.convert("RGBA"))


def expected_sha256(folder: Path, name: str) -> str:
    """The SHA-256 of a file of the pack, from scenes.sha256. Raises InputError."""
    sums = folder / "scenes.sha256"
    try:
        lines = [line.split() for line in sums.read_text().splitlines()]
    except OSError as error:
        expected = "expected the checksums of the data pack"
        raise InputError(f"{sums} cannot be read ({error.strerror}); {expected}") from error
    for line in lines:
        if len(line) == 2 and line[1] == name:
            return line[0]
    raise InputError(f"{sums} has no line for {name}")


def open_pack(folder: Path = DATA, concepts: int | None = None) -> Pack:
    """The pack in `folder`, with its first `concepts` concepts (None: all).

    Raises InputError with the file if it is missing or not the published one, and for `concepts` out of range.
    """
    file = folder / PACK
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); expected the data pack of `scenes`") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != expected_sha256(folder, PACK):
        remedy = f"restore it with `git checkout {file.name}`"
        raise InputError(f"{file} is damaged: its SHA-256 is not that of scenes.sha256; {remedy}")
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    about = json.loads(table.schema.metadata[b"scenes"])
    pictures = {"sprite": [], "photo": []}
    for row in table.select(["file", "kind", "of", "style", "times", "webp", "crc32"]).to_pylist():
        pictures[row["kind"]].append(
            Picture(row["file"], row["of"], row["style"], tuple(row["times"]), row["webp"], row["crc32"])
        )
    if concepts is not None and not 10 <= concepts <= len(about["concepts"]):
        raise InputError(f"concepts: {concepts} is not between 10 and {len(about['concepts'])}")
    entries = about["concepts"][:concepts]
    indices: dict[str, list[int]] = {}
    for index, sprite in enumerate(pictures["sprite"]):
        indices.setdefault(sprite.of, []).append(index)
    chosen = tuple(
        Concept(tuple(map(tuple, entry["names"])), entry["tintable"], tuple(indices[entry["names"][0][1]]))
        for entry in entries
    )
    used = 1 + max(index for concept in chosen for index in concept.sprites)
    sprites, photos = tuple(pictures["sprite"][:used]), tuple(pictures["photo"])
    return Pack(sha256, chosen, tuple(about["places"]), sprites, photos)
