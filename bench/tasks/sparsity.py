"""Sparsity of lexicon vectors: size and skew of an index of the images, and how many lexicons are caption words.

    lexlip-bench sparsity --checkpoint FOLDER --corpus scenes --split test --images 1000

Notable choices
- Documents are the images, as encoded or pruned to `top_k` lexicons; queries are all their captions, as encoded.
- The word tokens of an image are the distinct word pieces of all its captions, as the model's tokenizer makes them
  (truncated at its maximum length), without [CLS], [SEP] and [UNK].
- Shares are computed per image and then averaged, so an image with many lexicons weighs no more. An image for which
  a share is not defined (no lexicon, no word token, no weight) does not count; `empty_items` is the number of images
  without lexicons. A metric that is defined for no image is left out of the record.
- All lexicons of the vocabulary count, special tokens included: [PAD] is a dead lexicon unless the head activates it.
"""

import math
import time
from collections.abc import Iterable

import numpy as np
import scipy

from bench.store import cli
from bench.store.config import code_fingerprint
from bench.tasks import evaluation
from bench.tasks.subject import Measurement, Slice, Subject, add_subject
from bench.vectors.batches import batches
from bench.vectors.impacts import Impacts
from bench.vectors.statistics import occurrences, own_items
from models.errors import InputError

CODE = (
    "bench.tasks.sparsity",
    "bench.tasks.evaluation",
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


def agreement(
    images: "scipy.sparse.csr_array", tokens: "scipy.sparse.csr_array", texts: "scipy.sparse.csr_array"
) -> dict[str, float]:
    """Precision and recall of images' lexicons against the word tokens of their captions, plain and weighted.

    images: (N, V) weights. tokens: (N, V), 1 where a token occurs in an image's captions. texts: (N, V) mean weights
    of its captions' vectors. Recall is weighted by `texts`, because an image has no weight on a token that it lacks.
    """
    has, words = (images > 0).astype(np.float64), (tokens > 0).astype(np.float64)
    both, weighted = has.multiply(words), texts.multiply(words)
    shares = {
        "caption_precision": (both, has),
        "caption_precision_weighted": (images.multiply(words), images),
        "caption_recall": (both, words),
        "caption_recall_weighted": (weighted.multiply(has), weighted),
    }
    means = {name: _mean_share(_sums(part), _sums(whole)) for name, (part, whole) in shares.items()}
    return {name: mean for name, mean in means.items() if mean is not None}


def caption_tokens(tokenizer, captions: Iterable[tuple[int, str]], images: int) -> "scipy.sparse.csr_array":
    """(images, V) float32: 1 where a word piece occurs in a caption of the image.

    tokenizer: a `models.tokenizer.LexiconTokenizer`. captions: (row of its image, text); row -1: no image.
    """
    from models.tokenizer import NO_WORD

    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in batches((row, text) for row, text in captions if row >= 0):
        tokens_BL, words_BL = tokenizer.encode([text for _, text in batch])
        items, places = np.nonzero((words_BL != NO_WORD) & (tokens_BL != tokenizer.unknown_id))
        rows.append(np.array([row for row, _ in batch])[items])
        columns.append(tokens_BL[items, places])
    at = np.unique(np.stack([np.concatenate(rows), np.concatenate(columns)]), axis=1)
    return scipy.sparse.csr_array((np.ones(at.shape[1], np.float32), (at[0], at[1])), shape=(images, len(tokenizer)))


def mean_of_owners(rows: "scipy.sparse.csr_array", owners: np.ndarray, count: int) -> "scipy.sparse.csr_array":
    """(count, V): mean of the rows (Q, V) of each item; zero for an item without rows.

    owners: (Q,) the item that each row belongs to, -1 = none.
    """
    owned = np.flatnonzero(owners >= 0)
    share = 1 / np.bincount(owners[owned], minlength=count)[owners[owned]]
    return scipy.sparse.csr_array((share, (owners[owned], owned)), shape=(count, rows.shape[0])) @ rows


def _sums(rows: "scipy.sparse.csr_array") -> np.ndarray:
    return np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()


def _mean_share(part: np.ndarray, whole: np.ndarray) -> float | None:
    defined = whole > 0
    return float((part[defined] / whole[defined]).mean()) if defined.any() else None


# --- measurement ---


def measure_sparsity(measurement: Measurement, top_k: int | None = None) -> str:
    """Writes the point of a slice's images and captions; returns its id.

    top_k: lexicons of each image, the strongest ones (None: all). Raises InputError for dense vectors and a broken
    checkpoint.
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
    began, documents = time.perf_counter(), Impacts(encoded.images, top_k)
    frequency, lengths = occurrences(documents)
    owners = own_items(encoded.images, encoded.captions)
    captions = slice_.corpus.captions(slice_.split, 0, slice_.images)
    owned = zip(owners.tolist(), (text for _, text, _ in captions), strict=True)
    tokens = caption_tokens(subject.encoder.model.tokenizer, owned, documents.count)
    texts = mean_of_owners(encoded.captions.to_scipy(), owners, documents.count)
    values = {"items": documents.count, "dimension": documents.dimension, "empty_items": int((lengths == 0).sum())}
    values |= active(lengths, "active") | active(occurrences(encoded.captions)[1], "query_active")
    values |= postings(frequency, documents.count) | agreement(documents.to_scipy(), tokens, texts)
    return store.write(point, values, seconds=time.perf_counter() - began)


# --- lexlip-bench sparsity ---


def main(arguments) -> None:
    """Measures one checkpoint and prints the results."""
    from bench.corpora import read_spec
    from bench.store.metrics import METRICS

    subject = Subject.of(arguments)
    slice_ = Slice.open(read_spec(arguments.corpus), arguments.split, arguments.images, [subject.model])
    measurement = Measurement(arguments.home, subject, slice_, arguments.force)
    point_id = measure_sparsity(measurement, arguments.top_k)
    rows = measurement.store.read()
    for row in rows[rows.point_id == point_id].itertuples():
        print(f"{METRICS[row.metric].label:<32} {row.value:>12.4g} {row.unit}")
    print(measurement.used)


def parser():
    """Flags of `lexlip-bench sparsity`."""
    flags = cli.parser("Sparsity of a checkpoint's lexicon vectors.", writes=True)
    add_subject(flags, pretrained=False)
    cli.add_corpus(flags)
    flags.add_argument("--top-k", type=int, default=None, help="top-k lexicons of each image; all unless given")
    return flags
