"""Dense vectors of the images and captions of a table, by a pre-trained model of open_clip (`--model`).

They are encoded in the order of `bench.sparsify.data`, and resume after a kill. `images.npy` and `texts.npy` appear
when they are whole; `made_from.json` names the model and the captions that they are made from.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench.corpora.readers.decode import decode
from bench.sparsify.data import read_captions
from bench.store import cli
from bench.vectors.encoder import Encoder
from bench.vectors.read import open_vectors
from bench.vectors.write import resume_vectors
from models.errors import InputError
from models.files import atomic_file, mapped_array, read_json, sha256, write_json
from models.pretrained.open_clip import named

BATCH = 64
ORIGIN = "made_from.json"


def dense_vectors(model: str, captions: Path, folder: Path, force: bool) -> tuple[Path, Path]:
    """The files of the images' and the texts' vectors in `folder`, made unless they exist.

    Paths of images are relative to the folder of `captions`. Raises InputError for another kind of model, for a folder
    of another model or other captions (unless `force`), and for an image that is missing or broken, which is named.
    """
    if not named(model):
        raise InputError(f"--model {model}: expected open_clip:NAME, or dense vectors on disk")
    rows, encoder = read_captions(captions), Encoder(model)
    paths = list(dict.fromkeys(row.path for row in rows if row.path))

    def image(path: str) -> np.ndarray:
        file = captions.parent / path
        if not file.is_file():
            raise InputError(f"{file}: no such image; paths are relative to {captions.parent}")
        return decode(file.read_bytes(), str(file), encoder.model.pixels)

    def images(part: Sequence[str]) -> np.ndarray:
        return encoder.images(np.stack([image(path) for path in part]))

    _settle(folder, {"model": encoder.id, "captions": sha256(captions)}, force)
    made = {"images": (paths, images), "texts": ([row.caption for row in rows], encoder.texts)}
    return tuple(_written(folder / f"{name}.npy", *of) for name, of in made.items())


def _settle(folder: Path, origin: dict, force: bool) -> None:
    """Records what the vectors of a folder are made from; force: removes those that are there."""
    if any(folder.glob("*.npy")) or any(folder.glob("*.shards*")):
        if not force and read_json(folder / ORIGIN, "another --out, or --force") != origin:
            raise InputError(f"{folder}: of another model or other captions; expected another --out, or --force")
        if not force:
            return
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / ORIGIN, origin, seal=True)


def _written(file: Path, items: list[str], encode: Callable) -> Path:
    """A .npy file of the vectors of items, computed in shards that survive a kill."""
    shards = file.with_suffix(".shards")
    if file.exists():
        return file
    if not shards.is_dir():
        first = np.asarray(encode(items[:1]))
        with (
            resume_vectors(shards, "dense", first.shape[1], shard_rows=1024) as writer,
            cli.progress(desc=f"encode {file.stem}", unit="item", total=len(items), initial=writer.count) as bar,
        ):
            while (start := writer.count) < len(items):
                part = items[start : start + BATCH]
                writer.append(encode(part), [str(start + place) for place in range(len(part))])
                bar.update(len(part))
    found = open_vectors(shards)
    with atomic_file(file) as partial:
        mapped, start = mapped_array(partial, np.float32, (found.count, found.dimension)), 0
        for shard in found.shards():
            mapped[start : start + len(shard)] = shard
            start += len(shard)
        mapped.flush()
        del mapped
    return file
