"""Fronts: the fastest searches of each kind of vectors at equal engine recall, and which kind wins where.

A front is of one gallery of one sweep, so of one machine and its rounds. The searches are those of all its
models (`answer.Field.of`): lexicon vectors at the operating point, dense ones as encoded, single queries, no GPU.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from reports.findings.answer import OPEN, Field, faster, won
from reports.records.evidence import Evidence
from reports.records.search import KINDS, Search
from reports.records.sweep import Sweep, sweeps
from reports.render.tables import NOT_MEASURED, Cell, integer, times

EXACT = 1 - 1e-9
FLOORS = {"90%": 0.9, "95%": 0.95, "99%": 0.99, "exact": EXACT}
"""Least share of the exact top 10 that an engine finds; "exact": all of it, by engines that search exactly."""
TEMPLATES = {
    "won": "Over {images} images, {winner} answers {ratio} as many single queries per second as {loser} {floors}.",
    "open": "Over {images} images, {winner} and {loser} answer about as many single queries per second {floors}.",
}


@dataclass(frozen=True, eq=False)
class Front(Field):
    """The timed searches of a gallery of a sweep; `place`: number of the front in the report, 1 first."""

    sweep: Sweep
    place: int

    def rate(self, search: Search) -> float:
        return search.rate(self.call)

    @functools.cache  # noqa: B019  (as long as the evidence, which lives for one build)
    def reaching(self, least: float) -> dict[str, list[Search]]:
        """Kind -> its searches of this engine recall, the fastest first; at `EXACT`, those of exact engines only."""
        r = self.sweep.evidence.reading
        found = {kind: [s for s in self.of(kind, least, r) if s.exact or least < EXACT] for kind in KINDS}
        return {kind: sorted(mine, key=self.rate, reverse=True) for kind, mine in found.items()}

    def lacking(self, kind: str) -> str:
        """Why no search of a kind reaches a floor."""
        return "not reached" if any(search.kind == kind for search in self.searches) else NOT_MEASURED

    def faster(self, floor: str) -> Cell:
        """The side that answers more single queries per second, and how many times as many."""
        return self._winner(floor, self.rate, max, lambda found: faster(found, self.call))

    def smaller(self, floor: str) -> Cell:
        """The side whose smallest index has fewer bytes an image, and how many times fewer."""
        value = lambda search: search.bytes_per_image  # noqa: E731
        return self._winner(floor, value, min, lambda found: won({kind: value(s) for kind, s in found.items()}, min))

    def _winner(self, floor: str, value: Callable[[Search], float | None], best: Callable, compare: Callable) -> Cell:
        found = {}
        for kind, mine in self.reaching(FLOORS[floor]).items():
            if not any(map(value, mine)):
                return Cell(missing=f"{kind} {self.lacking(kind)}")
            found[kind] = best(filter(value, mine), key=value)
        winner, ratio = compare(found)
        text = f"{found[winner].variant or winner} {times(ratio)}" if winner else "about equal"
        behind = tuple(point for search in found.values() for point in search.points(self.call))
        return Cell(text, n="; ".join(f"{s.variant}: {s.label}" for s in found.values()), points=behind)


@functools.lru_cache(maxsize=8)
def fronts(evidence: Evidence) -> list[Front]:
    """Every gallery in which single queries were timed: those of the first sweep first, the largest first."""
    found: list[Front] = []
    for sweep in sweeps(evidence):
        call = sweep.call("single")
        for images in reversed(sweep.sizes if call else []):
            mine = tuple(s for s in sweep.at(images) if s.rate(call) and not s.engine.endswith("-gpu"))
            if mine:
                found.append(Front(sweep.title, images, call, mine, sweep, len(found) + 1))
    return found


def sentences(front: Front) -> tuple[str, ...]:
    """Who answers faster, and at which floors: first those that the lexicon side loses, then the equal ones."""
    said: dict[tuple, list[tuple[str, float]]] = {}
    for floor, least in FLOORS.items():
        first = [next(iter(mine), None) for mine in front.reaching(least).values()]
        if None not in first:
            winner, ratio = faster({search.kind: search for search in first}, front.call)
            names = [search.variant or search.kind for search in first]
            names = names[::-1] if winner == "dense" else names
            said.setdefault((("dense", OPEN, "lexicon").index(winner), *names), []).append((floor, ratio))
    made = []
    for (place, winner, loser), at in sorted(said.items()):
        ratios = dict.fromkeys(times(ratio) for ratio in sorted(ratio for _, ratio in at))
        values = {"winner": winner, "loser": loser, "ratio": " to ".join(list(ratios)[:: max(1, len(ratios) - 1)])}
        template = TEMPLATES["open" if place == 1 else "won"]
        made.append(template.format(images=integer(front.images), floors=_at([floor for floor, _ in at]), **values))
    return tuple(made)


def _at(floors: list[str]) -> str:
    """Floors in words: "at 90% and 95% engine recall and in exact search"."""
    shares = [floor for floor in floors if floor != "exact"]
    words = ", ".join(shares[:-1]) + " and " * (len(shares) > 1) + "".join(shares[-1:])
    parts = [f"at {words} engine recall"] * bool(shares) + ["in exact search"] * ("exact" in floors)
    return " and ".join(parts)
