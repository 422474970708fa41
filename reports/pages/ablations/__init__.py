"""Each part of LexLIP: its effect in a forest plot, a table of all measures, learning curves, and words."""

from reports.findings import comparisons
from reports.pages import Section
from reports.pages.ablations import longer
from reports.pages.ablations.curves import learning, sparsifier_chart, words_chart, work_chart
from reports.pages.ablations.measures import table
from reports.records.evidence import Evidence
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import percent, points, signed
from reports.statistics.intervals import LEAST_SEEDS

GROUPS = {
    comparisons.MAIN: f"{LEAST_SEEDS} seeds or more",
    comparisons.SCREENED: f"Fewer than {LEAST_SEEDS} seeds",
}


def sections(evidence: Evidence) -> list[Section]:
    r, whole = evidence.reading, table(evidence)
    effects, curves = forest(evidence), learning(evidence)
    made = [
        Section(
            "effects", "What each part does",
            (f"Each line is one change to {r.reference}, on the same queries. Left of zero: it finds less.",),
            [effects] if effects else [], [], empty="No change can be compared: per-query results are missing.",
        ),
        Section("ablations", "Every measure", (), [], whole[:1], whole[1:]),
    ]  # fmt: skip
    if words := words_chart(evidence):
        text = "A lexicon is readable if the weights of an image lie on words of its captions. Typed words: the first "
        text += "caption's words are the query, without the text encoder."
        made.append(Section("words", "Are the lexicons words?", (text,), [words]))
    if work := work_chart(evidence):
        text = "Multiply-adds of a query with an image: what an inverted index computes for each pair, on average."
        made.append(Section("work", "What quality costs", (text,), [work]))
    if sparse := sparsifier_chart(evidence):
        text = "Each sparsifier at three strengths, in training: what is left of R@1, and what a query costs."
        made.append(Section("sparsifiers", "How vectors become sparse", (text,), [sparse]))
    if curves:
        made.append(Section("learning", "Learning curves", (), [curves]))
    return made + longer.sections(evidence)


def forest(evidence: Evidence) -> Chart | None:
    """R@1 of every change minus that of the reference, largest loss first; those with too few seeds apart."""
    tests = [
        t
        for (_, metric), t in comparisons.tests(evidence).items()
        if metric == "recall@1" and t.estimate.low is not None
    ]
    panels, alt = [], []
    for family, title in GROUPS.items():
        mine = [test for test in tests if test.family == family]
        mine.sort(key=lambda test: (test.estimate.value, test.variant))
        names = tuple(test.variant for test in mine)
        series = [
            Series(label, tuple(_effect(t, names) for t in mine if t.significant == (colour == 4)),
                   colour, hollow=colour != 4)
            for label, colour in (("significant after Holm's correction", 4), ("not significant, or not tested", 7))
        ]  # fmt: skip
        if mine:
            axis = Axis("R@1, points", zero=True, format=lambda value: signed(value, 1).removesuffix(".0"))
            panels.append(Panel(title, axis, Axis("", names=names), tuple(one for one in series if one.marks)))
            alt.append(f"{title}: " + "; ".join(f"{t.variant} {points(t.estimate.value)}" for t in mine))
    if not panels:
        return None
    r = evidence.reading
    clear = [test for test in tests if test.significant]
    title = f"No model differs significantly from {r.reference}"
    if clear:
        worst = min(clear, key=lambda test: (test.variant == r.baseline, test.estimate.value))
        way = "loses" if worst.estimate.value < 0 else "gains"
        title = f"{worst.variant} {way} {percent(abs(worst.estimate.value))} points of R@1"
        title += "; no other model differs significantly" if len(clear) == 1 else ""
    return Chart(
        "forest", title, f"R@1 of each model minus that of {r.reference}, paired by query and seed; 95% intervals.",
        evidence.corpus, ". ".join(alt), tuple(panels), 2,
        f"With fewer than {LEAST_SEEDS} seeds nothing is tested: the difference is to {r.reference} of the same seeds, "
        "and its interval is over images only, so another training may differ by more.",
    )  # fmt: skip


def _effect(test: comparisons.Test, names: tuple[str, ...]) -> Mark:
    e = test.estimate
    p = "" if test.adjusted is None else f"\np {test.adjusted:.2g} after Holm's correction"
    tip = f"{test.variant}: {points(e.value)} points\n95% interval {points(e.low)} to {points(e.high)}{p}\n"
    tip += f"{comparisons.paired_queries(e)}, seeds: {e.seeds}\nrecords: {', '.join(test.points[:6])}"
    return Mark(100 * e.value, float(names.index(test.variant)), tip, 100 * e.low, 100 * e.high)
