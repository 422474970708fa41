"""`coco` and `flickr30k`: the Karpathy splits (Karpathy and Fei-Fei, 2015) over images in your folder.

Two layouts are read, both as published:
- `dataset_coco.json`, `dataset_flickr30k.json` of Karpathy; train of COCO is its train and restval.
- the tables of LexLIP's official code (Luo et al., 2023): `coco_train.tsv`, `f30k_val.tsv`, ... with columns title,
  filepath, image_id.

An image id is COCO's own, or Karpathy's number in Flickr30k. A caption id is Karpathy's `sentid` (in COCO, the id of
the annotation), or, in a table, the image id, #, and the number of the caption. All captions are kept unchanged.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bench.corpora.readers import table
from bench.corpora.readers.file_list import ListedImage, given_path, locate
from bench.corpora.readers.left_out import LeftOut, check_boolean
from bench.corpora.readers.stored import StoredCorpus
from models.errors import InputError
from models.files import read_json

SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
PARTS = ("train", "val", "test")


class Karpathy(StoredCorpus):
    """The corpus.

    root: folder of the images. annotations: the JSON file, or the folder of the three tables (default: in the root,
    JSON first). pixels: side of the images. check_counts: refuse annotations whose numbers of images differ from the
    published ones, and missing images; without it, up to 5% of the images may be missing, or any number with
    allow_missing. Raises InputError for missing, broken or incomplete annotations, and for missing images.
    """

    json_name: str
    table_prefix: str
    image_key: str
    counts: dict[str, int]

    def __init__(
        self, root, annotations=None, pixels: int = 224, check_counts: bool = True, allow_missing: bool = False
    ):
        check_boolean("check_counts", check_counts)
        root = given_path("root", root)
        annotations = self._annotations(root, annotations)
        listed = list(self._from_tables(annotations) if annotations.is_dir() else self._from_json(annotations))
        counts = Counter(item.split for item in listed)
        if check_counts and dict(counts) != self.counts:
            found, expected = (" / ".join(f"{of[part]:,}" for part in PARTS) for of in (counts, self.counts))
            remedy = "for a subset give check_counts: false"
            raise InputError(f"{annotations}: {found} images in {' / '.join(PARTS)}, expected {expected}; {remedy}")
        strict = check_counts and not allow_missing
        left_out = LeftOut(annotations, "images", strict, allow_missing)
        splits, digest = locate(listed, root, annotations, left_out)
        super().__init__(pixels, splits, digest)

    def _annotations(self, root: Path, given) -> Path:
        tables = [f"{self.table_prefix}_{part}.tsv" for part in PARTS]
        for place in [given_path("annotations", given)] if given is not None else [root / self.json_name, root]:
            if place.is_file() or (place.is_dir() and any((place / name).is_file() for name in tables)):
                return place
        expected = f"expected {self.json_name}, or {', '.join(tables)}; give their path as annotations"
        raise InputError(f"{root if given is None else given}: {expected}")

    def _from_json(self, file: Path) -> Iterator[ListedImage]:
        content = read_json(file)
        images = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, list):
            raise InputError(f"{file}: expected an object with a list of 'images', as published by Karpathy")
        for number, image in enumerate(images):
            try:
                captions = tuple((str(sentence["sentid"]), sentence["raw"]) for sentence in image["sentences"])
                if not all(isinstance(text, str) for _, text in captions):
                    raise TypeError("a caption is not text")
                path = str(PurePosixPath(image.get("filepath", ""), image["filename"]))
                yield ListedImage(SPLITS[image["split"]], str(image[self.image_key]), path, captions)
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{file}: images[{number}]: not in Karpathy's format ({error!r})") from None

    def _from_tables(self, folder: Path) -> Iterator[ListedImage]:
        for part in PARTS:
            file = folder / f"{self.table_prefix}_{part}.tsv"
            paths: dict[str, str] = {}
            captions: dict[str, list[tuple[str, str]]] = {}
            for line, (text, path, image_id) in table.rows(file, ("title", "filepath", "image_id")):
                if paths.setdefault(image_id, path) != path:
                    both = f"{path!r} and {paths[image_id]!r}"
                    raise InputError(f"{file}: line {line}: image {image_id} has two paths, {both}")
                of_image = captions.setdefault(image_id, [])
                of_image.append((f"{image_id}#{len(of_image)}", text))
            yield from (
                ListedImage(part, image_id, path, tuple(captions[image_id])) for image_id, path in paths.items()
            )


class Coco(Karpathy):
    """MS COCO captions, Karpathy split."""

    name = "coco"
    json_name, table_prefix, image_key = "dataset_coco.json", "coco", "cocoid"
    counts = {"train": 113_287, "val": 5_000, "test": 5_000}


class Flickr30k(Karpathy):
    """Flickr30k, Karpathy split."""

    name = "flickr30k"
    json_name, table_prefix, image_key = "dataset_flickr30k.json", "f30k", "imgid"
    counts = {"train": 29_000, "val": 1_014, "test": 1_000}
