"""The best lexicon search against the best dense search: fronts at equal engine recall, both together, and pruning."""

import itertools
from dataclasses import replace

from reports.findings import fronts
from reports.findings.fronts import FLOORS, Front
from reports.findings.studies import hybrid, pruning, query_tables
from reports.findings.studies.hybrid import Method, Pair
from reports.findings.studies.pruning import FIXED, ORDERS, RULES, Bounds
from reports.findings.studies.query_tables import KINDS as QUERIES
from reports.findings.studies.query_tables import TIMES, Tables
from reports.pages import Section
from reports.pages.answer import QUALITIES, marks, names_of
from reports.records.evidence import Evidence
from reports.records.search import KINDS
from reports.records.sweep import Sweep
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import Cell, Column, Table, brief, integer, percent, points, significant, size, source

RUN = "Not measured. Run: lexlip-bench "
ENGINE = "engine_recall@10"
END_TO_END = TIMES[0]
MOST = 5  # searches of a kind in a table
CASCADE = 100  # results that the cascades of the chart re-rank, or the next fewer
LOOKS = {"a model alone": hybrid.ALONE, "both fused": ("rrf", "dbsf", "convex"),
         "a cascade": ("first_then_second", "second_then_first"), "the bound": ("union",)}  # fmt: skip


def sections(evidence: Evidence) -> list[Section]:
    compared, together = fronts.fronts(evidence), hybrid.pairs(evidence)
    skipped, kept = pruning.bounds(evidence), pruning.adaptive(evidence)
    without_encoder = query_tables.tables(evidence)
    tables = [(pair, hybrid_table(pair, place)) for place, pair in enumerate(together, 1)]
    made = [Section("fronts", "Who wins at equal engine recall", empty=f"{RUN}scale --corpus 1M")]
    if compared:
        ranked = [front_table(front) for front in compared]
        shown = {"tables": [winners(compared), ranked[0]], "folded": ranked[1:]}
        made = [replace(made[0], text=fronts.sentences(compared[0]), **shown)]
        made += [Section("speed", "Engine recall against speed", charts=front_charts(compared))]
    return [
        *made,
        Section(
            "hybrid", "Both models together", hybrid.sentences(together), hybrid_charts(together, evidence.corpus),
            [table for pair, table in tables if not pair.control], [table for pair, table in tables if pair.control],
            empty=f"{RUN}hybrid --checkpoint LEXLIP --with CLIP",
        ),
        Section(
            "query_tables", "Queries without a text encoder", query_tables.sentences(without_encoder),
            query_table_charts(without_encoder, evidence.corpus), query_table_tables(without_encoder),
            empty=f"{RUN}query-table --checkpoint LEXLIP",
        ),
        Section(
            "bounds", "Can exact search skip blocks?",
            (*pruning.skipping(evidence), *(one.sentence for one in skipped)), [],
            [bounds_table(skipped)] if skipped else [],
            empty=f"{RUN}block-bounds --documents VECTORS --queries VECTORS",
        ),
        Section(
            "adaptive", "As many lexicons as an image needs", pruning.sentences(kept),
            [adaptive_chart(kept, evidence.corpus)] if kept else [], [adaptive_table(kept)] if kept else [],
            empty=f"{RUN}adaptive-pruning --checkpoint LEXLIP",
        ),
    ]  # fmt: skip


# --- fronts


def front_charts(compared: list[Front]) -> list[Chart]:
    """For each sweep, engine recall against speed in each gallery, of the searches that the tables rank."""
    return [_front_chart(sweep, compared) for sweep in dict.fromkeys(front.sweep for front in compared)]


def _front_chart(sweep: Sweep, compared: list[Front]) -> Chart:
    panels, alt = [], []
    for front in (front for front in reversed(compared) if front.sweep is sweep):
        series = [
            Series(names_of(found, kind), marks(found, kind, ENGINE, front.call), place, "front")
            for place, (kind, found) in enumerate(front.reaching(0.0).items())
        ]
        axes = Axis("queries per second", log=True), Axis(QUALITIES[ENGINE])
        panels.append(Panel(f"{integer(front.images)} images", *axes, tuple(one for one in series if one.marks)))
        faster = {floor: front.faster(floor) for floor in FLOORS}
        alt += [f"{panels[-1].title}, {floor}: {cell.missing or cell.value}" for floor, cell in faster.items()]
    subtitle = f"{sweep.call('single').label.capitalize()}. Size of a mark: bytes of index."
    return Chart(
        sweep.named("fronts"), sweep.corpus or "no corpus", subtitle, sweep.title, "; ".join(alt), tuple(panels), 2,
        "Line: Pareto front of each kind of vectors. Each panel has its own axes.", height=230,
    )  # fmt: skip


def winners(compared: list[Front]) -> Table:
    """For each gallery and floor, the side that is faster and the side that is smaller."""
    machines, rows = len({front.sweep.machine_id for front in compared}), []
    for front in compared:
        where = f", {front.sweep.machine}" if machines > 1 else ""
        cells = {"gallery": Cell(f"{integer(front.images)} images, {front.sweep.corpus}{where}")}
        for floor in FLOORS:
            cells |= {f"fast {floor}": front.faster(floor), f"small {floor}": front.smaller(floor)}
        rows.append(cells)
    columns = [Column("gallery", "Gallery")]
    columns += [Column(f"fast {floor}", floor, str, "Answers more single queries per second") for floor in FLOORS]
    columns += [Column(f"small {floor}", floor, str, "Has the smaller index") for floor in FLOORS]
    r = compared[0].sweep.evidence.reading
    notes = (
        "Columns: least engine recall, the share of the exact top 10 that is found; exact: all, by exact engines. "
        "A row is one sweep on one machine: the fastest, and the smallest, search of each side. GPU engines are left "
        "out.",
        f"The exact top 10 is that of the vectors whose R@1 is compared: lexicon vectors pruned to {r.top_k} and of "
        f"{r.bits} bits, or the pruning of most searches; dense vectors as floats, so that what a dense index loses by "
        "compressing them counts. Explore has the recall of lexicon search before quantising too.",
    )
    return Table("winners", "The winner at equal engine recall, and by how many times", tuple(columns), rows, notes)


def front_table(front: Front) -> Table:
    """At each floor the fastest searches of each kind, the fastest first."""
    batched, rows = front.sweep.call("batched"), []
    columns = (
        Column("floor", "At least"), Column("kind", "Vectors"), Column("model", "Model"),
        Column("search", "Engine and settings"), Column("qps", "one at a time", significant, "Queries/s"),
        Column("batched", batched.label if batched else "in batches", significant, "Queries/s"),
        Column(ENGINE, "Engine recall, %", lambda share: f"{100 * share:.2f}"),
        Column("bytes_per_image", "Bytes per image", size), Column("recall@1", "R@1, %", percent),
    )  # fmt: skip
    for floor, least in FLOORS.items():
        found = front.reaching(least)
        for search in sorted((s for kind in KINDS for s in found[kind][:MOST]), key=front.rate, reverse=True):
            cells = {"floor": floor, "kind": search.kind, "model": search.variant, "search": search.label}
            cells = {key: Cell(text) for key, text in cells.items()} | {"qps": search.timed(front.call)}
            cells |= {metric: search.cell(metric) for metric in (ENGINE, "bytes_per_image", "recall@1")}
            rows.append(cells | ({"batched": brief(search.timed(batched))} if batched else {}))
        for kind in (kind for kind in KINDS if not found[kind]):
            none = dict.fromkeys([column.key for column in columns], Cell(missing=front.lacking(kind)))
            rows.append(none | {"floor": Cell(floor), "kind": Cell(kind)})
    caption = f"The fastest {MOST} searches of each side: {front.sweep.corpus}, {integer(front.images)} images"
    notes = (f"At least: of the engine's recall. One at a time: {front.call.label}. R@1: of the task. "
             f"{front.sweep.title}.",)  # fmt: skip
    return Table("fronts" if front.place == 1 else f"fronts_{front.place}", caption, columns, rows, notes)


# --- hybrid


def hybrid_charts(found: list[Pair], corpus: str) -> list[Chart]:
    """R@1 of each method, a panel for each pair; of the cascades, those that re-rank about `CASCADE` results."""
    panels, alt = [], []
    for pair in found:
        number = max((one.number for one in pair.methods if one.number and one.number <= CASCADE), default=None)
        shown = [one for one in pair.methods if not one.cells["recall@1"].missing and one.number in (None, number)]
        series = [
            Series(look, tuple(_mark(one, place) for place, one in enumerate(shown) if one.name in methods), colour)
            for colour, (look, methods) in enumerate(LOOKS.items())
        ]
        names = Axis("", names=tuple(one.label.removesuffix(f" {one.number}") for one in shown))
        panels.append(Panel(pair.title, Axis("R@1, %"), names, tuple(one for one in series if one.marks)))
        alt += [mark.tip.partition("\n")[0] for one in series for mark in one.marks]
    title, subtitle = "Two models together, beside each alone", "R@1 with 95% intervals; two seeds of a model: control."
    return [Chart("hybrid", title, subtitle, corpus, "; ".join(alt), tuple(panels))] if panels else []


def _mark(one: Method, place: int) -> Mark:
    cell = one.cells["recall@1"]
    bounds = (None, None) if cell.low is None else (100 * cell.low, 100 * cell.high)
    return Mark(100 * cell.value, place, f"{one.label}: R@1 {percent(cell.value)} %\n{source(cell)}", *bounds)


def hybrid_table(pair: Pair, place: int) -> Table:
    columns = (
        Column("method", "Search"), Column("recall@1", "R@1, %", percent),
        Column("gain", "R@1 minus the better one", points), Column("recall@10", "R@10, %", percent),
        Column("bytes_per_image", "Bytes per image, all indexes", size),
    )  # fmt: skip
    notes = (
        "* significant in the exact paired test over images, after Holm's correction over the methods of the table; it "
        "holds for these two trainings. Weight: of the first model. Re-ranks: the top results of the other model. "
        "Bound: a query counts if either model has the image first.",
    )
    what = "Control" if pair.control else "Together"
    caption = f"{what}: {pair.title}, {integer(pair.images)} images"
    rows = [{"method": Cell(one.label)} | one.cells for one in pair.methods]
    return Table("hybrid" if place == 1 else f"hybrid_{place}", caption, columns, rows, notes)


# --- queries without a text encoder


def query_table_charts(found: list[Tables], corpus: str) -> list[Chart]:
    """R@1 against the time from text to results: a panel for each model, a mark for each kind of queries."""
    panels, alt = [], []
    for one in found:
        series = []
        for colour, (name, cells) in enumerate(one.cells.items()):
            recall, spent = cells["recall@1"], cells[END_TO_END]
            if not recall.missing and not spent.missing:
                said = f"{QUERIES[name]}: R@1 {percent(recall.value)} %, {significant(spent.value)} µs"
                bounds = (None, None) if recall.low is None else (100 * recall.low, 100 * recall.high)
                mark = Mark(spent.value, 100 * recall.value, f"{said}\n{source(recall)}", *bounds)
                series.append(Series(QUERIES[name], (mark,), colour))
                alt.append(f"{one.model}, {said}")
        if series:
            axes = Axis("microseconds from text to results, median", log=True), Axis("R@1, %", zero=True)
            panels.append(Panel(f"{one.model}, {integer(one.images)} images", *axes, tuple(series)))
    title, subtitle = "What the text encoder gives, and what it costs", "One query at a time; 95% intervals."
    return [Chart("query_tables", title, subtitle, corpus, "; ".join(alt), tuple(panels))] if panels else []


def query_table_tables(found: list[Tables]) -> list[Table]:
    columns = (
        Column("model", "Model"), Column("queries", "Queries from"), Column("recall@1", "R@1, %", percent),
        Column("gain", "R@1 minus the encoder's", points), Column("recall@10", "R@10, %", percent),
        Column("active_lexicons_text", "Lexicons of a query", significant),
        Column(END_TO_END, "median", significant, "Text to results, µs"),
        Column("end_to_end_p95_us", "95th percentile", significant, "Text to results, µs"),
        Column("share", "Of it encoding, %", percent),
    )  # fmt: skip
    rows = [
        {"model": Cell(f"{one.model}, {integer(one.images)} images"), "queries": Cell(QUERIES[name])} | cells
        for one in found for name, cells in one.cells.items()
    ]  # fmt: skip
    notes = ("The same index of images for all. A table has a weight for each token: a query is its distinct tokens. "
             "idf: counted in the captions of the training; learned: from them and the indexed images.",)  # fmt: skip
    return [Table("query_tables", "Queries without a text encoder", columns, rows, notes)] if rows else []


# --- pruning


def bounds_table(found: list[Bounds]) -> Table:
    """What is left to do, by vectors, order and images in a block."""
    rows, blocks = [], sorted({block for one in found for _, block in one.alive})
    for one, order in itertools.product(found, ORDERS):
        keys = [(order, block) for block in blocks if (order, block) in one.alive]
        cells = {f"alive {key[1]}": one.alive[key] for key in keys} | {f"work {key[1]}": one.work[key] for key in keys}
        rows += [{"over": Cell(one.over), "order": Cell(ORDERS[order])} | cells] if cells else []
    columns = [Column("over", "Vectors"), Column("order", "Order of the images")]
    for key, group in (("alive", "Postings alive, %, by images in a block"), ("work", "Work left, %")):
        columns += [Column(f"{key} {block}", str(block), percent, group) for block in blocks]
    notes = (
        "Alive: postings in blocks whose best possible score reaches the exact tenth score. Work: these and the maxima "
        "that bounds read, over all postings. The best case: an engine would have to know the tenth score beforehand.",
    )
    return Table("bounds", "What exact search cannot skip", tuple(columns), rows, notes)


def adaptive_chart(found: list[dict[str, Cell]], corpus: str) -> Chart:
    """R@1 against the postings that a query touches: a panel for each variant, a line for each rule."""
    panels, alt = [], []
    for variant in dict.fromkeys(row["variant"].value for row in found):
        mine, series = [row for row in found if row["variant"].value == variant], []
        for colour, rule in enumerate(RULES):
            line = tuple(mark for row in mine if (mark := _touching(row, rule)))
            series += [Series(RULES[rule], line, colour, "all")] if line else []
            alt += [mark.tip.partition("\n")[0] for mark in line]
        axes = Axis("postings a query touches, mean", log=True), Axis("R@1, %")
        panels.append(Panel(variant, *axes, tuple(series)))
    subtitle = "At each step along a line, all rules keep the same number of lexicons in all; 8 bits, exact search."
    title = "R@1 against postings touched, by the rule that keeps lexicons"
    return Chart("adaptive", title, subtitle, corpus, "; ".join(alt), tuple(panels))


def _touching(row: dict[str, Cell], rule: str) -> Mark | None:
    recall, touched = row[f"recall {rule}"], row[f"touched {rule}"]
    if recall.missing or touched.missing:
        return None
    said = f"{row['variant'].value}, {RULES[rule]}, {row['budget'].value:.0f} lexicons an image: R@1 "
    tip = f"{said}{percent(recall.value)} %, {significant(touched.value)} postings\n{source(recall)}"
    return Mark(touched.value, 100 * recall.value, tip)


def adaptive_table(found: list[dict[str, Cell]]) -> Table:
    """R@1 by budget: that of the fixed number, and what the other rules change."""
    columns = (
        Column("variant", "Model"), Column("budget", "Lexicons an image", integer),
        Column(f"touched {FIXED}", "Postings touched", significant, "Fixed number"),
        Column(f"recall {FIXED}", "R@1, %", percent, "Fixed number"),
        *(Column(f"gain {rule}", RULES[rule], points, "R@1 minus that") for rule in list(RULES)[1:]),
    )  # fmt: skip
    notes = ("All rules keep the same number of lexicons in all: a fixed number for every image, those that hold a "
             "share of an image's weight, or those above one threshold. Pruned images are made unit vectors again, "
             "except in the last column, which prunes as published.",)  # fmt: skip
    return Table("adaptive", "Rules that keep lexicons, at equal total postings", columns, found, notes)
