"""At equal loss of quality: of each paradigm the fastest and the smallest search within 0, 1, 2 and 5 points of its brute force."""

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.scale import KINDS, Call
from reports.records.ways import Way, brute_force, sources
from reports.render.tables import Cell, Column, Table, integer, percent, significant, size

LEVELS = (0.0, 0.01, 0.02, 0.05)  # of R@1, in shares
ROUNDING = 1e-9
NONE = "none measured"


def section(evidence: Evidence) -> Section:
    compared = (evidence.reading.reference, evidence.reading.baseline)
    made = [
        table(title, of_models(ways, compared), place)
        for place, (title, ways) in enumerate(sources(evidence).items(), 1)
    ]
    made = [one for one in made if one.rows]
    return Section(
        "iso_recall",
        "At equal quality: the fastest and the smallest",
        tables=made,
        data={"names": [one.name for one in made]},
    )


def of_models(ways: list[Way], compared: tuple[str, str]) -> list[Way]:
    """Those of the reference and the baseline; of a paradigm that neither stands for, all."""
    kinds = {way.kind for way in ways if way.variant in compared}
    return [way for way in ways if way.variant in compared or way.kind not in kinds]


def table(title: str, ways: list[Way], place: int) -> Table:
    """A line for each paradigm and level, at the largest gallery."""
    largest = max(way.images for way in ways)
    ways = [way for way in ways if way.images == largest]
    calls = calls_of(ways)
    rows, stands = [], []
    for kind in KINDS:
        whole = brute_force(ways, kind)
        if not whole:
            continue
        level = whole.value("recall@1")
        stands.append(
            f"{kind}: {whole.label}{'' if whole.variant in whole.label else f' of {whole.variant}'}, {percent(level)} %"
        )
        for within in LEVELS:
            good = [way for way in ways if way.kind == kind and way.value("recall@1") >= level - within - ROUNDING]
            cells = {
                "kind": Cell(kind),
                "within": Cell(
                    f"within {100 * within:.0f} point{'s' if within > 0.01 else ''}" if within else "no loss"
                ),
                "least": Cell(max(level - within, 0.0), points=whole.points),
            }
            for call in calls:
                timed = [way for way in good if (way.mode, way.threads) == call and way.value("qps")]
                cells |= _best(call.key, "qps", max(timed, key=lambda way: way.value("qps"), default=None))
            stored = [way for way in good if way.value("bytes_per_image")]
            cells |= _best(
                "size", "bytes_per_image", min(stored, key=lambda way: way.value("bytes_per_image"), default=None)
            )
            rows.append(cells)
    columns = [
        Column("kind", "Paradigm"),
        Column("within", "Of its brute force"),
        Column("least", "R@1 at least, %", percent),
    ]
    for call in calls:
        columns += [Column(f"{call.key} search", "search", group=f"Fastest, {call.label}"), Column(f"{call.key} recall", "R@1, %", percent, f"Fastest, {call.label}"),
                    Column(f"{call.key} qps", "queries/s", significant, f"Fastest, {call.label}")]  # fmt: skip
    columns += [
        Column("size search", "search", group="Smallest"),
        Column("size recall", "R@1, %", percent, "Smallest"),
        Column("size bytes_per_image", "per image", size, "Smallest"),
    ]
    notes = (
        f"Brute force is the exact search over the most lexicons, or over the float vectors: {'; '.join(stands) or 'none was measured'}. Each paradigm is held to its own, so compare R@1 across paradigms before the speeds.",
    )
    name = "iso_recall" if place == 1 else f"iso_recall_{place}"
    return Table(name, f"Within a loss of R@1, over {integer(largest)} images: {title}", tuple(columns), rows, notes)


def calls_of(ways: list[Way]) -> list[Call]:
    """Single queries with the fewest threads, batches with the most."""
    found = {(way.mode, way.threads) for way in ways if way.mode and way.threads}
    single = sorted(threads for mode, threads in found if mode == "single")
    batched = sorted(threads for mode, threads in found if mode == "batched")
    return [Call("single", threads) for threads in single[:1]] + [Call("batched", threads) for threads in batched[-1:]]


def _best(key: str, metric: str, way: Way | None) -> dict[str, Cell]:
    if way is None:
        return {f"{key} {part}": Cell(missing=NONE) for part in ("search", "recall", metric)}
    return {
        f"{key} search": Cell(way.label),
        f"{key} recall": way.cells["recall@1"],
        f"{key} {metric}": way.cells[metric],
    }
