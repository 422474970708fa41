"""`folder`: your own images and captions, listed in a CSV, TSV, text or Parquet file.

Rows with the same path are captions of one image. A row without path, caption or split, and an image whose file is
missing, are left out, counted, and the first three named (`bench.corpora.readers.left_out`).
"""

import os
from collections.abc import Iterator
from pathlib import Path

from bench.corpora import WHOLE
from bench.corpora.readers import table
from bench.corpora.readers.file_list import ListedImage, given_path, locate
from bench.corpora.readers.left_out import LeftOut
from bench.corpora.readers.stored import StoredCorpus, StoredImage, hash_split, ordered_splits
from models.errors import InputError

PATHS = ("path", "filepath", "image", "image_path", "file_name", "filename")
CAPTIONS = ("caption", "title", "text")
RARE = {"path": ("image_name",), "caption": ("comment",)}  # of Flickr30k's results.csv; tried last
SPLIT = "split"


class Folder(StoredCorpus):
    """The corpus.

    annotations: the table. root: folder that its paths are relative to (default: the folder of the table). pixels:
    side of the images. path, caption, split: names of the columns; by default the one of `PATHS` and of `CAPTIONS`
    that the table has, and `split` if present. Without a split column, the hash of the path decides (`hash_split`),
    and the split `all` has every image. `split: all`, unless a column has that name: `all` is the only split. Split
    names are free; the images of a split named `distractors` fill a larger gallery. quoted, separator: how a
    text table is written, see `table.Dialect`. strict: refuse every row and image that would be left out.
    allow_missing: leave out more than 5% of the rows or images.

    An image id is the normalised path; a caption id is the path, #, and the number of the caption. Raises InputError
    for a broken table, an image in two splits, and rows or images that may not be left out.
    """

    name = "folder"

    def __init__(
        self,
        annotations,
        root=None,
        pixels: int = 224,
        path: str | None = None,
        caption: str | None = None,
        split: str | None = None,
        quoted: bool = True,
        separator: str | None = None,
        strict: bool = False,
        allow_missing: bool = False,
    ):
        file = given_path("annotations", annotations)
        root = file.parent if root is None else given_path("root", root)
        left_out = {what: LeftOut(file, what, strict, allow_missing) for what in ("rows", "images")}
        dialect = table.Dialect(quoted, separator)
        names = table.header(file, dialect)
        columns = [_column(file, names, "path", path, PATHS), _column(file, names, "caption", caption, CAPTIONS)]
        whole = split == WHOLE and WHOLE not in names
        if not whole and (split is not None or SPLIT in names):
            columns.append(split or SPLIT)
        listed = _listed(file, columns, dialect, left_out["rows"])
        splits, digest = locate(listed, root, file, left_out["images"])
        hidden = {}
        if len(columns) == 2 and not whole:
            splits, hidden = _by_hash(splits[WHOLE]), splits
        super().__init__(pixels, splits, digest, hidden)


def _by_hash(images: list[StoredImage]) -> dict[str, list[StoredImage]]:
    splits: dict[str, list[StoredImage]] = {}
    for image in images:
        splits.setdefault(hash_split(image.image_id.replace(os.sep, "/")), []).append(image)
    return ordered_splits(splits)


def _column(file: Path, names: list[str], key: str, given: str | None, usual: tuple[str, ...]) -> str:
    if given is not None:
        return given
    found = [name for name in usual if name in names] or [name for name in RARE[key] if name in names]
    if len(found) != 1:
        expected = f"expected exactly one of {', '.join(usual)}; name the column as {key}"
        if len(names) == 1:
            expected += ", or give the separator of the columns"
        raise InputError(f"{file}: columns {table.shortened(names)}, {expected}")
    return found[0]


def _listed(file: Path, columns: list[str], dialect: table.Dialect, left_out: LeftOut) -> Iterator[ListedImage]:
    split_of: dict[str, str] = {}
    captions: dict[str, list[tuple[str, str]]] = {}
    used = 0
    for number, values in table.rows(file, columns, dialect, left_out):
        empty = [column for column, value in zip(columns, values, strict=True) if not value.strip()]
        if empty:
            left_out.add(f"row {number}: {empty[0]!r} is empty")
            continue
        used += 1
        path, text, *rest = values
        path = os.path.normpath(path)
        split = rest[0] if rest else WHOLE
        if split_of.setdefault(path, split) != split:
            raise InputError(f"{file}: row {number}: {path!r} is in split {split!r} and in {split_of[path]!r}")
        of_image = captions.setdefault(path, [])
        of_image.append((f"{path}#{len(of_image)}", text))
    left_out.report(used)
    yield from (ListedImage(split, path, path, tuple(captions[path])) for path, split in split_of.items())
