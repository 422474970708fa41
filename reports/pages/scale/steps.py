"""Time of the steps of a sweep: building, measuring quality and timing the indexes of each gallery."""

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.records.sweep import machine_of
from reports.render.tables import NOT_APPLICABLE, Cell, Column, Table, integer

TASK = "steps"
STEPS = {"sweep_build_seconds": "build", "sweep_accuracy_seconds": "quality", "sweep_rounds_seconds": "timing"}
GALLERY = ["machine_id", "corpus", "beside", "variant", "kind", "images"]


def section(evidence: Evidence) -> Section | None:
    rows = pd.concat([evidence.rows, evidence.generated])
    rows = rows[(rows.task == TASK) & (rows.status == "ok")]
    groups = enumerate(rows.groupby("machine_id"), 1)
    tables = [table(of_machine, machine_of(of_machine), place) for place, (_, of_machine) in groups]
    return Section("scale_steps", "Time of the steps of a sweep", tables=tables, folder="scale") if tables else None


def table(rows: pd.DataFrame, machine: str, place: int) -> Table:
    """One row for each gallery, the largest first, summed over its runs; then the total."""
    values = rows.pivot(index="point_id", columns="metric", values="value")
    points = rows.drop_duplicates("point_id").set_index("point_id").join(values).reset_index().sort_values("started")
    points["beside"] = [parsed(knobs).get("beside", "") for knobs in points.knobs]
    code = points.groupby(GALLERY, dropna=False).code_id.transform("last")
    points = points[points.code_id == code]  # without the runs of earlier versions of the sweep
    galleries = [group for _, group in points.groupby(GALLERY, dropna=False)]
    galleries.sort(key=lambda group: (-group.images.iloc[0], group.kind.iloc[0] != "lexicon", group.corpus.iloc[0]))
    total = dict.fromkeys(("side", "images", "note"), Cell(NOT_APPLICABLE)) | {"gallery": Cell("all")}
    columns = (
        Column("gallery", "Vectors of"),
        Column("side", "Kind"),
        Column("images", "Images", integer),
        Column("indexes", "Indexes", integer),
        *(Column(metric, step, integer, "Seconds") for metric, step in STEPS.items()),
        Column("all", "all", integer, "Seconds"),
        Column("note", "Note"),
    )
    notes = (
        "Wall time without encoding, summed over all runs that ended. Indexes include those of absent engines. "
        "Quality: all queries with qrels at every search setting, and exact answers by brute force.",
    )
    name = "scale_steps" if place == 1 else f"scale_steps_{place}"
    made = [*map(_row, galleries), total | _seconds(points)]
    return Table(name, f"Time of the steps: {machine}", columns, made, notes)


def _row(points: pd.DataFrame) -> dict[str, Cell]:
    first = points.iloc[0]
    return {
        "gallery": Cell(f"{first.corpus}, beside {first.beside} ones" if first.beside else first.corpus),
        "side": Cell(first.kind),
        "images": Cell(float(first.images)),
        **_seconds(points),
        "note": Cell("; ".join(filter(None, points.note)) or NOT_APPLICABLE),
    }


def _seconds(points: pd.DataFrame) -> dict[str, Cell]:
    behind = tuple(points.point_id)
    steps = {metric: Cell(float(points[metric].sum()), points=behind) for metric in STEPS}
    indexes = sum(parsed(knobs)["indexes"] for knobs in points.knobs)
    return {
        "indexes": Cell(indexes, points=behind),
        **steps,
        "all": Cell(sum(cell.value for cell in steps.values()), points=behind),
    }
