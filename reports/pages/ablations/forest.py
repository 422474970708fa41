"""The differences of all variants to the reference at a glance: a forest plot."""

from reports.findings import comparisons
from reports.findings.comparisons import OF_ONE_SEED, SIGNIFICANT
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.figures import COLOURS, MUTED, Figure, Panel, Series, draw
from reports.render.tables import points

SHORT = {"recall@1": "R@1", "recall@10": "R@10"}


def section(evidence: Evidence) -> Section:
    tests = [test for test in comparisons.tests(evidence).values() if test.estimate.low is not None]
    return Section(
        "forest",
        "What each part is worth",
        figures=[figure(evidence, tests)] if tests else [],
        data={"tests": len(tests)},
    )


def figure(evidence: Evidence, tests: list[comparisons.Test]) -> Figure:
    """A panel for each metric that was tested, a line for each variant, the largest loss first."""
    reference = evidence.reading.reference
    worth = {test.variant: test.estimate.value for test in reversed(tests) if test.metric == comparisons.TESTED[0]}
    names = sorted({test.variant for test in tests}, key=lambda name: (worth.get(name, 0.0), name))
    panels, told = [], []
    for metric in comparisons.TESTED:
        mine = [test for test in tests if test.metric == metric]
        series = [
            _series(
                "significant after Holm's correction",
                [test for test in mine if test.mark == SIGNIFICANT],
                names,
                COLOURS[1],
            ),
            _series(
                "significant over the queries of one seed",
                [test for test in mine if test.mark == OF_ONE_SEED],
                names,
                COLOURS[3],
                filled=False,
            ),
            _series("not significant", [test for test in mine if not test.mark], names, MUTED, filled=False),
        ]
        axis = f"{SHORT[metric]} minus that of {reference}, points"
        panels.append(
            Panel(f"{SHORT[metric]}, text to image", axis, "", [one for one in series if one.x], names=tuple(names))
        )
        told.append(
            f"{SHORT[metric]}: " + "; ".join(map(_in_words, sorted(mine, key=lambda test: test.estimate.value)))
        )
    caption = (
        f"Each variant minus {reference}, in points, paired by query and seed; bars are 95% intervals, not corrected for many comparisons. "
        f"Filled: significant at {evidence.reading.significant} after Holm's correction over the {len(tests)} tests shown; hollow in colour: so over the queries of one seed alone, which another training run need not show. Left of the line: {reference} is better, so the part that the variant lacks matters."
    )
    return draw("forest", caption, f"Differences to {reference}, in points. {'. '.join(told)}.", panels, columns=2)


def _in_words(test: comparisons.Test) -> str:
    e = test.estimate
    return f"{test.variant} {points(e.value)} [{points(e.low)}, {points(e.high)}]{' significant' if test.significant else ''}"


def _series(name: str, tests: list[comparisons.Test], names: list[str], colour: str, filled: bool = True) -> Series:
    details = []
    for test in tests:
        e = test.estimate
        corrected = "" if test.adjusted is None else f"p {test.adjusted:.2g} after Holm's correction\n"
        details.append(
            f"{corrected}{e.queries:,} paired queries of {e.groups:,} images, {e.seeds} seed{'s' if e.seeds > 1 else ''}\nrecords: {', '.join(test.points)}"
        )
    return Series(
        name, [100 * test.estimate.value for test in tests], [float(names.index(test.variant)) for test in tests],
        [(100 * test.estimate.low, 100 * test.estimate.high) for test in tests], colour=colour, line=False, filled=filled, details=details,
    )  # fmt: skip
