"""The first page: one chart, four sentences, six rows, the lexicons of three images, what was not measured."""

from reports.findings import answer, comparisons
from reports.pages import Section, limits, look
from reports.pages.ablations.measures import LEXICONS_OF, word_columns, words_of
from reports.records.corpora import OWN
from reports.records.evidence import Evidence
from reports.records.search import KINDS, Search
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import Cell, Column, Table, integer, percent, points, significant, size

NAMED = ("no_bottleneck", "strong_decoder", "no_momentum")  # the ablations that the paper's claim rests on
QUALITIES = {"recall@10": "R@10, %", "engine_recall@10": "engine recall@10, %"}
MEANINGS = {
    "recall@10": "Share of captions whose image is among the first ten results",
    "engine_recall@10": "Share of the exact first ten results that an engine finds",
}
IMAGES_SHOWN = 3
WIDTH, HEIGHT = 730, 330  # pixels: beside the sentences on a laptop


def sections(evidence: Evidence) -> list[Section]:
    found, shown = answer.sentences(evidence), []
    drawn = chart(evidence, answer.title(found))
    if evidence.corpus.startswith("scenes"):  # licences of photographs forbid to pass them on
        shown = look.images(evidence)[:IMAGES_SHOWN]
    tables = [rows(evidence), limits.not_measured(evidence)]
    data = {"sentences": found, "images": shown}
    charts = [drawn] if drawn else []
    return [Section("answer", "The answer", charts=charts, tables=tables, data=data, template="answer.html")]


def chart(evidence: Evidence, title: str) -> Chart | None:
    """Quality against queries per second in the largest gallery that both kinds were timed in; None without any."""
    found = answer.field(evidence)
    if not found:
        return None
    metric = next(name for name in QUALITIES if name == "engine_recall@10" or _measured(found.searches, name))
    series = tuple(
        Series(names_of(mine, kind), marks(mine, kind, metric, found.call), place, line="front")
        for place, (kind, mine) in enumerate(_models(evidence, found))
        if mine
    )
    panel = Panel("", Axis("queries per second", log=True), Axis(QUALITIES[metric]), series)
    best = [mark for one in series for mark in one.marks if mark.label]
    alt = "; ".join(f"{mark.label}: {significant(mark.y)} %, {significant(mark.x)} queries per second" for mark in best)
    subtitle = f"{MEANINGS[metric]}, against speed, over {found.items}. Marks: an index, by its size. "
    subtitle += f"Up and right is better. Queries: {found.call.label}."
    return Chart(
        "answer", title, subtitle, found.source, f"{QUALITIES[metric]} against queries per second. {alt}.", (panel,), 1,
        "Line: Pareto front of each model. Point at a mark for its record.",
        width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def _models(evidence: Evidence, found: answer.Field) -> list[tuple[str, list[Search]]]:
    """Searches of the models that the report compares, each with its kind; then those of the variant of words."""
    r = evidence.reading
    compared = [(kind, found.model(kind, r)) for kind in KINDS]
    beside = [] if compared[0][1] in (None, r.words) else [("lexicon", r.words)]
    return [(kind, found.of_model(kind, name)) for kind, name in [*compared, *beside]]


def _measured(searches: tuple[Search, ...], metric: str) -> bool:
    return all(any(s.kind == kind and s.cell(metric).value for s in searches) for kind in KINDS)


def names_of(searches, kind: str) -> str:
    """The models of a kind of vectors, for a legend."""
    models = sorted({search.variant for search in searches if search.kind == kind} - {""})
    return f"{models[0]}, {kind} vectors" if len(models) == 1 else f"{kind} vectors"


def marks(searches, kind: str, metric: str, call) -> tuple[Mark, ...]:
    """One mark for each search of a kind with the metric and a rate."""
    mine = [s for s in searches if s.kind == kind and s.rate(call) and s.cell(metric).value is not None]
    return tuple(
        Mark(s.rate(call), 100 * s.cell(metric).value, tip(s, call), size=s.bytes_per_image, label=label(s))
        for s in mine
    )


def label(search: Search) -> str:
    """Engine and top-k, short enough to stand in a chart."""
    return f"{search.engine}{f' top-{search.top_k}' if search.top_k else ''}"


def tip(search: Search, call=None) -> str:
    """A search and its records, line by line."""
    shown = [("R@1 {} %", "recall@1", percent), ("R@10 {} %", "recall@10", percent)]
    shown += [("engine recall@10 {} %", "engine_recall@10", percent), ("{} an image", "bytes_per_image", size)]
    cells = [(text, search.cell(metric), written) for text, metric, written in shown]
    if call:
        cells.append((f"{{}} queries per second, {call.label}", search.timed(call), significant))
    lines = [f"{search.variant}: {search.label}", f"{integer(search.images)} images"]
    lines += [text.format(written(cell.value)) for text, cell, written in cells if not cell.missing]
    records = dict.fromkeys(point for _, cell, _ in cells for point in cell.points)
    return "\n".join([*lines, f"records: {', '.join(list(records)[:6])}"])


def rows(evidence: Evidence) -> Table:
    """Reference, baseline and the named ablations; the variant of words if it was measured."""
    r = evidence.reading
    names = (r.reference, r.baseline, *(() if evidence.corpus.startswith(OWN) else NAMED))
    names += (r.words,) if r.words in evidence.variants and r.words not in names else ()
    columns = (
        Column("variant", "Model"),
        Column("seeds", "Seeds", integer),
        *(Column(f"recall@{k}", f"R@{k}", percent, "Text to image, %") for k in (1, 10)),
        Column("difference", f"R@1 minus {r.reference}, points", points),
        *word_columns(evidence),
        Column("bytes", "Index, bytes per image", size),
    )
    at, made = evidence.retrieval(), []
    for name in names:
        operating = evidence.operating_point(name)
        cells = {"variant": Cell(name), "seeds": Cell(len(evidence.seeds(name)))}
        if name in evidence.variants:
            cells |= {f"recall@{k}": evidence.cell(name, f"recall@{k}", **at, **operating) for k in (1, 10)}
            cells |= {"difference": comparisons.difference_cell(evidence, name, "recall@1")} | words_of(evidence, name)
            sized = at | operating | {"task": ("retrieval", "index")}
            cells["bytes"] = evidence.cell(name, "bytes_per_image", **sized)
        made.append(cells)
    images = integer(at["images"]) if at["images"] else "no"
    notes = (
        f"Over {images} test images. R@K: share of captions whose image is among the first K, with 95% intervals. "
        f"{comparisons.NOTE}",
    )
    return Table("answer", "The models", columns, made, notes).measured(LEXICONS_OF)
