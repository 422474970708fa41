"""Two models searched together, from records of `lexlip-bench hybrid`: each method against the better of the two.

The test is the exact paired one over images, with Holm's correction over the methods of a pair. It holds for the two
checkpoints of the pair and does not say what other trainings would show. The union is a bound and is not tested.
"""

import functools
from dataclasses import dataclass, replace

from reports.findings import comparisons, paired
from reports.records.evidence import Evidence
from reports.records.rows import whole
from reports.records.studies import Studied, named, studied
from reports.render.tables import NOT_APPLICABLE, NOT_MEASURED, Cell, is_number, points
from reports.statistics import corrections

TASK = "hybrid"
CHOSEN = "convex"  # the method of the sentences: nothing about it is chosen on the test queries
LABELS = {
    "first": "{first}",
    "second": "{second}",
    "rrf": "reciprocal rank fusion",
    "dbsf": "distribution-based fusion",
    "convex": "convex, weight {weight}",
    "first_then_second": "{second} re-ranks {number}",
    "second_then_first": "{first} re-ranks {number}",
    "union": "either one: a bound",
}
ALONE = ("first", "second")
UNPAIRED = "no paired queries"
GAIN = "{pair}, fused, gain {gain} points of R@1 over the better one"
TEMPLATES = {
    "no gain": "{pair}, fused, do not clearly find more than the better one: {gain} points of R@1.",
    "less": f"{GAIN}, no more than two seeds of one model ({{most}}).",
    "more": f"{GAIN}, more than two seeds of one model ({{most}}).",
    "without": f"{GAIN}. The control was not measured: two seeds of one model.",
}


@dataclass(frozen=True)
class Method:
    """A way to search with a pair. number: results that a cascade re-ranks. cells: by metric, and "gain": R@1 minus
    that of the better model."""

    name: str
    number: int | None
    label: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Pair:
    """Two checkpoints over a gallery. control: both are trainings of one variant. methods: in the order of `LABELS`."""

    names: tuple[str, str]
    variants: frozenset[str]
    images: int
    methods: tuple[Method, ...]

    @property
    def control(self) -> bool:
        return len(self.variants) == 1

    @property
    def title(self) -> str:
        return " and ".join(self.names)

    @property
    def gain(self) -> Cell:
        """The gain of the chosen method; no number if that is the better model itself or was not measured."""
        return next((one.cells["gain"] for one in self.methods if one.name == CHOSEN), Cell(missing=NOT_MEASURED))


@functools.lru_cache(maxsize=8)
def pairs(evidence: Evidence) -> list[Pair]:
    """Every pair and gallery: pairs of different models first, then the controls."""
    found: dict[tuple, dict[tuple, Studied]] = {}
    for one in studied(evidence.rows, TASK):
        knobs, row = one.knobs, one.row
        if knobs.get("method") in LABELS and knobs.get("with_variant"):
            key = row.variant, whole(row.seed), knobs["with_variant"], knobs.get("with_seed"), int(row.images)
            found.setdefault(key, {})[knobs.get("with"), knobs["method"], knobs.get("first")] = one
    made = [pair for key, methods in found.items() if (pair := _pair(evidence, *key, methods))]
    return sorted(made, key=lambda pair: (pair.control, pair.title, pair.images))


def _pair(evidence: Evidence, variant: str, seed, other: str, with_seed, images: int, found: dict) -> Pair | None:
    """The newest measurement of a pair; None if neither model was measured alone."""
    newest, order = next(reversed(found))[0], list(LABELS)
    keys = sorted((key for key in found if key[0] == newest), key=lambda key: (order.index(key[1]), key[2] or 0))
    recall = {found[key].measured.point_id: found[key].measured.cell("recall@1").value or 0 for key in keys}
    alone = [found[key].measured.point_id for key in keys if key[1] in ALONE]
    if not alone:
        return None
    tested = {found[key].measured.point_id for key in keys if key[1] not in (*ALONE, "union")}
    gains = _gains(evidence, max(alone, key=recall.get), list(recall), tested)
    names, methods = (named(variant, seed), named(other, with_seed)), []
    short = (variant, other) if variant != other else (f"seed {seed}", f"seed {with_seed}")
    for _, name, number in keys:
        one = found[newest, name, number]
        point, weight = one.measured.point_id, one.knobs.get("weight")
        label = LABELS[name].format(first=short[0], second=short[1], number=number, weight=weight)
        interval = evidence.interval((point,), "recall@1")
        bounds = {"low": interval.low, "high": interval.high} if interval else {}
        cells = {metric: one.measured.cell(metric) for metric in ("recall@10", "bytes_per_image")}
        cells |= {"recall@1": replace(one.measured.cell("recall@1"), **bounds), "gain": gains[point]}
        methods.append(Method(name, number, label, cells))
    return Pair(names, frozenset((variant, other)), images, tuple(methods))


def _gains(evidence: Evidence, parent: str, points_: list[str], tested: set[str]) -> dict[str, Cell]:
    """Point -> R@1 minus that of the better model, marked where a tested one is significant."""
    found = {point: test for point in tested if (test := paired.test(evidence, point, parent))}
    p = corrections.holm([1.0 if test.p is None else test.p for test in found.values()]).tolist()
    p, gains = dict(zip(found, p, strict=True)), {}
    for point in points_:
        cell = comparisons.estimate_cell(paired.difference(evidence, point, parent), (point, parent), UNPAIRED)
        mark = comparisons.SIGNIFICANT if p.get(point, 1.0) < evidence.reading.significant else ""
        gains[point] = Cell(NOT_APPLICABLE) if point == parent else replace(cell, p=p.get(point), mark=mark)
    return gains


def sentences(found: list[Pair]) -> tuple[str, ...]:
    """One for each pair of different models: those that gain nothing first."""
    made, order = [], list(TEMPLATES)
    for pair in (pair for pair in found if not pair.control and is_number(pair.gain)):
        rivals = [one for one in found if one.control and one.variants <= pair.variants and one.images == pair.images]
        most = max((one.gain.value for one in rivals if is_number(one.gain)), default=None)
        name = "without" if most is None else "more" if pair.gain.value > most else "less"
        name = name if pair.gain.mark and pair.gain.value > 0 else "no gain"
        values = {"pair": pair.title, "gain": points(pair.gain.value), "most": points(most or 0)}
        made.append((order.index(name), TEMPLATES[name].format(**values)))
    return tuple(text for _, text in sorted(made))
