"""Graded judgements of every variant: Kendall's tau with the experts and the crowd, published values beside."""

from dataclasses import replace

from bench.store.metrics import METRICS
from reports.findings import published
from reports.pages import Section, definitions
from reports.pages.ablations.yardsticks import measured_row, published_row
from reports.records.evidence import Evidence
from reports.render.tables import NOT_APPLICABLE, Cell, Column, Table, integer, signed

TASK = {"task": "judgements", "split": "test"}
TAUS = {"judgements_tau_c": "tau-c, experts", "judgements_tau_b": "tau-b, crowd"}
PAIRS = ("judgements_rows", "judgements_own", "judgements_missing")


def section(evidence: Evidence) -> Section | None:
    """None without records of judgements."""
    if not (evidence.rows.task == TASK["task"]).any():
        return None
    tables, data = [table(evidence), pairs(evidence)], {"definitions": definitions((*TAUS, *PAIRS))}
    return Section("judgements", "Graded judgements", tables=tables, data=data, folder="ablations")


def table(evidence: Evidence) -> Table:
    """One row for each variant, then the published values."""
    pruned = f"Top-{evidence.reading.top_k}, {evidence.reading.bits} bits, tau × 100"
    columns = [Column("variant", "Model"), Column("seeds", "Seeds", integer)]
    columns += [Column(metric, label, hundredfold, "Vectors as encoded, tau × 100") for metric, label in TAUS.items()]
    columns += [Column(f"pruned {metric}", label, hundredfold, pruned) for metric, label in TAUS.items()]
    columns += [Column("source", "Source")]
    rows = [row(evidence, variant) for variant in evidence.variants]
    other = dict.fromkeys(["seeds", *(f"pruned {metric}" for metric in TAUS)], Cell(NOT_APPLICABLE))
    beside = published.of_corpus(published.JUDGEMENTS, evidence.corpora.given(evidence.corpus))
    rows += [other | published_row(one) for one in beside]
    notes = (
        "Score: the inner product of image and caption. Intervals: over images and seeds, to first "
        "order. Published values are quoted, not measured here. CLIPScore (arXiv 2104.08718) puts “A photo depicts” "
        "before each caption.",
    )
    return Table("judgements", f"Graded judgements of {evidence.corpus or 'no corpus'}", tuple(columns), rows, notes)


def row(evidence: Evidence, variant: str) -> dict[str, Cell]:
    """All cells of a variant."""
    dense = evidence.kinds.get(variant) == "dense"
    cells = measured_row(variant) | {"seeds": Cell(len(evidence.seeds(variant)) or NOT_APPLICABLE)}
    at = {"top_k": evidence.reading.top_k, "bits": evidence.reading.bits}
    for metric in TAUS:
        cells[metric] = _cell(evidence, variant, metric, top_k=None, bits=None)
        cells[f"pruned {metric}"] = Cell("dense") if dense else _cell(evidence, variant, metric, **at)
    return cells


def pairs(evidence: Evidence) -> Table:
    """Numbers of pairs used and left out, for each kind of judgements; all that occur."""
    rows, made = evidence.rows[evidence.rows.task == TASK["task"]], []
    for metric, label in TAUS.items():
        of_kind = rows[rows.point_id.isin(rows[rows.metric == metric].point_id) & rows.metric.isin(PAIRS)]
        found = of_kind.pivot_table(index="point_id", columns="metric", values="value").drop_duplicates()
        made += [{"kind": Cell(label)} | {name: Cell(one[name]) for name in PAIRS} for _, one in found.iterrows()]
    columns = [Column("kind", "Judgements"), *(Column(name, METRICS[name].label, integer) for name in PAIRS)]
    return Table("judgements_pairs", "Pairs of image and caption, used and left out", tuple(columns), made)


def hundredfold(value: float) -> str:
    """Tau times 100, as CLIPScore prints it."""
    return signed(100 * value, 1).removeprefix("+")


def _cell(evidence: Evidence, variant: str, metric: str, **at) -> Cell:
    """The sample of tau is images: its per-image results are no queries."""
    cell = evidence.cell(variant, metric, **TASK, **at)
    return replace(cell, n=cell.n.partition(" on ")[2] or cell.n)
