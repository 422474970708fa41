"""Makes the query tables of a checkpoint in a home, each once: `<home>/query_tables/<id>/`."""

import functools
import logging
from dataclasses import dataclass, field
from pathlib import Path

from bench.store import config
from bench.tasks.query_table.encoder import TableEncoder
from bench.tasks.query_table.pairs import Pairs, open_pairs
from bench.tasks.timing import torch_threads
from bench.vectors.encoder import Encoder
from models.query_table import Method
from models.query_table.learn import LearnConfig, TokenWeights, learn
from models.query_table.table import QueryTable

log = logging.getLogger(__name__)
OF_TABLE = ("models.query_table.table", "models.tokenizer")
OF_LEARNING = (*OF_TABLE, "models.query_table.learn", "models.losses", "bench.tasks.query_table.pairs")


@dataclass(frozen=True)
class Making:
    """What tables are made from.

    encoder: the lexicon model. images: number of images of the split train to learn from. top_k: lexicons of an image.
    """

    home: Path
    encoder: Encoder
    corpus: object
    images: int
    top_k: int | None = 32
    learning: LearnConfig = field(default_factory=LearnConfig)
    force: bool = False

    def folder(self, method: Method) -> Path:
        """Where a table of a method lies; the name hashes all inputs."""
        return self.home / "query_tables" / config.fingerprint(self.made_from(method))

    def made_from(self, method: Method) -> dict:
        """The inputs of a table, as plain values."""
        if method == "idf":
            return {"checkpoint": self.encoder.id, "method": method, "code": config.code_fingerprint(*OF_TABLE)}
        return {
            "checkpoint": self.encoder.id,
            "method": method,
            "corpus": self.corpus.fingerprint,
            "images": self.images,
            "top_k": self.top_k,
            "learning": config.as_tree(self.learning),
            "code": config.code_fingerprint(*OF_LEARNING, *self.encoder.code),
        }

    def make(self, method: Method) -> TableEncoder:
        """The encoder of a table, made unless it exists. Raises InputError for a broken checkpoint or corpus."""
        folder = self.folder(method)
        if self.force or not folder.exists():
            weights_V = self.encoder.model.idf_V.numpy() if method == "idf" else self._learned(method)
            QueryTable(weights_V, self.encoder.model.tokenizer, method, self.made_from(method)).save(folder)
        else:
            log.info("%s: exists, not learned again", folder)
        return TableEncoder(folder)

    def _learned(self, method: Method):
        model = self.encoder.model
        weights = TokenWeights(method, model.word_embeddings_VD)
        batches = self._pairs.batches(self.learning, f"learning the table '{method}'")
        with torch_threads(1):
            return learn(weights, batches, self.learning, model.config.lexlip.temperature)

    @functools.cached_property
    def _pairs(self) -> Pairs:
        tokenizer, of = self.encoder.model.tokenizer, (self.corpus, self.images, self.top_k, self.force)
        return open_pairs(self.home, self.encoder, tokenizer, *of)
