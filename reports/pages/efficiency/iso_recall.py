"""At equal loss of recall: the fastest and smallest search of each kind within 0, 1, 2 and 5 points of brute force."""

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.search import KINDS, Search, main_calls
from reports.records.variants import brute_force, sources
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, percent, significant, size

LEVELS = (0.0, 0.01, 0.02, 0.05)  # loss of R@1
ROUNDING = 1e-9


def section(evidence: Evidence) -> Section:
    compared = (evidence.reading.reference, evidence.reading.baseline)
    found = enumerate(sources(evidence).items(), 1)
    made = [table(title, of_models(searches, compared), place) for place, (title, searches) in found]
    made = [one for one in made if one.rows]
    names = {"names": [one.name for one in made]}
    return Section("iso_recall", "At equal loss of recall", tables=made, data=names, folder="efficiency")


def of_models(searches: list[Search], compared: tuple[str, str]) -> list[Search]:
    """Searches of the reference and the baseline; of a kind of vectors that neither has, all."""
    kinds = {search.kind for search in searches if search.variant in compared}
    return [search for search in searches if search.variant in compared or search.kind not in kinds]


def table(title: str, searches: list[Search], place: int) -> Table:
    """One row for each kind of vectors and level, at the largest gallery."""
    largest = max(search.images for search in searches)
    searches = [search for search in searches if search.images == largest]
    calls, rows, exact = main_calls(searches), [], []
    for kind in KINDS:
        whole = brute_force(searches, kind)
        if not whole:
            continue
        exact.append(f"{kind}: {whole.variant}, {whole.label}, R@1 {percent(whole.recall)} %")
        for loss in LEVELS:
            least = whole.recall - loss
            good = [search for search in searches if search.kind == kind and search.recall >= least - ROUNDING]
            cells = {
                "kind": Cell(kind),
                "loss": Cell(f"{100 * loss:.0f} point{'s' if loss > 0.01 else ''}" if loss else "none"),
                "least": Cell(max(least, 0.0), points=whole.points()),
            }
            for call in calls:
                timed = [search for search in good if search.rate(call)]
                best = max(timed, key=lambda search: search.rate(call), default=None)
                cells |= _best(call.key, best, best.timed(call) if best else None)
            best = min((s for s in good if s.bytes_per_image), key=lambda s: s.bytes_per_image, default=None)
            rows.append(cells | _best("size", best, best.cell("bytes_per_image") if best else None))
    columns = [Column("kind", "Vectors"), Column("loss", "Loss allowed"), Column("least", "R@1 at least, %", percent)]
    bests = [(call.key, f"Fastest, {call.label}", "queries/s", significant) for call in calls]
    for key, group, unit, written in (*bests, ("size", "Smallest", "per image", size)):
        columns.append(Column(f"{key} search", "search", group=group))
        columns.append(Column(f"{key} recall", "R@1, %", percent, group))
        columns.append(Column(f"{key} value", unit, written, group))
    notes = (f"Loss against brute force of the same kind: {'; '.join(exact) or NOT_MEASURED}.",)
    name = "iso_recall" if place == 1 else f"iso_recall_{place}"
    caption = f"Within a loss of R@1, over {integer(largest)} images: {title}"
    return Table(name, caption, tuple(columns), rows, notes)


def _best(key: str, search: Search | None, value: Cell | None) -> dict[str, Cell]:
    if search is None:
        return {f"{key} {part}": Cell(missing=NOT_MEASURED) for part in ("search", "recall", "value")}
    return {f"{key} search": Cell(search.label), f"{key} recall": search.cell("recall@1"), f"{key} value": value}
