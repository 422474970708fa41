"""Charts of the ablations: the words of the lexicons, quality against work, learning curves."""

from dataclasses import replace

import numpy as np

from reports.findings.convergence import curves_by_seed
from reports.records.evidence import UNTRAINED, Evidence
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import percent, significant

SPARSIFIERS = {"flops": "FLOPS", "df_flops": "DF-FLOPS", "l1": "L1", "top_k": "top-k"}
STRENGTHS = ("weak", "medium", "strong")
"""Variants of a sparsifier are named after it and its strength, such as `l1_weak`."""


def words_chart(evidence: Evidence) -> Chart | None:
    """Share of weight on caption words and R@1 of typed words; of un-pruned images where nothing else was measured."""
    lexicon = [
        name for name in evidence.variants if evidence.kinds.get(name) == "lexicon" and not name.startswith(UNTRAINED)
    ]
    titles = {
        "caption_precision_weighted": "Weight on words of the captions, %",
        "typed_recall@1": "R@1 of typed words, %",
    }
    panels, alt = [], []
    for metric, title in titles.items():
        for top_k in (evidence.reading.top_k, None):
            at = {"task": "sparsity", "split": "test", "top_k": top_k}
            found = [(name, evidence.cell(name, metric, **at)) for name in lexicon]
            found = sorted(((n, cell) for n, cell in found if not cell.missing), key=lambda one: -one[1].value)
            if found:
                break
        if not found:
            continue
        names = tuple(name for name, _ in found)
        kept = f"{top_k} lexicons kept" if top_k else "un-pruned"
        tips = [f"{n}: {percent(c.value)} %\n{c.n}\nrecords: {', '.join(c.points)}" for n, c in found]
        marks = tuple(Mark(100 * cell.value, float(i), tips[i]) for i, (_, cell) in enumerate(found))
        panels.append(Panel(f"{title} ({kept})", Axis("", zero=True), Axis("", names=names), (Series("", marks),)))
        alt.append(f"{title}: " + "; ".join(f"{name} {percent(cell.value)}" for name, cell in found))
    if not panels:
        return None
    best = max(panels[0].series[0].marks, key=lambda mark: mark.x)
    name = panels[0].y.names[int(best.y)]
    title = f"{name} has the largest share of weight on caption words: {significant(best.x)}%"
    return Chart("words", title, "Mean over test images and seeds.", evidence.corpus, ". ".join(alt), tuple(panels))


def work_chart(evidence: Evidence) -> Chart | None:
    """R@1 against multiply-adds: the compared lexicon models at every top-k, the others at the operating point."""
    r, series = evidence.reading, []
    rows = evidence.rows[(evidence.rows.engine == r.lexicon_engine) & (evidence.rows.bits == r.bits)]
    for name in evidence.variants:
        point = evidence.operating_point(name)
        colour = {r.reference: 0, r.words: 2}.get(name)
        kept = [r.top_k] if colour is None else sorted(map(int, rows[rows.variant == name].top_k.dropna().unique()))
        searches = [
            (name if colour is None else f"top-{top_k}", name, point | {"top_k": top_k})
            for top_k in kept
            if "top_k" in point
        ]
        if marks := _at_work(evidence, searches):
            quiet = colour is None
            shown = "other models" if quiet else name
            series.append(Series(shown, marks, 7 if quiet else colour, "" if quiet else "all", quiet=quiet))
    if not any(one.line for one in series):
        return None
    series.sort(key=lambda one: one.quiet)
    subtitle = f"Images cut to k lexicons, {r.bits} bits; queries whole. Other models: top-{r.top_k}."
    return _against_work(evidence, "work", subtitle, series)


def sparsifier_chart(evidence: Evidence) -> Chart | None:
    """R@1 against multiply-adds of un-pruned vectors: what each sparsifier makes of them in training, by strength."""
    r, series = evidence.reading, []
    at = {"engine": r.lexicon_brute_force, "top_k": None, "bits": None}
    families = {
        shown: [(strength, f"{name}_{strength}", at) for strength in STRENGTHS] for name, shown in SPARSIFIERS.items()
    }
    for place, (shown, searches) in enumerate([*families.items(), (r.reference, [("", r.reference, at)])]):
        if marks := _at_work(evidence, [one for one in searches if evidence.kinds.get(one[1]) == "lexicon"]):
            series.append(Series(shown, marks, place, "all"))
    if len(series) < 2:
        return None
    return _against_work(evidence, "sparsifiers", "Vectors as they are encoded, nothing pruned.", series)


def _at_work(evidence: Evidence, searches: list[tuple[str, str, dict]]) -> tuple[Mark, ...]:
    """A mark for each measured search: its label, the model, and further filters."""
    made = []
    for label, name, filters in searches:
        at = evidence.retrieval() | filters
        work, quality, images, texts = (
            evidence.cell(name, metric, **at)
            for metric in ("flops_per_pair", "recall@1", "active_lexicons_image", "active_lexicons_text")
        )
        if not work.missing and not quality.missing:
            top_k = f", top-{filters['top_k']}" if filters["top_k"] else ""
            tip = f"{name}{top_k}: R@1 {percent(quality.value)} %, {significant(work.value)} multiply-adds"
            if not images.missing and not texts.missing:
                tip += f"\n{significant(images.value)} lexicons an image, {significant(texts.value)} a text"
            tip += f"\nrecords: {', '.join(quality.points)}"
            made.append(Mark(work.value, 100 * quality.value, tip, label=label))
    return tuple(made)


def _against_work(evidence: Evidence, name: str, subtitle: str, series: list[Series]) -> Chart:
    marks = [
        (mark, mark.label if one.quiet else f"{one.name} {mark.label}".strip()) for one in series for mark in one.marks
    ]
    best, found = max(marks, key=lambda of: of[0].y)
    alt = "; ".join(f"{label}: {significant(mark.y)} % at {significant(mark.x)}" for mark, label in marks)
    panel = Panel("", Axis("multiply-adds per pair", log=True), Axis("R@1, %"), tuple(series))
    return Chart(
        name, f"{found} has the highest R@1: {significant(best.y)}% at {significant(best.x)} multiply-adds",
        f"{subtitle} Mean over seeds. Up and left is better.", evidence.corpus, alt, (panel,), 1,
    )  # fmt: skip


VALIDATION = "Validation R@1, text to image, by brute force on un-pruned vectors; mean over seeds."


def validation(evidence: Evidence, variant: str) -> tuple[Mark, ...]:
    """R@1 on val by step, a mark for each validation; none without a learning curve."""
    grid = 100 * curves_by_seed(evidence, variant, "recall@1", "val")
    return tuple(
        Mark(step, value, f"{variant}\nstep {step:,.0f}: R@1 {value:.3g} %\nseeds: {grid.shape[1]}")
        for step, value in grid.mean(axis=1).items()
    )


def learning(evidence: Evidence) -> Chart | None:
    """Validation R@1 by step and by seconds of training; models that were compared by name, others in grey."""
    r, by_step, by_time, ends = evidence.reading, [], [], {}
    named = [r.reference, r.baseline, r.words]
    for variant in sorted(
        evidence.variants, key=lambda name: named.index(name) - 9 if name in named else 0, reverse=True
    ):
        marks = validation(evidence, variant)
        if not marks:
            continue
        colour = named.index(variant) if variant in named else 7
        name = variant if variant in named else "other models"
        by_step.append(Series(name, marks, colour, "all", quiet=variant not in named))
        seconds = curves_by_seed(evidence, variant, "train_seconds", "val")
        seconds = seconds if len(seconds) > 1 else curves_by_seed(evidence, variant, "train_seconds", "train")
        if len(seconds) > 1:
            known = seconds.index.to_numpy(float), seconds.mean(axis=1).to_numpy()
            elapsed = tuple(replace(mark, x=float(np.interp(mark.x, *known))) for mark in marks)
            by_time.append(replace(by_step[-1], marks=elapsed))
        ends[variant] = f"{variant} {marks[-1].y:.3g}%"
    if not by_step:
        return None
    last = [ends[name] for name in named if name in ends] or list(ends.values())
    title = f"Validation R@1 at the end: {', '.join(last)}"
    panels = [Panel("By step", Axis("optimiser step"), Axis("R@1, %"), tuple(by_step))]
    panels += [Panel("By time", Axis("seconds of training"), Axis("R@1, %"), tuple(by_time))] if by_time else []
    return Chart("learning", title, VALIDATION, evidence.corpus, "; ".join(ends.values()), tuple(panels))
