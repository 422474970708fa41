"""`folder`: pictures and captions of the user's own, listed in a CSV, TSV or Parquet file. Rows of the same path are captions of one picture."""

import os
from collections.abc import Iterator
from pathlib import Path

from bench.corpora.readers import table
from bench.corpora.readers.listed import Listed, given_path, located
from bench.corpora.readers.stored import StoredCorpus, hash_split
from models.errors import InputError

PATHS = ("path", "filepath", "image", "image_path", "file_name", "filename")
CAPTIONS = ("caption", "title", "text")
SPLIT = "split"


class Folder(StoredCorpus):
    """annotations: the table. root: what its paths are relative to (default: the folder that the table is in).

    path, caption, split: names of the columns; by default the one of `PATHS` and the one of `CAPTIONS` that the table has, and `split` if
    it has that. Without a split column a picture's path decides (`hash_split`). Any names of splits will do; pictures of one called
    `distractors` fill a larger gallery. quoted: false when `"` is a plain character in a CSV or TSV file.

    The id of a picture is its path as the table has it, without `./` and the like; that of a caption is the path, #, and the number of
    the caption. Raises InputError for a broken table, a row without path or caption, a picture in two splits, and a missing picture.
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
    ):
        file = given_path("annotations", annotations)
        root = file.parent if root is None else given_path("root", root)
        names = table.header(file, quoted)
        columns = [_column(file, names, "path", path, PATHS), _column(file, names, "caption", caption, CAPTIONS)]
        if split is not None or SPLIT in names:
            columns.append(split or SPLIT)
        splits, digest = located(_listed(file, columns, quoted), root, file)
        super().__init__(pixels, splits, digest)


def _column(file: Path, names: list[str], key: str, given: str | None, usual: tuple[str, ...]) -> str:
    if given is not None:
        return given
    found = [name for name in usual if name in names]
    if len(found) != 1:
        raise InputError(
            f"{file}: columns {table.listed(names)}, expected one of {', '.join(usual)}; name the right one as {key}"
        )
    return found[0]


def _listed(file: Path, columns: list[str], quoted: bool) -> Iterator[Listed]:
    split_of: dict[str, str] = {}
    captions: dict[str, list[tuple[str, str]]] = {}
    for number, (path, text, *rest) in table.rows(file, columns, quoted):
        if not path.strip() or not text.strip():
            raise InputError(f"{file}: row {number} has no {columns[1] if path.strip() else columns[0]!r}")
        path = os.path.normpath(path)
        split = rest[0] if rest else hash_split(path.replace(os.sep, "/"))
        if not split:
            raise InputError(f"{file}: row {number} has no {columns[2]!r}")
        if split_of.setdefault(path, split) != split:
            raise InputError(f"{file}: row {number}: {path!r} is in split {split!r}, but in {split_of[path]!r} before")
        of_image = captions.setdefault(path, [])
        of_image.append((f"{path}#{len(of_image)}", text))
    yield from (Listed(split, path, path, tuple(captions[path])) for path, split in split_of.items())
