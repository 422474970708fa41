"""Queries from a table of token weights in place of the text encoder, from records of `lexlip-bench query-table`."""

from dataclasses import dataclass, replace

from reports.findings import comparisons, paired
from reports.records.evidence import Evidence
from reports.records.rows import whole
from reports.records.search import Measured
from reports.records.studies import Studied, named, studied
from reports.render.tables import NOT_A_NUMBER, NOT_APPLICABLE, Cell, is_number, points, significant

TASK, ENCODER = "query_table", "encoder"
KINDS = {
    ENCODER: "text encoder",
    "idf": "table of idf",
    "learned": "table, learned from embeddings",
    "free": "table, learned freely",
}
METRICS = ("recall@1", "recall@10", "active_lexicons_text", "flops_per_pair")
TIMES = ("end_to_end_p50_us", "end_to_end_p95_us", "encode_text_latency_p50_us")
TEMPLATES = {
    "loss": "{model} without its text encoder: {gain} points of R@1 at best ({table})",
    "faster": "; from text to results it is {times}× as fast over {images} images.",
}


@dataclass(frozen=True)
class Tables:
    """A model over a gallery. cells: by the name of its queries, then by metric; "gain": R@1 minus that of the encoder,
    "share": of the encoding in the time from text to results."""

    model: str
    images: int
    cells: dict[str, dict[str, Cell]]

    @property
    def sentence(self) -> str | None:
        """The best table against the encoder; None if neither was measured."""
        gains = {name: of["gain"].value for name, of in self.cells.items() if name != ENCODER and is_number(of["gain"])}
        if not gains:
            return None
        best = max(gains, key=gains.get)
        said = TEMPLATES["loss"].format(model=self.model, gain=points(gains[best]), table=KINDS[best])
        slow, fast = (self.cells[name][TIMES[0]] for name in (ENCODER, best))
        if slow.missing or fast.missing or not fast.value:
            return f"{said}."
        return said + TEMPLATES["faster"].format(times=significant(slow.value / fast.value), images=f"{self.images:,}")


def tables(evidence: Evidence) -> list[Tables]:
    """Every model and gallery that was measured with the encoder, the newest of each kind of queries."""
    found: dict[tuple, dict[tuple, Studied]] = {}
    for one in studied(evidence.rows, TASK):
        row, name = one.row, one.knobs.get("queries")
        if name in list(KINDS):
            found.setdefault((row.variant, whole(row.seed), int(row.images)), {})[name, bool(row.batch_mode)] = one
    return [_tables(evidence, *key, of) for key, of in sorted(found.items(), key=str) if (ENCODER, False) in of]


def _tables(evidence: Evidence, variant: str, seed, images: int, of: dict[tuple, Studied]) -> Tables:
    made, encoder = {}, of[ENCODER, False].measured.point_id
    for name in (name for name in KINDS if (name, False) in of):
        accuracy = of[name, False].measured
        timed = of[name, True].measured if (name, True) in of else Measured({})
        cells = {metric: accuracy.cell(metric) for metric in METRICS} | {metric: timed.cell(metric) for metric in TIMES}
        if interval := evidence.interval((accuracy.point_id,), "recall@1"):
            cells["recall@1"] = replace(cells["recall@1"], low=interval.low, high=interval.high)
        behind = accuracy.point_id, encoder
        cells["gain"] = Cell(NOT_APPLICABLE)
        if name != ENCODER:
            cells["gain"] = comparisons.estimate_cell(paired.difference(evidence, *behind), behind, "no paired queries")
        whole_time, encoding = cells[TIMES[0]], cells[TIMES[2]]
        missing = whole_time.missing or encoding.missing or ("" if whole_time.value else NOT_A_NUMBER)
        cells["share"] = (
            Cell(missing=missing) if missing else replace(encoding, value=encoding.value / whole_time.value)
        )
        made[name] = cells
    return Tables(named(variant, seed), images, made)


def sentences(found: list[Tables]) -> tuple[str, ...]:
    """One for each model."""
    return tuple(said for one in found if (said := one.sentence))
