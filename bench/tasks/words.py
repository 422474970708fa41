"""Are an image's lexicons words of its captions, and of what it shows? Measures over images, (N, V) CSR.

Notable choices
- The word tokens of an image are the distinct lexicons of all its captions, as the model's tokenizer makes them
  (truncated at its maximum length), without [CLS], [SEP] and [UNK].
- Shares are computed per image and then averaged, so an image with many lexicons weighs no more. An image for which
  a share is not defined (no lexicon, no word token, no weight) does not count. A measure that is defined for no image
  is left out.
- What an image shows is known where the corpus has `truth_words`: a list of things (a concept, a colour, the place, the
  time of day), each as alternative words for it. A thing is named if all tokens of one of its words are lexicons.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import scipy

from bench.vectors.batches import batches
from bench.vectors.impacts import prune

FREQUENT = 50  # occurrences in the captions of the slice from which on a lexicon must not be dead
STRONGEST = 8  # lexicons of an image that are compared with the truth, beside all of them
PIECE = "##"  # prefix of a token that continues a word


def caption_tokens(tokenizer, captions: Iterable[tuple[int, str]], images: int) -> scipy.sparse.csr_array:
    """(images, V) float32: how often a lexicon is a token of the captions of the image.

    tokenizer: a `models.tokenizer.LexiconTokenizer`. captions: (row of its image, text); row -1: no image.
    """
    from models.tokenizer import NO_WORD

    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in batches((row, text) for row, text in captions if row >= 0):
        tokens_BL, words_BL = tokenizer.encode([text for _, text in batch])
        lexicons_BL = tokenizer.lexicon_of_T[tokens_BL]
        items, places = np.nonzero((words_BL != NO_WORD) & (tokens_BL != tokenizer.unknown_id) & (lexicons_BL >= 0))
        rows.append(np.array([row for row, _ in batch])[items])
        columns.append(lexicons_BL[items, places])
    at = np.concatenate(rows), np.concatenate(columns)
    shape = (images, len(tokenizer.lexicon_V))
    return scipy.sparse.csr_array((np.ones(len(at[0]), np.float32), at), shape=shape)


def agreement(
    images: scipy.sparse.csr_array, tokens: scipy.sparse.csr_array, texts: scipy.sparse.csr_array | None = None
) -> dict[str, float]:
    """Precision and recall of images' lexicons against the word tokens of their captions, plain and weighted.

    images: (N, V) weights. tokens: (N, V), positive where a token occurs in an image's captions. texts: (N, V) mean
    weights of its captions' vectors; None leaves out the recall weighted by them. An image has no weight on a token
    that it lacks, so its own weights cannot weigh its recall.
    """
    has, words = (images > 0).astype(np.float64), (tokens > 0).astype(np.float64)
    both = has.multiply(words)
    shares = {
        "caption_precision": (both, has),
        "caption_precision_weighted": (images.multiply(words), images),
        "caption_recall": (both, words),
    }
    if texts is not None:
        weighted = texts.multiply(words)
        shares["caption_recall_weighted"] = (weighted.multiply(has), weighted)
    means = {name: _mean_share(_sums(part), _sums(whole)) for name, (part, whole) in shares.items()}
    means["strongest_is_word"] = strongest_is_word(images, tokens)
    return {name: mean for name, mean in means.items() if mean is not None}


def strongest_is_word(images: scipy.sparse.csr_array, tokens: scipy.sparse.csr_array) -> float | None:
    """Share of the images with lexicons whose largest weight is on a word token; of equal weights, the lower id."""
    images, active = scipy.sparse.csr_array(images), np.flatnonzero(np.diff(images.indptr))
    if not len(active):
        return None
    rows = np.repeat(np.arange(images.shape[0]), np.diff(images.indptr))
    order = np.lexsort((images.indices, -images.data, rows))  # in each row, the strongest first
    strongest = images.indices[order][images.indptr[active]]
    return float((np.asarray(scipy.sparse.csr_array(tokens)[active, strongest]).ravel() > 0).mean())


def vocabulary_use(
    images: scipy.sparse.csr_array, tokens: scipy.sparse.csr_array, vocabulary: Sequence[str]
) -> dict[str, float]:
    """Frequent caption words that no image has, and the share of the weight on tokens that continue a word.

    images: (N, V) weights. tokens: (N, V), how often a token occurs in an image's captions. Without any frequent
    word, or any weight, the measure is left out.
    """
    values, frequent = {}, np.asarray(tokens.sum(axis=0)).ravel() >= FREQUENT
    if frequent.any():
        dead = np.bincount(images.indices, minlength=images.shape[1]) == 0
        values["dead_frequent"] = float(dead[frequent].mean())
    pieces = np.flatnonzero([token.startswith(PIECE) for token in vocabulary])
    share = _mean_share(_sums(images[:, pieces]), _sums(images))
    return values if share is None else values | {"piece_weight": share}


# --- against the truth ---

Things = Sequence[Sequence[frozenset[int]]]
"""What one image shows: for each thing its alternative words, each as the lexicons of its tokens."""


def truth_things(tokenizer, truth: Sequence[Sequence[Sequence[str]]]) -> list[Things]:
    """The words of each image's things, from `truth_words` of a corpus, as lexicons; words without any are left out."""
    words = sorted(set(itertools.chain.from_iterable(itertools.chain.from_iterable(truth))))
    counts = caption_tokens(tokenizer, enumerate(words), len(words))
    parts = np.split(counts.indices, counts.indptr[1:-1])
    lexicons_of = {word: frozenset(part.tolist()) for word, part in zip(words, parts, strict=True) if len(part)}
    return [
        [[lexicons_of[word] for word in alternatives if word in lexicons_of] for alternatives in things]
        for things in truth
    ]


def truth_tokens(truth: Sequence[Things], lexicons: int) -> scipy.sparse.csr_array:
    """(images, V) float32: 1 where a lexicon is a token of a word for what the image shows."""
    rows = [sorted(_tokens(of_image)) for of_image in truth]
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.array([lexicon for row in rows for lexicon in row], np.int32)
    return scipy.sparse.csr_array((np.ones(len(indices), np.float32), indices, indptr), shape=(len(rows), lexicons))


def _tokens(of_image: Things) -> set[int]:
    return set().union(*itertools.chain.from_iterable(of_image))


def truth_agreement(images: scipy.sparse.csr_array, truth: Sequence[Things]) -> dict[str, float]:
    """Precision of images' lexicons and recall of what they show, over all lexicons and over the strongest ones.

    Precision: share of an image's lexicons that are tokens of any word for a thing. Recall: share of its things that
    are named. Equal weights: the lower id is stronger.
    """
    values = {}
    for name, rows in (("", images), (f"@{STRONGEST}", prune(images, STRONGEST))):
        right, size, named, things = (np.zeros(rows.shape[0]) for _ in range(4))
        for i, of_image in enumerate(truth):
            has = set(rows.indices[rows.indptr[i] : rows.indptr[i + 1]].tolist())
            right[i] = len(has & _tokens(of_image))
            size[i], things[i] = len(has), len(of_image)
            named[i] = sum(any(word <= has for word in alternatives) for alternatives in of_image)
        shares = {"truth_precision": _mean_share(right, size), "truth_recall": _mean_share(named, things)}
        values |= {f"{measure}{name}": share for measure, share in shares.items() if share is not None}
    return values


def _sums(rows: scipy.sparse.csr_array) -> np.ndarray:
    return np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()


def _mean_share(part: np.ndarray, whole: np.ndarray) -> float | None:
    defined = whole > 0
    return float((part[defined] / whole[defined]).mean()) if defined.any() else None
