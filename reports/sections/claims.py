"""What the paper claims, beside what was measured here. A cell of the paper that this project does not have stays empty."""

from reports import speed
from reports.evidence import Evidence
from reports.sections import Section
from reports.tables import Cell, Column, Table, times

LARGE_SCALE = 1_000_000  # distractor images of the published large-scale task
NOT_AT_THIS_SCALE = "not measured at this scale"
NOT_CLAIMED = "–"

# Luo et al., 2023: arXiv 2302.02908 v1, and the version of ICCV 2023.
SPEED = ("Large-scale retrieval against CLIP: speed", "5.5× to 221.3× faster", "5.8× faster")
SIZE = ("Large-scale retrieval against CLIP: index storage", "13.2× to 48.8× smaller", "19.1× smaller")
OTHERS = (
    ("COCO and Flickr30k recall", "best of same-scale pre-training", "best of same-scale pre-training", ("coco", "flickr30k")),
    ("Zero-shot image classification", NOT_CLAIMED, "better than CLIP on 8 of 10 sets", ()),
)


def section(evidence: Evidence) -> Section:
    return Section("claims", "The paper's claims", tables=[table(evidence)])


def table(evidence: Evidence) -> Table:
    here = evidence.gallery.get(("test", "text_to_image"))
    large = sorted({size for size in evidence.rows.images.dropna() if size >= LARGE_SCALE})
    columns = [
        Column("claim", "Claim"),
        Column("v1", "arXiv v1"),
        Column("iccv", "ICCV version"),
        Column("large", "Measured with 1M images or more"),
    ]
    if here and here < LARGE_SCALE:
        columns.append(Column("here", f"Measured with {here:,.0f} images"))
    rows = []
    for (claim, v1, iccv), cell in ((SPEED, _speeds), (SIZE, _sizes)):
        found = [cell(evidence, images) for images in large]
        measured = next((c for c in reversed(found) if not c.missing), Cell(missing=NOT_AT_THIS_SCALE))
        rows.append({"claim": Cell(claim), "v1": Cell(v1), "iccv": Cell(iccv), "large": measured, "here": cell(evidence, here)})
    for claim, v1, iccv, corpora in OTHERS:
        known = evidence.corpus in corpora
        missing = Cell(missing="see the tables above; no same-scale model was compared" if known else "not measured")
        rows.append({"claim": Cell(claim), "v1": Cell(v1), "iccv": Cell(iccv), "large": missing, "here": missing})
    notes = (
        "The range of v1 is a sweep over the number of lexicons kept; the ICCV figure is one operating point. Quoted from Luo et al., 2023 (arXiv 2302.02908).",
        "The paper's task is text to image over 1M distractor images, in Lucene. A ratio at another scale, with another engine, neither confirms nor refutes it: "
        "the share of fixed costs changes with size. Where R@1 differs, a ratio is no speed-up at equal quality; the efficiency section has the R@1 of every point.",
    )
    return Table("claims", "The paper against the records", tuple(columns), rows, notes)


def _speeds(evidence: Evidence, images: float | None) -> Cell:
    parts, behind = [], []
    for mode, words in (("single", "one query at a time"), ("batched", "in batches")):
        ratios = [r for kept in _kept(evidence) if (r := speed.speed(evidence, mode, kept, images))]
        if ratios:
            parts.append(f"{_range(ratios, lambda r: r.ratio)} the QPS {words}")
            behind += [point for r in ratios for point in r.points]
    return Cell("; ".join(parts), points=tuple(behind)) if parts else Cell(missing="not measured")


def _sizes(evidence: Evidence, images: float | None) -> Cell:
    ratios = [r for kept in _kept(evidence) if (r := speed.bytes_per_image(evidence, kept, images))]
    if not ratios:
        return Cell(missing="not measured")
    return Cell(f"{_range(ratios, lambda r: 1 / r.ratio)} smaller", points=tuple(point for r in ratios for point in r.points))


def _kept(evidence: Evidence) -> list[float]:
    rows = evidence.rows
    return sorted(set(rows[rows.variant == evidence.reading.reference].kept.dropna()))


def _range(ratios: list, value) -> str:
    values = sorted(value(ratio) for ratio in ratios)
    return times(values[0]) if times(values[0]) == times(values[-1]) else f"{times(values[0])} to {times(values[-1])}"
