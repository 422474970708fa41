"""How many times faster and smaller lexicon search is than flat dense search: the paper's two claims, over top-k.

A speedup counts only where flat search has an R@1 as good (`paired.as_good`), and only if R@1 is high enough to mean
anything (`verdict.is_comparable`); an index counts as smaller only where its R@1 is as good as that of flat search.
Generated vectors have no R@1: over them, exact search is compared with flat search.
How queries are submitted moves the ratio as much as the engine, so both calls are compared, with equal threads.
"""

from reports.findings.paired import as_good
from reports.findings.verdict import TOO_LOW, is_comparable
from reports.records.search import Call, Search
from reports.records.sweep import Sweep
from reports.render.tables import NOT_MEASURED, Cell, percent, significant, size

FLAT = "faiss-flat"
NOT_REACHED, WORSE = "not reached", "R@1 below that of flat search"


def lexicon_side(sweep: Sweep, engine: str, variant: str) -> list[Search]:
    """The searches of an engine over the largest gallery at every top-k, ascending, all else the same."""
    found = [search for search in sweep.at(sweep.largest, "lexicon")
             if (search.engine, search.variant) == (engine, variant)]  # fmt: skip
    settings = [(search.bits, search.query_top_k) for search in found]
    common = max(settings, key=lambda setting: (settings.count(setting), setting == (8, None)), default=None)
    return [search for search, setting in zip(found, settings, strict=True) if setting == common]


def flat(sweep: Sweep) -> Search | None:
    """Flat search of the largest gallery."""
    return next((search for search in sweep.at(sweep.largest, "dense") if search.engine == FLAT), None)


def speedup(sweep: Sweep, mine: Search, call: Call) -> Cell:
    """QPS over that of flat search in the same call, or why there is no ratio."""
    rival, rate = flat(sweep), mine.rate(call)
    if rate is None or (sweep.has_task and mine.recall is None):
        return Cell(missing=mine.timed(call).missing or mine.cell("recall@1").missing or NOT_MEASURED)
    if rival is None or not rival.rate(call):
        return Cell(missing=rival.timed(call).missing if rival else NOT_MEASURED)
    if sweep.has_task:
        if not is_comparable(mine.recall, mine.images):
            return Cell(missing=TOO_LOW, n=f"R@1 {percent(mine.recall)} %")
        if not as_good(sweep.evidence, rival, mine):
            best = "not measured" if rival.recall is None else f"{percent(rival.recall)} %"
            return Cell(missing=NOT_REACHED, n=f"R@1 of flat search: {best}")
    elif not mine.exact:
        return Cell(missing="not exact")
    n = f"{rival.label}, {call.label}: {significant(rival.rate(call))} queries/s"
    return Cell(rate / rival.rate(call), n=n, points=mine.points(call) + rival.points(call))


def smaller(sweep: Sweep, mine: Search) -> Cell:
    """Bytes per image of flat search over those of the index, or why there is no ratio."""
    rival = flat(sweep)
    if not mine.bytes_per_image:
        return mine.cell("bytes_per_image") if mine.problem else Cell(missing=NOT_MEASURED)
    if rival is None or not rival.bytes_per_image:
        return Cell(missing=(rival and rival.problem) or NOT_MEASURED)
    if sweep.has_task and not as_good(sweep.evidence, mine, rival):
        return Cell(missing=WORSE)
    n = f"{rival.label}: {size(rival.bytes_per_image)} per image"
    return Cell(rival.bytes_per_image / mine.bytes_per_image, n=n, points=mine.points() + rival.points())
