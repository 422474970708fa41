"""Speed and size of the reference against the baseline on the same machine, threads, call and gallery."""

from dataclasses import dataclass

from reports.findings import verdict
from reports.records.evidence import Evidence

SHARED = ["machine_id", "threads", "batch_mode"]


@dataclass(frozen=True)
class Ratio:
    """Values of both sides; `points`: ids of their records."""

    reference: float
    baseline: float
    threads: float | None
    points: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Reference over baseline."""
        return self.reference / self.baseline


def speed(evidence: Evidence, mode: str, top_k: float | None = None, images: float | None = None) -> Ratio | None:
    """Mean QPS over seeds at the operating points, with the fewest threads of both sides.

    None without a pair, and where the R@1 of a side is too low for a ratio (`verdict.is_comparable`).
    """
    sides = []
    for variant, filters in _sides(evidence, top_k, images):
        if not verdict.is_comparable(evidence.cell(variant, "recall@1", **filters).value, filters["images"] or 1):
            return None
        rows = evidence.matching(variant, "qps", **filters, batch_mode=mode)
        rows = rows[(rows.status == "ok") & (rows.value > 0)]
        sides.append(rows.sort_values("started").drop_duplicates([*SHARED, "seed"], keep="last"))
    common = (
        sides[0]
        .merge(sides[1], on=SHARED, suffixes=("", "_baseline"))
        .sort_values(["threads", "started"], ascending=[True, False])
    )
    if common.empty:
        return None
    best = common.iloc[0]
    pair = common[
        (common.machine_id == best.machine_id)
        & (common.threads.fillna(-1) == (-1 if best.threads != best.threads else best.threads))
    ]
    threads = None if best.threads != best.threads else best.threads
    points = tuple(dict.fromkeys([*pair.point_id, *pair.point_id_baseline]))
    first, second = pair.drop_duplicates("point_id").value, pair.drop_duplicates("point_id_baseline").value_baseline
    return Ratio(float(first.mean()), float(second.mean()), threads, points)


def bytes_per_image(evidence: Evidence, top_k: float | None = None, images: float | None = None) -> Ratio | None:
    """Index bytes per image at the operating points; None unless both were measured."""
    sides = [
        evidence.measured(variant, "bytes_per_image", **filters, task=("retrieval", "index"))
        for variant, filters in _sides(evidence, top_k, images, task=False)
    ]
    if any(rows.empty or not (rows.value > 0).all() for rows in sides):
        return None
    return Ratio(
        *(float(rows.value.mean()) for rows in sides), None, tuple(sides[0].point_id) + tuple(sides[1].point_id)
    )


def _sides(evidence: Evidence, top_k: float | None, images: float | None, task: bool = True):
    r = evidence.reading
    base = evidence.retrieval() | ({"images": images} if images else {}) | {"direction": ("text_to_image", "")}
    if not task:
        del base["task"]
    for variant in (r.reference, r.baseline):
        filters = base | evidence.operating_point(variant)
        if top_k is not None and "top_k" in filters:
            filters = filters | {"top_k": top_k}
        yield variant, filters
