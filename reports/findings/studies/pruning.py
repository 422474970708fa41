"""What pruning an exact search could save, from records of `lexlip-bench block-bounds` and `adaptive-pruning`."""

from dataclasses import dataclass, field, replace

from reports.findings import comparisons
from reports.records.corpora import DIGITS, fingerprint
from reports.records.evidence import Evidence
from reports.records.rows import whole
from reports.records.studies import named, studied
from reports.records.sweep import sweeps
from reports.render.tables import Cell, integer, is_number, percent, points, times

BOUNDS, ADAPTIVE = "block_bounds", "adaptive_pruning"
MOST_WORK = 0.3  # postings alive and maxima read over all postings, in the best order: above it, pruning cannot pay
ORDERS = {"given": "as they come", "clustered": "clustered", "bisected": "bisected"}
PLAIN, SKIPPING = "impact", "impact-blockmax"  # exact engines: the second skips blocks
FIXED = "count"
RULES = {
    FIXED: "fixed number",
    "mass": "share of the weight",
    "threshold": "one threshold",
    "published": "cut as published",
}
LEFT = "over {over}: at best {share}% of the work is left ({order}, blocks of {block})"
TEMPLATES = {
    "pays": f"Skipping blocks can pay {LEFT}; our threshold is {{rule}}%.",
    "does not pay": f"Skipping blocks cannot pay {LEFT}; our threshold is {{rule}}%.",
    "skips": f"{SKIPPING} answers {{faster}} as many single queries as {PLAIN} over {{images}} images of {{model}}, "
    "with {larger} the bytes.",
    "adaptive": "{rule}, against a fixed number: {least} ({loser}) to {most} points of R@1 ({gainer}) "
    "at equal postings.",
}


@dataclass(frozen=True)
class Bounds:
    """over: the vectors, in words. alive, work: by (order, documents in a block): share of the postings of a query that
    is alive, and that share plus the maxima that bounds read, over all postings."""

    over: str
    images: float
    alive: dict[tuple[str, int], Cell] = field(default_factory=dict)
    work: dict[tuple[str, int], Cell] = field(default_factory=dict)

    @property
    def best(self) -> tuple[str, int]:
        return min(self.work, key=lambda key: self.work[key].value)

    @property
    def pays(self) -> bool:
        return self.work[self.best].value <= MOST_WORK

    @property
    def sentence(self) -> str:
        (order, block), rule = self.best, f"{100 * MOST_WORK:.0f}"
        values = {"over": self.over, "share": percent(self.work[order, block].value), "rule": rule}
        return TEMPLATES["pays" if self.pays else "does not pay"].format(order=ORDERS[order], block=block, **values)


def bounds(evidence: Evidence) -> list[Bounds]:
    """Of each vectors the newest shares: those where pruning cannot pay first, then the largest galleries.

    A study names the data and the checkpoint of its vectors, and neither profile nor corpus. Vectors without data,
    such as imported ones, stand on the pages of every corpus.
    """
    rows, found = evidence.rows.sort_values("seed", na_position="first"), {}  # sweeps name no seed
    ours = {"", *fingerprint(rows.data_id)}
    models = {of: named(*model) for of, *model in zip(rows.checkpoint_id, rows.variant, rows.seed, strict=True) if of}
    for one in studied(evidence.named, BOUNDS):
        order, block = one.knobs.get("order"), one.knobs.get("block")
        alive, maxima = map(one.measured.cell, ("alive_postings", "maxima_per_posting"))
        known = order in list(ORDERS) and isinstance(block, int) and not alive.missing and not maxima.missing
        if known and one.row.data_id in ours:
            name = models.get(one.row.checkpoint_id, f"vectors {one.row.vectors_id[:DIGITS]}")
            kept = {"top-{}": whole(one.row.top_k), "query top-{}": one.knobs.get("query_top_k")}
            words = [text.format(number) for text, number in kept.items() if number]
            over = ", ".join([f"{integer(one.row.images)} images of {name}", *words])
            of = found.setdefault(over, Bounds(over, one.row.images))
            of.alive[order, block], of.work[order, block] = alive, replace(alive, value=alive.value + maxima.value)
    return sorted(found.values(), key=lambda one: (one.pays, -one.images, one.over))


def skipping(evidence: Evidence) -> list[str]:
    """What skipping blocks gave: rate and bytes of `impact-blockmax` over those of `impact`, of each model and sweep.

    Both over the largest gallery that both searched, with equal settings.
    """
    made = []
    for sweep in sweeps(evidence):
        call, found = sweep.call("single"), {}
        for search in sweep.searches if call else []:
            if search.rate(call) and search.bytes_per_image:
                of = search.variant, search.images, search.top_k, search.bits, search.query_top_k
                found.setdefault(of, {})[search.engine] = search
        both = {of: engines for of, engines in found.items() if {PLAIN, SKIPPING} <= set(engines)}
        for model in sorted({variant for variant, *_ in both}):
            of = max((of for of in both if of[0] == model), key=lambda of: of[1])
            plain, other = both[of][PLAIN], both[of][SKIPPING]
            values = {"faster": times(other.rate(call) / plain.rate(call)), "images": integer(of[1]), "model": model}
            values["larger"] = times(other.bytes_per_image / plain.bytes_per_image)
            made.append(TEMPLATES["skips"].format(**values))
    return made


def adaptive(evidence: Evidence) -> list[dict[str, Cell]]:
    """A row for each variant and budget, over the largest test gallery of each variant; means over seeds.

    Cells: "variant", "budget" (lexicons an image, mean), and of each rule "recall RULE" (R@1), "touched RULE" (postings
    of a query, mean) and "gain RULE" (R@1 minus that of the fixed number).
    """
    rows = evidence.rows
    rows = rows[(rows.task == ADAPTIVE) & (rows.split == "test") & (rows.variant != "") & (rows.top_k > 0)]
    galleries = rows.groupby("variant").images.max()
    return [
        {"variant": Cell(variant), "budget": Cell(budget)} | _cells(evidence, variant, budget, galleries[variant])
        for variant, budget in sorted(set(zip(rows.variant, rows.top_k, strict=True)))
    ]


def _cells(evidence: Evidence, variant: str, budget: float, images: float) -> dict[str, Cell]:
    cells, at = {}, {"task": ADAPTIVE, "split": "test", "images": images, "top_k": budget}
    sides = {rule: at | {"knobs": f'{{"rule":"{rule}"}}'} for rule in RULES}
    for rule, side in sides.items():
        recall = evidence.cell(variant, "recall@1", **side)
        pairs = evidence.cell(variant, "flops_per_pair", **side)  # a posting is touched for each multiply-add
        touched = pairs if pairs.missing else replace(pairs, value=pairs.value * images)
        found, behind = comparisons.difference(evidence, (variant, side), (variant, sides[FIXED]), "recall@1")
        gain = comparisons.estimate_cell(found, behind, recall.missing or "no paired queries")
        cells |= {f"recall {rule}": recall, f"touched {rule}": touched, f"gain {rule}": gain}
    return cells


def sentences(found: list[dict[str, Cell]]) -> tuple[str, ...]:
    """The largest loss and the largest gain of each rule: the rule that loses most first."""
    made = []
    for rule in list(RULES)[1:]:
        if gains := [
            (row[f"gain {rule}"].value, row["variant"].value) for row in found if is_number(row[f"gain {rule}"])
        ]:
            (least, loser), (most, gainer) = min(gains), max(gains)
            values = {"least": points(least), "loser": loser, "most": points(most), "gainer": gainer}
            made.append((least, TEMPLATES["adaptive"].format(rule=RULES[rule].capitalize(), **values)))
    return tuple(text for _, text in sorted(made))
