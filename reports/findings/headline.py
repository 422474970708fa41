"""The answer in one screen: a few sentences and four numbers, made from the records, losses first.

The pair that is compared at scale is chosen by rule, the same for both sides: the best search of each in R@1; and at equal R@1. There, the
level is the highest R@1 that both paradigms reach: that of the best search of the weaker one. Of the searches of each paradigm whose R@1 is as good (`Sweep.as_good`), the fastest, or smallest, stand
against each other; flat search over un-compressed vectors stands beside.
"""

from dataclasses import dataclass

from reports.findings import comparisons, paired
from reports.findings.scale_ratios import FLAT, engine, points_of
from reports.findings.verdict import EQUAL_RATIO, LOSES, OPEN, ORDER, WINS
from reports.records.evidence import UNTRAINED, Evidence
from reports.records.scale import KINDS, Call, Search, Sweep, sweeps
from reports.render.tables import integer, percent, points, size, times

QUALITY, SPEED, SIZE, PARTS = (
    "R@1 at scale",
    "Speed at equal R@1",
    "Index size at equal R@1",
    "The part that matters most",
)


@dataclass(frozen=True)
class Finding:
    """One comparison of the reference with the baseline, in a sentence and, for the main ones, in a tile. `anchor`: the section with its evidence."""

    verdict: str
    what: str
    sentence: str
    anchor: str
    points: tuple[str, ...]
    headline: str = ""
    detail: str = ""


def at_scale(evidence: Evidence) -> list[Finding]:
    """Speed and size at equal R@1, then the best R@1 of both, of the first sweep in which both paradigms were judged; else nothing."""
    for sweep in sweeps(evidence):
        lexicon, dense = (
            [search for search in sweep.at(sweep.largest, kind) if search.recall and not search.engine.endswith("-gpu")]
            for kind in KINDS
        )
        if lexicon and dense:
            level = Level.of(sweep, lexicon, dense)
            return [found for found in (_speed(level), _size(level), _quality(sweep, lexicon, dense)) if found]
    return []


@dataclass(frozen=True)
class Level:
    """The searches of each side that are as good as the best of the weaker one."""

    sweep: Sweep
    recall: float
    lexicon: list[Search]
    dense: list[Search]

    @classmethod
    def of(cls, sweep: Sweep, lexicon: list[Search], dense: list[Search]) -> "Level":
        tops = [max(side, key=lambda search: search.recall) for side in (lexicon, dense)]
        weaker = tops[1] if sweep.as_good(tops[0], tops[1]) else tops[0]
        sides = [[search for search in side if sweep.as_good(search, weaker)] for side in (lexicon, dense)]
        return cls(sweep, weaker.recall, *sides)

    @property
    def words(self) -> str:
        return (
            f"Over {integer(self.sweep.largest)} images, at the highest R@1 that both reach ({percent(self.recall)} %)"
        )


def ranked(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: ORDER.index(finding.verdict))


def parts(evidence: Evidence) -> Finding | None:
    """How many ablations change R@1 beyond chance, and which the most; before that, those without whose part the reference would be better."""
    metric = comparisons.TESTED[0]
    reading = evidence.reading
    tests = [
        test for (name, tested), test in comparisons.tests(evidence).items()
        if tested == metric and name not in (reading.reference, reading.baseline) and not name.startswith(UNTRAINED)
    ]  # fmt: skip
    if not tests:
        return None
    clear = [test for test in tests if test.significant]
    behind = tuple(dict.fromkeys(point for test in tests for point in test.points))
    if not clear:
        said = f"None of the {len(tests)} ablations tested changes R@1 by more than chance."
        return Finding(OPEN, PARTS, said, "forest", behind, "none", said)
    most = max(clear, key=lambda test: abs(test.estimate.value))
    better = sorted((test for test in clear if test.estimate.value > 0), key=lambda test: -test.estimate.value)
    once = sum(test.of_one_seed for test in clear)
    rests = f" ({integer(once)} of them over the queries of one seed alone)" if once else ""
    said = f"Of {len(tests)} ablations, {len(clear)} {'changes' if len(clear) == 1 else 'change'} R@1 significantly after correction{rests}; the largest change is that of {_change(most)}."
    detail = f"{_change(most)} against {reading.reference}; {len(clear)} of {len(tests)} significant after Holm's correction{rests}"
    if better:
        gains = f"Better than {reading.reference}: {'; '.join(map(_change, better))}"
        said, detail = f"{gains}. {said}", f"{detail}. {gains}"
    return Finding(OPEN, PARTS, said, "forest", behind, f"{points(most.estimate.value)} points", detail)


def _change(test: comparisons.Test) -> str:
    e = test.estimate
    return f"{test.variant}, {points(e.value)} points [{points(e.low)}, {points(e.high)}]{' (one seed)' if test.of_one_seed else ''}"


def _speed(level: Level) -> Finding | None:
    said = [(call, *pair) for call in _calls(level.sweep) if (pair := _fastest(level, call))]
    if not said:
        return None
    call, mine, theirs, flat = said[0]
    verdict, words = _verdict(mine.rate(call) / theirs.rate(call), "faster", "slower")
    sentence = f"{level.words}, the fastest lexicon search is " + "; ".join(_speeds(*one) for one in said) + "."
    detail = f"{_rated(mine, call)} against {_rated(theirs, call)}; {call.label}"
    if flat:
        detail += (
            f". Against un-compressed flat search: {_ratio(mine.rate(call) / flat.rate(call), 'faster', 'slower')}"
        )
    behind = tuple(
        dict.fromkeys(
            point for call, *searches in said for search in searches if search for point in points_of(search, call)
        )
    )
    return Finding(verdict, SPEED, sentence, "scale_engines", behind, words, detail)


def _quality(sweep: Sweep, lexicon: list[Search], dense: list[Search]) -> Finding:
    """The best of each side, then its speed: against that search, and against the fastest that is as good."""
    mine = max(lexicon, key=lambda search: search.recall)
    theirs = max(dense, key=lambda search: (search.recall, search.engine == FLAT))
    gap = paired.difference(sweep.evidence, mine.accuracy.point_id, theirs.accuracy.point_id)
    known = gap is not None and gap.low is not None
    verdict = OPEN if not known else WINS if gap.low > 0 else LOSES if gap.high < 0 else OPEN
    interval = (
        f"95% interval {points(gap.low)} to {points(gap.high)}, {integer(gap.queries)} queries"
        if known
        else "without an interval"
    )
    sentence = (
        f"Over {integer(sweep.largest)} images the best lexicon search ({mine.name}) has R@1 {percent(mine.recall)} %, the best dense one ({theirs.name}) "
        f"{percent(theirs.recall)} %: {points(mine.recall - theirs.recall)} points ({interval})"
    )
    behind = points_of(mine) + points_of(theirs)
    if (call := sweep.call("single")) and mine.rate(call) and theirs.rate(call):
        ways = "faster than", "slower than", "as fast as"
        fastest = max(
            (one for one in dense if one.rate(call) and sweep.as_good(one, theirs)), key=lambda one: one.rate(call)
        )
        sentence += f". It is {_ratio(mine.rate(call) / theirs.rate(call), *ways)} {theirs.name}"
        if fastest is not theirs:
            sentence += f" and {_ratio(mine.rate(call) / fastest.rate(call), *ways)} {fastest.name}, the fastest dense engine as good as {theirs.name}"
        sentence += f" ({call.label})"
        behind = points_of(mine, call) + points_of(theirs, call) + points_of(fastest, call)
    return Finding(verdict, QUALITY, f"{sentence}.", "scale", tuple(dict.fromkeys(behind)))


def _calls(sweep: Sweep) -> list[Call]:
    return list(dict.fromkeys(filter(None, (sweep.call("single"), sweep.call("batched")))))


def _fastest(level: Level, call: Call) -> tuple[Search, Search, Search | None] | None:
    """The fastest lexicon search, dense search, and flat search."""
    mine, theirs, flat = (
        [search for search in side if search.rate(call)]
        for side in (level.lexicon, level.dense, engine(level.dense, FLAT))
    )
    if not mine or not theirs:
        return None
    return tuple(max(side, key=lambda search: search.rate(call), default=None) for side in (mine, theirs, flat))


def _speeds(call: Call, mine: Search, theirs: Search, flat: Search | None) -> str:
    ways = "faster than", "slower than", "as fast as"
    said = f"{_ratio(mine.rate(call) / theirs.rate(call), *ways)} the fastest dense engine"
    if flat:
        said += f" and {_ratio(mine.rate(call) / flat.rate(call), *ways)} un-compressed flat search"
    return f"{said} ({call.label})"


def _rated(search: Search, call: Call) -> str:
    return f"{search.label}, {integer(search.rate(call))} queries/s"


def _size(level: Level) -> Finding | None:
    mine, theirs, flat = (
        [search for search in side if search.bytes_per_image]
        for side in (level.lexicon, level.dense, engine(level.dense, FLAT))
    )
    if not mine or not theirs:
        return None
    mine, theirs, flat = (
        min(side, key=lambda search: search.bytes_per_image, default=None) for side in (mine, theirs, flat)
    )
    gain = theirs.bytes_per_image / mine.bytes_per_image
    verdict, words = _verdict(gain, "smaller", "larger")
    sentence = f"The smallest lexicon index of that R@1 is {_ratio(gain, 'smaller than', 'larger than', 'as large as')} the smallest dense one"
    detail = (
        f"{mine.label}, {size(mine.bytes_per_image)} per image against {theirs.label}, {size(theirs.bytes_per_image)}"
    )
    if flat:
        against = flat.bytes_per_image / mine.bytes_per_image
        sentence += f" and {_ratio(against, 'smaller than', 'larger than', 'as large as')} flat float32 vectors"
        detail += f". Against flat float32: {_ratio(against, 'smaller', 'larger')}"
    behind = tuple(dict.fromkeys(point for search in (mine, theirs, flat) if search for point in points_of(search)))
    return Finding(verdict, SIZE, f"{sentence}.", "scale_engines", behind, words, detail)


def _verdict(gain: float, better: str, worse: str) -> tuple[str, str]:
    return (OPEN if abs(gain - 1) <= EQUAL_RATIO else WINS if gain > 1 else LOSES), _ratio(gain, better, worse)


def _ratio(gain: float, better: str, worse: str, equal: str = "about equal") -> str:
    if abs(gain - 1) <= EQUAL_RATIO:
        return f"{equal} ({times(gain)})" if equal == "about equal" else f"about {equal}"
    return f"{times(gain)} {better}" if gain > 1 else f"{times(1 / gain)} {worse}"
