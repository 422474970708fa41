"""`TableEncoder`: a query table in place of a model's text encoder, and captions encoded by it to vectors on disk."""

import functools
import itertools
from pathlib import Path

from bench.vectors.batches import batches
from bench.vectors.encoder import Encoder
from bench.vectors.format import SHARD_ROWS, sorted_csr
from bench.vectors.jobs import Job
from bench.vectors.read import LexiconVectors
from models.query_table import table


class TableEncoder(Encoder):
    """An encoder of texts alone, without torch. source: folder of a table (`models.query_table.table`)."""

    kind = "lexicon"
    code = ("models.query_table.table", "models.tokenizer")

    def __init__(self, source: Path):
        super().__init__(source)

    @functools.cached_property
    def id(self) -> str:
        return table.fingerprint(self.source)

    @functools.cached_property
    def model(self) -> table.QueryTable:
        return table.QueryTable.load(self.source)

    def images(self, images_BHWC):
        raise NotImplementedError("a query table encodes texts only")

    def texts(self, texts: list[str]):
        """B strings to CSR float32 (B, V)."""
        indptr, lexicons, weights = self.model.encode(texts)
        return sorted_csr(weights, lexicons, indptr, self.model.dimension)


def encode_queries(
    home: Path, encoder: TableEncoder, corpus, split: str, images: int, force: bool = False
) -> tuple[LexiconVectors, str]:
    """The captions of images 0..`images`-1 of a split by a table, in `<home>/vectors/`, and their id."""
    job = Job.of(home, encoder, corpus, [(split, images)], "captions")
    if force or job.find() is None:
        with job.writer(SHARD_ROWS, force) as writer:
            for batch in batches(itertools.islice(corpus.captions(split, 0, images), writer.count, None)):
                ids, texts, groups = map(list, zip(*batch, strict=True))
                writer.append(encoder.texts(texts), ids, groups)
    return job.find(), job.id
