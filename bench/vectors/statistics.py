"""Statistics of vectors that decide the cost of an index, for encoded and synthetic vectors alike.

Counts cover all items, shard by shard. Cosines use an evenly spaced sample of items. Nearest neighbours are searched
among at most `GALLERY` evenly spaced items. Trap: the nearest of more items is nearer, so values compare only at equal
gallery sizes.
"""

import numpy as np
import scipy

from bench.vectors.read import Vectors

PERCENTILES = (1, 25, 50, 75, 99)
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
PLACES = (1, 10, 100, 1000)
SAMPLE, GALLERY = 1000, 20_000
CHUNK = 250  # rows of cosines in memory at a time


def describe(documents: Vectors, queries: Vectors | None = None) -> dict[str, float]:
    """Statistics of documents, and, with `queries`, of queries and of both together. Returns name -> value.

    Any vectors: items; dimension (D, or V lexicons); pair_cosine_mean, pair_cosine_p99: of two random items;
    nearest_cosine: of an item to its nearest other item. With queries: own_cosine: of a query to the item of its image;
    place_1_cosine to place_1000_cosine: of a query to its n-th nearest item.

    Lexicon vectors: lexicons_used; zipf_exponent; effective_vocabulary; top_lexicon_share: share of the documents that
    have the most frequent lexicon; active_mean, active_p1 to p99: lexicons per item; weight_rank_1 to 128: mean weight
    of the n-th strongest lexicon, 0 if absent; pair_shared_lexicons: of two random items. With queries: query_active_*;
    query_document_overlap, query_random_overlap: share of a query's lexicons that the item of its image has, and that a
    random item has; flops_per_pair.

    Cosines do not assume L2-normalised vectors.
    """
    lexicon = documents.kind == "lexicon"
    gallery = normalised(rows_of(documents, evenly(documents.count, GALLERY)))
    values = {"items": documents.count, "dimension": documents.dimension} | _pairs(gallery)
    if lexicon:
        frequency, lengths = occurrences(documents)
        values |= _popularity(frequency, documents.count) | _active(lengths, "active")
        values |= weights_by_rank(rows_of(documents, evenly(documents.count, SAMPLE)))
    if queries is not None:
        which = evenly(queries.count, SAMPLE)
        values |= _near_queries(documents, queries, which, gallery)
        if lexicon:
            query_frequency, lengths = occurrences(queries)
            shares = frequency / max(1, documents.count)
            values |= _active(lengths, "query_active") | {
                "query_random_overlap": float(np.dot(query_frequency, shares) / max(1, query_frequency.sum())),
                "flops_per_pair": flops_per_pair(query_frequency / max(1, queries.count), shares),
            }
    return values


def evenly(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` positions out of 0..count-1, evenly spaced from the first to the last: ascending int64."""
    if not count:
        return np.zeros(0, np.int64)
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))


def flops_per_pair(query_share: np.ndarray, document_share: np.ndarray) -> float:
    """Expected multiply-adds of one query-document score over an inverted index.

    Sum over lexicons v of P(v in a query) P(v in a document): the FLOPS of SPLADE (Formal et al., 2021, arXiv
    2107.05720), taken between queries and documents. Arguments: (V,) shares in 0..1. A dense score of dimension D
    costs D.
    """
    return float(np.dot(np.asarray(query_share, np.float64), np.asarray(document_share, np.float64)))


def occurrences(vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
    """Number of items per lexicon, int64 (V,), and number of lexicons per item, int32 (N,). Reads shard by shard."""
    frequency, lengths = np.zeros(vectors.dimension, np.int64), [np.zeros(0, np.int32)]
    for shard in vectors.shards():
        frequency += np.bincount(shard.indices, minlength=vectors.dimension)
        lengths.append(np.diff(shard.indptr).astype(np.int32))
    return frequency, np.concatenate(lengths)


def effective_vocabulary(frequency: np.ndarray) -> float:
    """exp of the entropy of the occurrences (V,): the number of equally frequent lexicons with this entropy, or 0."""
    shares = frequency[frequency > 0] / max(1, frequency.sum())
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def zipf_exponent(frequency: np.ndarray) -> float:
    """a of frequency ~ rank^-a: least squares of log frequency on log rank, up to the effective vocabulary.

    Trap: measured curves bend, flat at the head and steep at the tail, so a describes that range of ranks only. 0 for
    fewer than two lexicons.
    """
    ordered = np.sort(frequency[frequency > 0])[::-1][: max(2, round(effective_vocabulary(frequency)))]
    if len(ordered) < 2:
        return 0.0
    return float(-np.polyfit(np.log(np.arange(1, len(ordered) + 1)), np.log(ordered), 1)[0])


def weights_by_rank(rows: "scipy.sparse.csr_array") -> dict[str, float]:
    """Mean weight of the n-th strongest lexicon of a row, for each n of `RANKS`."""
    strongest = [np.sort(rows.data[a:b])[::-1] for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)]
    at = {rank: [row[rank - 1] if len(row) >= rank else 0.0 for row in strongest] for rank in RANKS}
    return {f"weight_rank_{rank}": float(np.mean(weights or [0.0])) for rank, weights in at.items()}


def nearest_cosine(rows) -> float:
    """Mean cosine of a row to its nearest other row, over a sample of the normalised rows."""
    return float(_at_places(rows[evenly(rows.shape[0], SAMPLE)], rows, [2]).mean())  # the first is the row itself


def own_items(documents: Vectors, queries: Vectors) -> np.ndarray:
    """The item of each query's image, int64 (Q,); -1 if the documents have none."""
    wanted, places = set(queries.groups), {}
    for place, group in enumerate(documents.groups):
        if group in wanted and group not in places:
            places[group] = place
            if len(places) == len(wanted):
                break
    return np.array([places.get(group, -1) for group in queries.groups], np.int64)


def rows_of(vectors: Vectors, which: np.ndarray):
    """Rows `which` (ascending), read shard by shard: CSR (n, V) or float32 (n, D)."""
    pieces, start = [vectors.rows(0, 0)], 0
    for shard in vectors.shards():
        inside = which[(which >= start) & (which < start + shard.shape[0])] - start
        if len(inside):
            pieces.append(shard[inside])
        start += shard.shape[0]
    return joined(pieces)


def joined(pieces: list):
    """Concatenates the rows of several arrays, dense or CSR."""
    return scipy.sparse.vstack(pieces, format="csr") if scipy.sparse.issparse(pieces[0]) else np.concatenate(pieces)


def lengths_of(rows) -> np.ndarray:
    """L2 norm of each row."""
    return scipy.sparse.linalg.norm(rows, axis=1) if scipy.sparse.issparse(rows) else np.linalg.norm(rows, axis=1)


def normalised(rows):
    """Rows divided by their L2 norms, float32; a row of zeros is unchanged."""
    scale = (1 / np.maximum(lengths_of(rows), 1e-12)).astype(np.float32)
    return (
        scipy.sparse.csr_array(scipy.sparse.diags_array(scale) @ rows.astype(np.float32))
        if scipy.sparse.issparse(rows)
        else rows * scale[:, None]
    )


def products(rows, others) -> np.ndarray:
    """Dot products of all pairs of rows, dense (n, m)."""
    found = rows @ others.T
    return found.toarray() if scipy.sparse.issparse(found) else found


def _at_places(rows, gallery, places: list[int]) -> np.ndarray:
    """Cosine of each row to its n-th nearest of the gallery, (rows, len(places)); both normalised."""
    at, found = np.array(places) - 1, [np.zeros((0, len(places)))]
    by_lexicon = gallery.T.tocsr().T if scipy.sparse.issparse(gallery) else gallery
    for start in range(0, rows.shape[0], CHUNK):
        found.append(-np.partition(-products(rows[start : start + CHUNK], by_lexicon), at, axis=1)[:, at])
    return np.concatenate(found)


def _popularity(frequency: np.ndarray, count: int) -> dict[str, float]:
    return {
        "lexicons_used": int((frequency > 0).sum()),
        "zipf_exponent": zipf_exponent(frequency),
        "effective_vocabulary": effective_vocabulary(frequency),
        "top_lexicon_share": float(frequency.max(initial=0) / max(1, count)),
    }


def _pairs(rows) -> dict[str, float]:
    count = rows.shape[0]
    if count < 2:
        return {}
    order = np.random.default_rng(0).permutation(count)
    first, second = rows[order[: count // 2]], rows[order[count // 2 : 2 * (count // 2)]]
    cosines = _cosines(first, second)
    values = {
        "pair_cosine_mean": float(cosines.mean()),
        "pair_cosine_p99": float(np.percentile(cosines, 99)),
        "nearest_cosine": nearest_cosine(rows),
    }
    return values | (
        {"pair_shared_lexicons": float(_shared(first, second).mean())} if scipy.sparse.issparse(rows) else {}
    )


def _near_queries(documents: Vectors, queries: Vectors, which: np.ndarray, gallery) -> dict[str, float]:
    places = [place for place in PLACES if place <= gallery.shape[0]]
    rows = normalised(rows_of(queries, which))
    found = _at_places(rows, gallery, places)
    values = {f"place_{place}_cosine": float(found[:, at].mean()) for at, place in enumerate(places) if len(found)}
    own = own_items(documents, queries)[which]
    if (own >= 0).any():
        items, back = np.unique(own[own >= 0], return_inverse=True)
        rows, items = rows[np.flatnonzero(own >= 0)], normalised(rows_of(documents, items))[back]
        values["own_cosine"] = float(_cosines(rows, items).mean())
        if scipy.sparse.issparse(rows):
            overlap = _shared(rows, items) / np.maximum(1, np.diff(rows.indptr))
            values["query_document_overlap"] = float(overlap.mean())
    return values


def _cosines(first, second) -> np.ndarray:
    return first.multiply(second).sum(axis=1) if scipy.sparse.issparse(first) else np.einsum("nd,nd->n", first, second)


def _shared(first: "scipy.sparse.csr_array", second: "scipy.sparse.csr_array") -> np.ndarray:
    return (first > 0).multiply(second > 0).sum(axis=1)


def _active(lengths: np.ndarray, name: str) -> dict[str, float]:
    if not len(lengths):
        return {}
    shares = zip(PERCENTILES, np.percentile(lengths, PERCENTILES), strict=True)
    return {f"{name}_mean": float(lengths.mean())} | {f"{name}_p{share}": float(value) for share, value in shares}
