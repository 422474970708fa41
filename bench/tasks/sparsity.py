"""Sparsity of lexicon vectors, and words: size and skew of an index of the images, and whether lexicons are words.

    lexlip-bench sparsity --checkpoint FOLDER --corpus scenes --split test --images 1000

Notable choices
- Documents are the images, as encoded or pruned to `top_k` lexicons; queries are all their captions, as encoded, and
  for typed-word search the bags of their tokens (`bench.tasks.retrieval.typed`).
- Words are measured against the captions, and against the truth where the corpus knows it (`truth_words`).
- `empty_items` is the number of images without lexicons. `bench.tasks.words` defines the measures of words; one that is
  defined for no image is left out of the record.
- All lexicons of the vocabulary count, special tokens included: [PAD] is a dead lexicon unless the head activates it.
"""

import math
import time

import numpy as np
import scipy

from bench.store import cli
from bench.store.config import code_fingerprint
from bench.tasks import evaluation
from bench.tasks.relevance import Relevance
from bench.tasks.retrieval import typed
from bench.tasks.retrieval.settings import RecallOptions
from bench.tasks.subject import Measurement, Slice, Subject, add_subject
from bench.tasks.words import agreement, caption_tokens, truth_agreement, truth_things, truth_tokens, vocabulary_use
from bench.vectors.impacts import Impacts
from bench.vectors.statistics import flops_per_pair, occurrences, own_items
from models.errors import InputError

CODE = (
    "bench.tasks.sparsity",
    "bench.tasks.evaluation",
    "bench.tasks.words",
    "bench.tasks.retrieval.typed",
    "bench.engines.ranking",
    "bench.vectors.statistics",
    "bench.vectors.impacts",
    "models.tokenizer",
)
PERCENTILES = (5, 50, 95)
LONGEST = 0.01  # share of the posting lists that count as the longest


def active(lengths: np.ndarray, name: str) -> dict[str, float]:
    """Mean and percentiles of the number of lexicons per item, (N >= 1,), as `<name>_mean`, `<name>_p5`, ..."""
    shares = zip(PERCENTILES, np.percentile(lengths, PERCENTILES), strict=True)
    return {f"{name}_mean": float(np.mean(lengths))} | {f"{name}_p{share}": float(value) for share, value in shares}


def postings(frequency: np.ndarray, documents: int) -> dict[str, float]:
    """Statistics of the posting lists from their lengths (V,): per lexicon, the number of documents that have it.

    Trap: skew is over the non-empty lists. Over all lists, a Gini coefficient would mostly reflect the number of
    dead lexicons.
    """
    lists = np.sort(frequency[frequency > 0])[::-1]
    longest = math.ceil(LONGEST * len(lists))
    return {
        "lexicons_used": len(lists),
        "dead_lexicons": len(frequency) - len(lists),
        "always_on_lexicons": int((2 * lists > documents).sum()),
        "lexicons_in_all": int((lists == documents).sum()),
        "postings_gini": evaluation.gini(lists),
        "postings_top_share": float(lists[:longest].sum() / max(1, lists.sum())),
    }


def mean_of_owners(rows: "scipy.sparse.csr_array", owners: np.ndarray, count: int) -> "scipy.sparse.csr_array":
    """(count, V): mean of the rows (Q, V) of each item; zero for an item without rows.

    owners: (Q,) the item that each row belongs to, -1 = none.
    """
    owned = np.flatnonzero(owners >= 0)
    share = 1 / np.bincount(owners[owned], minlength=count)[owners[owned]]
    return scipy.sparse.csr_array((share, (owners[owned], owned)), shape=(count, rows.shape[0])) @ rows


# --- measurement ---


def measure_sparsity(measurement: Measurement, top_k: int | None = None, examples: int = 0) -> str:
    """Writes the point of a slice's images and captions; returns its id.

    top_k: lexicons of each image, the strongest ones (None: all). examples: images whose lexicons and typed-word
    results are stored. Raises InputError for dense vectors and a broken checkpoint.
    """
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k {top_k}: expected at least 1")
    subject, slice_, store = measurement.subject, measurement.slice, measurement.store
    subject.require_lexicons()
    encoded = measurement.encoded
    fields = {"queries": encoded.captions.count, "top_k": top_k, "vectors_id": encoded.images_id}
    point = measurement.point("sparsity", **fields, code_id=code_fingerprint(*CODE))
    if measurement.exists(point):
        return point.id
    began, documents, model = time.perf_counter(), Impacts(encoded.images, top_k), subject.encoder.model
    frequency, lengths = occurrences(documents)
    query_frequency, query_lengths = occurrences(encoded.captions)
    owners, images = own_items(encoded.images, encoded.captions), documents.to_scipy()
    captions = [text for _, text, _ in slice_.corpus.captions(slice_.split, 0, slice_.images)]
    tokens = caption_tokens(model.tokenizer, zip(owners.tolist(), captions, strict=True), documents.count)
    texts = mean_of_owners(encoded.captions.to_scipy(), owners, documents.count)
    values = {"items": documents.count, "dimension": documents.dimension, "empty_items": int((lengths == 0).sum())}
    values |= active(lengths, "active") | active(query_lengths, "query_active")
    values["touched_postings"] = flops_per_pair(query_frequency / max(1, len(query_lengths)), frequency)
    values |= postings(frequency, documents.count) | agreement(images, tokens, texts)
    values |= vocabulary_use(images, tokens, encoded.images.vocabulary)
    true_tokens = None
    if hasattr(slice_.corpus, "truth_words"):
        truth = [slice_.corpus.truth_words(slice_.split, i) for i in range(documents.count)]
        things = truth_things(model.tokenizer, truth)
        values |= truth_agreement(images, things)
        true_tokens = truth_tokens(things, documents.dimension)
    queries = typed.typed_queries(model, captions)
    values |= typed_recall(measurement, typed.search(queries, images, typed.DEPTH)[0])
    found = (images, queries, captions, owners, (tokens, true_tokens), examples)
    shown = typed.word_examples(measurement, *found) if examples else None
    return store.write(point, values, examples=shown, seconds=time.perf_counter() - began)


def typed_recall(measurement: Measurement, ids: np.ndarray) -> dict[str, float]:
    """Success of typed-word search at the depths of recall; ids: (Q, `DEPTH`) as found."""
    encoded = measurement.encoded
    ranks, relevant = Relevance(encoded.images, encoded.captions).ranks(ids)
    return {f"typed_recall@{k}": evaluation.success_at(k, ranks, relevant, typed.DEPTH) for k in (1, 5, 10)}


# --- lexlip-bench sparsity ---


def main(arguments) -> None:
    """Measures one checkpoint and prints the results."""
    from bench.corpora import read_spec
    from bench.store.metrics import METRICS

    subject = Subject.of(arguments)
    slice_ = Slice.open(read_spec(arguments.corpus), arguments.split, arguments.images, [subject.model])
    measurement = Measurement(arguments.home, subject, slice_, arguments.force)
    point_id = measure_sparsity(measurement, arguments.top_k, RecallOptions().examples)
    rows = measurement.store.read()
    for row in rows[rows.point_id == point_id].itertuples():
        print(f"{METRICS[row.metric].label:<32} {row.value:>12.4g} {row.unit}")
    print(measurement.used)


def parser():
    """Flags of `lexlip-bench sparsity`."""
    flags = cli.parser("Sparsity of a checkpoint's lexicon vectors, and whether they are words.", writes=True)
    add_subject(flags, pretrained=False)
    cli.add_corpus(flags)
    flags.add_argument("--top-k", type=int, default=None, help="top-k lexicons of each image; all unless given")
    return flags
