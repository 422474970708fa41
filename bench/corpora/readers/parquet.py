"""`parquet`: images inside Parquet files, as Hugging Face's `datasets` writes them.

Notable choices
- Images are read by row group, and the last two row groups are kept in memory (`datasets` writes 100 to 1,000 rows per
  group, often 100 MB). A jump costs the decompression of a whole group.
- Captions are read when the corpus opens.
- The fingerprint covers captions, sizes, and the first and last 64 KB of each file. The last bytes hold the sizes and
  places of all groups. Hashing hundreds of GB would take longer than encoding.
"""

import functools
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from bench.corpora import WHOLE
from bench.corpora.readers import table
from bench.corpora.readers.left_out import LeftOut
from bench.corpora.readers.local import check_uncompressed
from bench.corpora.readers.stored import StoredCorpus, StoredImage, hash_split, ordered_splits
from bench.corpora.readers.webdataset import check_splits, expand, labels
from models.errors import InputError

IMAGE, SPLIT = "image", "split"
CAPTIONS = ("caption", "captions", "text", "title", "sentences")
NUMBERED = re.compile(r"(caption|text|sentence)s?_\d+")
FILE_SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
"""Start of a file name, before the first -, _ or dot -> split: `train-00000-of-00002.parquet`."""
END_BYTES = 64 << 10
KEPT_GROUPS = 2
EXPECTED = "Parquet files with images in them"

_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Cell:
    """Where the bytes of an image are: a row of a row group of a Parquet file. size: 0, as it is not known yet."""

    file: str
    column: str
    group: int
    row: int
    number: int
    size: int = 0

    def read(self) -> bytes:
        """Reads the bytes; empty for a null. Raises InputError for a damaged file."""
        with _loading:
            images = _group(self.file, os.stat(self.file).st_mtime_ns, self.column, self.group)
        if self.row >= len(images):
            raise InputError(f"{self}: no such row; the file changed since the corpus was opened")
        return images[self.row].as_py() or b""

    def __str__(self) -> str:
        name = f"{self.file}: row {self.number}"
        return name if name.isprintable() else ascii(name)


@functools.lru_cache(maxsize=KEPT_GROUPS)
def _group(file: str, _changed: int, column: str, group: int) -> pyarrow.ChunkedArray:
    with table.open_parquet(Path(file)) as source:
        images = source.read_row_group(group, columns=[column]).column(column)
    return images if _is_binary(images.type) else pyarrow.chunked_array([pyarrow.compute.struct_field(images, "bytes")])


class Parquet(StoredCorpus):
    """The corpus.

    files: a pattern such as "data/*.parquet" or "data/train-{00000..00003}.parquet", a list of patterns, or a mapping
    of splits to patterns. Without a mapping, the column `split` decides, else the start of the file name
    (`FILE_SPLITS`), else the hash of the image id; the split `all` then has every image. image: column of the images,
    bytes or a struct {bytes, path}. caption: column or columns of captions, each of text or of lists of text; default:
    the one of `CAPTIONS` that the file has, or all of caption_0, caption_1, ... pixels: side of the images. strict,
    allow_missing: as in `folder`, for rows without caption or split.

    An image id is the file, /, and the number of the row from 0. Raises InputError for a pattern that matches nothing,
    a damaged file, and a column that is missing or of another type.
    """

    name, named_after = "parquet", "files"

    def __init__(
        self,
        files,
        pixels: int = 224,
        image: str = IMAGE,
        caption: str | list[str] | None = None,
        strict: bool = False,
        allow_missing: bool = False,
    ):
        if isinstance(files, dict):
            check_splits("files", files)
            of_split = {split: expand(split, patterns, EXPECTED) for split, patterns in files.items()}
        else:
            of_split = {None: expand("files", files, EXPECTED)}
        label = labels([file for found in of_split.values() for file in found])
        splits: dict[str, list[StoredImage]] = {}
        digest = hashlib.sha256()
        for given, found in of_split.items():
            for file in found:
                digest.update(repr((given, label[file], _state(file))).encode())
                left_out = LeftOut(file, "rows", strict, allow_missing)
                for in_row, item in _items(file, label[file], image, caption, given is None, left_out):
                    split = given or in_row or _split_of_name(file) or hash_split(item.image_id)
                    digest.update(repr((split, item.captions)).encode())
                    splits.setdefault(split, []).append(item)
        if not splits:
            raise InputError(f"files: {files}: no rows")
        hidden = {}
        if not isinstance(files, dict) and WHOLE not in splits:
            hidden[WHOLE] = [item for of_split in splits.values() for item in of_split]
        super().__init__(pixels, ordered_splits(splits), [digest.hexdigest(), image, caption], hidden)


def _state(file: Path) -> tuple[int, bytes, bytes]:
    """Size, first and last bytes of a file. Raises InputError if it does not exist or is compressed as a whole."""
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected {EXPECTED}")
    with open(file, "rb") as stream:
        head = stream.read(END_BYTES)
        check_uncompressed(file, head)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - END_BYTES))
        return size, head, stream.read()


def _split_of_name(file: Path) -> str | None:
    return FILE_SPLITS.get(re.split(r"[-_.]", file.name)[0].lower())


def _items(
    file: Path, label: str, image: str, caption: str | list[str] | None, read_splits: bool, left_out: LeftOut
) -> Iterator[tuple[str | None, StoredImage]]:
    """Yields the split of the column `split`, None without one, and the image of each row that has captions."""
    number = used = 0
    with table.open_parquet(file) as source:
        schema = source.schema_arrow
        columns = _caption_columns(file, schema, caption)
        _check_image(file, schema, image)
        splits = [SPLIT] if read_splits and SPLIT in schema.names else []
        if splits and not _is_text(schema.field(SPLIT).type):
            raise InputError(f"{file}: column {SPLIT!r} holds {schema.field(SPLIT).type}, expected text")
        for group in range(source.num_row_groups):
            for row, values in enumerate(source.read_row_group(group, columns=[*columns, *splits]).to_pylist()):
                image_id, cell = f"{label}/{number}", Cell(str(file), image, group, row, number)
                number += 1
                texts = [text for column in columns for text in _texts(values[column])]
                if not texts or (splits and not values[SPLIT]):
                    left_out.add(f"row {number - 1} has no {'split' if texts else 'caption'}")
                    continue
                used += 1
                captions = tuple((f"{image_id}#{k}", text) for k, text in enumerate(texts))
                yield values[SPLIT] if splits else None, StoredImage(image_id, captions, cell)
    left_out.report(used)


def _texts(value: str | list[str | None] | None) -> list[str]:
    return [text for text in ([value] if isinstance(value, str) else value or []) if text and text.strip()]


def _caption_columns(file: Path, schema: pyarrow.Schema, given: str | list[str] | None) -> list[str]:
    if given is not None:
        columns = [given] if isinstance(given, str) else given
    else:
        columns = [name for name in CAPTIONS if name in schema.names]
        columns = columns or [name for name in schema.names if NUMBERED.fullmatch(name)]
        if len(columns) > 1 and columns[0] in CAPTIONS:
            columns = []
    if not isinstance(columns, list) or not columns or any(schema.names.count(name) != 1 for name in columns):
        found = f"{file}: columns {table.shortened(schema.names)}"
        raise InputError(f"{found}; expected one of {', '.join(CAPTIONS)}; name the columns of captions as caption")
    for name in columns:
        kind = schema.field(name).type
        if not _is_text(getattr(kind, "value_type", kind)):
            raise InputError(f"{file}: column {name!r} holds {kind}, expected text or lists of text")
    return columns


def _check_image(file: Path, schema: pyarrow.Schema, image: str) -> None:
    if schema.names.count(image) != 1:
        found = f"{file}: {schema.names.count(image)} columns named {image!r}"
        raise InputError(f"{found}, expected one; columns: {table.shortened(schema.names)}")
    kind = schema.field(image).type
    fields = {field.name: field.type for field in kind} if pyarrow.types.is_struct(kind) else {"bytes": kind}
    if not _is_binary(fields.get("bytes")):
        remedy = "for paths of image files use the corpus folder"
        raise InputError(
            f"{file}: column {image!r} holds {kind}, expected bytes or a struct of bytes and path; {remedy}"
        )


def _is_text(kind: pyarrow.DataType) -> bool:
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _is_binary(kind: pyarrow.DataType | None) -> bool:
    return kind is not None and (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))
