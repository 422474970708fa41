"""What the paper claims, beside what was measured here. A cell of the paper that this project does not have stays empty."""

from dataclasses import replace

from reports.findings import speed as measured_speed
from reports.findings.paper import LARGE_SCALE, SIZE, SPEED
from reports.findings.scale_beyond import against_flat
from reports.findings.scale_ratios import comparisons, lexicon_side, range_cell, sizes
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.scale import sweeps
from reports.render.tables import Cell, Column, Table, times

NOT_AT_THIS_SCALE = "not measured at this scale"
NOT_CLAIMED = "–"

OTHERS = (
    (
        "COCO and Flickr30k recall",
        "best of same-scale pre-training",
        "best of same-scale pre-training",
        ("coco", "flickr30k"),
    ),
    ("Zero-shot image classification", NOT_CLAIMED, "better than CLIP on 8 of 10 sets", ()),
)


def section(evidence: Evidence) -> Section:
    return Section("claims", "The paper's claims", tables=[table(evidence)])


def table(evidence: Evidence) -> Table:
    here = evidence.gallery.get(("test", "text_to_image"))
    columns = [
        Column("claim", "Claim"),
        Column("v1", "arXiv v1"),
        Column("iccv", "ICCV version"),
        Column("large", "Measured with 1M images or more"),
    ]
    if here and here < LARGE_SCALE:
        columns.append(Column("here", f"Measured with {here:,.0f} images"))
    rows, large = [], _at_scale(evidence)
    for (claim, v1, iccv), cell in ((SPEED, _speeds), (SIZE, _sizes)):
        measured = large.get(claim) or _largest(evidence, cell)
        rows.append(
            {"claim": Cell(claim), "v1": Cell(v1), "iccv": Cell(iccv), "large": measured, "here": cell(evidence, here)}
        )
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


def _largest(evidence: Evidence, cell) -> Cell:
    """Of the largest gallery with a ratio that `lexlip-bench recall` measured, if it is large enough."""
    large = sorted({size for size in evidence.rows.images.dropna() if size >= LARGE_SCALE}, reverse=True)
    found = (cell(evidence, images) for images in large)
    return next((each for each in found if not each.missing), Cell(missing=NOT_AT_THIS_SCALE))


def _at_scale(evidence: Evidence) -> dict[str, Cell]:
    """By claim: `impact` against flat search, one query at a time and at least equal R@1; and against its bytes. Of the first sweep that is large enough."""
    sweep = next((sweep for sweep in sweeps(evidence) if sweep.judged and sweep.largest >= LARGE_SCALE), None)
    call = sweep and sweep.call("single")
    if not call:
        return {}
    speed = against_flat(sweep, comparisons(sweep), call, "impact")
    stores = [sizes(sweep, search)["flat float32"] for search in lexicon_side(sweep) if search.engine == "impact"]
    called = replace(speed, value=f"{call.label}: {speed.value}") if not speed.missing else speed
    return {SPEED[0]: called, SIZE[0]: range_cell(stores, "smaller", "larger")}


def _speeds(evidence: Evidence, images: float | None) -> Cell:
    parts, behind = [], []
    for mode, words in (("single", "one query at a time"), ("batched", "in batches")):
        ratios = [r for top_k in _top_k(evidence) if (r := measured_speed.speed(evidence, mode, top_k, images))]
        if ratios:
            parts.append(f"{_range(ratios, lambda r: r.ratio)} the QPS {words}")
            behind += [point for r in ratios for point in r.points]
    return Cell("; ".join(parts), points=tuple(behind)) if parts else Cell(missing="not measured")


def _sizes(evidence: Evidence, images: float | None) -> Cell:
    ratios = [r for top_k in _top_k(evidence) if (r := measured_speed.bytes_per_image(evidence, top_k, images))]
    if not ratios:
        return Cell(missing="not measured")
    return Cell(
        f"{_range(ratios, lambda r: 1 / r.ratio)} smaller", points=tuple(point for r in ratios for point in r.points)
    )


def _top_k(evidence: Evidence) -> list[float]:
    rows = evidence.rows
    return sorted(set(rows[rows.variant == evidence.reading.reference].top_k.dropna()))


def _range(ratios: list, value) -> str:
    values = sorted(value(ratio) for ratio in ratios)
    return times(values[0]) if times(values[0]) == times(values[-1]) else f"{times(values[0])} to {times(values[-1])}"
