"""The claims of the paper beside the measured values; a value that this project does not have stays empty."""

from reports.findings import paper, speed
from reports.findings.above_flat import against_flat
from reports.findings.paper import LARGE_SCALE
from reports.findings.ratios import ENDS, Range, comparisons, lexicon_side, range_of, sizes
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.search import MODES
from reports.records.sweep import sweeps
from reports.render.tables import Cell, Column, Table, times


def section(evidence: Evidence) -> Section:
    return Section("claims", "Claims of the paper", tables=[table(evidence)])


def table(evidence: Evidence) -> Table:
    """Speed and size as ranges of ratios, at 1M images or more and over the test gallery; then the other claims."""
    here = evidence.gallery.get(("test", "text_to_image"))
    columns = [Column("claim", "Claim"), Column("v1", "arXiv v1"), Column("iccv", "ICCV version")]
    columns += [Column(f"large {end}", end, times, "Measured with 1M images or more") for end in ENDS]
    if here and here < LARGE_SCALE:
        columns += [Column(f"here {end}", end, times, f"Measured with {here:,.0f} images") for end in ENDS]
    rows, large = [], _at_scale(evidence)
    for mode, label in MODES.items():
        claim, *said = (f"{paper.SPEED[0]}, {label}", *(paper.SPEED[1:] if mode == "single" else ("–", "–")))
        measured = large.get(mode) or _largest(evidence, mode)
        rows.append(_row((claim, *said), measured, _ratios(evidence, mode, here)))
    rows.append(_row(paper.SIZE, large.get("size") or _largest(evidence, "size"), _ratios(evidence, "size", here)))
    rows += [_row(claim, *(Range(None, None, 0, 0),) * 2) for claim in paper.OTHERS]
    notes = (
        "Ratios over the dense vectors, range over top-k; below 1× the dense side is better. Quoted from Luo et al., "
        "2023 (arXiv 2302.02908): 1M distractor images in Lucene. At 1M images: engine impact against flat search of "
        "equal R@1, from the sweep. Over the test gallery, R@1 may differ: see the efficiency table.",
    )
    return Table("claims", "The paper against the records", tuple(columns), rows, notes)


def _row(claim: tuple[str, str, str], large: Range, here: Range) -> dict[str, Cell]:
    cells = dict(zip(("claim", "v1", "iccv"), map(Cell, claim), strict=True))
    for key, found in (("large", large), ("here", here)):
        cells |= {f"{key} {end}": found.cell(end) for end in ENDS}
    return cells


def _at_scale(evidence: Evidence) -> dict[str, Range]:
    """Ratios of `impact` in the first sweep that is large enough."""
    sweep = next((one for one in sweeps(evidence) if one.has_task and one.largest >= LARGE_SCALE), None)
    if not sweep:
        return {}
    rows = comparisons(sweep)
    found = {call.mode: against_flat(sweep, rows, call, "impact")[0] for call in sweep.main_calls}
    impact = [search for search in lexicon_side(sweep) if search.engine == "impact"]
    return found | {"size": range_of(sizes(sweep, search)["flat float32"] for search in impact)}


def _largest(evidence: Evidence, what: str) -> Range:
    """Ratios of the largest gallery of `lexlip-bench recall`, if it is large enough."""
    large = sorted({size for size in evidence.rows.images.dropna() if size >= LARGE_SCALE}, reverse=True)
    found = (_ratios(evidence, what, images) for images in large)
    return next((one for one in found if one.count), Range(None, None, 0, 0))


def _ratios(evidence: Evidence, what: str, images: float | None) -> Range:
    """Range over top_k of QPS ratios in a mode, or of sizes."""
    rows, found = evidence.rows, []
    for top_k in sorted(set(rows[rows.variant == evidence.reading.reference].top_k.dropna())):
        if what == "size":
            ratio = speed.bytes_per_image(evidence, top_k, images)
            found += [Cell(1 / ratio.ratio, points=ratio.points)] if ratio else []
        elif ratio := speed.speed(evidence, what, top_k, images):
            found.append(Cell(ratio.ratio, points=ratio.points))
    return range_of(found)
