"""Sparsity diagnostics of lexicon vectors: how full and how skewed an index of the images would be, and whether the active lexicons are words
that people say of them.

Notable choices
- Documents are the images, as encoded or pruned to `top_k` lexicons; queries are all their captions, as encoded.
- The word tokens of an image are the different word pieces of all its captions as the model's tokenizer makes them (cut at its greatest
  length), without [CLS], [SEP] and [UNK].
- Shares are of each image by itself, then averaged, so an image with many lexicons weighs no more. Where a share is not defined (no
  lexicon, no word token, no weight) the image does not count; `empty_items` says how many images have no lexicon. A metric that is
  defined for no image is left out of the record.
- All lexicons of the vocabulary count, those of special tokens too: [PAD] is a dead lexicon unless the head fires it.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bench.corpora import open_corpus, read_spec
from bench.store import cli, config
from bench.store.records import RecordStore
from bench.tasks import evaluation
from bench.tasks.metrics import METRICS
from bench.tasks.subject import begun
from bench.vectors.encode import Encoded, Encoder, batches, encode
from bench.vectors.impacts import Impacts
from bench.vectors.statistics import occurrences, own_items
from models.errors import InputError
from models.tokenizer import NO_WORD, LexiconTokenizer

CODE = ("bench.tasks.sparsity", "bench.vectors.statistics", "bench.vectors.impacts")
PERCENTILES = (5, 50, 95)
LONGEST = 0.01  # share of the posting lists that counts as the longest ones


def active(lengths: np.ndarray, name: str) -> dict[str, float]:
    """Mean and percentiles of the number of lexicons of each item (N,), as `<name>_mean`, `<name>_p5`, ...; N at least 1."""
    shares = zip(PERCENTILES, np.percentile(lengths, PERCENTILES), strict=True)
    return {f"{name}_mean": float(np.mean(lengths))} | {f"{name}_p{share}": float(value) for share, value in shares}


def postings(frequency: np.ndarray, documents: int) -> dict[str, float]:
    """What the posting lists are like, from their lengths (V,): for each lexicon the number of documents that have it.

    The trap: skew is of the lists that are not empty. Over all of them a Gini coefficient would mostly say how many lexicons are dead.
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


def agreement(images: sp.csr_array, tokens: sp.csr_array, texts: sp.csr_array) -> dict[str, float]:
    """Precision and recall of images' lexicons against the word tokens of their captions, plain and weighted.

    images: (N, V) weights; tokens: (N, V), 1 where a token occurs in an image's captions; texts: (N, V) mean weights of its captions' vectors.
    The weight of recall is that of `texts` on the tokens, because an image has none on a token that it lacks.
    """
    has, said = (images > 0).astype(np.float64), (tokens > 0).astype(np.float64)
    both, meant = has.multiply(said), texts.multiply(said)
    shares = {
        "caption_precision": (both, has),
        "caption_precision_weighted": (images.multiply(said), images),
        "caption_recall": (both, said),
        "caption_recall_weighted": (meant.multiply(has), meant),
    }
    means = {name: _mean_share(_sums(part), _sums(whole)) for name, (part, whole) in shares.items()}
    return {name: mean for name, mean in means.items() if mean is not None}


def caption_tokens(tokenizer: LexiconTokenizer, captions: Iterable[tuple[int, str]], images: int) -> sp.csr_array:
    """(images, V) float32: 1 where a word piece occurs in a caption of the image. captions: (row of its image, text); row -1 is none."""
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in batches((row, text) for row, text in captions if row >= 0):
        tokens_BL, words_BL = tokenizer.encode([text for _, text in batch])
        items, places = np.nonzero((words_BL != NO_WORD) & (tokens_BL != tokenizer.unknown_id))
        rows.append(np.array([row for row, _ in batch])[items])
        columns.append(tokens_BL[items, places])
    at = np.unique(np.stack([np.concatenate(rows), np.concatenate(columns)]), axis=1)
    return sp.csr_array((np.ones(at.shape[1], np.float32), (at[0], at[1])), shape=(images, len(tokenizer)))


def mean_of_owners(rows: sp.csr_array, owners: np.ndarray, count: int) -> sp.csr_array:
    """(count, V): the mean of the rows (Q, V) that belong to each item; owners: (Q,) that item, -1 = none. An item without rows is zero."""
    owned = np.flatnonzero(owners >= 0)
    share = 1 / np.bincount(owners[owned], minlength=count)[owners[owned]]
    return sp.csr_array((share, (owners[owned], owned)), shape=(count, rows.shape[0])) @ rows


def _sums(rows: sp.csr_array) -> np.ndarray:
    return np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()


def _mean_share(part: np.ndarray, whole: np.ndarray) -> float | None:
    defined = whole > 0
    return float((part[defined] / whole[defined]).mean()) if defined.any() else None


# --- measurement ------------------------------------------------------------------------------------------------------------------


def measure_diagnostics(
    store: RecordStore,
    home,
    encoder: Encoder,
    corpus,
    split: str = "test",
    images: int = 1000,
    *,
    top_k: int | None = None,
    encoded: Encoded | None = None,
    variant: str = "",
    seed: int | None = None,
    profile: str = "",
    config_id: str = "",
    command: str = "",
    force: bool = False,
) -> str:
    """Writes the point of images 0..`images` of a split and their captions, encoded unless they are there; returns its id.

    kept: lexicons of each image, the strongest ones (None: all). encoded: all their vectors, from who has them at hand. Raises InputError
    for a model of dense vectors and a broken checkpoint.
    """
    for name, count in (("images", images), ("top_k", top_k)):
        if count is not None and count < 1:
            raise InputError(f"{name} {count}: expected at least 1")
    if encoder.kind != "lexicon":
        raise InputError(
            f"{encoder.source}: a model of {encoder.kind} vectors, which have no lexicons; expected one of lexicon vectors"
        )
    encoded = encoded or encode(home, encoder, corpus, split, images, force)
    named = {"variant": variant, "seed": seed, "profile": profile, "config_id": config_id, "command": command}
    fields = {"queries": encoded.captions.count, "kind": encoder.kind, "top_k": top_k, "vectors_id": encoded.images_id}
    point = replace(
        begun("sparsity", encoder, corpus, split, images, **named), **fields, code_id=config.code_fingerprint(*CODE)
    )
    if store.has(point) and not force:
        return point.id
    began, documents = time.perf_counter(), Impacts(encoded.images, top_k)
    frequency, lengths = occurrences(documents)
    owners = own_items(encoded.images, encoded.captions)
    spoken = zip(owners.tolist(), (text for _, text, _ in corpus.captions(split, 0, images)), strict=True)
    tokens = caption_tokens(encoder.model.tokenizer, spoken, documents.count)
    texts = mean_of_owners(encoded.captions.to_scipy(), owners, documents.count)
    values = {"items": documents.count, "dimension": documents.dimension, "empty_items": int((lengths == 0).sum())}
    values |= active(lengths, "active") | active(occurrences(encoded.captions)[1], "query_active")
    values |= postings(frequency, documents.count) | agreement(documents.to_scipy(), tokens, texts)
    return store.write(point, values, seconds=time.perf_counter() - began)


# --- lexlip-bench sparsity --------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Measures one checkpoint and prints what was measured."""
    store, encoder = RecordStore(arguments.home), Encoder(arguments.checkpoint)
    point_id = measure_diagnostics(
        store,
        arguments.home,
        encoder,
        open_corpus(read_spec(arguments.corpus)),
        arguments.split,
        arguments.images,
        top_k=arguments.top_k,
        variant=arguments.variant or arguments.checkpoint.resolve().name,
        seed=arguments.seed,
        profile=arguments.profile,
        force=arguments.force,
    )
    rows = store.read()
    for row in rows[rows.point_id == point_id].itertuples():
        print(f"{METRICS[row.metric].label:<32} {row.value:>12.4g} {row.unit}")


def parser():
    flags = cli.parser("Sparsity diagnostics of a checkpoint's lexicon vectors.", writes=True)
    flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    cli.add_corpus(flags)
    flags.add_argument("--top-k", type=int, default=None, help="lexicons kept of each image; all unless given")
    flags.add_argument(
        "--variant", default="", help="name of the variant in the records; the folder's name unless given"
    )
    flags.add_argument("--seed", type=int, default=None)
    flags.add_argument("--profile", default="")
    return flags
