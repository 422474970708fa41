"""Statistics of the lexicon vectors, and rates over generated vectors beside rates over encoded ones."""

from bench.store.metrics import METRICS
from reports.records.evidence import Evidence
from reports.records.sweep import Sweep, encoded_controls, sweeps
from reports.render.tables import NOT_MEASURED, Cell, Column, Table, integer, significant, times


def statistics_table(sweep: Sweep) -> Table:
    """Statistics at the largest size; of generated vectors beside those of the vectors they were fitted to."""
    sides = {}
    for variant in sorted({variant for variant, _ in sweep.statistics}):
        encoded = sorted(images for one, images in sweep.fitted if one == variant)
        if encoded:
            sides[f"{variant}, encoded, {integer(encoded[-1])} images"] = sweep.fitted[variant, encoded[-1]]
        images = max(images for one, images in sweep.statistics if one == variant)
        what = "generated, " if sweep.fitted_to else ""
        sides[f"{variant}, {what}{integer(images)} images"] = sweep.statistics[variant, images]
    names = dict.fromkeys(name for measured in sides.values() for name in measured.cells if name.startswith("vectors_"))
    rows = []
    for name in names or ["vectors_dimension"]:
        label = METRICS.get(name.removeprefix("vectors_"), METRICS[name]).label if names else "all"
        rows.append({"statistic": Cell(label)} | {side: measured.cell(name) for side, measured in sides.items()})
    columns = (Column("statistic", "Statistic"), *(Column(side, side, significant) for side in sides))
    return Table(sweep.named("scale_vectors"), f"Lexicon vectors: {sweep.title}", columns, rows)


def encoded_control(sweep: Sweep, evidence: Evidence) -> Sweep | None:
    """The sweep over the encoded vectors that generated ones were fitted to, on the same machine.

    One searched in the same rounds comes first.
    """
    same = [
        one
        for one in encoded_controls(evidence) + sweeps(evidence)
        if (one.corpus, one.machine_id) == (sweep.fitted_to, sweep.machine_id)
    ]
    return next((one for one in same if sweep.checkpoints <= one.checkpoints), None)


def control_table(sweep: Sweep, evidence: Evidence) -> Table:
    """QPS over generated and over encoded vectors: same machine, size, setting and call."""
    control = encoded_control(sweep, evidence)
    known = {(search.images, search.setting): search for search in control.searches} if control else {}
    rows = []
    for search in sweep.searches:
        other = known.get((search.images, search.setting))
        for call in sweep.calls(search.images) if other else ():
            ours, theirs = search.timed(call), other.timed(call)
            factor = Cell(missing=ours.missing or theirs.missing or NOT_MEASURED)
            if other.rate(call) and search.rate(call):
                factor = Cell(search.rate(call) / other.rate(call), points=ours.points + theirs.points)
            about = {"search": Cell(search.label), "images": Cell(search.images), "called": Cell(call.label)}
            rows.append(about | {"encoded": theirs, "generated": ours, "factor": factor})
    group = "QPS over vectors that are"
    columns = (
        Column("search", "Engine and settings"),
        Column("images", "Images", integer),
        Column("called", "Call"),
        Column("encoded", "encoded", integer, group),
        Column("generated", "generated", integer, group),
        Column("factor", "generated / encoded", times),
    )
    caption = f"Generated vectors against encoded ones: {sweep.corpus}, {sweep.machine}"
    notes = (_note(sweep, control, [row["factor"].value for row in rows if row["factor"].value]),)
    return Table(sweep.named("scale_generated"), caption, columns, rows, notes if notes[0] else ())


def _note(sweep: Sweep, control: Sweep | None, factors: list[float]) -> str:
    if sweep.stretched_to:
        return (
            f"The vocabulary of the generated vectors was stretched to {sweep.stretched_to} lexicons, so the factor is "
            "the effect of the vocabulary, not the error of generated vectors."
        )
    if not factors:
        return f"No search was measured on both {sweep.corpus} and the vectors of {sweep.fitted_to}."
    rounds = "the same rounds" if control and control.control else "other rounds"
    apart = significant(max(max(factors), 1 / min(factors)))
    return f"Searched in {rounds}: {len(factors)} rates agree within a factor of {apart}."
