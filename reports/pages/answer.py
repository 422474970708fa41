"""The question, and the answer in numbers: losses of the reference first, then what is open, then its gains, then what is not known."""

from reports.findings import comparisons, headline, speed
from reports.findings.headline import Finding, ranked
from reports.findings.paper import LARGE_SCALE
from reports.findings.scale_answer import findings as findings_at_scale
from reports.findings.scale_ratios import comparisons as comparisons_at_scale
from reports.findings.verdict import EQUAL_RATIO, LOSES, OPEN, ORDER, WINS
from reports.pages import Section
from reports.pages.ablations import learning
from reports.pages.method import unknown_metrics
from reports.records.evidence import UNTRAINED, Evidence
from reports.records.scale import sweeps
from reports.render.tables import integer, percent, points, significant, size, times

EXPECTED = ("no_bottleneck", "strong_decoder", "no_momentum")
PAPER_ENGINE = "lucene"


def section(evidence: Evidence) -> Section:
    findings = ranked(_findings(evidence))
    large = headline.at_scale(evidence)
    quality = [finding for finding in findings if finding.what == RECALLS[0][0]]
    costs = [found for found in large if found.headline] or [
        finding for finding in findings if finding.what in (SINGLE, SIZE)
    ]
    best = [found for found in large if not found.headline]
    parts = [found for found in [headline.parts(evidence)] if found]
    data = {
        "findings": findings,
        "at_scale": at_scale(evidence),
        "statements": statements(quality + best, costs, parts),
        "tiles": ranked(quality + costs) + parts,
        "ablations": ablation_sentences(evidence),
        "missing": not_measured(evidence),
        "caveats": caveats(evidence),
        "equal_recall": bool(large),
    }
    return Section("answer", "The answer", data=data)


def statements(quality: list[Finding], costs: list[Finding], parts: list[Finding]) -> list[tuple[str, list[Finding]]]:
    """What is said first, each with the findings that it is made of: which retrieves better and what it costs, losses first; what matters in it."""
    told = [(words, ranked(found)) for words, found in (("Quality", quality), ("Speed and size", costs)) if found]
    told.sort(key=lambda one: ORDER.index(one[1][0].verdict))
    return told + ([("Parts", parts)] if parts else [])


def at_scale(evidence: Evidence) -> dict | None:
    """What the first sweep of which a task was measured says, losses first."""
    sweep = next((sweep for sweep in sweeps(evidence) if sweep.judged), None)
    said = findings_at_scale(sweep, comparisons_at_scale(sweep)) if sweep else []
    return {"images": sweep.largest, "findings": said} if said else None


RECALLS = (
    ("R@1, text to image", "recall@1", "test", "text_to_image"),
    ("R@10, text to image", "recall@10", "test", "text_to_image"),
    ("R@1, image to text", "recall@1", "test", "image_to_text"),
    ("R@1 on unseen combinations", "recall@1", "compositional", "text_to_image"),
)
HARD_NEGATIVES = "A caption above the same with one detail swapped"
SIZE, SINGLE, BATCHED = "Index bytes per image", "Speed, one query at a time", "Speed, queries in batches"


def _findings(evidence: Evidence) -> list[Finding]:
    found = [_recall(evidence, *recall) for recall in RECALLS]
    quality = found[0]
    found += [_hard_negatives(evidence), _size(evidence)]
    found += [_speed(evidence, mode, what, quality) for mode, what in (("single", SINGLE), ("batched", BATCHED))]
    return [finding for finding in found if finding]


def _recall(evidence: Evidence, what: str, metric: str, split: str, direction: str) -> Finding | None:
    r = evidence.reading
    filters = evidence.retrieval(split, direction)
    sides = [(name, filters | evidence.operating_point(name)) for name in (r.reference, r.baseline)]
    top_k = f"with {r.top_k} lexicons kept" if direction == "text_to_image" else "at its operating point"
    return _compared(evidence, what, metric, sides, top_k)


def _hard_negatives(evidence: Evidence) -> Finding | None:
    sides = [
        (name, {"task": "hard_negatives", "split": "test"})
        for name in (evidence.reading.reference, evidence.reading.baseline)
    ]
    return _compared(evidence, HARD_NEGATIVES, "hard_negative_accuracy", sides, "before pruning")


def _compared(evidence: Evidence, what: str, metric: str, sides: list[tuple[str, dict]], how: str) -> Finding | None:
    """The reference (`how` it is searched) minus the baseline in a metric that is a mean over queries; None where one side is missing."""
    r = evidence.reading
    ours, theirs = (evidence.cell(name, metric, **filters) for name, filters in sides)
    if ours.missing or theirs.missing:
        return None
    estimate, _ = comparisons.difference(evidence, *sides, metric)
    pair = f"{r.reference} {how} has {percent(ours.value)} %, {r.baseline} {percent(theirs.value)} %"
    behind = ours.points + theirs.points
    gap = ours.value - theirs.value
    if estimate is None or estimate.low is None:
        return Finding(
            OPEN,
            what,
            f"{pair}: {points(gap)} points, without an interval, because per-query results are missing.",
            "ablations",
            behind,
            points(gap),
            pair,
        )
    verdict = WINS if estimate.low > 0 else LOSES if estimate.high < 0 else OPEN
    these = "these queries and seeds" if estimate.seeds > 1 else "these queries"
    words = {WINS: "better", LOSES: "worse", OPEN: f"no difference that {these} can show"}[verdict]
    interval = f"95% interval {points(estimate.low)} to {points(estimate.high)}"
    sizes = f"{integer(estimate.queries)} queries of {integer(estimate.groups)} images, {_seeds(estimate.seeds)}"
    sentence = f"{pair}: {points(estimate.value)} points ({interval}; {sizes}): {words}."
    detail = f"{r.reference} {percent(ours.value)} %, {r.baseline} {percent(theirs.value)} %; {interval}"
    return Finding(verdict, what, sentence, "ablations", behind, f"{points(estimate.value)} points", detail)


def _size(evidence: Evidence) -> Finding | None:
    r, found = evidence.reading, speed.bytes_per_image(evidence)
    if not found:
        return None
    verdict, words = _ratio_verdict(1 / found.ratio, "smaller", "larger")
    detail = f"{r.reference} {size(found.reference)}, {r.baseline} {size(found.baseline)} per image"
    sentence = f"{detail}: the index of {r.reference} is {words}."
    return Finding(verdict, SIZE, sentence, "efficiency", found.points, words, detail)


def _speed(evidence: Evidence, mode: str, what: str, quality: Finding | None) -> Finding | None:
    r, found = evidence.reading, speed.speed(evidence, mode)
    if not found:
        return None
    verdict, words = _ratio_verdict(found.ratio, "faster", "slower")
    threads = "" if found.threads is None else f", {int(found.threads)} thread{'s' if found.threads > 1 else ''}"
    gallery = evidence.gallery.get(("test", "text_to_image")) or 0
    detail = f"{r.reference} ({r.lexicon_engine}) {significant(found.reference)}, {r.baseline} ({r.dense_engine}) {significant(found.baseline)} queries/s"
    unequal = quality and quality.verdict != OPEN
    equal = (
        "R@1 differs between the two, so this is not a comparison at equal quality"
        if unequal
        else "their R@1 cannot be told apart"
    )
    sentence = f"{detail} over {integer(gallery)} images{threads}: {r.reference} is {words}. Medians of a few passes, without an interval (their spread is in the table)"
    sentence += f"; {equal}." if quality else "."
    return Finding(verdict, what, sentence, "efficiency", found.points, words, f"{detail}{threads}")


def _ratio_verdict(gain: float, better: str, worse: str) -> tuple[str, str]:
    if abs(gain - 1) <= EQUAL_RATIO:
        return OPEN, f"about equal ({times(gain)})"
    return (WINS, f"{times(gain)} {better}") if gain > 1 else (LOSES, f"{times(1 / gain)} {worse}")


def ablation_sentences(evidence: Evidence) -> list[str]:
    """Which variants differ significantly from the reference, those first that are better than it, and which do not."""
    r, tests = evidence.reading, comparisons.tests(evidence)
    ablations = [
        name for name in evidence.variants if name not in (r.reference, r.baseline) and not name.startswith(UNTRAINED)
    ]
    first = comparisons.TESTED[0]
    ablations.sort(key=lambda name: -abs(tests[name, first].estimate.value) if (name, first) in tests else 0)
    better, clear, unclear, none, once = [], [], [], [], False
    for variant in ablations:
        mine = [tests[variant, metric] for metric in comparisons.TESTED if (variant, metric) in tests]
        changes = [
            f"{_label(t.metric)} {points(t.estimate.value)} [{points(t.estimate.low)}, {points(t.estimate.high)}]"
            for t in mine
            if t.significant
        ]
        if changes:
            of_one_seed = any(t.of_one_seed for t in mine)
            once |= of_one_seed
            gains = all(t.estimate.value > 0 for t in mine if t.significant)
            said = f"{variant}{' (one seed)' if of_one_seed else ''}: {', '.join(changes)} points"
            (better if gains else clear).append(
                f"Better than {r.reference}: {said}." if gains else f"{said} against {r.reference}."
            )
        else:
            (unclear if mine else none).append(variant)
    sentences = [*better, *clear]
    if once:
        sentences.append("One seed: significant over its queries alone, so that another training run need not show it.")
    if unclear:
        sentences.append(
            f"{'No significant difference' if sentences else 'No ablation differs significantly'}: {', '.join(unclear)}."
        )
    if none:
        sentences.append(f"Not comparable, because one side or its per-query results are missing: {', '.join(none)}.")
    return sentences or ["No ablation was measured."]


def not_measured(evidence: Evidence) -> list[str]:
    """What a reader might take for granted and is not in the records."""
    r, rows, found = evidence.reading, evidence.rows, []
    present = set(evidence.variants)
    if absent := [name for name in (r.reference, r.baseline, *EXPECTED) if name not in present]:
        found.append(f"Variants without any record: {', '.join(absent)}.")
    compared = [
        name
        for name in evidence.variants
        if not name.startswith(UNTRAINED)
        and not evidence.cell(name, "recall@1", **evidence.retrieval(), **evidence.operating_point(name)).missing
    ]
    fewest = min((len(evidence.seeds(name)) for name in compared), default=0)
    if compared and fewest < 2:
        found.append(
            "Chance in training: at least one variant has a single seed, so its intervals cover the choice of test queries and not another training run."
        )
    elif compared and fewest < 5:
        found.append(f"Chance in training is measured poorly: an interval that rests on {fewest} seeds is too narrow.")
    largest = rows[rows.task.isin(("retrieval", "scale"))].images.max()
    if not largest >= LARGE_SCALE:
        searched = f" (the largest gallery here holds {integer(largest)} images)" if largest == largest else ""
        found.append(f"The scale of the paper's speed and size claims, 1M images{searched}.")
    if evidence.corpus not in ("coco", "flickr30k"):
        found.append(f"COCO and Flickr30k: the pictures here are of the corpus “{evidence.corpus or 'unknown'}”.")
    if PAPER_ENGINE not in set(rows.engine):
        found.append("Lucene, the paper's engine: speed and size here are those of other engines.")
    if not speed.speed(evidence, "single") or not speed.speed(evidence, "batched"):
        found.append(
            f"Speed of {r.reference} against {r.baseline} in at least one calling mode, on one machine with equal threads."
        )
    if rows[rows.metric == "encode_texts_per_second"].empty:
        found.append("Time to encode queries and images: speeds are those of search alone.")
    else:
        added = any(sweep.encoding for sweep in sweeps(evidence))
        beside = (
            "the medians of both are added up beside the table of engines" if added else "encoding is recorded apart"
        )
        found.append(f"End-to-end time: speeds are those of search alone; {beside}.")
    return found


def caveats(evidence: Evidence) -> list[str]:
    """What makes these records less than they seem."""
    found = []
    for row in evidence.failures().itertuples():
        place = ", ".join(
            str(part)
            for part in (row.variant, row.task, row.engine, "" if row.seed != row.seed else f"seed {row.seed:.0f}")
            if part
        )
        found.append(f"{row.status.replace('_', ' ').capitalize()}: {place}{f' ({row.note})' if row.note else ''}.")
    timed = evidence.rows[evidence.rows.metric == "qps"]
    if loaded := int(timed.note.str.contains("loaded machine", regex=False).sum()):
        found.append(
            f"{loaded} of {len(timed)} timings were taken while other work kept the machine busy; the efficiency table says which."
        )
    ended = evidence.rows[
        (evidence.rows.task == "training") & (evidence.rows.metric == "train_seconds") & evidence.rows.step.isna()
    ]
    if beside := sorted(set(ended[ended.note.str.contains("loaded machine", regex=False)].variant)):
        found.append(
            f"Trained while other work kept the machine busy, so that their training seconds say too much: {', '.join(beside)}."
        )
    if gains := learning.still_learning(evidence):
        least, most = points(min(gains.values())), points(max(gains.values()))
        found.append(
            f"Not trained to the end: over the last quarter of training R@1 on val still rose by {least if least == most else f'{least} to {most}'} points "
            f"({', '.join(gains)}). More training may rank them otherwise."
        )
    if broken := evidence.disagreements():
        found.append(
            f"Recorded R@1 and per-query results disagree in {len(broken)} point(s): {', '.join(broken[:5])}. Do not trust those rows."
        )
    measured = evidence.rows[evidence.rows.task == "retrieval"]
    for column, words in (("data_id", "data"), ("code_id", "code"), ("machine_id", "machine")):
        if (n := len(set(measured[column]) - {""})) > 1:
            found.append(
                f"The retrieval records come from {n} different versions of the {words}."
                if column != "machine_id"
                else f"The retrieval records come from {n} machines."
            )
    if evidence.superseded:
        found.append(f"{evidence.superseded} points of earlier trainings of the same variants are left out.")
    if evidence.others:
        others = ", ".join(
            f"{profile or 'no profile'} on {corpus or 'no corpus'}" for profile, corpus in evidence.others
        )
        found.append(f"Also in these records, and not on this page: {others}.")
    if unknown := unknown_metrics(evidence):
        found.append(f"Metrics unknown to the registry, not used in any table: {', '.join(unknown)}.")
    return found


def _label(metric: str) -> str:
    return metric.replace("recall", "R")


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"
