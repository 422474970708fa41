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
TEMPLATES = {
    "no gain": "Fusing {pair} does not clearly find more than the better one: {gain} points of R@1.",
    "gain": "Fusing {pair} adds {gain} points of R@1 to the better one; fusing two seeds of one model, {most}.",
    "without": "Fusing {pair} adds {gain} points of R@1 to the better one. Two seeds of one model were not fused.",
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
    """Every pair and gallery, with the newest second model: different models first, then the controls."""
    found: dict[tuple, dict[tuple, Studied]] = {}
    for one in studied(evidence.rows, TASK):
        knobs, row = one.knobs, one.row
        if isinstance(knobs.get("with_variant"), str) and knobs.get("method") in list(LABELS):
            seed, number = (
                knobs[name] if isinstance(knobs.get(name), int) else None for name in ("with_seed", "first")
            )
            of = found.setdefault((row.variant, knobs["with_variant"], whole(row.seed), seed, int(row.images)), {})
            if any(other.knobs.get("with") != knobs.get("with") for other in of.values()):
                of.clear()
            of[knobs["method"], number] = one
    made = [_pair(evidence, *key, of) for key, of in found.items() if any(method in ALONE for method, _ in of)]
    return sorted(made, key=lambda pair: (pair.control, pair.title, pair.images))


def _pair(evidence: Evidence, first: str, second: str, seed, with_seed, images: int, of: dict) -> Pair:
    words = {"first": first, "second": second}
    if first == second:
        words = {"first": f"seed {seed}", "second": f"seed {with_seed}"}
    gains, order, methods = _gains(evidence, of), list(LABELS), []
    for name, number in sorted(of, key=lambda key: (order.index(key[0]), key[1] or 0)):
        one = of[name, number]
        interval = evidence.interval((one.measured.point_id,), "recall@1")
        bounds = {"low": interval.low, "high": interval.high} if interval else {}
        cells = {metric: one.measured.cell(metric) for metric in ("recall@10", "bytes_per_image")}
        cells |= {"recall@1": replace(one.measured.cell("recall@1"), **bounds), "gain": gains[name, number]}
        label = LABELS[name].format(**words, number=number, weight=one.knobs.get("weight"))
        methods.append(Method(name, number, label, cells))
    names = named(first, seed), named(second, with_seed)
    return Pair(names, frozenset((first, second)), images, tuple(methods))


def _gains(evidence: Evidence, of: dict[tuple, Studied]) -> dict[tuple, Cell]:
    """R@1 of each method minus that of the better model, marked where a tested one is significant."""
    points_of = {key: one.measured.point_id for key, one in of.items()}
    parent = max((key for key in of if key[0] in ALONE), key=lambda key: of[key].measured.cell("recall@1").value or 0)
    tests = {key: paired.test(evidence, point, points_of[parent]) for key, point in points_of.items()}
    tests = {key: test for key, test in tests.items() if test and key[0] not in (*ALONE, "union")}
    p = corrections.holm([1.0 if test.p is None else test.p for test in tests.values()]).tolist()
    p, gains = dict(zip(tests, p, strict=True)), {parent: Cell(NOT_APPLICABLE)}
    for key in points_of.keys() - {parent}:
        behind = points_of[key], points_of[parent]
        cell = comparisons.estimate_cell(paired.difference(evidence, *behind), behind, "no paired queries")
        mark = comparisons.SIGNIFICANT if p.get(key, 1.0) < evidence.reading.significant else ""
        gains[key] = replace(cell, p=p.get(key), mark=mark)
    return gains


def sentences(found: list[Pair]) -> tuple[str, ...]:
    """One for each pair of different models: those that gain nothing first."""
    made, order = [], list(TEMPLATES)
    for pair in (pair for pair in found if not pair.control and is_number(pair.gain)):
        rivals = [one for one in found if one.control and one.variants <= pair.variants and one.images == pair.images]
        most = max((one.gain for one in rivals if is_number(one.gain)), key=lambda gain: gain.value, default=None)
        name = "without" if most is None else "gain"
        name = name if pair.gain.mark and pair.gain.value > 0 else "no gain"
        values = {"pair": pair.title, "gain": _with_interval(pair.gain), "most": most and _with_interval(most)}
        made.append((order.index(name), TEMPLATES[name].format(**values)))
    return tuple(text for _, text in sorted(made))


def _with_interval(gain: Cell) -> str:
    low, high = gain.low, gain.high
    return points(gain.value) + ("" if low is None else f" ({points(low)} to {points(high)})")
