"""Are an image's lexicons words of its captions? Measures over images as encoded or pruned, (N, V) CSR.

Notable choices
- The word tokens of an image are the distinct lexicons of all its captions, as the model's tokenizer makes them
  (truncated at its maximum length), without [CLS], [SEP] and [UNK].
- Shares are computed per image and then averaged, so an image with many lexicons weighs no more. An image for which
  a share is not defined (no lexicon, no word token, no weight) does not count. A measure that is defined for no image
  is left out.
"""

from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp

from bench.vectors.batches import batches


def caption_tokens(tokenizer, captions: Iterable[tuple[int, str]], images: int) -> sp.csr_array:
    """(images, V) float32: 1 where a lexicon is a token of a caption of the image.

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
    at = np.unique(np.stack([np.concatenate(rows), np.concatenate(columns)]), axis=1)
    shape = (images, len(tokenizer.lexicon_V))
    return sp.csr_array((np.ones(at.shape[1], np.float32), (at[0], at[1])), shape=shape)


def agreement(images: sp.csr_array, tokens: sp.csr_array, texts: sp.csr_array | None = None) -> dict[str, float]:
    """Precision and recall of images' lexicons against the word tokens of their captions, plain and weighted.

    images: (N, V) weights. tokens: (N, V), 1 where a token occurs in an image's captions. texts: (N, V) mean weights
    of its captions' vectors; None leaves out the recall weighted by them. An image has no weight on a token that it
    lacks, so its own weights cannot weigh its recall.
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


def strongest_is_word(images: sp.csr_array, tokens: sp.csr_array) -> float | None:
    """Share of the images with lexicons whose largest weight is on a word token; of equal weights, the lower id."""
    images, active = sp.csr_array(images), np.flatnonzero(np.diff(images.indptr))
    if not len(active):
        return None
    rows = np.repeat(np.arange(images.shape[0]), np.diff(images.indptr))
    order = np.lexsort((images.indices, -images.data, rows))  # in each row, the strongest first
    strongest = images.indices[order][images.indptr[active]]
    return float((np.asarray(sp.csr_array(tokens)[active, strongest]).ravel() > 0).mean())


def _sums(rows: sp.csr_array) -> np.ndarray:
    return np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()


def _mean_share(part: np.ndarray, whole: np.ndarray) -> float | None:
    defined = whole > 0
    return float((part[defined] / whole[defined]).mean()) if defined.any() else None
