"""What a sparse encoder keeps of its dense vectors: recall on the held-out part, words, index bytes and rate.

Notable choices
- Documents keep 16, 32, 64 or all of their lexicons as 8-bit impacts: recall is that of what an index returns. Queries
  keep all lexicons as encoded.
- The gallery of recall is the held-out images (or their texts), at most `GALLERY` images, evenly spaced. Bytes and
  rates are those of an index of all given images.
- Dense rows of about the same bytes: PQ and RaBitQ, exact search over the codes, trained on the images trained on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import scipy

from bench import engines
from bench.sparsify.compressed import compressed_rankings
from bench.sparsify.data import Pairs, Words, normalised, rows_of
from bench.tasks import evaluation
from bench.tasks.relevance import Relevance
from bench.tasks.retrieval import typed
from bench.tasks.timing import Timing, batched, single
from bench.tasks.words import agreement, strongest_is_word
from bench.vectors.format import to_csr
from bench.vectors.impacts import Impacts, prune
from bench.vectors.read import DenseVectors, LexiconVectors
from bench.vectors.statistics import evenly
from bench.vectors.statistics import rows_of as vectors_rows

GALLERY = 5_000
TOP_K = (16, 32, 64, None)
MAIN = 32
COMMON = 0.1  # share of the captions from which on a word, such as "a" or "of", says little of an image
BITS = 8
DEPTH = 10
TIMED = 500  # queries
PQ_SAMPLE = 10_000  # vectors that the codes are trained on
DIRECTIONS = ("text_to_image", "image_to_text")


class HeldOut:
    """The held-out images and their texts: rows of both in `pairs`, and their dense vectors, L2-normalised."""

    def __init__(self, pairs: Pairs):
        held = np.flatnonzero(pairs.held_N)
        self.images = held[evenly(len(held), GALLERY)]
        self.texts = np.flatnonzero(pairs.held_M & np.isin(pairs.image_of_M, self.images))
        names = [pairs.image_ids[row] for row in self.images]
        self.owners = [pairs.image_ids[row] for row in pairs.image_of_M[self.texts]]
        self.of_image = names, names
        self.of_text = [pairs.text_ids[row] for row in self.texts], self.owners
        self.dense_images = DenseVectors.of(normalised(rows_of(pairs.images_ND, self.images)), *self.of_image)
        self.dense_texts = DenseVectors.of(normalised(rows_of(pairs.texts_MD, self.texts)), *self.of_text)

    def sides(self, images, texts) -> dict:
        """Direction -> (documents, queries)."""
        return dict(zip(DIRECTIONS, ((images, texts), (texts, images)), strict=True))


def measure(pairs: Pairs, words: Words | None, images: LexiconVectors, texts: LexiconVectors, threads: int) -> dict:
    """All measures of written lexicon vectors of all images and texts of `pairs`: values and rows for the report.

    words: None where lexicons are not words.
    """
    held = HeldOut(pairs)
    sparse_images = LexiconVectors.of(vectors_rows(images, held.images), *held.of_image, images.vocabulary)
    sparse_texts = LexiconVectors.of(vectors_rows(texts, held.texts), *held.of_text, texts.vocabulary)
    recall = {"dense": _recall(held.sides(held.dense_images, held.dense_texts), _dense_ranking)}
    for top_k in TOP_K:
        sides = held.sides(sparse_images, sparse_texts)
        recall[_name(top_k)] = _recall(
            sides, lambda documents, queries, k=top_k: _sparse_ranking(documents, queries, k)
        )
    found = {
        "images": len(held.images),
        "texts": len(held.texts),
        "given": {"images": images.count, "texts": texts.count},
        "dimension": {"dense": pairs.dimension, "lexicons": images.dimension},
        "active": {"image": _active(sparse_images), "text": _active(sparse_texts)},
        "recall": recall,
        "index": _indexes(pairs, held, images, sparse_texts, threads),
    }
    bytes_each = found["index"]["impact"]["bytes"] / images.count
    recall |= _compressed(pairs, held, bytes_each)
    if words is not None:
        found |= _words(words, held, sparse_images, sparse_texts)
        found["typed"] = _typed(words, held, sparse_images)
    return found | {"shown": _shown(pairs, words, held, sparse_images)}


def _name(top_k: int | None) -> str:
    return "all" if top_k is None else str(top_k)


def _recall(sides: dict, ranking) -> dict[str, dict[str, float]]:
    """R@1, 5 and 10 of both directions, as `ranking(documents, queries)` finds them."""
    return {name: success(*pair, ranking(*pair)) for name, pair in sides.items()}


def success(documents, queries, ids: np.ndarray) -> dict[str, float]:
    """Success@1, 5 and 10, as far as the depth of the ranking goes. documents, queries: with ids and groups."""
    values = evaluation.evaluate(*Relevance(documents, queries).ranks(ids), ids.shape[1])
    return {f"R@{k}": values[f"recall@{k}"] for k in (1, 5, 10) if f"recall@{k}" in values}


def _dense_ranking(documents: DenseVectors, queries: DenseVectors) -> np.ndarray:
    depth = min(DEPTH, documents.count)
    with tempfile.TemporaryDirectory() as folder:
        engine = engines.get("faiss-flat")
        engine.build(documents, Path(folder))
        with engine.open(Path(folder)) as opened:
            return opened.search(queries.to_numpy(), depth)[0]


def _sparse_ranking(documents: LexiconVectors, queries: LexiconVectors, top_k: int | None) -> np.ndarray:
    found = [Impacts(*side, BITS).to_scipy().astype(np.float32) for side in ((documents, top_k), (queries, None))]
    return typed.search(found[1], found[0], min(DEPTH, documents.count))[0]


def _compressed(pairs: Pairs, held: HeldOut, bytes_each: float) -> dict:
    """Recall of dense codes of about as many bytes as an image of the lexicon index has."""
    found = {}
    trained = np.unique(pairs.image_of_M[pairs.pairs])
    count = min(PQ_SAMPLE, len(trained))  # the same for both sides, and so the bytes of a code
    images = normalised(rows_of(pairs.images_ND, trained[evenly(len(trained), count)]))
    texts = normalised(rows_of(pairs.texts_MD, pairs.pairs[evenly(len(pairs.pairs), count)]))
    for direction, (documents, queries) in held.sides(held.dense_images, held.dense_texts).items():
        train = images if direction == "text_to_image" else texts
        rankings = compressed_rankings(train, documents.to_numpy(), queries.to_numpy(), bytes_each, DEPTH)
        for name, ids in rankings.items():
            found.setdefault(name, {})[direction] = success(documents, queries, ids)
    return found


def _indexes(pairs: Pairs, held: HeldOut, images: LexiconVectors, texts: LexiconVectors, threads: int) -> dict:
    """Bytes and rates of an index of all images: impact over the top 32 as 8-bit impacts, and flat dense search."""
    which = evenly(len(held.texts), TIMED)
    queries = {
        "impact": Impacts(texts, None, BITS).to_scipy()[which],
        "faiss-flat": held.dense_texts.to_numpy()[which],
    }
    documents = {"impact": Impacts(images, MAIN, BITS), "faiss-flat": MappedDense(pairs.images_ND)}
    timing, found = Timing(queries=len(which), threads=threads), {}
    for name, vectors in documents.items():
        with tempfile.TemporaryDirectory() as folder:
            engine = engines.get(name)
            if engine.compiles:
                with tempfile.TemporaryDirectory() as scratch:
                    engine.build(vectors.head(64), Path(scratch), threads)
            engine.build(vectors, Path(folder), threads)
            size = engine.bytes_on_disk(Path(folder))
            with engine.open(Path(folder)) as opened:
                rates = {mode.__name__: mode(opened, queries[name], timing) for mode in (single, batched)}
        found[name] = {"bytes": size, "qps": {mode: one.values["qps"] for mode, one in rates.items()}}
        found[name]["p50_us"] = rates["single"].values["latency_p50_us"]
    return found


class MappedDense:
    """A mapped array of dense vectors as an engine reads it: shard by shard, L2-normalised float32."""

    kind = "dense"
    ROWS = 65_536

    def __init__(self, values: np.ndarray):
        self.values, self.count, self.dimension = values, *values.shape

    def shards(self):
        """Float32 arrays of at most `ROWS` rows."""
        for start in range(0, self.count, self.ROWS):
            yield normalised(np.asarray(self.values[start : start + self.ROWS], np.float32)).astype(np.float32)

    def head(self, count: int) -> MappedDense:
        """The first vectors."""
        return MappedDense(self.values[:count])


def _words(words: Words, held: HeldOut, images: LexiconVectors, texts: LexiconVectors) -> dict:
    """Share of the weight on words of an item's captions, at each number kept, and of a text on its own words."""
    tokens, rows = words.image_tokens_NV[held.images], images.to_scipy()
    share = {}
    for top_k in TOP_K:
        found = agreement(prune(rows, top_k), tokens)
        share[_name(top_k)] = found.get("caption_precision_weighted", 0.0)
    rare = tokens @ scipy.sparse.diags_array((words.idf_V > np.log(1 / COMMON)).astype(np.float32))
    content = agreement(prune(rows, MAIN), scipy.sparse.csr_array(rare)).get("caption_precision_weighted", 0.0)
    of_text = agreement(texts.to_scipy(), words.tokens_MV[held.texts]).get("caption_precision_weighted", 0.0)
    strongest = strongest_is_word(rows, tokens) or 0.0
    return {"words": {"image": share, "content": content, "text": of_text, "strongest_is_word": strongest}}


def _typed(words: Words, held: HeldOut, images: LexiconVectors) -> dict[str, float]:
    """R@K of the bag of a caption's tokens times their idf as the query, over the top 32 of each image."""
    queries = to_csr(scipy.sparse.csr_array((words.tokens_MV[held.texts] > 0).astype(np.float32) * words.idf_V))
    documents = Impacts(images, MAIN, BITS).to_scipy().astype(np.float32)
    ids, _ = typed.search(queries, documents, min(DEPTH, images.count))
    return success(images, held.dense_texts, ids)


def _shown(pairs: Pairs, words: Words | None, held: HeldOut, images: LexiconVectors, count: int = 10) -> list[dict]:
    """The strongest lexicons of ten images, with their captions; [lexicon, weight, whether a caption has it]."""
    rows, found = images.to_scipy(), []
    for place in evenly(len(held.images), count):
        row = rows[[place]]
        order = np.argsort(-row.data, kind="stable")[:16]
        image = held.images[place]
        has = set() if words is None else set(words.image_tokens_NV[[image]].indices.tolist())
        strongest = [
            [images.vocabulary[row.indices[at]], float(row.data[at]), int(row.indices[at] in has)] for at in order
        ]
        captions = [pairs.texts[text] for text in np.flatnonzero(pairs.image_of_M == image)]
        found.append({"image": pairs.image_ids[image], "captions": captions, "lexicons": strongest})
    return found


def _active(vectors: LexiconVectors) -> float:
    return float(np.diff(vectors.to_scipy().indptr).mean())
