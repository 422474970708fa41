"""Zero-shot classification of every variant by prompts of class names; a group of columns for each kind of class."""

from bench.store.metrics import METRICS
from reports.pages import Section, definitions
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render.tables import NOT_APPLICABLE, Cell, Column, Table, integer, percent

TASK = {"task": "zero_shot", "split": "test"}
ACCURACIES = ("zero_shot_top1", "zero_shot_top5", "zero_shot_per_class")
GUESSES = ("zero_shot_chance", "zero_shot_most_frequent")  # top-1 without a model
SHORT = {"zero_shot_top1": "top-1", "zero_shot_top5": "top-5", "zero_shot_per_class": "per class"}


def section(evidence: Evidence) -> Section:
    found = kinds(evidence)
    data = {"kinds": list(found.values()), "definitions": definitions((*ACCURACIES, *GUESSES))}
    tables = [table(evidence, found)] if found else []
    return Section("zero_shot", "Zero-shot classification", tables=tables, data=data, folder="ablations")


def kinds(evidence: Evidence) -> dict[str, str]:
    """Knobs of the records -> the kind of class that they name, sorted by kind."""
    rows = evidence.rows[(evidence.rows.task == TASK["task"]) & (evidence.rows.split == TASK["split"])]
    named = {knobs: values.get("classes") for knobs in set(rows.knobs) if isinstance(values := parsed(knobs), dict)}
    return dict(sorted(((knobs, str(kind)) for knobs, kind in named.items() if kind), key=lambda one: one[1]))


def table(evidence: Evidence, found: dict[str, str]) -> Table:
    """One row for each variant, then the accuracy of guessing; top-5 only with more than five classes."""
    columns, broken = [Column("variant", "Variant"), Column("seeds", "Seeds", integer)], []
    rows = [{"variant": Cell(variant), "seeds": Cell(len(evidence.seeds(variant)))} for variant in evidence.variants]
    guesses = {
        metric: {"variant": Cell(METRICS[metric].label.lower()), "seeds": Cell(NOT_APPLICABLE)} for metric in GUESSES
    }
    for knobs, kind in found.items():
        cell = lambda variant, metric, knobs=knobs: evidence.cell(variant, metric, **TASK, knobs=knobs)  # noqa: E731
        measured = [
            metric for metric in ACCURACIES if any(not cell(variant, metric).missing for variant in evidence.variants)
        ]
        group = f"{kind}, %: {_size(evidence, knobs)}"
        columns += [Column(f"{kind} {metric}", SHORT[metric], percent, group) for metric in measured]
        for variant, row in zip(evidence.variants, rows, strict=True):
            row |= {f"{kind} {metric}": cell(variant, metric) for metric in measured}
            if (lost := cell(variant, "zero_shot_broken")).value:
                broken.append(f"{variant}, {kind}: {integer(lost.value)}")
        for metric, row in guesses.items():
            row |= dict.fromkeys((f"{kind} {one}" for one in measured), Cell(NOT_APPLICABLE))
            row[f"{kind} {ACCURACIES[0]}"] = _shared([cell(variant, metric) for variant in evidence.variants])
    notes = ["Intervals: over images and seeds. The mean over classes has none."]
    if broken:
        notes.append(f"Left out, because they could not be decoded: {'; '.join(broken)}.")
    caption = f"Zero-shot classification of test images of {evidence.corpus or 'no corpus'}"
    return Table("zero_shot", caption, tuple(columns), rows + list(guesses.values()), tuple(notes))


def _size(evidence: Evidence, knobs: str) -> str:
    """Numbers of classes and images, if all variants share them."""
    said = []
    for metric in ("zero_shot_classes", "zero_shot_images"):
        shared = _shared([evidence.cell(variant, metric, **TASK, knobs=knobs) for variant in evidence.variants])
        label = METRICS[metric].label.lower()
        said.append(f"{label}: {shared.missing}" if shared.missing else f"{integer(shared.value)} {label}")
    return ", ".join(said)


def _shared(cells: list[Cell]) -> Cell:
    """The value that all measured variants share."""
    known = [cell for cell in cells if not cell.missing]
    if len({cell.value for cell in known}) > 1:
        return Cell(missing="differs by variant")
    return known[0] if known else cells[0]
