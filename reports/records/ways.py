"""Every measured way of searching as one kind of row, whoever measured it: the sweeps, and the run that compares variants.

A source is what one machine measured of one corpus: numbers of two sources never meet in a plot, a front or a choice of the fastest.
"""

import functools
from dataclasses import dataclass

from reports.pages.efficiency import efficiency
from reports.records.evidence import Evidence
from reports.records.scale import Call, Search, Sweep, sweeps
from reports.render.tables import NOT_MEASURED, Cell

QUALITIES = ("recall@1", "recall@10")
COSTS = ("qps", "bytes_per_image", "build_seconds")


@dataclass(frozen=True)
class Way:
    """One way of searching one gallery, called in one way. `top_k`, `bits`, `threads`: None = all, float32, not timed; `cells` by metric."""

    images: int
    kind: str
    variant: str
    engine: str
    label: str
    exact: bool
    top_k: int | None
    bits: int | None
    mode: str
    threads: int | None
    queries: int | None
    cells: dict[str, Cell]

    def value(self, metric: str) -> float | None:
        return self.cells[metric].value

    @property
    def points(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(point for cell in self.cells.values() for point in cell.points))

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.n for cell in self.cells.values() if cell.n))


@functools.lru_cache(maxsize=8)
def sources(evidence: Evidence) -> dict[str, list[Way]]:
    """Title of a source -> its ways of searching: the sweeps whose task was measured, then the variants."""
    found: dict[str, list[Way]] = {}
    for sweep in sweeps(evidence):
        title = f"{sweep.corpus or 'unknown corpus'}, sweep on {sweep.machine}"
        if sweep.judged:  # machines of the same make are told apart
            found[f"{title} ({sweep.machine_id})" if title in found else title] = of_sweep(sweep)
    variants = of_variants(evidence)
    cpus = dict(zip(evidence.rows.machine_id, evidence.rows.cpu, strict=True))
    timed_on = {machine_id for _, machine_id in variants if machine_id}
    for way, machine_id in variants:
        machine_id = machine_id or (
            next(iter(timed_on)) if len(timed_on) == 1 else ""
        )  # quality and size alone hold on any machine
        where = f" on {cpus[machine_id]}" if cpus.get(machine_id) else ""
        found.setdefault(f"{evidence.corpus or 'unknown corpus'}, variants{where}", []).append(way)
    return {title: ways for title, ways in found.items() if ways}


def of_sweep(sweep: Sweep) -> list[Way]:
    """A row for each search and call; one without a call where none was timed."""
    asked = {
        point: queries
        for point, queries in zip(sweep.evidence.all.point_id, sweep.evidence.all.queries, strict=True)
        if queries == queries
    }
    found = []
    for images in sweep.sizes:
        for search in sweep.at(images):
            if search.recall is not None:
                found += [_of_search(search, call, asked) for call in search.calls or [None]]
    return found


def _of_search(search: Search, call: Call | None, asked: dict[str, float]) -> Way:
    cells = {metric: search.cell(metric) for metric in (*QUALITIES, *COSTS) if metric != "qps"}
    cells["qps"] = search.timed(call) if call else Cell(missing=NOT_MEASURED)
    queries = asked.get(search.accuracy.point_id)
    return Way(
        search.images, search.kind, search.variant, search.engine, search.label, bool(search.exact), search.top_k, search.bits,
        call.mode if call else "", call.threads if call else None, None if queries is None else int(queries), cells,
    )  # fmt: skip


def of_variants(evidence: Evidence) -> list[tuple[Way, str]]:
    """What `bench.tasks.recall` measured of each variant, and the machine that timed it."""
    images = evidence.gallery.get(("test", "text_to_image"))
    exact = {evidence.reading.dense_engine, evidence.reading.lexicon_brute_force, evidence.reading.lexicon_engine}
    found = []
    for way in efficiency.ways_of_searching(evidence) if images else ():
        top_k, bits = (None if way[key] is None else int(way[key]) for key in ("top_k", "bits"))
        kind = evidence.kinds.get(way["variant"]) or "unknown"
        parts = (
            way["variant"],
            way["engine"],
            f"{top_k} kept" if top_k else "all kept" if kind == "lexicon" else "",
            f"{bits} bits" if bits else "",
        )
        cells = {metric: way[metric] for metric in (*QUALITIES, *COSTS)}
        threads = None if way["threads"] is None else int(way["threads"])
        made = Way(int(images), kind, way["variant"], way["engine"], ", ".join(filter(None, parts)), way["engine"] in exact, top_k, bits,
                   way["batch_mode"], threads, None, cells)  # fmt: skip
        if not cells["recall@1"].missing:
            found.append((made, way["machine_id"]))
    return found


def brute_force(ways: list[Way], kind: str) -> Way | None:
    """The exact search that stands for a paradigm's vectors: over all lexicons, or the most that were kept, at the most bits; dense, any."""
    unlimited = lambda value: float("inf") if value is None else value  # noqa: E731
    exact = [way for way in ways if way.kind == kind and way.exact]
    return max(exact, key=lambda way: (unlimited(way.top_k), unlimited(way.bits), way.value("recall@1")), default=None)
