"""Made-up records of sweeps, written as `bench.scale` writes them; and cells of tables."""

import numpy as np

from bench.store.records import Point, RecordStore
from reports.records.evidence import Evidence
from reports.records.search import Call
from reports.render.tables import text

STARTED = "2026-01-02T03:04:05+00:00"
ONE, MANY = Call("single", 1), Call("batched", 2)
HOSTILE = "<script>alert('x')</script>"
FLAT = {"engine": "faiss-flat", "knobs": {"blas_from": 4}, "exact": True}
LEXICON = {"query_top_k": None, "scale": 100.0}  # knobs
IMPACT = {"engine": "impact", "bits": 8, "exact": True}


class Made:
    """Writes points as `bench.scale` does: quality and size in one, each rate in another."""

    def __init__(self, store: RecordStore):
        self.store = store

    def point(self, kind: str, **fields) -> Point:
        common = {
            "task": "scale", "corpus": "scenes", "split": "test", "images": 10_000, "queries": 5000, "kind": kind,
            "direction": "text_to_image", "profile": "quick", "variant": "clip" if kind == "dense" else "lexlip",
            "checkpoint_id": f"of {kind}", "data_id": "data", "vectors_id": f"vectors {kind}", "index_id": "index",
            "machine_id": "one", "command": "python -m bench.scale --corpus 10k",
        }  # fmt: skip
        return Point(**(common | fields))

    def write(self, point: Point, values=None, status="ok", note="", started=STARTED) -> None:
        self.store.write(point, values or {}, status=status, note=note, started=started)

    def search(self, kind: str, recall: float | None, rates, stored=100.0, note="", **fields) -> None:
        """Quality, size and rates of a search. rates: QPS by call, or of single queries with one thread. found: engine
        recall."""
        rates = rates if isinstance(rates, dict) else {ONE: rates}
        limit, seconds = fields.pop("limit", None), fields.pop("seconds", 3.0)
        found = fields.pop("found", 0.875)
        fields.setdefault("knobs", LEXICON if kind == "lexicon" else {})
        point = self.point(kind, **fields)
        values = {
            "engine_recall@10": found,
            "bytes_per_image": stored,
            "index_bytes": stored * point.images,
            "build_seconds": seconds,
            "resident_bytes": 5e6,
        }
        if recall is not None:
            values |= {"recall@1": recall, "recall@5": recall + 0.1, "recall@10": recall + 0.2}
        self.write(point, values, note=note)
        for call, qps in rates.items():
            timed = {"qps": qps} | ({"limit_qps": limit} if limit else {})
            if call.mode == "single":
                timed |= {f"latency_p{p}_us": (1e6 / qps if qps else 0) + p for p in (50, 95, 99)}
            at = self.point(kind, **fields | {"batch_mode": call.mode, "threads": call.threads})
            self.write(at, timed, note="median of 3 rounds")

    def ended(self, kind: str, status: str, note: str, **fields) -> None:
        """A search that ended without a measurement."""
        for call in ({}, {"batch_mode": "single", "threads": 1}, {"batch_mode": "batched", "threads": 2}):
            self.write(self.point(kind, **fields | call), status=status, note=note)

    def impact(self, top_k: int, recall: float | None, single: float, batched: float, stored: float, **fields) -> None:
        self.search("lexicon", recall, {ONE: single, MANY: batched}, stored, **IMPACT | {"top_k": top_k} | fields)

    def impact_single(self, top_k: int, recall: float | None, qps: float, stored: float, **fields) -> None:
        """`impact` timed with single queries only."""
        self.search("lexicon", recall, qps, stored, **IMPACT | {"top_k": top_k} | fields)

    def answered(self, kind: str, hits: np.ndarray, rates: dict[Call, float] | None = None, **fields) -> None:
        """Quality with per-query results, each query on its own image; and rates."""
        queries = [
            {"query_id": f"q{i}", "group": f"g{i}", "ranks": [1] if hit else [2], "relevant": 1, "latency_us": None}
            for i, hit in enumerate(hits)
        ]
        values = {"recall@1": float(hits.mean()), "bytes_per_image": 10.0}
        self.store.write(self.point(kind, **fields), values, queries, started=STARTED)
        for call, qps in (rates or {}).items():
            self.write(self.point(kind, **fields | {"batch_mode": call.mode, "threads": call.threads}), {"qps": qps})

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.store)

    @property
    def home(self):
        return self.store.folder.parent


def cell(table, column: str, **where):
    """The text of a cell of the one row whose cells read so."""
    columns = {one.key: one for one in table.columns}
    rows = [
        row
        for row in table.rows
        if all(text(table.cell(row, columns[key]), columns[key]) == str(value) for key, value in where.items())
    ]
    assert len(rows) == 1
    return text(table.cell(rows[0], columns[column]), columns[column])
