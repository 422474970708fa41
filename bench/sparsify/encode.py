"""Writes lexicon vectors of dense ones, in the format of `bench.vectors.format`, by streaming; a killed run resumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.store import cli
from bench.vectors.imports.checks import check_dense
from bench.vectors.read import LexiconVectors, open_vectors
from bench.vectors.write import resume_vectors, write_vectors
from models.errors import InputError

ROWS = 512
SHARD_ROWS = 65_536


def write(
    encoder,
    side: str,
    dense_ND: np.ndarray,
    folder: Path,
    made_from: dict,
    ids: Sequence[str],
    groups: Sequence[str] | None = None,
    name: str = "",
    qrels: Mapping | None = None,
) -> LexiconVectors:
    """The lexicon vectors of all rows of a mapped array, written unless the folder exists.

    side: "image" or "text". made_from: decides the vectors, with the encoder. name: of the array, for messages.
    qrels: of queries, as `bench.vectors.write.write_vectors` takes them; then a killed run starts again.
    Raises InputError for a value that is not finite, and if the folder holds other vectors.
    """
    if folder.is_dir():
        found = open_vectors(folder)
        if found.meta["made_from"] != made_from:
            raise InputError(f"{folder}: vectors of other inputs; expected another --out, or --force")
        return found
    if dense_ND.shape[1] != encoder.dense:
        raise InputError(f"{name}: vectors of length {dense_ND.shape[1]}; the checkpoint expects {encoder.dense}")
    described = "lexicon", encoder.dimension, encoder.vocabulary, made_from
    with (
        write_vectors(folder, *described, SHARD_ROWS, qrels)
        if qrels is not None
        else resume_vectors(folder, *described, SHARD_ROWS) as writer,
        cli.progress(desc=f"encode {side}s", unit="item", total=len(dense_ND), initial=writer.count) as bar,
    ):
        while (start := writer.count) < len(dense_ND):
            rows = np.asarray(dense_ND[start : start + ROWS], np.float32)
            check_dense(rows, name, start)
            of_rows = slice(start, start + len(rows))
            weights = encoder.encode(rows, side).numpy()
            writer.append(weights, ids[of_rows], groups and groups[of_rows])
            bar.update(len(rows))
    return open_vectors(folder)
