"""The answer in fixed sentences: which side finds more, which is faster and which is smaller, and how sure that is.

Quality is R@1 over the test gallery. Speed and size are of the largest gallery in which both sides were timed: the
fastest and the smallest search of each side whose engine finds `LEVELS` of the exact top 10, over the vectors that the
quality is of (the operating point of lexicon vectors). Where no encoded gallery is large, vectors generated from those
of the corpus stand in. A side is faster only if its slowest round beats the fastest of the other. Where a profile
trained for longer, its quality stands beside, and the time with text encoding beside that of search. A variant of words
has a sentence of its own. Templates have at most 25 words, without such additions.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reports.findings import comparisons, paired
from reports.findings.verdict import EQUAL_RATIO
from reports.records.corpora import OWN
from reports.records.evidence import Evidence, Reading
from reports.records.search import KINDS, Call, Search
from reports.records.sweep import sweeps
from reports.records.variants import sources
from reports.render.tables import integer, percent, points, significant, size, times
from reports.statistics.intervals import Estimate

LEVELS = (0.95, 0.9, 0.8, 0.5)  # engine recall@10: the highest that both sides reach
OPEN = ""
TEMPLATES = {
    "quality": "{winner} finds the right image first more often than {loser}: {gap} points of R@1 over {images} images "
    "(95% interval {low} to {high}, {seeds}).{longer}",
    "quality open": "No clear difference in R@1 over {images} images: {gap} points "
    "(95% interval {low} to {high}, {seeds}).{longer}",
    "quality missing": "Quality was not compared: {reference} and {baseline} lack results of the same queries.",
    "speed": "At {level}% engine recall over {images}, {winner} answers {ratio} as many queries per second as "
    "{loser}{range}.{whole}",
    "speed open": "At {level}% engine recall over {images}, no clear difference: {first} answers {ratio} as many "
    "queries per second as {loser}{range}.{whole}",
    "speed missing": "Speed was not compared: the two were not timed in one call at one engine recall.",
    "size": "At that engine recall, the smallest index of {winner} is {ratio} smaller: {least} an image ({engine}) "
    "against {most} ({other}).",
    "size open": "At that engine recall, the smallest indexes are about equal: {least} an image ({engine}) and {most} "
    "({other}).",
    "size missing": "Size was not compared: no index of both sides reaches one engine recall.",
    "words": "{words}, trained on caption words, puts {share}% of an image's weight on them ({reference}: {other}%). "
    "R@1 minus {reference}: {gap} points ({low} to {high}).{rate}",
    "title": "{quality}, {speed}",
}
WHOLE = " With text encoding, the median query takes {least} with {first} and {most} with {second}."
LONGER = " Trained {ratio} as long: {who} ({low} to {high}, {seeds})."
MOST_WORDS = 25
LARGE = 100_000  # images of an encoded gallery that generated vectors do not stand in for


@dataclass(frozen=True)
class Sentence:
    """A filled template. winner: "" if there is no clear one, None if not measured. points: records behind it."""

    template: str
    text: str
    winner: str | None
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Field:
    """Searches of reference and baseline on one machine over one gallery, both kinds of vectors timed in `call`."""

    source: str
    images: int
    call: Call
    searches: tuple[Search, ...]

    @property
    def generated(self) -> bool:
        """Whether the vectors have no task."""
        return all(search.recall is None for search in self.searches)

    @property
    def items(self) -> str:
        """The number of images, in words."""
        return f"{integer(self.images)} {'generated vectors' if self.generated else 'images'}"

    def model(self, kind: str, r: Reading) -> str | None:
        """The model of a kind that the report compares; None, which stands for all of the kind, if it was not timed."""
        timed = {search.variant for search in self.searches if search.kind == kind}
        return next((name for name in (r.reference, r.baseline) if name in timed), None)

    def of_model(self, kind: str, model: str | None = None) -> list[Search]:
        """Searches of a kind; of one model, unless it is None."""
        return [search for search in self.searches if search.kind == kind and model in (None, search.variant)]

    def of(self, kind: str, level: float, r: Reading, model: str | None = None) -> list[Search]:
        """Searches `of_model` whose engine finds the level; of lexicon vectors at the operating point only.

        Where nothing was measured at it, such as of a user's own vectors, the pruning of most searches stands in.
        """
        mine = self.of_model(kind, model)
        if kind == "lexicon":
            points = [(search.top_k, search.bits) for search in mine if search.query_top_k is None]
            point = (r.top_k, r.bits) if (r.top_k, r.bits) in points else max(points, key=points.count, default=None)
            mine = [s for s in mine if (s.top_k, s.bits) == point and s.query_top_k is None]
        return [search for search in mine if (engine_recall(search) or 0) >= level]


def sentence(name: str, winner: str | None, behind: tuple[str, ...] = (), /, **values: str) -> Sentence:
    return Sentence(name, TEMPLATES[name].format(**values), winner, behind)


def sentences(evidence: Evidence) -> list[Sentence]:
    """Quality, speed, size; and words, if a variant of words stands beside the reference."""
    return [quality(evidence), *costs(evidence), *words(evidence)]


def title(found: list[Sentence]) -> str:
    """The finding in one line, from the winners of quality and of speed."""
    better, faster = found[0].winner, found[1].winner
    quality = {None: "Quality not compared", OPEN: "Equal quality"}.get(better, f"{better} finds more")
    speed = {None: "speed not compared", OPEN: "equal speed"}.get(faster, f"{faster} searches faster")
    if better and better == faster:
        speed = "and searches faster"
        return f"{quality} {speed}"
    return TEMPLATES["title"].format(quality=quality, speed=speed)


def engine_recall(search: Search) -> float | None:
    """Share of the exact top 10 that an engine finds; 1 for an exact engine that was not judged."""
    value = search.cell("engine_recall@10").value
    return 1.0 if value is None and search.exact else value


@functools.lru_cache(maxsize=8)
def field(evidence: Evidence) -> Field | None:
    """The largest gallery in which both kinds were timed in one call; single queries with the fewest threads first."""
    r = evidence.reading
    found, compared = [], (r.reference, r.baseline, r.words)
    for source, of_source in [*sources(evidence).items(), *_generated(evidence)]:
        kinds = {search.kind for search in of_source if search.variant in compared}
        searches = [s for s in of_source if s.variant in compared or s.kind not in kinds]
        for call in {call for search in searches for call in search.calls}:
            for images in {search.images for search in searches}:
                mine = tuple(
                    s for s in searches if s.images == images and s.rate(call) and not s.engine.endswith("-gpu")
                )
                if {search.kind for search in mine} >= set(KINDS):
                    found.append(Field(source, images, call, mine))
    if any(one.images >= LARGE for one in found if not one.generated):
        found = [one for one in found if not one.generated]
    return max(found, key=lambda one: (one.images, one.call.mode == "single", -(one.call.threads or 0)), default=None)


def _generated(evidence: Evidence) -> Iterator[tuple[str, list[Search]]]:
    """Title and searches of each sweep over generated vectors with the measured vocabulary."""
    for sweep in sweeps(evidence):
        if sweep.fitted_to and not sweep.stretched_to:
            yield sweep.title, [search for images in sweep.sizes for search in sweep.at(images)]


def quality(evidence: Evidence) -> Sentence:
    r, images = evidence.reading, evidence.retrieval()["images"]
    estimate, behind = _gap(evidence)
    if estimate is None:
        estimate, behind, images = _quality_at_scale(evidence)
    if estimate is None or estimate.low is None:
        return sentence("quality missing", None, reference=r.reference, baseline=r.baseline)
    winner, values = _compared(evidence, estimate)
    values["longer"], of_longer = _longer(evidence)
    name, loser = "quality" if winner else "quality open", r.baseline if winner == r.reference else r.reference
    return sentence(name, winner, behind + of_longer, images=integer(images), winner=winner, loser=loser, **values)


def _gap(evidence: Evidence) -> tuple[Estimate | None, tuple[str, ...]]:
    """R@1 of the reference minus that of the baseline, and the points behind it."""
    r, at = evidence.reading, evidence.retrieval()
    sides = [(name, at | evidence.operating_point(name)) for name in (r.reference, r.baseline)]
    return comparisons.difference(evidence, *sides, "recall@1")


def _compared(evidence: Evidence, estimate: Estimate) -> tuple[str, dict[str, str]]:
    """The winner, and by how much; without a clear one the signed difference."""
    low, high, gap = estimate.low, estimate.high, estimate.value
    clear = low > 0 or high < 0
    if clear and gap < 0:
        low, high, gap = -high, -low, -gap
    winner = OPEN if not clear else evidence.reading.reference if estimate.value > 0 else evidence.reading.baseline
    written = percent if clear else points
    seeds = f"{estimate.seeds} seed{'' if estimate.seeds == 1 else 's'}"
    return winner, {"gap": written(gap), "low": written(low), "high": written(high), "seeds": seeds}


def _longer(evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """The same of the longest training of another profile, and the points behind it; "" without one."""
    for one in reversed(evidence.longer):
        estimate, behind = _gap(one)
        if estimate is not None and estimate.low is not None:
            winner, of = _compared(one, estimate)
            who = f"{winner} by {of['gap']} points" if winner else f"no clear difference, {of['gap']} points"
            return LONGER.format(ratio=times(one.steps / evidence.steps), who=who, **of), behind
    return "", ()


def _quality_at_scale(evidence: Evidence) -> tuple[Estimate | None, tuple[str, ...], int]:
    """Best R@1 of each kind in the largest gallery, paired by query: for a home that holds a sweep only."""
    found = field(evidence)
    r, best = evidence.reading, [None]
    if found:
        sides = [[s for s in found.of_model(kind, found.model(kind, r)) if s.recall is not None and s.accuracy.point_id]
                 for kind in KINDS]  # fmt: skip
        best = [max(mine, key=lambda search: search.recall, default=None) for mine in sides]
    if None in best:
        return None, (), 0
    behind = tuple(search.accuracy.point_id for search in best)
    return paired.difference(evidence, *behind), behind, found.images


def costs(evidence: Evidence) -> list[Sentence]:
    """Speed and size at equal engine recall."""
    found = field(evidence)
    level, sides = equal(evidence, found) if found else (0.0, {})
    if not sides:
        return [sentence("speed missing", None), sentence("size missing", None)]
    named = {_name(evidence, kind, mine): mine for kind, mine in sides.items()}
    return [_speed(evidence, found, level, named), _size(found, named)]


def _speed(evidence: Evidence, found: Field, level: float, sides: dict[str, list[Search]]) -> Sentence:
    """sides: name of each side -> its searches, the lexicon side first."""
    call = found.call
    fastest = {name: max(mine, key=lambda search: search.rate(call)) for name, mine in sides.items()}
    winner, _ = faster(fastest, call)
    first, loser = sorted(fastest, key=lambda name: name != winner)  # as they come without a winner
    ratio = fastest[first].rate(call) / fastest[loser].rate(call)
    behind = tuple(point for search in fastest.values() for point in search.points(call))
    whole, of_encoding = _with_encoding(evidence, found, fastest)
    values = {"winner": winner, "first": first, "loser": loser, "ratio": times(ratio), "whole": whole}
    values |= {"level": f"{100 * level:.0f}", "images": found.items, "range": _range(fastest, first, call)}
    return sentence("speed" if winner else "speed open", winner, behind + of_encoding, **values)


def _size(found: Field, sides: dict[str, list[Search]]) -> Sentence:
    """As `_speed`, of the smallest indexes; of equally small ones the fastest."""
    call = found.call
    stored = {name: [search for search in mine if search.bytes_per_image] for name, mine in sides.items()}
    if not all(stored.values()):
        return sentence("size missing", None)
    order = lambda search: (search.bytes_per_image, -search.rate(call))  # noqa: E731
    smallest = {name: min(mine, key=order) for name, mine in stored.items()}
    winner, ratio = won({name: search.bytes_per_image for name, search in smallest.items()}, min)
    less, more = sorted(smallest.values(), key=lambda search: search.bytes_per_image)
    behind = tuple(point for search in smallest.values() for point in search.points(call))
    engine, other = (f"{search.engine}, {significant(search.rate(call))} queries/s" for search in (less, more))
    values = {"winner": winner, "ratio": times(ratio), "engine": engine, "other": other}
    values |= {"least": size(less.bytes_per_image), "most": size(more.bytes_per_image)}
    return sentence("size" if winner else "size open", winner, behind, **values)


def _with_encoding(evidence: Evidence, found: Field, fastest: dict[str, Search]) -> tuple[str, tuple[str, ...]]:
    """Median time from text to results of each side, and the points behind it; "" unless both were measured."""
    sweep = next((one for one in sweeps(evidence) if {*fastest.values()} <= {*one.searches}), None)
    if sweep is None or found.call.mode != "single":
        return "", ()
    spent, behind = {}, ()
    for name, search in fastest.items():
        cells = sweep.encoding_cell(search, found.call), search.timed(found.call, "latency_p50_us")
        if any(cell.missing for cell in cells):
            return "", ()
        spent[name] = sum(cell.value for cell in cells)
        behind += tuple(point for cell in cells for point in cell.points)
    first, second = sorted(spent, key=spent.get)
    least, most = (f"{significant(spent[name])} µs" for name in (first, second))
    return WHOLE.format(first=first, second=second, least=least, most=most), behind


def words(evidence: Evidence) -> list[Sentence]:
    """What training on caption words gives over the reference; nothing unless both were measured."""
    r = evidence.reading
    test = comparisons.tests(evidence).get((r.words, "recall@1"))
    at = {"task": "sparsity", "split": "test", "top_k": r.top_k}
    shares = [evidence.cell(name, "caption_precision_weighted", **at) for name in (r.words, r.reference)]
    if test is None or test.estimate.low is None or any(cell.missing for cell in shares):
        return []
    estimate, found, rate, behind = (
        test.estimate,
        field(evidence),
        "",
        test.points + shares[0].points + shares[1].points,
    )
    level = equal(evidence, found)[0] if found else 0.0
    sides = [found.of("lexicon", level, r, name) for name in (r.words, r.reference)] if level else []
    if sides and all(sides):
        mine, other = (max(side, key=lambda search: search.rate(found.call)) for side in sides)
        ratio = times(mine.rate(found.call) / other.rate(found.call))
        rate = f" At {100 * level:.0f}% engine recall: {ratio} the queries per second of {r.reference}."
        behind += mine.points(found.call) + other.points(found.call)
    ends = {"gap": points(estimate.value), "low": points(estimate.low), "high": points(estimate.high), "rate": rate}
    share, other = (percent(cell.value) for cell in shares)
    return [sentence("words", r.words, behind, words=r.words, reference=r.reference, share=share, other=other, **ends)]


def _name(evidence: Evidence, kind: str, searches: list[Search]) -> str:
    """What the answer calls searches of a kind: their model if they are of one; the user's vectors as compared."""
    compared = dict(zip(KINDS, (evidence.reading.reference, evidence.reading.baseline), strict=True))[kind]
    models = {search.variant for search in searches} - {""}
    return compared if evidence.corpus.startswith(OWN) or len(models) != 1 else models.pop()


def equal(evidence: Evidence, found: Field) -> tuple[float, dict[str, list[Search]]]:
    """The highest level that both sides reach, and their searches there by kind; nothing if they share none."""
    r = evidence.reading
    for level in LEVELS:
        sides = {kind: found.of(kind, level, r, found.model(kind, r)) for kind in KINDS}
        if all(sides.values()):
            return level, sides
    return 0.0, {}


def won(values: dict[str, float], best: Callable) -> tuple[str, float]:
    """The better side (`OPEN` if about equal), and how many times more the larger value is."""
    ratio = max(values.values()) / min(values.values())
    return (OPEN if ratio - 1 <= EQUAL_RATIO else best(values, key=values.get)), ratio


def faster(fastest: dict[str, Search], call: Call) -> tuple[str, float]:
    """`won` by queries per second; `OPEN` also if the ratio over rounds includes 1."""
    winner, ratio = won({name: search.rate(call) for name, search in fastest.items()}, max)
    ends = _ends(fastest, winner, call) if winner else None
    return (OPEN if ends and ends[0] <= 1 else winner), ratio


def _ends(fastest: dict[str, Search], first: str, call: Call) -> tuple[float, float] | None:
    """The ratio of the slowest round of one side to the fastest of the other, and the reverse; None without rounds."""
    ends = {
        name: [search.timed(call, f"qps_{end}").value for end in ("min", "max")] for name, search in fastest.items()
    }
    if any(not value for rounds in ends.values() for value in rounds):
        return None
    first, second = sorted(ends, key=lambda name: name != first)
    return ends[first][0] / ends[second][1], ends[first][1] / ends[second][0]


def _range(fastest: dict[str, Search], first: str, call: Call) -> str:
    ends = _ends(fastest, first, call)
    return f" ({significant(ends[0])} to {significant(ends[1])} over rounds)" if ends else ""
