"""JSON files read as tables: lists of objects (ALBEF, BLIP), JSON lines, and COCO's own captions_*.json."""

import json
from collections.abc import Iterator
from pathlib import Path

from bench.corpora.readers.left_out import LeftOut
from models.errors import InputError

SUFFIXES = (".json", ".jsonl", ".ndjson")


def header(file: Path) -> list[str]:
    """The keys of all objects, in order of their first appearance. Raises InputError as `rows`."""
    return list(dict.fromkeys(key for _, record in _records(file, None) for key in record))


def rows(file: Path, columns: list[str], left_out: LeftOut | None) -> Iterator[tuple[int, list[list[str]]]]:
    """Yields (number, texts of each column): one text, those of a list, or none where the key is missing or null.

    The number is the line of JSON lines, else the object from 1. Raises InputError with file and object for invalid
    JSON, and for values that are neither text nor lists of text.
    """
    for number, record in _records(file, left_out):
        values = []
        for column in columns:
            value = record.get(column)
            texts = value if isinstance(value, list) else [] if value is None else [value]
            if not all(isinstance(text, str) for text in texts):
                raise InputError(
                    f"{file}: object {number}: {column!r} is {value!r:.60}, expected text or a list of texts"
                )
            values.append(texts)
        yield number, values


def _records(file: Path, left_out: LeftOut | None) -> Iterator[tuple[int, dict]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 ({error.reason})") from None
    found = _parsed(file, text)
    if isinstance(found, dict) and isinstance(found.get("images"), list) and isinstance(found.get("annotations"), list):
        yield from _of_coco(file, found, left_out)
        return
    if not isinstance(found, list):
        raise InputError(f"{file}: expected a list of objects, JSON lines, or COCO's 'images' and 'annotations'")
    for number, record in found:
        if not isinstance(record, dict):
            raise InputError(f"{file}: object {number} is {record!r:.60}, expected an object with keys")
        yield number, record


def _parsed(file: Path, text: str):
    """A list of (number, value), or COCO's object."""
    try:
        whole = json.loads(text)
        if isinstance(whole, list):
            return list(enumerate(whole, 1))
        if not isinstance(whole, dict) or "images" in whole or "\n" in text.strip():
            return whole
    except RecursionError:
        raise InputError(f"{file}: JSON nested too deeply") from None
    except ValueError as error:
        if not text.lstrip().startswith("{"):
            raise InputError(f"{file}: not valid JSON ({error})") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                found.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}: line {number}: not valid JSON ({error})") from None
    return found


def _of_coco(file: Path, content: dict, left_out: LeftOut | None) -> Iterator[tuple[int, dict]]:
    """Each annotation with the file name of its image."""
    try:
        name_of = {image["id"]: image["file_name"] for image in content["images"]}
        for number, annotation in enumerate(content["annotations"], 1):
            name = name_of.get(annotation["image_id"])
            if name is not None:
                yield number, {"file_name": name, "caption": annotation["caption"]}
            elif left_out is not None:
                left_out.add(f"annotations[{number - 1}]: image_id {annotation['image_id']!r} is not among the images")
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: not in the format of COCO's captions ({error!r})") from None
