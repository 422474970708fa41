"""Limits of the records: what was not measured, and what makes them worth less than they seem. Fixed sentences."""

from collections.abc import Iterator

from bench.store.metrics import METRICS
from reports.findings import convergence, speed
from reports.findings.paper import LARGE_SCALE
from reports.findings.ratios import LUCENE
from reports.records.corpora import OWN
from reports.records.evidence import UNTRAINED, Evidence
from reports.render.tables import clean, integer, points

EXPECTED = ("no_bottleneck", "strong_decoder", "no_momentum")
FEW_SEEDS = 5
LOADED = "loaded machine"
MIXED = {"code_id": "versions of the code", "machine_id": "machines"}


def not_measured(evidence: Evidence) -> list[str]:
    """What a reader may expect and the records lack."""
    return list(_not_measured(evidence))


def caveats(evidence: Evidence) -> list[str]:
    """Failures, loaded machines, early ends, contradictions and mixtures among the records."""
    return list(_caveats(evidence))


def unknown_metrics(evidence: Evidence) -> list[str]:
    """Names in the records that the registry does not define."""
    return [clean(name) for name in sorted(set(evidence.rows.metric) - {""}) if metric(name) is None]


def metric(name: str):
    """The registry entry of a metric; None if unknown."""
    try:
        return METRICS[name]
    except KeyError:
        return None


def _not_measured(evidence: Evidence) -> Iterator[str]:
    r, rows = evidence.reading, evidence.rows
    absent = [name for name in (r.reference, r.baseline, *EXPECTED) if name not in evidence.variants]
    if absent and not evidence.corpus.startswith(OWN):
        yield f"Variants without records: {', '.join(absent)}."
    fewest = min((len(evidence.seeds(name)) for name in _compared(evidence)), default=FEW_SEEDS)
    if fewest < FEW_SEEDS:
        yield f"Variation between trainings: at least one variant has only {fewest} seed{'s' if fewest > 1 else ''}."
    largest = rows[rows.task.isin(("retrieval", "scale"))].images.max()
    if not largest >= LARGE_SCALE:
        yield f"Galleries of 1M images or more; the largest has {integer(largest) if largest == largest else 0}."
    if evidence.corpus not in ("coco", "flickr30k"):
        yield f"COCO and Flickr30k; the corpus here is “{evidence.corpus or 'unknown'}”."
    if LUCENE not in set(rows.engine):
        yield "Lucene, the engine of the paper."
    if not all(speed.speed(evidence, mode) for mode in ("single", "batched")):
        yield f"Speed of {r.reference} and {r.baseline} on one machine with equal threads, in at least one call."
    if rows[rows.metric == "encode_texts_per_second"].empty:
        yield "Time to encode queries and images; rates are of search only."


def _named(checkpoints: set[tuple]) -> str:
    """Variant, seed and id of checkpoints, in words; "" for none."""
    seeded = sorted((variant, str(seed), checkpoint) for variant, seed, checkpoint in checkpoints)
    named = [f"{variant}{f' seed {seed}' if seed else ''}, checkpoint {id}" for variant, seed, id in seeded]
    return f": {'; '.join(named)}; measured under another --variant, they are shown" if named else ""


def _compared(evidence: Evidence) -> list[str]:
    """Trained variants with R@1 at the operating point."""
    at = evidence.retrieval()
    trained = [name for name in evidence.variants if not name.startswith(UNTRAINED)]
    return [n for n in trained if not evidence.cell(n, "recall@1", **at, **evidence.operating_point(n)).missing]


def _caveats(evidence: Evidence) -> Iterator[str]:
    rows = evidence.rows
    for row in evidence.failures().itertuples():
        seed = "" if row.seed != row.seed else f"seed {row.seed:.0f}"
        unsure = f"on one of the data sets named “{row.corpus}”" if row.corpus in evidence.corpora.split else ""
        place = ", ".join(filter(None, (row.variant, row.task, row.engine, seed, unsure)))
        yield f"{row.status.replace('_', ' ').capitalize()}: {place}{f' ({row.note})' if row.note else ''}."
    timed = rows[rows.metric == "qps"]
    if loaded := int(timed.note.str.contains(LOADED, regex=False).sum()):
        yield f"Timings on a loaded machine: {loaded} of {len(timed)}; the efficiency table marks them."
    trained = rows[(rows.task == "training") & (rows.metric == "train_seconds") & rows.step.isna()]
    if loaded := sorted(set(trained[trained.note.str.contains(LOADED, regex=False)].variant)):
        yield f"Trained on a loaded machine, so training seconds are too high: {', '.join(loaded)}."
    if gains := convergence.still_learning(evidence):
        least, most = points(min(gains.values())), points(max(gains.values()))
        yield (
            f"Not converged: {len(gains)} of {len(evidence.variants)} variants gained {least} to {most} points of "
            "validation R@1 over the last quarter of training."
        )
    if broken := evidence.contradictions():
        yield f"Recorded R@1 contradicts the per-query results of {len(broken)} points: {', '.join(broken[:5])}."
    retrieval = rows[rows.task == "retrieval"]
    for column, words in MIXED.items():
        if (n := len(set(retrieval[column]) - {""})) > 1:
            yield f"The retrieval records come from {n} {words}."
    if evidence.superseded:
        which = _named(evidence.earlier)
        yield f"Left out: {evidence.superseded} points of earlier trainings of the same variants{which}."
    for name, several in evidence.corpora.split.items():
        if evidence.corpus in several:
            yield f"“{name}” names {len(several)} data sets, told apart by their fingerprints: {', '.join(several)}."
    if evidence.others:
        names = (f"{profile or 'no profile'} on {corpus or 'no corpus'}" for profile, corpus in evidence.others)
        how = "`lexlip-bench report --profile PROFILE --corpus CORPUS` shows them"
        yield f"Not on these pages, but among the records: {', '.join(names)}; {how}."
    if unknown := unknown_metrics(evidence):
        yield f"Unknown metrics, not used in any table: {', '.join(unknown)}."
