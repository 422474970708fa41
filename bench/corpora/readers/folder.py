"""`folder`: your own images and captions, listed in a CSV, TSV, text, JSON or Parquet file, or in files beside them.

Rows with the same path are captions of one image. A row without path, caption or split, and an image whose file is
missing, are left out, counted, and the first three named (`bench.corpora.readers.left_out`).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.corpora import WHOLE
from bench.corpora.readers import pairs, table
from bench.corpora.readers.file_list import ListedImage, below, given_path, locate
from bench.corpora.readers.left_out import LeftOut
from bench.corpora.readers.stored import StoredCorpus, StoredImage, hash_split, ordered_splits
from models.errors import InputError

PATHS = ("path", "filepath", "image", "image_path", "file_name", "filename")
CAPTIONS = ("caption", "title", "text")
RARE = {"path": ("image_name",), "caption": ("comment",)}  # of Flickr30k's results.csv; tried last
SPLIT = "split"


class Folder(StoredCorpus):
    """The corpus.

    annotations: the table, or a folder of NAME.jpg with NAME.txt beside it, each line of which is a caption; or a
    mapping of splits to tables or folders. root: folder that paths are relative to (default: the folder of each
    table), or a mapping of the same splits to folders. pixels: side of the images.

    path, caption, split: names of the columns; by default the one of `PATHS` and of `CAPTIONS` that the table has, and
    `split` if present. Without a split column, the hash of the path decides (`hash_split`), and the split `all` has
    every image. `split: all`, unless a column has that name: `all` is the only split, and commands read it
    unless another is named. Split names are free; the images
    of a split named `distractors` fill a larger gallery. quoted, separator: how a text table is written, see
    `table.Dialect`. strict: refuse every row and image that would be left out. allow_missing: leave out more than 5%
    of the rows or images.

    An image id is the normalised path below `root`; a caption id is the path, #, and the number of the caption.
    Raises InputError for a broken table, an image in two splits, and rows or images that may not be left out.
    """

    name, named_after, can_be_whole = "folder", "annotations", True

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
        mapped = isinstance(annotations, dict) and bool(annotations)
        files = _paths("annotations", annotations) if mapped else {None: given_path("annotations", annotations)}
        if mapped and split is not None:
            raise InputError(f"split: {split!r}; expected none, as annotations maps splits to tables")
        root, starts = _roots(root, files)
        columns = _Columns(path, caption, split, table.Dialect(quoted, separator))
        listing = _Listing(root, strict, allow_missing)
        for part, file in files.items():
            listing.add(file, part, starts[part], columns)
        source = root if mapped else files[None]
        splits, digest = locate(listing.images(), root, source, LeftOut(source, "images", strict, allow_missing))
        hidden = {}
        if None in splits:
            every = splits[None]
            splits, hidden = ({WHOLE: every}, {}) if split == WHOLE else (_by_hash(every), {WHOLE: every})
        super().__init__(pixels, splits, digest, hidden)


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of a table, None for the usual ones, and how a text table is written."""

    path: str | None
    caption: str | None
    split: str | None
    dialect: table.Dialect

    def rows(self, file: Path, read_splits: bool, left_out: LeftOut) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yields (number, (path, caption) or (path, caption, split)) of a table or of a folder of pairs."""
        if file.is_dir():
            yield from pairs.rows(file, left_out)
            return
        names = table.header(file, self.dialect)
        columns = [
            _column(file, names, "path", self.path, PATHS),
            _column(file, names, "caption", self.caption, CAPTIONS),
        ]
        whole = self.split == WHOLE and WHOLE not in names
        if read_splits and not whole and (self.split is not None or SPLIT in names):
            columns.append(self.split or SPLIT)
        for number, values in table.rows(file, columns, self.dialect, left_out):
            empty = [column for column, value in zip(columns, values, strict=True) if not value.strip()]
            if empty:
                left_out.add(f"row {number}: {empty[0]!r} is empty")
            else:
                yield number, values


class _Listing:
    """The images of one or several tables, with their captions; the split of those without a given one is None."""

    def __init__(self, root: Path, strict: bool, allow_missing: bool):
        self.root, self.strict, self.allow_missing = root, strict, allow_missing
        self._split_of: dict[str, str | None] = {}
        self._captions: dict[str, list[tuple[str, str]]] = {}

    def add(self, file: Path, part: str | None, start: str, columns: _Columns) -> None:
        """Reads a table whose paths start at the folder `start` below the root; part: the split of all its rows."""
        left_out, used = LeftOut(file, "rows", self.strict, self.allow_missing), 0
        for number, (path, text, *rest) in columns.rows(file, part is None, left_out):
            used += 1
            path = below(self.root, os.path.join(start, path))
            split = rest[0] if rest else part
            if self._split_of.setdefault(path, split) != split:
                both = f"in split {split!r} and in {self._split_of[path]!r}"
                raise InputError(f"{file}: row {number}: {path!r} is {both}")
            of_image = self._captions.setdefault(path, [])
            of_image.append((f"{path}#{len(of_image)}", text))
        left_out.report(used)

    def images(self) -> Iterator[ListedImage]:
        """Yields each image with all its captions."""
        for path, split in self._split_of.items():
            yield ListedImage(split, path, path, tuple(self._captions[path]))


def _paths(key: str, given: dict) -> dict[str, Path]:
    for part in given:
        if not isinstance(part, str):
            raise InputError(f"{key}: {part!r} is not the name of a split")
    return {part: given_path(f"{key}: {part}", path) for part, path in given.items()}


def _roots(root, files: dict[str | None, Path]) -> tuple[Path, dict[str | None, str]]:
    """The root of all images, and the folder below it where the paths of each table start."""
    if root is not None and not isinstance(root, dict):
        return given_path("root", root), dict.fromkeys(files, "")
    folders = {part: file if file.is_dir() else file.parent for part, file in files.items()}
    if root is not None:
        if set(root) != set(files) or None in files:
            raise InputError(f"root: {root!r}; expected one path, or a mapping of the same splits as annotations")
        folders = _paths("root", root)
    if len(folders) == 1:
        return next(iter(folders.values())), dict.fromkeys(files, "")
    common = os.path.commonpath([os.path.abspath(folder) for folder in folders.values()])
    return Path(common), {part: os.path.relpath(folder, common) for part, folder in folders.items()}


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
