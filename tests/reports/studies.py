"""Made-up records of hybrid search, of query tables and of the pruning studies, as their commands write them."""

import dataclasses

from tests.reports.made import STARTED, Made

ORDERS = {"given": (0.8, 0.9), "bisected": (0.25, 0.5)}  # share of the postings alive, of blocks of 16 and of 64


def hybrid(made: Made, hits: dict[str, list[int]], variant="lexlip", other="clip", seeds=(0, 0), **change) -> list[str]:
    """A point for each method, "NAME" or "NAME NUMBER"; hits: 1 where the first result of an image's query is right."""
    ids = []
    for words, found in hits.items():
        method, _, number = words.partition(" ")
        knobs = {"method": method, "with": "second", "with_variant": other, "with_seed": seeds[1]}
        knobs |= {"first": int(number)} if number else {"weight": 0.3} if method == "convex" else {}
        fields = {"task": "hybrid", "kind": "", "engine": "", "seed": seeds[0], "knobs": knobs | change}
        point = dataclasses.replace(made.point(variant), **fields)
        rows = [
            {"query_id": f"q{i}", "group": f"g{i}", "ranks": [1 if hit else 2], "relevant": 1, "latency_us": None}
            for i, hit in enumerate(found)
        ]
        stored = {"first": 100.0, "second": 2000.0}.get(method, 2100.0)
        values = {"recall@1": sum(found) / len(found), "recall@10": 1.0, "bytes_per_image": stored}
        ids.append(made.store.write(point, values, rows, started=STARTED))
    return ids


def bounds(made: Made, alive=ORDERS, images=100_000, started=STARTED, **fields) -> None:
    """Shares of the postings that are alive, by order; block-bounds names neither profile nor corpus."""
    common = {"task": "block_bounds", "corpus": "", "profile": "", "variant": "", "split": "", "seed": None}
    common |= {"images": images, "checkpoint_id": "checkpoint of lexlip", "vectors_id": "0123456789abcdef"} | fields
    for order, shares in alive.items():
        for block, share in zip((16, 64), shares, strict=False):
            knobs = {"order": order, "block": block, "query_top_k": None}
            point = dataclasses.replace(made.point("lexlip"), **common, knobs=knobs)
            values = {"alive_blocks": share, "alive_postings": share, "maxima_per_posting": 1 / block}
            made.store.write(point, values | {"bound_over_tenth": 1.0}, started=started)


def adaptive(made: Made, hits: dict[str, list[int]], budget=8, flops=2.0, variant="lexlip", **fields) -> None:
    """R@1 of each rule; hits: as in `hybrid`."""
    for rule, found in hits.items():
        fields |= {"task": "adaptive_pruning", "top_k": budget, "engine": "", "knobs": {"rule": rule}}
        rows = [
            {"query_id": f"q{i}", "group": f"g{i}", "ranks": [1 if hit else 2], "relevant": 1, "latency_us": None}
            for i, hit in enumerate(found)
        ]
        values = {"recall@1": sum(found) / len(found), "flops_per_pair": flops}
        made.store.write(dataclasses.replace(made.point(variant), **fields), values, rows, started=STARTED)


def query_tables(
    made: Made, hits: dict[str, list[int]], times_us: dict[str, float], variant="lexlip", **change
) -> None:
    """Both points of each kind of queries; hits: as in `hybrid`; encoding takes half of the time."""
    for name, found in hits.items():
        knobs = {"queries": name} | ({} if name == "encoder" else {"table": "0123456789abcdef"})
        point = dataclasses.replace(made.point(variant), task="query_table", knobs=knobs, **change)
        rows = [
            {"query_id": f"q{i}", "group": f"g{i}", "ranks": [1 if hit else 2], "relevant": 1, "latency_us": None}
            for i, hit in enumerate(found)
        ]
        values = {"recall@1": sum(found) / len(found), "recall@10": 1.0, "active_lexicons_text": 9.0}
        made.store.write(point, values | {"flops_per_pair": 2.0}, rows, started=STARTED)
        if name in times_us:
            us = times_us[name]
            values = {"end_to_end_p50_us": us, "end_to_end_p95_us": 2 * us, "encode_text_latency_p50_us": us / 2}
            made.store.write(dataclasses.replace(point, batch_mode="single"), values, started=STARTED)


def every(made: Made) -> None:
    """Records of all four studies, with a control."""
    alone = {"first": [1] * 10 + [0] * 10, "second": [0] * 20}
    more = alone | {"rrf": [1] * 16 + [0] * 4, "convex": [1] * 18 + [0] * 2, "first_then_second 10": [1] * 20}
    hybrid(made, more | {"first_then_second 300": [1] * 12 + [0] * 8, "union": [1] * 20})
    hybrid(made, alone | {"convex": [1] * 12 + [0] * 8}, other="lexlip", seeds=(0, 1))
    query_tables(made, {"encoder": [1] * 10 + [0] * 10, "idf": [1] * 6 + [0] * 14}, {"encoder": 900.0, "idf": 100.0})
    bounds(made)
    for budget in (4, 8, 16):
        hits = {"count": [1] * budget + [0] * (20 - budget), "mass": [1] * (budget + 2) + [0] * (18 - budget)}
        adaptive(made, hits | {"threshold": [0] * 20}, budget, flops=budget / 4)
