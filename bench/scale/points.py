"""What a sweep searches, and the identity of everything that it measures: requests to workers, index ids, points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bench import engines
from bench.scale.plan import Cell, Grid
from bench.store import config
from bench.store.schema import Point
from bench.vectors.read import Vectors
from bench.vectors.scales import PUBLISHED
from bench.vectors.statistics import evenly

ENCODED_CONTROL = "encoded_control"
"""Task of encoded vectors that are searched in the same rounds as the generated vectors fitted to them."""

CODE = (
    "bench.scale.points",
    "bench.scale.sweep",
    "bench.scale.worker",
    "bench.tasks.timing",
    "bench.tasks.evaluation",
    "bench.tasks.relevance",
    "bench.corpora.scenes.claims",
    "bench.vectors.impacts",
    "bench.engines.shuffled",
    "bench.engines.exact",
    "bench.engines.indexes",
    "bench.engines.ranking",
)
"""Modules that decide the values of a point."""

STORED_BITS = 8
"""Fewer bits are a precision, stored in this many: no library packs them."""


@dataclass(frozen=True)
class Gallery:
    """One model's vectors of a gallery and of the queries that search it.

    base: fields shared by all points of these vectors. has_qrels: whether a query belongs to an image of the gallery;
    without, engines are compared and retrieval is not measured. scales: bits -> scales of documents and of queries.
    judged: the first documents that hold all relevant ones; retrieval is not measured over fewer. is_true: as in
    `Relevance`.
    """

    documents: Vectors
    documents_id: str
    queries: Vectors
    queries_id: str
    base: Point
    has_qrels: bool = True
    judged: int = 0
    is_true: Callable[[str, str], bool] | None = None
    scales: Mapping[int, tuple[float, float]] = field(default_factory=lambda: {b: (s, s) for b, s in PUBLISHED.items()})

    @property
    def kind(self) -> str:
        """dense or lexicon."""
        return self.documents.kind


class Points:
    """Identity of what is measured of a gallery: the vectors of a cell as a worker reads them, its id, its points.

    The `code_id` of a point hashes the settings of its measurement too, so a quick try replaces no full one;
    rates of one sweep have one.
    """

    def __init__(self, gallery: Gallery, grid: Grid):
        self.gallery, self.grid, self.modes = gallery, grid, grid.threaded
        self.code = config.code_fingerprint(*CODE)
        self.queries = evenly(gallery.queries.count, grid.queries)
        """Places of the queries of the sweep among all queries, evenly spaced."""
        self.exact = evenly(len(self.queries), grid.exact_queries)
        """Places in `queries` of those whose exact answer is computed."""

    # --- requests -----------------------------------------------------------------------------------------------------

    def document_request(self, cell: Cell) -> dict:
        """The documents of a cell, as `bench.scale.worker.vectors_of` reads them."""
        scale = self._scales(cell)[0]
        return self._request(self.gallery.documents, cell.count, cell.lexicons and cell.lexicons.top_k, scale, cell)

    def query_request(self, cell: Cell) -> dict:
        """All queries of the gallery, with the weights that a cell is searched with."""
        scale = self._scales(cell)[1]
        return self._request(self.gallery.queries, None, cell.lexicons and cell.lexicons.query_top_k, scale, cell)

    def sampled_query_request(self, cell: Cell) -> dict:
        """The queries of the sweep."""
        return self.query_request(cell) | {"which": self.queries.tolist()}

    def _request(self, vectors: Vectors, count: int | None, top_k: int | None, scale: float, cell: Cell) -> dict:
        request = {"folder": str(vectors.folder), "count": count}
        if cell.lexicons:
            bits = cell.lexicons.bits
            request |= {"top_k": top_k, "bits": bits and max(bits, STORED_BITS), "scale": scale}
        return request

    def _scales(self, cell: Cell) -> tuple[float, float]:
        """Scales of the documents and of the queries of a cell: those of the grid, else of the gallery."""
        bits = cell.lexicons and cell.lexicons.bits
        given = self.grid.scales.get(bits)
        return (given, given) if given is not None else self.gallery.scales.get(bits, (1.0, 1.0))

    # --- ids and points -----------------------------------------------------------------------------------------------

    def cell_id(self, cell: Cell) -> str:
        """Hash of all that an index is built from and searched with, the engine's code included."""
        requests = [self.document_request(cell), self.query_request(cell)]
        for request in requests:
            request.pop("folder")
        vectors = [self.gallery.documents_id, self.gallery.queries_id]
        return config.fingerprint(
            [*vectors, *requests, cell.engine, cell.knobs, self.gallery.base.task, engines.code_id(cell.engine)]
        )

    def accuracy(self, cell: Cell, search: dict) -> Point:
        """The point of recall, size and build cost, at one setting of the search knobs."""
        code_id = config.fingerprint([self.code, self.grid.exact_queries])
        return self._point(cell, search, depth=min(self.grid.depth, cell.count), code_id=code_id)

    def timing(self, cell: Cell, search: dict, mode: str, threads: int) -> Point:
        """The point of the rate in one mode, at one setting of the search knobs."""
        grid = self.grid
        settings = [grid.rounds, grid.seconds, grid.batch_seconds, config.as_tree(grid.min_batch)]
        fields = {"batch_mode": mode, "threads": threads, "code_id": config.fingerprint([self.code, *settings])}
        return self._point(cell, search, depth=grid.depth, **fields)

    def of(self, cell: Cell) -> list[Point]:
        """All points of a cell."""
        timed = [self.timing(cell, search, *mode) for search in cell.searches for mode in self.modes]
        return [self.accuracy(cell, search) for search in cell.searches] + timed

    def _point(self, cell: Cell, search: dict, **fields) -> Point:
        knobs = cell.knobs | search
        if cell.lexicons:
            scale, query_scale = self._scales(cell)
            knobs |= {"query_top_k": cell.lexicons.query_top_k, "scale": scale}
            knobs |= {"query_scale": query_scale} if query_scale != scale else {}
        return replace(
            self.gallery.base,
            task="sharded" if cell.sharded else self.gallery.base.task,
            images=cell.count,
            queries=len(self.queries),
            engine=cell.engine,
            knobs=knobs,
            exact=engines.get(cell.engine).exact,
            top_k=cell.lexicons and cell.lexicons.top_k,
            bits=cell.lexicons and cell.lexicons.bits,
            vectors_id=self.gallery.documents_id,
            index_id=self.cell_id(cell),
            **fields,
        )
