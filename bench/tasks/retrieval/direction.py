"""One direction of retrieval over encoded vectors: builds indexes, searches them and writes the points."""

import functools
import time
from dataclasses import replace

import numpy as np

from bench import engines
from bench.engines.indexes import Index, build_index
from bench.store.config import code_fingerprint
from bench.store.records import Point, ranking_rows
from bench.tasks import evaluation
from bench.tasks import timing as timer
from bench.tasks.relevance import Relevance
from bench.tasks.retrieval import coco
from bench.tasks.retrieval.examples import add_heat_maps, evenly_spaced, example_rows
from bench.tasks.retrieval.settings import RecallOptions, Setting, settings
from bench.tasks.subject import Measurement
from bench.vectors.impacts import Impacts
from bench.vectors.statistics import evenly, flops_per_pair

DIRECTIONS = ("text_to_image", "image_to_text")
CODE = (
    "bench.tasks.retrieval.direction",
    "bench.tasks.retrieval.settings",
    "bench.tasks.relevance",
    "bench.corpora.scenes.claims",
    "bench.tasks.timing",
    "bench.tasks.evaluation",
    "bench.vectors.impacts",
    "bench.engines.shuffled",
    "bench.vectors.statistics",
    "bench.engines.ranking",
)
REFERENCE_DEPTH = 10  # results of exact search that `overlap@10` compares with


class Direction:
    """Retrieval of images by captions ("text_to_image") or of captions by images ("image_to_text")."""

    def __init__(self, measurement: Measurement, direction: str, options: RecallOptions):
        self.measurement, self.direction, self.options = measurement, direction, options
        self.store, encoded = measurement.store, measurement.encoded
        images, captions = (encoded.images, encoded.images_id), (encoded.captions, encoded.captions_id)
        both = (images, captions) if direction == "text_to_image" else (captions, images)
        (self.gallery, self.gallery_id), (self.queries, _) = both
        self.depth = min(options.depth, self.gallery.count)
        is_true = getattr(measurement.slice.corpus, "is_true", None) if direction == "text_to_image" else None
        self.relevance = Relevance(self.gallery, self.queries, is_true=is_true)
        dense = encoded.kind == "dense"
        self.knobs = {} if dense else {"scale": options.scale, "query_top_k": options.query_top_k}
        fields = {"vectors_id": self.gallery_id, "code_id": code_fingerprint(*CODE)}
        self.base = measurement.point("retrieval", direction=direction, **fields)

    def documents(self, setting: Setting):
        """The gallery as it is indexed: dense vectors, or impacts."""
        if self.gallery.kind == "dense":
            return self.gallery
        return Impacts(self.gallery, setting.top_k, setting.bits, self.options.scale)

    @functools.lru_cache(maxsize=2)  # noqa: B019  (lives as long as one direction)
    def query_matrix(self, bits: int | None):
        """All queries in the form that an index of these bits takes: (Q, D) float32, or CSR (Q, V)."""
        if self.queries.kind == "dense":
            return self.queries.to_numpy()
        return Impacts(self.queries, self.options.query_top_k, bits, self.options.scale).to_scipy()

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """ids (Q, 10) of exact search over the vectors as encoded."""
        queries = self.queries.rows(0, self.queries.count)
        with self.index(settings(self.gallery.kind)[0]).open() as engine:
            return engine.search(engine.prepare(queries), min(REFERENCE_DEPTH, self.gallery.count))[0]

    def index(self, setting: Setting, force: bool = False) -> Index:
        """The index of the gallery at a setting, built unless it exists."""
        return build_index(self.measurement.home, setting.engine, self.documents(setting), self.gallery_id, force=force)

    def point(self, setting: Setting, index_id: str, **fields) -> Point:
        """The point of this direction at a setting."""
        of_setting = {
            "engine": setting.engine,
            "top_k": setting.top_k,
            "bits": setting.bits,
            "exact": engines.get(setting.engine).exact,
            "knobs": self.knobs | setting.search_knobs,
            "index_id": index_id,
        }
        return replace(self.base, **of_setting | fields)

    def accuracy(self, setting: Setting, examples: int) -> str:
        """Writes the point of recall, sizes and cost per pair, with results of `examples` queries; returns its id."""
        index = self.index(setting, self.measurement.force)
        point = self.point(setting, index.id, queries=self.queries.count, depth=self.depth)
        ranked = self.options.rankings
        if self.measurement.exists(point) and not (ranked and not self.store.has_rankings(point)):
            return point.id
        began = time.perf_counter()
        ids, scores = self.ranking(setting)
        values, sidecar = self.relevance.evaluate(ids)
        values |= {
            "overlap@10": evaluation.overlap(ids, self.reference, REFERENCE_DEPTH),
            "index_bytes": index.bytes,
            "bytes_per_image": index.bytes / max(1, self.gallery.count),
            "vectors_bytes": self.gallery.bytes,
            "build_seconds": index.seconds,
            "build_cpu_seconds": index.cpu_seconds,
        }
        values |= self.cost(setting)
        shown = self.examples(setting, ids, scores, examples) if examples else None
        seconds = time.perf_counter() - began
        stored = ranking_rows(self.queries.ids, self.gallery.ids, ids, scores) if ranked else None
        return self.store.write(point, values, sidecar, shown, seconds=seconds, rankings=stored)

    @functools.lru_cache(maxsize=1)  # noqa: B019  (shared by accuracy and the COCO protocols)
    def ranking(self, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
        """ids and scores (Q, depth) of all queries."""
        with self.index(setting).open() as engine:
            queries = engine.prepare(self.query_matrix(setting.bits), **setting.search_knobs)
            return engine.search(queries, self.depth, **setting.search_knobs)

    def protocol(self, setting: Setting, protocol: coco.Protocol) -> str:
        """Writes the point of one of the corpus's own protocols; returns its id."""
        fields = {
            "task": protocol.task,
            "queries": self.queries.count,
            "depth": self.depth,
            "code_id": code_fingerprint(*CODE, *coco.CODE),
            "data_id": "-".join(filter(None, (self.base.data_id, protocol.data_id))),
        }
        point = self.point(setting, self.index(setting).id, **fields)
        if self.measurement.exists(point):
            return point.id
        result = protocol.evaluate(self.direction, self.gallery, self.queries, self.ranking(setting)[0])
        return self.store.write(point, result.values, result.sidecar(self.queries))

    def timing(self, setting: Setting) -> list[str]:
        """Writes the points of rate and latency, single queries and batched; returns their ids."""
        index, timing = self.index(setting), self.options.timing
        which = evenly(self.queries.count, timing.queries)
        fields = {"depth": timing.depth, "threads": timing.threads, "queries": len(which)}
        points = {mode: self.point(setting, index.id, batch_mode=mode, **fields) for mode in ("single", "batched")}
        if missing := [mode for mode, point in points.items() if not self.measurement.exists(point)]:
            queries = self.query_matrix(setting.bits)[which]
            with index.open() as engine:
                for mode in missing:
                    measured = getattr(timer, mode)(engine, queries, timing, **setting.search_knobs)
                    timed = which[measured.which]
                    ranks, _ = self.relevance.ranks(measured.ids, timed)
                    sidecar = self.relevance.sidecar(timed, ranks, measured.latency_us)
                    about = {"note": measured.note, "seconds": measured.seconds}
                    self.store.write(points[mode], measured.values, sidecar, **about)
        return [point.id for point in points.values()]

    def cost(self, setting: Setting) -> dict[str, float]:
        """Active lexicons of both sides and multiply-adds per pair, of the vectors as searched."""
        if self.gallery.kind == "dense":
            return {"flops_per_pair": float(self.gallery.dimension)}
        shares = {}
        for side, shards, count in (
            ("document", self.documents(setting).shards(), self.gallery.count),
            ("query", [self.query_matrix(setting.bits)], self.queries.count),
        ):
            active = sum(np.bincount(rows.indices, minlength=self.gallery.dimension) for rows in shards)
            shares[side] = active / max(1, count)
        image, text = ("document", "query") if self.direction == "text_to_image" else ("query", "document")
        return {
            "active_lexicons_image": float(np.sum(shares[image])),
            "active_lexicons_text": float(np.sum(shares[text])),
            "flops_per_pair": flops_per_pair(shares["query"], shares["document"]),
        }

    def examples(self, setting: Setting, ids: np.ndarray, scores: np.ndarray, count: int) -> list[dict]:
        """Results of `count` queries, evenly spaced; with heat maps for lexicon vectors."""
        dense, encoded = self.gallery.kind == "dense", self.measurement.encoded
        documents = None if dense else self.documents(setting).to_scipy()
        results = evenly_spaced(ids, scores, count)
        rows = example_rows(self.measurement.slice, encoded, self.query_matrix(setting.bits), documents, results)
        return rows if dense else add_heat_maps(rows, self.measurement)
