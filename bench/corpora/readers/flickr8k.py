"""`flickr8k`: Flickr8k (Hodosh, Young and Hockenmaier, 2013) in its authors' or in Kaggle's layout.

Read are, in the root or a folder in it:
- images: `Flicker8k_Dataset/` (the authors' spelling), `Flickr8k_Dataset/` or `Images/`;
- captions: `Flickr8k.token.txt` of the authors or `captions.txt` of Kaggle, else those of Karpathy's JSON;
- splits: `Flickr_8k.trainImages.txt`, `.devImages.txt`, `.testImages.txt`, also without `Flickr_8k.`, else
  `dataset_flickr8k.json` of Karpathy. dev is val.

An image id is the file name; a caption id is the name, #, and the number of the caption. Images in no list, 91 of the
published 8,091, are left out and counted.

Trap: the authors' captions name one image `NAME.jpg.1`; its file and its entry in a list are `NAME.jpg`.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.corpora.readers import table
from bench.corpora.readers.file_list import ListedImage, given_path, locate
from bench.corpora.readers.karpathy import PARTS, SPLITS
from bench.corpora.readers.left_out import LeftOut, check_boolean
from bench.corpora.readers.stored import StoredCorpus
from models.errors import InputError
from models.files import read_json

log = logging.getLogger(__name__)

IMAGE_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images")
TOKENS, KAGGLE, KARPATHY = "Flickr8k.token.txt", "captions.txt", "dataset_flickr8k.json"
LISTS = {"train": "trainImages.txt", "val": "devImages.txt", "test": "testImages.txt"}
LIST_PREFIXES = ("Flickr_8k.", "")
COUNTS = {"train": 6_000, "val": 1_000, "test": 1_000}
CAPTIONS_EACH = 5
TOKEN_LINE = re.compile(r"([^\t]+)#(\d+)\t(.*)")
NUMBERED = re.compile(r"(.+\.[a-z]+)\.\d+", re.IGNORECASE)

Captions = dict[str, list[tuple[str, str]]]
"""File name -> its captions, each a (caption_id, text)."""


class Flickr8k(StoredCorpus):
    """The corpus.

    root: folder of the data set. annotations: another folder of captions and lists, or Karpathy's JSON with the
    splits. pixels: side of the images. check_counts: refuse numbers of images or captions that differ from the
    published ones; without it, a difference is logged. allow_missing: more than 5% of the listed images may lack their
    file or captions.

    Raises InputError for missing files or folders, a line in another format, and an image in two lists.
    """

    name = "flickr8k"

    def __init__(
        self, root, annotations=None, pixels: int = 224, check_counts: bool = True, allow_missing: bool = False
    ):
        check_boolean("check_counts", check_counts)
        root = given_path("root", root)
        other = root if annotations is None else given_path("annotations", annotations)
        left_out = LeftOut(root, "listed images", allow_missing=allow_missing)
        folders = [folder for top in dict.fromkeys((other, root)) if top.is_dir() for folder in (top, *_folders(top))]
        json = other if other.is_file() else _first(folders, [KARPATHY])
        split_of = _splits(folders, json, only_json=other.is_file())
        images = _first(folders, IMAGE_FOLDERS)
        if not (split_of and images):
            lists = f"{', '.join(LIST_PREFIXES[0] + name for name in LISTS.values())} or {KARPATHY}"
            expected = "a folder " + " or ".join(IMAGE_FOLDERS) if split_of else lists
            raise InputError(f"{root}: expected {expected}, in it or in a folder in it")
        captions = _captions(folders, json)
        if unlisted := len(set(captions) - set(split_of)):
            log.info("%s: %d images with captions are in no list: left out", root, unlisted)
        splits, digest = locate(_listed(split_of, captions, left_out), images, root, left_out)
        found = {split: [len(image.captions) for image in of_split] for split, of_split in splits.items()}
        _check_counts(root, found, check_counts)
        super().__init__(pixels, splits, digest)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _first(folders: list[Path], names) -> Path | None:
    return next((folder / name for folder in folders for name in names if (folder / name).exists()), None)


def _splits(folders: list[Path], json: Path | None, only_json: bool) -> dict[str, str]:
    """The split of each listed image, by file name; {} if there are neither lists nor a JSON."""
    lists = {split: _first(folders, [prefix + name for prefix in LIST_PREFIXES]) for split, name in LISTS.items()}
    split_of: dict[str, str] = {}
    if all(lists.values()) and not only_json:
        for split, file in lists.items():
            for number, line in _text_lines(file):
                name = line.strip()
                if split_of.setdefault(name, split) != split:
                    raise InputError(f"{file}: line {number}: {name!r} is in the lists of {split_of[name]} and {split}")
    elif json:
        for name, image in _json_images(json):
            split_of[name] = SPLITS[image["split"]]
    return split_of


def _captions(folders: list[Path], json: Path | None) -> Captions:
    if file := _first(folders, [TOKENS]):
        return _from_tokens(file)
    captions: Captions = {}
    if file := _first(folders, [KAGGLE]):
        left_out = LeftOut(file, "rows")
        rows = table.rows(file, ("image", "caption"), left_out=left_out)
        texts = [(name, text) for number, (name, text) in rows if _kept(left_out, number, text)]
        left_out.report(len(texts))
    elif json:
        texts = [(name, sentence["raw"]) for name, image in _json_images(json) for sentence in image["sentences"]]
    else:
        raise InputError(f"{folders[0]}: expected {TOKENS}, {KAGGLE} or {KARPATHY}, in it or in a folder in it")
    for name, text in texts:
        of_image = captions.setdefault(name, [])
        of_image.append((f"{name}#{len(of_image)}", text))
    return captions


def _kept(left_out: LeftOut, number: int, text: str) -> bool:
    if not text.strip():
        left_out.add(f"line {number} has no caption")
    return bool(text.strip())


def _from_tokens(file: Path) -> Captions:
    captions: Captions = {}
    left_out, used = LeftOut(file, "lines"), 0
    for number, line in _text_lines(file):
        match = TOKEN_LINE.fullmatch(line)
        if not match:
            raise InputError(f"{file}: line {number}: expected NAME.jpg#NUMBER, a tab and a caption")
        name, k, text = match.groups()
        if _kept(left_out, number, text):
            captions.setdefault(name, []).append((k, text))
            used += 1
    left_out.report(used)
    for name in list(captions):
        if (match := NUMBERED.fullmatch(name)) and match[1] not in captions:
            captions[match[1]] = captions.pop(name)
    return {name: [(f"{name}#{k}", text) for k, text in of_image] for name, of_image in captions.items()}


def _json_images(file: Path) -> Iterator[tuple[str, dict]]:
    """Yields (file name, entry) of Karpathy's JSON, with a known split and sentences of text."""
    content = read_json(file)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise InputError(f"{file}: expected an object with a list of 'images', as published by Karpathy")
    for number, image in enumerate(images):
        try:
            raw = [sentence["raw"] for sentence in image["sentences"]]
            if not all(isinstance(text, str) for text in (image["filename"], *raw)) or image["split"] not in SPLITS:
                raise TypeError("filename, split and raw are text; the split is one of train, val, test")
        except (KeyError, TypeError) as error:
            raise InputError(f"{file}: images[{number}]: not in Karpathy's format ({error!r})") from None
        yield image["filename"], image


def _text_lines(file: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 ({error.reason})") from None
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _listed(split_of: Mapping[str, str], captions: Captions, left_out: LeftOut) -> Iterator[ListedImage]:
    for name, split in split_of.items():
        if name in captions:
            yield ListedImage(split, name, name, tuple(captions[name]))
        else:
            left_out.add(f"{name}: no caption")


def _check_counts(root: Path, found: Mapping[str, list[int]], check: bool) -> None:
    """found: per split the number of captions of each image."""
    images = {split: len(of_split) for split, of_split in found.items()}
    others = sum(number != CAPTIONS_EACH for of_split in found.values() for number in of_split)
    if images == COUNTS and not others:
        return
    counts, expected = (" / ".join(f"{of.get(part, 0):,}" for part in PARTS) for of in (images, COUNTS))
    uneven = f", {others:,} of them without five captions" if others else ""
    message = f"{root}: {counts} images in {' / '.join(PARTS)}{uneven}; expected {expected}, with five captions each"
    if check:
        raise InputError(f"{message}; to use this copy give check_counts: false")
    log.warning("%s", message)
