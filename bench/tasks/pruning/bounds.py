"""How much of an exact search could be skipped: blocks of documents whose best possible score misses the top 10.

    lexlip-bench block-bounds --documents runs/vectors/ID --queries runs/vectors/ID --blocks 16,32,64,256

The bound of a block is the sum over the query's lexicons of its weight times the highest impact in the block, as in
block-max indexes (Ding and Suel, 2011) and BMP (Mallia et al., 2024, arXiv 2405.01117). A block is alive if its bound
reaches the score of the exact 10th result: an engine that knew this score beforehand, and pays nothing to compute
bounds, would still have to score these blocks. One point per order of the documents and size of a block.

Bounds cost as well: an index reads one maximum per lexicon of the query and block that has it. Small blocks leave fewer
postings alive and have more maxima, so `maxima_per_posting` stands beside `alive_postings`: pruning can pay only where
their sum is far below 1.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import scipy

from bench.store import cli
from bench.store.config import code_fingerprint, fingerprint
from bench.store.records import Point, RecordStore
from bench.tasks.pruning.orders import ORDERS
from bench.vectors.batches import batches
from bench.vectors.impacts import Impacts
from bench.vectors.read import Vectors, open_vectors
from bench.vectors.scales import PUBLISHED, Weights
from bench.vectors.statistics import evenly
from models.errors import InputError
from models.files import read_json

TASK = "block_bounds"
CODE = (
    "bench.engines.lexicon.blockmax.bisection",
    "bench.tasks.pruning.bounds",
    "bench.tasks.pruning.orders",
    "bench.vectors.impacts",
)
K = 10


def tenth_scores(queries: scipy.sparse.csr_array, documents: scipy.sparse.csr_array, k: int = K) -> np.ndarray:
    """(Q,) int64: the k-th highest exact score of each query; 0 with fewer results. Both CSR (., V) integers."""
    by_lexicon, found = documents.astype(np.int64).T.tocsr(), [np.zeros(0, np.int64)]
    for rows in batches(range(queries.shape[0]), 16):
        scores = (queries[rows[0] : rows[-1] + 1].astype(np.int64) @ by_lexicon).toarray()
        if scores.shape[1] < k:
            found.append(np.zeros(len(scores), np.int64))
        else:
            found.append(np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k])
    return np.concatenate(found)


def of_blocks(documents: scipy.sparse.csr_array, size: int) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """For each block of `size` documents and each lexicon the highest impact, and the postings: (blocks, V)."""
    blocks = -(-documents.shape[0] // size)
    rows = np.repeat(np.arange(documents.shape[0]) // size, np.diff(documents.indptr))
    cells = rows * documents.shape[1] + documents.indices.astype(np.int64)
    order = np.lexsort((documents.data, cells))
    last = np.flatnonzero(np.diff(cells[order], append=-1))  # the highest impact of each cell
    at = cells[order[last]]
    shape, places = (blocks, documents.shape[1]), (at // documents.shape[1], at % documents.shape[1])
    highest = scipy.sparse.csr_array((documents.data[order[last]].astype(np.int64), places), shape=shape)
    postings = scipy.sparse.csr_array((np.diff(last, prepend=-1), places), shape=shape)
    return highest, postings


def alive(
    queries: scipy.sparse.csr_array, documents: scipy.sparse.csr_array, tenth: np.ndarray, size: int
) -> dict[str, float]:
    """Shares of the blocks and of the queries' postings that are alive, maxima per posting, and bounds over the score.

    Means over the queries with at least `K` results. documents: in the order that blocks are cut in.
    """
    highest, postings = of_blocks(documents, size)
    shares, in_block = [], (postings > 0).astype(np.int64)
    has = queries.astype(np.int64)
    has.data[:] = 1
    for q in np.flatnonzero(tenth > 0):
        bound = np.asarray((highest @ queries[[q]].astype(np.int64).T).todense()).ravel()
        touched = np.asarray((postings @ has[[q]].T).todense()).ravel()
        lives, total = bound >= tenth[q], touched.sum()
        maxima = (in_block @ has[[q]].T).sum()
        shares.append((lives.mean(), touched[lives].sum() / total, maxima / total, bound.mean() / tenth[q]))
    names = ("alive_blocks", "alive_postings", "maxima_per_posting", "bound_over_tenth")
    return dict(zip(names, np.mean(shares, axis=0).tolist(), strict=True)) if shares else {}


def measure_bounds(
    home: Path,
    documents: Vectors,
    queries: Vectors,
    orders: tuple[str, ...] = tuple(ORDERS),
    blocks: tuple[int, ...] = (16, 32, 64, 256),
    top_k: int = 32,
    query_top_k: int | None = None,
    asked: int = 200,
    force: bool = False,
) -> list[str]:
    """Writes a point for each order and block size; returns their ids.

    asked: number of queries, evenly spaced. Impacts are of 8 bits, at the paper's scale or, where that cuts weights, at
    one that fits (knobs "scale", "query_scale"). The points carry the checkpoint and the data of encoded documents, by
    which a report finds their model. Raises InputError for vectors that are not lexicon vectors over one vocabulary.
    """
    for vectors in (documents, queries):
        if vectors.kind != "lexicon" or vectors.dimension != documents.dimension:
            raise InputError(f"{vectors.folder}: expected lexicon vectors of {documents.dimension} lexicons")
    store, which = RecordStore(home), evenly(queries.count, asked)
    metas = [read_json(vectors.folder / "meta.json") for vectors in (documents, queries)]
    made_from = metas[0].get("made_from")
    encoded = made_from if isinstance(made_from, dict) else {}  # imported and generated vectors name no checkpoint
    scales = [_scale(vectors) for vectors in (documents, queries)]
    own = {name: scale for name, scale in zip(("scale", "query_scale"), scales, strict=True) if scale != PUBLISHED[8]}
    rows, texts, found = None, None, []
    for order in orders:
        ordered = None
        for size in blocks:
            point = Point(
                task=TASK,
                images=documents.count,
                queries=len(which),
                direction="text_to_image",
                kind="lexicon",
                engine="impact",
                knobs={"order": order, "block": size, "query_top_k": query_top_k} | own,
                exact=True,
                top_k=top_k,
                bits=8,
                depth=K,
                data_id=encoded.get("corpus", ""),
                checkpoint_id=encoded.get("checkpoint", ""),
                vectors_id="-".join(map(fingerprint, metas)),
                code_id=code_fingerprint(*CODE),
                command=cli.command_line(),
            )
            found.append(point.id)
            if store.has(point) and not force:
                continue
            began = time.perf_counter()
            if rows is None:
                rows = Impacts(documents, top_k, 8, scales[0]).to_scipy()
                texts = Impacts(queries, query_top_k, 8, scales[1]).to_scipy()[which]
                tenth = tenth_scores(texts, rows)
            if ordered is None:
                ordered = rows[ORDERS[order](rows, 0)]
            values = alive(texts, ordered, tenth, size)
            if not values:
                raise InputError(f"{queries.folder}: no query has {K} results")
            store.write(point, values, seconds=time.perf_counter() - began)
    return found


def _scale(vectors: Vectors) -> float:
    weights = Weights.of(vectors)
    return weights.scale(8) if weights.cuts_too_many(8, PUBLISHED[8]) else PUBLISHED[8]


# --- lexlip-bench block-bounds ---


def table(rows) -> str:
    """One line per order and block size: shares alive, maxima per posting, bound over score."""
    lines = [f"{'order':<12} {'block':>6} {'alive blocks':>13} {'postings':>9} {'maxima':>7} {'bound / 10th':>13}"]
    for _, of_point in rows.groupby("point_id", sort=False):
        knobs, values = json.loads(of_point.knobs.iloc[0]), of_point.set_index("metric").value
        shares = f"{values.alive_blocks:13.3f} {values.alive_postings:9.3f} {values.maxima_per_posting:7.3f}"
        lines.append(f"{knobs['order']:<12} {knobs['block']:>6} {shares} {values.bound_over_tenth:13.2f}")
    return "\n".join(lines)


def main(arguments) -> None:
    """Measures bounds and prints a line for each order and block size."""
    try:
        blocks = tuple(int(part) for part in arguments.blocks.split(","))
    except ValueError:
        blocks = (0,)
    if min(*blocks, arguments.top_k, arguments.queries_asked, arguments.query_top_k or 1) < 1:
        raise InputError("--blocks, --top-k, --query-top-k and --count: expected numbers of at least 1")
    orders = tuple(arguments.orders.split(","))
    if unknown := [order for order in orders if order not in ORDERS]:
        raise InputError(f"--orders {unknown[0]}: expected {', '.join(ORDERS)}")
    for flag, folder in (("--documents", arguments.documents), ("--queries", arguments.queries)):
        if folder.is_dir() and not (folder / "meta.json").is_file():
            expected = f"expected one such as {folder}/lexicon/{flag.removeprefix('--')}"
            raise InputError(f"{flag} {folder}: not a folder of vectors; {expected}")
    documents, queries = open_vectors(arguments.documents), open_vectors(arguments.queries)
    if arguments.size:
        documents = documents.prefix(min(arguments.size, documents.count))
    settings = (orders, blocks, arguments.top_k, arguments.query_top_k, arguments.queries_asked, arguments.force)
    ids = measure_bounds(arguments.home, documents, queries, *settings)
    rows = RecordStore(arguments.home).read()
    print(table(rows[rows.point_id.isin(ids)].set_index("point_id").loc[ids].reset_index()))


def parser():
    """Flags of `lexlip-bench block-bounds`."""
    flags = cli.parser(
        "Share of blocks that an exact lexicon search could skip, by order of the documents.", writes=True
    )
    flags.add_argument("--documents", type=Path, required=True, help="folder of lexicon vectors")
    flags.add_argument("--queries", type=Path, required=True, help="folder of lexicon vectors of queries")
    flags.add_argument("--size", type=cli.positive(int), default=None, help="first documents; all unless given")
    flags.add_argument("--orders", default=",".join(ORDERS), help="orders of the documents, separated by commas")
    flags.add_argument("--blocks", default="16,32,64,256", help="documents per block, separated by commas")
    flags.add_argument("--top-k", type=int, default=32, help="top-k lexicons of a document")
    flags.add_argument("--query-top-k", type=int, default=None, help="top-k lexicons of a query; all unless given")
    flags.add_argument(
        "--count", dest="queries_asked", type=cli.positive(int), default=200, help="queries, evenly spaced"
    )
    return flags
