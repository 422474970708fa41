"""Corpora of real photographs: recall beside published values, words, and graded judgements.

Pictures and captions are shown by "Look inside" of a user's own build only: bundles leave those of photographs out.
"""

from dataclasses import replace

from bench.store.metrics import METRICS
from reports.findings import published
from reports.pages import Section
from reports.pages.ablations.measures import LEXICONS_OF, word_columns, words_of
from reports.records.corpora import is_photographs
from reports.records.evidence import Evidence
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import (
    NOT_APPLICABLE,
    NOT_MEASURED,
    Cell,
    Column,
    Table,
    integer,
    percent,
    signed,
    significant,
)

WAYS = {"text_to_image": "Text to image, %", "image_to_text": "Image to text, %"}
RECALLS = (1, 5, 10)
TOP_K = (64, 32)
"""Top-k lexicons of an image that have a row each, where measured."""
TAUS = {"judgements_tau_c": "tau-c, experts", "judgements_tau_b": "tau-b, crowd"}
JUDGES = {"expert": "Experts", "crowd": "Crowd"}
JUDGED = {"task": "judgements", "split": "test"}
TEXT_ENCODERS = {
    "photos": "its text encoder, all-MiniLM-L6-v2, has probably seen captions of Flickr8k's test images as text",
    "photos_scratch": "its text encoder was trained here from scratch, on the training captions alone",
}
"""What the text encoder of a profile has seen of Flickr8k."""


def sections(evidence: Evidence) -> list[Section]:
    """None for a corpus of other images."""
    if not is_photographs(evidence.corpus):
        return []
    name, tables = "".join(c if c.isalnum() else "_" for c in evidence.corpus.lower()), [recall(evidence)]
    if (evidence.rows.task == JUDGED["task"]).any():
        tables.append(judgements(evidence))
    tables = [replace(table, name=f"{table.name}_{name}") for table in tables]
    text = (
        "Real photographs, described by people. Rows marked as published are quoted from their source: their texts, "
        "images and models may be prepared differently, and they enter no comparison.",
    )
    drawn = recall_chart(evidence, tables[0], f"photographs_{name}")
    return [Section(f"photographs_{name}", evidence.corpus, text, [drawn] if drawn else [], tables)]


def recall_chart(evidence: Evidence, table: Table, name: str) -> Chart | None:
    """R@1 of each row of the table with its interval, both ways; published values hollow."""
    panels, alt = [], []
    kinds = {variant: kind for one in _reports(evidence) for variant, kind in one.kinds.items()}
    for way, title in WAYS.items():
        key = f"recall@1 {way}"
        rows = [row for row in table.rows if not row[key].missing and isinstance(row[key].value, float)]
        rows.sort(key=lambda row: -row[key].value)
        names = tuple(_named(row, evidence.profile) for row in rows)
        series = []
        for shown, colour in (("lexicon vectors", 0), ("dense vectors", 1), ("published", 7)):
            marks = tuple(
                _mark(names[place], row[key], float(place))
                for place, row in enumerate(rows)
                if _shown(kinds, row) == shown
            )
            series += [Series(shown, marks, colour, hollow=shown == "published")] if marks else []
        if series and series[0].name != "published":
            panel = f"{title.partition(',')[0]}: R@1, %"
            panels.append(Panel(panel, Axis("", zero=True), Axis("", names=names), tuple(series)))
            alt.append(
                f"{panel} " + "; ".join(f"{n} {percent(row[key].value)}" for n, row in zip(names, rows, strict=True))
            )
    if not panels:
        return None
    first = max((m for one in panels[0].series if one.name != "published" for m in one.marks), key=lambda m: m.x)
    title = f"{panels[0].y.names[int(first.y)]} has the highest R@1: {significant(first.x)}%"
    return Chart(
        name, title, "Mean over seeds; 95% intervals.", evidence.corpus, ". ".join(alt), tuple(panels), 2,
        "Top-k: lexicons kept of an image.",
    )  # fmt: skip


def _shown(kinds: dict[str, str], row: dict[str, Cell]) -> str:
    """The series of a row."""
    return f"{kinds.get(row['variant'].value)} vectors" if row["source"].value == "measured" else "published"


def _named(row: dict[str, Cell], main: str) -> str:
    """The model, its top-k, and its profile unless that is the main one."""
    top_k, profile = row["top_k"].value, row["profile"].value
    of_profile = f" {profile}" if row["source"].value == "measured" and profile != main else ""
    return f"{row['variant'].value}{of_profile}{f' top-{top_k}' if isinstance(top_k, int) else ''}"


def _mark(name: str, cell: Cell, place: float) -> Mark:
    ends = [None if value is None else 100 * value for value in (cell.low, cell.high)]
    between = "" if cell.low is None else f"\n95% interval {percent(cell.low)} to {percent(cell.high)}"
    records = f"\nrecords: {', '.join(cell.points)}" if cell.points else ""
    return Mark(100 * cell.value, place, f"{name}: {percent(cell.value)} %{between}{records}", *ends)


def recall(evidence: Evidence) -> Table:
    """One row for each dense model, one per top-k for lexicon models, of each profile; then the published values."""
    columns = [Column("variant", "Model"), *_profile_column(evidence), Column("top_k", "Lexicons kept")]
    columns += [Column("seeds", "Seeds", integer)]
    columns += [Column(f"recall@{k} {way}", f"R@{k}", percent, group) for way, group in WAYS.items() for k in RECALLS]
    columns += [*word_columns(evidence), Column("source", "Source")]
    rows = [row for one in _reports(evidence) for row in _measured(one)]
    keys = [column.key for column in columns]
    rows += [
        published_row(one, keys, {f"{metric} text_to_image": value for metric, value in one.values.items()})
        for one in published.of_corpus(published.RECALL, evidence.corpora.given(evidence.corpus))
    ]
    images = evidence.gallery.get(("test", "text_to_image"))
    notes = [f"Over {integer(images) if images else 'no'} test images; below a value its 95% interval."]
    notes += _text_encoders(evidence)
    return Table("photographs", f"Recall on {evidence.corpus}", tuple(columns), rows, tuple(notes)).measured(
        LEXICONS_OF
    )


def _reports(evidence: Evidence) -> list[Evidence]:
    """The report, then those of the corpus's other profiles."""
    return [evidence, *evidence.profiles]


def _profile_column(evidence: Evidence) -> list[Column]:
    return [Column("profile", "Profile")] if evidence.profiles else []


def _text_encoders(evidence: Evidence) -> list[str]:
    """A note for each profile whose text encoder is known."""
    if "flickr8k" not in evidence.corpora.given(evidence.corpus):
        return []
    profiles = [one.profile for one in _reports(evidence)]
    return [f"Profile {profile}: {TEXT_ENCODERS[profile]}." for profile in profiles if profile in TEXT_ENCODERS]


def _measured(evidence: Evidence) -> list[dict[str, Cell]]:
    """The rows of one profile."""
    rows, elsewhere = [], Cell(NOT_APPLICABLE)
    for variant in evidence.variants:
        point = evidence.operating_point(variant)
        for top_k in _top_k(evidence, variant) if "top_k" in point else (None,):
            cells = _about(evidence, variant) | {"top_k": Cell(top_k or NOT_APPLICABLE)}
            for way in WAYS:
                at = evidence.retrieval("test", way) | point | ({"top_k": top_k} if top_k else {})
                cells |= {f"recall@{k} {way}": evidence.cell(variant, f"recall@{k}", **at) for k in RECALLS}
            of_row = top_k in (None, evidence.reading.top_k)  # words are measured at one top-k
            rows.append(cells | (words_of(evidence, variant) if of_row else dict.fromkeys(LEXICONS_OF, elsewhere)))
    return rows


def _about(evidence: Evidence, variant: str) -> dict[str, Cell]:
    seeds = Cell(len(evidence.seeds(variant)))
    return {"variant": Cell(variant), "profile": Cell(evidence.profile), "seeds": seeds, "source": Cell("measured")}


def _top_k(evidence: Evidence, variant: str) -> list[int]:
    measured = set(evidence.rows[evidence.rows.variant == variant].top_k.dropna())
    return [top_k for top_k in TOP_K if top_k in measured or top_k == evidence.reading.top_k]


def judgements(evidence: Evidence) -> Table:
    """Kendall's tau of each model with people's grades, as encoded and pruned; then the published values."""
    r = evidence.reading
    groups = {"": "Vectors as encoded, tau × 100", "pruned ": f"Top-{r.top_k}, {r.bits} bits, tau × 100"}
    columns = [Column("variant", "Model"), *_profile_column(evidence), Column("seeds", "Seeds", integer)]
    columns += [
        Column(f"{key}{m}", label, hundredfold, group) for key, group in groups.items() for m, label in TAUS.items()
    ]
    columns += [Column(judge, label, integer, "Pairs of image and caption") for judge, label in JUDGES.items()]
    columns += [Column("source", "Source")]
    rows = []
    for one, variant in ((report, variant) for report in _reports(evidence) for variant in report.variants):
        cells = _about(one, variant)
        for metric in TAUS:
            cells[metric] = _tau(one, variant, metric, top_k=None, bits=None)
            pruned = _tau(one, variant, metric, top_k=r.top_k, bits=r.bits)
            cells[f"pruned {metric}"] = Cell("dense") if one.kinds.get(variant) == "dense" else pruned
        rows.append(cells | {judge: _pairs(one, variant, judge) for judge in JUDGES})
    keys = [column.key for column in columns]
    beside = published.of_corpus(published.JUDGEMENTS, evidence.corpora.given(evidence.corpus))
    rows += [published_row(one, keys, one.values) for one in beside]
    notes = (
        *(f"{label}: {METRICS[metric].definition}" for metric, label in TAUS.items()),
        *_text_encoders(evidence),
    )
    return Table(
        "judgements", "Agreement with people's grades: how well does a caption fit?", tuple(columns), rows, notes
    )


def _pairs(evidence: Evidence, variant: str, judge: str) -> Cell:
    """Number of pairs that the judges graded."""
    rows = evidence.rows[(evidence.rows.task == JUDGED["task"]) & (evidence.rows.metric == "judgements_rows")]
    mine = rows[(rows.variant == variant) & rows.knobs.str.contains(f'"judgements":"{judge}"', regex=False)]
    return Cell(mine.value.iloc[-1], points=(mine.point_id.iloc[-1],)) if len(mine) else Cell(missing=NOT_MEASURED)


def published_row(one: published.Published, keys: list[str], values: dict[str, float]) -> dict[str, Cell]:
    """The cells of a published value, marked as such."""
    about = {"variant": Cell(one.model), "source": Cell(f"published, {one.source}")}
    return (
        dict.fromkeys([*keys, "profile"], Cell(NOT_APPLICABLE))
        | about
        | {key: Cell(value) for key, value in values.items()}
    )


def hundredfold(value: float) -> str:
    """Tau times 100, as CLIPScore prints it."""
    return signed(100 * value, 1).removeprefix("+")


def _tau(evidence: Evidence, variant: str, metric: str, **at) -> Cell:
    """The sample of tau is images: its per-image results are no queries."""
    cell = evidence.cell(variant, metric, **JUDGED, **at)
    return replace(cell, n=cell.n.partition(" on ")[2] or cell.n)
