"""`folder`: your own images and captions, listed in a CSV, TSV or Parquet file.

Rows with the same path are captions of one image.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from bench.corpora.readers import table
from bench.corpora.readers.file_list import ListedImage, below, given_path, locate
from bench.corpora.readers.stored import StoredCorpus, hash_split
from models.errors import InputError

PATHS = ("path", "filepath", "image", "image_path", "file_name", "filename")
CAPTIONS = ("caption", "title", "text")
SPLIT = "split"


class Folder(StoredCorpus):
    """The corpus.

    annotations: the table. root: folder that its paths are relative to (default: the folder of the table). pixels:
    side of the images. path, caption, split: names of the columns; by default the one of `PATHS` and of `CAPTIONS`
    that the table has, and `split` if present. Without a split column, the hash of the path decides (`hash_split`).
    Split names are free; the images of a split named `distractors` fill a larger gallery. quoted: false if `"` is a
    plain character of a CSV or TSV file.

    An image id is the normalised path below `root`; a caption id is the path, #, and the number of the caption.
    Raises InputError for a broken table, a row without path or caption, an image in two splits, and a missing file.
    """

    name, named_after = "folder", "annotations"

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
        splits, digest = locate(_listed(file, root, columns, quoted), root, file)
        super().__init__(pixels, splits, digest)


def _column(file: Path, names: list[str], key: str, given: str | None, usual: tuple[str, ...]) -> str:
    if given is not None:
        return given
    found = [name for name in usual if name in names]
    if len(found) != 1:
        expected = f"expected exactly one of {', '.join(usual)}; name the column as {key}"
        raise InputError(f"{file}: columns {table.shortened(names)}, {expected}")
    return found[0]


def _listed(file: Path, root: Path, columns: list[str], quoted: bool) -> Iterator[ListedImage]:
    split_of: dict[str, str] = {}
    captions: dict[str, list[tuple[str, str]]] = {}
    for number, (path, text, *rest) in table.rows(file, columns, quoted):
        if not path.strip() or not text.strip():
            raise InputError(f"{file}: row {number}: {(columns[1] if path.strip() else columns[0])!r} is empty")
        path = below(root, path)
        split = rest[0] if rest else hash_split(path.replace(os.sep, "/"))
        if not split:
            raise InputError(f"{file}: row {number}: {columns[2]!r} is empty")
        if split_of.setdefault(path, split) != split:
            raise InputError(f"{file}: row {number}: {path!r} is in split {split!r} and in {split_of[path]!r}")
        of_image = captions.setdefault(path, [])
        of_image.append((f"{path}#{len(of_image)}", text))
    yield from (ListedImage(split, path, path, tuple(captions[path])) for path, split in split_of.items())
