"""Arithmetic for 100 million and a billion images: `lexlip-bench scaling` writes docs/scaling.md from the records.

Bytes and seconds are extrapolated by power laws over the measured gallery sizes; a test holds the document to
the records.
"""

from pathlib import Path

from bench.store import cli
from models.files import atomic_file
from reports.findings.growth import LEAST_SIZES, Fit, fit
from reports.records.evidence import Evidence, Reading
from reports.records.search import Call, Search
from reports.records.sweep import sweeps
from reports.render.tables import Cell, Column, Table, integer, percent, signed, significant, size

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("impact", "seismic", "lucene", "faiss-flat", "hnswlib", "faiss-ivf-pq")
TARGETS = {100_000_000: "100 million images", 1_000_000_000: "1 billion images"}
LOAD = 100  # queries per second
CALL = Call("single", 1)
HEAD = """# Beyond one machine, on paper

Made by `lexlip-bench scaling` from the records in `results/reference/`; a test holds it to them. A value at N images is
the measured value times (N / measured images)^exponent; exponents are fitted over the measured sizes.

- Bytes: index on disk. Seconds: one query on one core. Cores: {load} queries per second, if cores add up.
- A fit over three or four sizes says little a hundred times beyond them: read orders of magnitude.
- Recall falls as the gallery grows and is not extrapolated; an engine that finds little of the exact top 10 is fast
  only at that quality.
- Past the memory of one machine the index is cut into shards. Each query goes to all of them: bytes and seconds add up.
"""


def document(evidence: Evidence) -> str:
    """The whole Markdown document."""
    found = [one for engine in ENGINES if (one := largest(evidence, engine))]
    head = HEAD.format(load=LOAD)
    if not found:
        return f"{head}\nNot measured: no engine has {LEAST_SIZES} gallery sizes.\n"
    return "\n".join([head, measured_table(found).to_markdown(), extrapolated_table(found).to_markdown()])


def largest(evidence: Evidence, engine: str) -> tuple[str, Search, Fit, Fit] | None:
    """(corpus, search, fit of bytes, fit of QPS) of the largest gallery of an engine; None without both fits."""
    found = []
    for sweep in sweeps(evidence):
        for searches in (searches for searches in sweep.by_setting() if searches[-1].engine == engine):
            fits = fit(searches, lambda s: s.cell("index_bytes")), fit(searches, lambda s: s.timed(CALL))
            if all(fits):
                last = next(search for search in searches if search.images == max(one.sizes[-1] for one in fits))
                found.append((sweep.corpus, last, *fits))
    return max(found, key=lambda one: one[1].images, default=None)


def measured_table(found: list[tuple[str, Search, Fit, Fit]]) -> Table:
    """The measured values at the largest gallery, and the exponents."""
    rows = [
        {
            "engine": Cell(search.label),
            "corpus": Cell(corpus),
            "images": Cell(search.images),
            "bytes": search.cell("index_bytes"),
            "seconds": Cell(1 / search.rate(CALL), points=search.timed(CALL).points),
            "found": search.cell("engine_recall@10"),
            "bytes exponent": Cell(of_bytes.exponent, points=of_bytes.points),
            "seconds exponent": Cell(-of_rate.exponent, points=of_rate.points),
        }
        for corpus, search, of_bytes, of_rate in found
    ]
    columns = (
        Column("engine", "Engine and settings"),
        Column("corpus", "Vectors of"),
        Column("images", "Images", integer),
        Column("bytes", "Bytes", size),
        Column("seconds", "Seconds per query", significant),
        Column("found", "Exact top 10 found, %", percent),
        Column("bytes exponent", "bytes", signed, "Exponent"),
        Column("seconds exponent", "seconds", signed, "Exponent"),
    )
    return Table("scaling_measured", "Measured", columns, rows)


def extrapolated_table(found: list[tuple[str, Search, Fit, Fit]]) -> Table:
    """Bytes, seconds and cores at each target size."""
    rows = []
    for _, search, of_bytes, of_rate in found:
        cells = {"engine": Cell(search.label)}
        for images in TARGETS:
            grown = images / search.images
            seconds = grown**-of_rate.exponent / search.rate(CALL)
            cells |= {
                f"{images} bytes": Cell(search.cell("index_bytes").value * grown**of_bytes.exponent),
                f"{images} seconds": Cell(seconds),
                f"{images} cores": Cell(LOAD * seconds),
            }
        rows.append(cells)
    columns = [Column("engine", "Engine and settings")]
    for images, name in TARGETS.items():
        columns.append(Column(f"{images} bytes", "bytes", size, name))
        columns.append(Column(f"{images} seconds", "seconds per query", significant, name))
        columns.append(Column(f"{images} cores", "cores", significant, name))
    return Table("scaling_extrapolated", "Extrapolated, not measured", tuple(columns), rows)


def main(arguments) -> None:
    """`lexlip-bench scaling`"""
    from reports.records.bundle import PROFILE, open_records

    text = document(Evidence(open_records(arguments.reference), Reading(profile=PROFILE)))
    with atomic_file(arguments.out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(arguments.out)


def parser():
    """Flags of `lexlip-bench scaling`."""
    flags = cli.parser("Writes docs/scaling.md: bytes, seconds and cores at 100 million and a billion images.")
    flags.add_argument("--reference", type=Path, default=ROOT / "results" / "reference", help="folder of the records")
    flags.add_argument("--out", type=Path, default=ROOT / "docs" / "scaling.md", help="document to write")
    return flags
