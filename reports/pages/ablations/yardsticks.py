"""Recall of every variant beside published values, for the corpora that have some; published rows say so."""

from reports.findings import published
from reports.findings.published import Published
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.render.tables import Cell, Column, Table, integer, percent

DIRECTION = "text_to_image"
RECALLS = {"recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10"}


def section(evidence: Evidence) -> Section | None:
    """None for a corpus without published values or without recall."""
    beside = published.of_corpus(published.RECALL, evidence.corpora.given(evidence.corpus))
    if not beside or ("test", DIRECTION) not in evidence.gallery:
        return None
    return Section("yardsticks", "Published recall", tables=[table(evidence, beside)], folder="ablations")


def table(evidence: Evidence, beside: list[Published]) -> Table:
    """One row for each variant at its operating point, then the published values."""
    columns = [Column("variant", "Model")]
    columns += [Column(metric, label, percent, "Text to image, %") for metric, label in RECALLS.items()]
    columns += [Column("images", "Images", integer), Column("source", "Source")]
    images = evidence.gallery["test", DIRECTION]
    rows = []
    for variant in evidence.variants:
        filters = evidence.retrieval("test", DIRECTION) | evidence.operating_point(variant)
        cells = {metric: evidence.cell(variant, metric, **filters) for metric in RECALLS}
        rows.append(measured_row(variant) | {"images": Cell(images)} | cells)
    rows += [published_row(one) | {"images": Cell(published.TEST_IMAGES[one.corpus])} for one in beside]
    notes = (
        "Published values are quoted, not measured here: their texts, images and model may be prepared differently.",
    )
    return Table("yardsticks", f"Recall on {evidence.corpus}, published values beside", tuple(columns), rows, notes)


def measured_row(variant: str) -> dict[str, Cell]:
    """The text cells of a variant."""
    return {"variant": Cell(variant), "source": Cell("measured")}


def published_row(one: Published) -> dict[str, Cell]:
    """The cells of a published value, marked as such."""
    texts = {"variant": Cell(one.model), "source": Cell(f"published, {one.source}")}
    return texts | {metric: Cell(value) for metric, value in one.values.items()}
