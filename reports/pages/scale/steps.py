"""Where the time of a sweep went: building, judging and timing the indexes of each gallery; from the records that `bench.scale` writes as it goes."""

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence, parsed
from reports.records.scale import machine_of
from reports.render.tables import NOT_APPLICABLE, Cell, Column, Table, integer

TASK = "steps"
STEPS = {"sweep_build_seconds": "building", "sweep_accuracy_seconds": "judging", "sweep_rounds_seconds": "timing"}
GALLERY = ["machine_id", "corpus", "beside", "variant", "kind", "images"]


def section(evidence: Evidence) -> Section | None:
    rows = pd.concat([evidence.rows, evidence.generated])
    rows = rows[(rows.task == TASK) & (rows.status == "ok")]
    if rows.empty:
        return None
    tables = [
        table(of_machine, machine_of(of_machine), place)
        for place, (_, of_machine) in enumerate(rows.groupby("machine_id"), 1)
    ]
    return Section("scale_steps", "Where the time of a sweep went", tables=tables)


def table(rows: pd.DataFrame, machine: str, place: int) -> Table:
    """A row for each gallery, the largest first; of one that was swept in several runs, all of them added up; and the sum."""
    values = rows.pivot(index="point_id", columns="metric", values="value")
    points = rows.drop_duplicates("point_id").set_index("point_id").join(values).reset_index().sort_values("started")
    points["beside"] = [parsed(knobs).get("beside", "") for knobs in points.knobs]
    code = points.groupby(GALLERY, dropna=False).code_id.transform("last")
    points = points[points.code_id == code]  # not what an earlier version of the sweep had taken
    galleries = [group for _, group in points.groupby(GALLERY, dropna=False)]
    galleries.sort(key=lambda group: (-group.images.iloc[0], group.kind.iloc[0] != "lexicon", group.corpus.iloc[0]))
    made = [_row(group) for group in galleries]
    total = {
        "gallery": Cell("all"),
        "side": Cell(missing=NOT_APPLICABLE),
        "images": Cell(missing=NOT_APPLICABLE),
        **_seconds(points),
        "note": Cell(NOT_APPLICABLE),
    }
    columns = (
        Column("gallery", "Vectors of"), Column("side", "Kind"), Column("images", "Images", integer), Column("indexes", "Indexes", integer),
        *(Column(metric, step, integer, "Seconds") for metric, step in STEPS.items()), Column("all", "all", integer, "Seconds"), Column("note", "Note"),
    )  # fmt: skip
    notes = (
        "Wall time. Indexes: those asked for, of absent engines too. Judging: every judged query through every index at every setting of its search, and the exact answers by brute force. Timing: all rounds. "
        "Encoding is not among it. A gallery that was swept in several runs has the sum of those that ended; what a killed one took is not known.",
    )
    return Table(
        "scale_steps" if place == 1 else f"scale_steps_{place}",
        f"Where the time went: {machine}",
        columns,
        [*made, total],
        notes,
    )


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
