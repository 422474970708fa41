"""Forest plot: the difference of every variant to the reference."""

from reports.findings import comparisons
from reports.findings.comparisons import SCREENED, SIGNIFICANT
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.figures import COLOURS, MUTED, Figure, Panel, Series, draw
from reports.render.tables import points

SHORT = {"recall@1": "R@1", "recall@10": "R@10"}
LOOKS = {
    SIGNIFICANT: ("significant after Holm's correction", {"colour": COLOURS[1]}),
    "": ("not significant", {"colour": MUTED, "filled": False}),
    SCREENED: ("screened with fewer than three seeds", {"colour": COLOURS[3], "filled": False, "marker": "s"}),
}


def section(evidence: Evidence) -> Section:
    tests = [test for test in comparisons.tests(evidence).values() if test.estimate.low is not None]
    figures = [figure(evidence, tests)] if tests else []
    return Section("forest", "Differences of the ablations", figures=figures, folder="ablations")


def figure(evidence: Evidence, tests: list[comparisons.Test]) -> Figure:
    """One panel for each tested metric, one line for each variant, the largest loss first."""
    reference = evidence.reading.reference
    worth = {test.variant: test.estimate.value for test in reversed(tests) if test.metric == comparisons.TESTED[0]}
    names = sorted({test.variant for test in tests}, key=lambda name: (worth.get(name, 0.0), name))
    panels, alt = [], []
    for metric in comparisons.TESTED:
        mine = [test for test in tests if test.metric == metric]
        series = [
            _series(name, [test for test in mine if _look(test) == mark], names, look)
            for mark, (name, look) in LOOKS.items()
        ]
        axis = f"{SHORT[metric]} minus that of {reference}, points"
        title, series = f"{SHORT[metric]}, text to image", [one for one in series if one.x]
        panels.append(Panel(title, axis, "", series, names=tuple(names)))
        values = (_in_words(test) for test in sorted(mine, key=lambda test: test.estimate.value))
        alt.append(f"{SHORT[metric]}: {'; '.join(values)}")
    caption = (
        f"Each variant minus {reference}, in points, paired by query and seed, with 95% intervals. Left of the line, "
        f"{reference} is better. Significance after Holm's correction, R@1 and R@10 apart."
    )
    return draw("forest", caption, f"Differences to {reference}, in points. {'. '.join(alt)}.", panels, columns=2)


def _look(test: comparisons.Test) -> str:
    return SCREENED if test.family == SCREENED else test.mark


def _in_words(test: comparisons.Test) -> str:
    e = test.estimate
    return f"{test.variant} {points(e.value)} [{points(e.low)}, {points(e.high)}]{test.mark}"


def _series(name: str, tests: list[comparisons.Test], names: list[str], look: dict) -> Series:
    details = []
    for test in tests:
        p = "" if test.adjusted is None else f"p {test.adjusted:.2g} after Holm's correction\n"
        n = comparisons.paired_queries(test.estimate)
        details.append(f"{p}{n}, seeds: {test.estimate.seeds}\nrecords: {', '.join(test.points)}")
    x = [100 * test.estimate.value for test in tests]
    y = [float(names.index(test.variant)) for test in tests]
    bounds = [(100 * test.estimate.low, 100 * test.estimate.high) for test in tests]
    return Series(name, x, y, bounds, line=False, details=details, **look)
