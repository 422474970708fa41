"""A float16 array on disk that is computed block by block, once: it resumes after `kill -9` and is checked when opened.

A folder holds `states.npy`; while it grows `progress.json` with the CRC-32 of each finished block; once it is whole
`meta.json`, sealed, with the SHA-256 of the array and what it was computed from.
"""

import logging
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from bench.store import cli
from models.errors import InputError
from models.files import BrokenFileError, mapped_array, read_json, sha256, write_json

log = logging.getLogger(__name__)

ARRAY, PROGRESS, DESCRIPTION, LOCK = "states.npy", "progress.json", "meta.json", ".lock"


def cached_rows(
    folder: Path, ends: np.ndarray, shape: tuple[int, ...], compute: Callable[[int], np.ndarray], about: dict
) -> np.ndarray:
    """The float16 array (rows, *shape) of a folder, mapped for reading; what is missing is computed.

    Processes that want the same array wait for the one that computes it.

    Args:
        ends: int64, the row at which each block ends; the last is the number of rows.
        compute: the rows of a block, by its number.
        about: plain values for the description, with a `title` for messages.

    Raises:
        InputError: values that float16 cannot hold, or a broken file, which is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        if not (folder / DESCRIPTION).exists():
            _fill(folder, ends, shape, compute, about)
    description = read_json(folder / DESCRIPTION, _REMEDY)
    if not (folder / ARRAY).is_file() or sha256(folder / ARRAY) != description.get("sha256"):
        raise BrokenFileError(f"{folder / ARRAY}: missing, truncated or changed since it was written; {_REMEDY}")
    return np.load(folder / ARRAY, mmap_mode="r")


def _fill(folder: Path, ends: np.ndarray, shape: tuple[int, ...], compute, about: dict) -> None:
    sums = _finished_blocks(folder, ends, shape)
    states = np.load(folder / ARRAY, mmap_mode="r+") if sums else _new(folder, (int(ends[-1]), *shape))
    log.info("states %s: %s, %d rows of %s", folder.name, about["title"], len(states), shape)
    count = {"total": len(ends), "initial": len(sums)}
    with cli.progress(**count, desc=f"states of {about['title']}", unit="block") as bar:
        for block in range(len(sums), len(ends)):
            with np.errstate(over="ignore"):  # reported below
                rows = compute(block).astype(np.float16)
            if not np.isfinite(rows).all():
                raise InputError(f"train.cache: {about['title']}: states do not fit into float16; set train.cache=none")
            states[_rows_of(ends, block)] = rows
            states.flush()
            sums.append(zlib.crc32(np.ascontiguousarray(rows)))
            write_json(folder / PROGRESS, {"blocks": sums}, seal=True)
            bar.update()
    states.flush()
    write_json(folder / DESCRIPTION, about | {"sha256": sha256(folder / ARRAY)}, seal=True)
    (folder / PROGRESS).unlink()


def _new(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    return mapped_array(folder / ARRAY, np.float16, shape)


def _finished_blocks(folder: Path, ends: np.ndarray, shape: tuple[int, ...]) -> list[int]:
    """The checksums of the blocks that an earlier process finished; refuses a file that changed since."""
    if not (folder / PROGRESS).exists():
        return []
    sums = list(read_json(folder / PROGRESS, _REMEDY)["blocks"])
    try:
        states = np.load(folder / ARRAY, mmap_mode="r")
        whole = states.shape == (int(ends[-1]), *shape) and all(
            zlib.crc32(np.ascontiguousarray(states[_rows_of(ends, block)])) == found for block, found in enumerate(sums)
        )
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise BrokenFileError(f"{folder / ARRAY}: missing, truncated or changed since it was written; {_REMEDY}")
    return sums


def _rows_of(ends: np.ndarray, block: int) -> slice:
    return slice(int(ends[block - 1]) if block else 0, int(ends[block]))


_REMEDY = "remove the folder to compute the states again"
