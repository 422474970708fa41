"""Limits of the records: what was not measured, and what makes them worth less than they seem; both as tables."""

from collections.abc import Iterator

import pandas as pd

from bench.store.metrics import METRICS
from reports.findings import convergence
from reports.findings.paper import LARGE_SCALE
from reports.records.corpora import OWN
from reports.records.evidence import UNTRAINED, Evidence
from reports.records.rows import is_swept
from reports.render.tables import Cell, Column, Table, clean, integer, points

EXPECTED = ("no_bottleneck", "strong_decoder", "no_momentum")
FEW_SEEDS = 3
LOADED = "loaded machine"
MIXED = {"code_id": "versions of the code", "machine_id": "machines"}
NAMED = 5  # points named in a cell


def not_measured(evidence: Evidence) -> Table:
    """What a reader may expect and the records lack, each with what there is instead."""
    rows = [{"what": Cell(what), "instead": Cell(instead)} for what, instead in _not_measured(evidence)]
    columns = (Column("what", "Not measured"), Column("instead", "What there is"))
    return Table("not_measured", "What was not measured", columns, rows)


def caveats(evidence: Evidence) -> Table:
    """Failures, loaded machines, early ends, contradictions and mixtures among the records."""
    rows = [{"what": Cell(what), "which": Cell(which)} for what, which in _caveats(evidence)]
    columns = (Column("what", "Caveat"), Column("which", "Records"))
    return Table("caveats", "Caveats of the records", columns, rows)


def metric(name: str):
    """The registry entry of a metric; None if unknown."""
    try:
        return METRICS[name]
    except KeyError:
        return None


def _not_measured(evidence: Evidence) -> Iterator[tuple[str, str]]:
    r, rows = evidence.reading, evidence.rows
    absent = [name for name in (r.reference, r.baseline, *EXPECTED) if name not in evidence.variants]
    if absent and not evidence.corpus.startswith(OWN):
        yield f"Models: {', '.join(absent)}", f"{len(evidence.variants)} measured"
    trained = [name for name in evidence.variants if not name.startswith(UNTRAINED)]
    few = [name for name in trained if len(evidence.seeds(name)) < FEW_SEEDS]
    if few:
        yield (
            "Variation between trainings of every model",
            f"{len(few)} of {len(trained)} models have fewer than {FEW_SEEDS} seeds",
        )
    largest = rows[rows.task.isin(("retrieval", "scale"))].images.max()
    made = evidence.generated[evidence.generated.task == "scale"]
    if not largest >= LARGE_SCALE:
        there = f"at most {integer(largest) if largest == largest else 0} images"
        speed = f"; speed and size over {integer(made.images.max())} generated vectors" if len(made) else ""
        yield "Quality in galleries of 1M images or more", f"{there}{speed}"
    if gains := convergence.still_learning(evidence):
        least, most = points(min(gains.values())), points(max(gains.values()))
        which = f"{len(gains)} of {len(evidence.variants)} gained {least} to {most} points of R@1 in the last quarter"
        yield "Models trained until they stop improving", which
    if evidence.corpus not in ("coco", "flickr30k"):
        yield "COCO and Flickr30k, the corpora of the paper", evidence.corpus or "no corpus"
    engines = {*rows.engine, *made.engine} - {""}
    if "lucene" not in engines:
        yield "Lucene, the engine of the paper", ", ".join(sorted(engines)) or "no engine"
    if rows[rows.metric == "encode_texts_per_second"].empty:
        yield "Time to encode queries and images", "rates of search only"
    if not (rows.gpu != "").any():
        yield "GPU engines", "CPU only"


def _caveats(evidence: Evidence) -> Iterator[tuple[str, str]]:
    rows = evidence.rows
    for row in evidence.failures().itertuples():
        seed = "" if row.seed != row.seed else f"seed {row.seed:.0f}"
        unsure = f"on one of the data sets named “{row.corpus}”" if row.corpus in evidence.corpora.split else ""
        place = ", ".join(filter(None, (row.variant, row.task, row.engine, seed, unsure)))
        yield row.status.replace("_", " ").capitalize(), f"{place}{f' ({row.note})' if row.note else ''}"
    yield from _of_rates(evidence)
    trained = rows[(rows.task == "training") & (rows.metric == "train_seconds") & rows.step.isna()]
    if loaded := sorted(set(trained[trained.note.str.contains(LOADED, regex=False)].variant)):
        yield "Trained on a loaded machine: seconds are too high", ", ".join(loaded)
    if len(precisions := _precisions(trained)) > 1:
        said = "; ".join(f"{name}: {models}" for name, models in precisions.items())
        yield "Trained at several precisions, as on different machines", said
    if broken := evidence.contradictions():
        yield "R@1 contradicts the per-query results", f"{len(broken)} points: {', '.join(broken[:NAMED])}"
    retrieval = rows[rows.task == "retrieval"]
    for column, words in MIXED.items():
        if (n := len(set(retrieval[column]) - {""})) > 1:
            yield f"Retrieval from several {words}", str(n)
    if evidence.superseded:
        yield (
            "Left out: earlier trainings of the same models",
            f"{evidence.superseded} points{_named(evidence.earlier)}",
        )
    for name, several in evidence.corpora.split.items():
        if evidence.corpus in several:
            yield f"“{name}” names {len(several)} data sets", ", ".join(several)
    if evidence.others:
        names = ", ".join(
            f"{profile or 'no profile'} on {corpus or 'no corpus'}" for profile, corpus in evidence.others
        )
        yield "Not on these pages (report --profile, --corpus)", names
    if unknown := [clean(name) for name in sorted(set(rows.metric) - {""}) if metric(name) is None]:
        yield "Unknown metrics, in no table", ", ".join(unknown)


def _of_rates(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Rates of a loaded machine, and sweeps whose searches were not all timed in the same rounds."""
    timed = pd.concat([evidence.rows, evidence.generated])
    timed = timed[timed.metric == "qps"]
    of = {"models": timed[~is_swept(timed)], "sweeps": timed[is_swept(timed)]}
    loaded = {name: int(mine.note.str.contains(LOADED, regex=False).sum()) for name, mine in of.items()}
    if any(loaded.values()):
        shares = (f"{count} of {len(of[name])} rates of {name}" for name, count in loaded.items() if len(of[name]))
        yield "Timed on a loaded machine", "; ".join(shares)
    for (corpus, _), mine in of["sweeps"].groupby(["corpus", "machine_id"]):
        runs = [", ".join(sorted(set(rows.engine))) for _, rows in mine.groupby("code_id")]
        if len(runs) > 1:
            yield f"Timed in {len(runs)} sets of rounds: {corpus}", "; ".join(runs)


def _precisions(trained: pd.DataFrame) -> dict[str, str]:
    """Precision -> the trainings in it, the most frequent first, of which the number has to do."""
    precision = trained.note.str.findall(r"precision (\w+)").str.get(0)
    counts = precision.value_counts()
    models = {name: trained[precision == name].itertuples() for name in counts.index[1:]}
    others = {name: ", ".join(f"{row.variant} seed {row.seed:.0f}" for row in rows) for name, rows in models.items()}
    return {name: f"{count} trainings" for name, count in counts[:1].items()} | others


def _named(checkpoints: set[tuple]) -> str:
    """Variant, seed and id of checkpoints, in words; "" for none."""
    seeded = sorted((variant, str(seed), checkpoint) for variant, seed, checkpoint in checkpoints)
    named = [f"{variant}{f' seed {seed}' if seed else ''}, checkpoint {id}" for variant, seed, id in seeded]
    return f": {'; '.join(named)}; another --variant shows them" if named else ""
