"""Made-up records of variants, written through the real store as `ablations.run` would write them."""

import dataclasses
import io
import json
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from bench.store.records import Point, RecordStore

IMAGES, CAPTIONS = 60, 5
MACHINE = "0123456789abcdef"
STARTED = "2026-01-02T03:04:05+00:00"
HOSTILE = "<script>alert('x')</script> \"quoted\" | a & b\nsecond line \u202eright to left"
# Variant -> probability that the relevant image is found first.
SKILL = {"lexlip": 0.45, "clip": 0.55, "no_bottleneck": 0.44, "no_momentum": 0.15}


@dataclass
class Made:
    """Writes made-up points of a run of a profile; `rng` makes them the same each time."""

    store: RecordStore
    images: int = IMAGES
    profile: str = "quick"
    steps: int = 400
    hostile: str = HOSTILE
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def point(self, variant, **fields) -> Point:
        dense = variant.startswith("clip")
        common = {
            "task": "retrieval", "corpus": "scenes", "split": "test", "images": self.images, "variant": variant,
            "queries": self.images * CAPTIONS, "direction": "text_to_image", "profile": self.profile, "seed": 0,
            "kind": "dense" if dense else "lexicon",
            "exact": True, "depth": self.images, "checkpoint_id": f"checkpoint of {variant}",
            "data_id": "data", "code_id": "code", "machine_id": MACHINE,
            "command": f"python -m ablations.run --variants {variant}",
        }  # fmt: skip
        common |= {"engine": "faiss-flat"} if dense else {"engine": "impact", "top_k": 32, "bits": 8}
        return Point(**(common | fields))

    def queries(self, skill, direction="text_to_image") -> list[dict]:
        """Ranks whose chance of 1 is `skill`, correlated among the captions of an image."""
        rows = []
        for image in range(self.images):
            luck = self.rng.normal(0, 0.2)
            for caption in range(CAPTIONS if direction == "text_to_image" else 1):
                right = self.rng.random() < skill + luck
                rank = 1 if right else int(self.rng.integers(2, self.images + 1))
                rows.append(
                    {
                        "query_id": f"{image:04}-{caption}",
                        "group": f"{image:04}",
                        "ranks": [rank],
                        "relevant": 1,
                        "latency_us": None,
                    }
                )
        return rows

    def retrieval(self, point, skill, examples=None, **values) -> str:
        queries = self.queries(skill, point.direction)
        first = np.array([row["ranks"][0] for row in queries])
        recalls = {f"{prefix}recall@{k}": float((first <= k).mean()) for k in (1, 5, 10) for prefix in ("", "trec_")}
        return self.store.write(
            point,
            recalls | {"median_rank": float(np.median(first))} | values,
            queries,
            examples,
            started=STARTED,
            seconds=1.5,
        )

    def timing(self, point, mode, qps) -> None:
        """Rates are separate points, over fewer queries and results."""
        values = {"qps": qps} | (
            {"latency_p50_us": 1e6 / qps, "latency_p95_us": 1.5e6 / qps, "latency_p99_us": 2e6 / qps}
            if mode == "single"
            else {}
        )
        at = dataclasses.replace(point, batch_mode=mode, threads=1, depth=10, queries=50)
        self.store.write(at, values, self.queries(0.5)[:50], note="median of 3 passes", started=STARTED)

    def variant(self, name, skill, seed=0) -> None:
        """Everything a run measures of one variant."""
        dense = name.startswith("clip")
        point = self.point(name, seed=seed)
        costs = {"bytes_per_image": 512.0, "flops_per_pair": 128.0}
        if not dense:
            costs = {
                "bytes_per_image": 131.0,
                "flops_per_pair": 1.75,
                "active_lexicons_image": 30.5,
                "active_lexicons_text": 11.25,
            }
        self.retrieval(point, skill, examples=self.examples(name), **costs)
        self.timing(point, "batched", 900.0 if dense else 700.0)
        self.timing(point, "single", 90.0 if dense else 400.0)
        self.retrieval(dataclasses.replace(point, direction="image_to_text", queries=self.images), skill)
        self.retrieval(dataclasses.replace(point, split="compositional"), skill / 2)
        for top_k in () if dense else (8, 16, 32, None):
            lost, entries = 1 / (top_k or 1000), top_k or 60
            self.retrieval(
                dataclasses.replace(point, engine="scipy", top_k=top_k, bits=None),
                skill - lost,
                bytes_per_image=12.0 * entries,
            )
            if top_k != 32:
                at = dataclasses.replace(point, top_k=top_k)
                self.retrieval(
                    at, skill - 1.2 * lost, bytes_per_image=4.1 * entries, active_lexicons_image=0.95 * entries
                )
                self.timing(at, "batched", 40000 / entries)
                self.timing(at, "single", 12000 / entries)
        beside = dataclasses.replace(point, engine="", top_k=None, bits=None, direction="", depth=None)
        self.hard_negatives(dataclasses.replace(beside, task="hard_negatives"))
        self.zero_shot(dataclasses.replace(beside, task="zero_shot", queries=self.images), skill)
        if not dense:
            self.diagnostics(dataclasses.replace(beside, task="sparsity"))
        self.training(name, seed, skill)

    def hard_negatives(self, point) -> None:
        rows = [
            {
                "query_id": f"{image}-{kind}",
                "group": f"{image:04}",
                "kind": kind,
                "correct": bool(self.rng.random() < 0.7),
            }
            for image in range(self.images)
            for kind in ("attribute", "count", "relation")
        ]
        values = {"hard_negative_accuracy": float(np.mean([row["correct"] for row in rows]))}
        for kind in ("attribute", "count", "relation"):
            values[f"hard_negative_accuracy_{kind}"] = float(
                np.mean([row["correct"] for row in rows if row["kind"] == kind])
            )
        self.store.write(point, values, rows, started=STARTED)

    def zero_shot(self, point, skill) -> None:
        """Two kinds of class: of eight, and of two, which have no top-5."""
        for kind, classes in (("concept", 8), ("time", 2)):
            right = int(skill * self.images)
            ranks = [1] * right + [2] * (self.images - right)
            rows = [
                {"query_id": f"{i:04}/a", "group": f"{i:04}", "ranks": [rank], "relevant": 1, "latency_us": None}
                for i, rank in enumerate(ranks)
            ]
            values = {"per_class": skill / 2, "classes": classes, "images": self.images, "broken": 0}
            values |= {"chance": 1 / classes, "most_frequent": 0.6, "top1": right / self.images}
            values = {f"zero_shot_{name}": value for name, value in values.items()}
            values |= {"zero_shot_top5": 1.0} if classes > 5 else {}
            self.store.write(dataclasses.replace(point, knobs={"classes": kind}), values, rows, started=STARTED)

    def diagnostics(self, point) -> None:
        shares = (
            "postings_top_share",
            "caption_precision",
            "caption_precision_weighted",
            "caption_recall",
            "caption_recall_weighted",
        )
        values = {"items": self.images, "dimension": 1000, "empty_items": 1, "lexicons_used": 600, "dead_lexicons": 400}
        values |= {"always_on_lexicons": 3, "lexicons_in_all": 2, "postings_gini": 0.7} | dict.fromkeys(shares, 0.25)
        values |= {f"{whose}active_{which}": 30.0 for whose in ("", "query_") for which in ("mean", "p5", "p50", "p95")}
        self.store.write(point, values, started=STARTED)
        shares = ("caption_precision_weighted", "caption_recall", "strongest_is_word", "dead_frequent", "piece_weight")
        shares += tuple(f"typed_recall@{k}" for k in (1, 5, 10))
        shares += tuple(f"truth_{of}{k}" for of in ("precision", "recall") for k in ("", "@8"))
        values = {share: (1 + place) / 32 for place, share in enumerate(shares)}
        values |= {"dead_lexicons": 500, "always_on_lexicons": 1, "query_active_mean": 30.0, "touched_postings": 250.0}
        self.store.write(dataclasses.replace(point, top_k=32), values, started=STARTED)

    def training(self, name, seed, skill) -> None:
        base = {
            "task": "training",
            "engine": "",
            "top_k": None,
            "bits": None,
            "images": None,
            "queries": None,
            "direction": "",
            "depth": None,
        }
        base |= {"seed": seed, "checkpoint_id": "", "config_id": f"run of {name} {seed}"}
        for step in (self.steps // 4, self.steps // 2, self.steps):
            for direction in ("text_to_image", "image_to_text"):
                on_val = self.point(name, **base | {"split": "val", "step": step, "direction": direction})
                self.store.write(
                    on_val,
                    {"recall@1": skill * step / self.steps, "recall@10": min(1, 2 * skill * step / self.steps)},
                    started=STARTED,
                )
            self.store.write(
                self.point(name, **base | {"split": "train", "step": step}),
                {"loss": 9 - step / 100, "lr": 1e-4, "train_seconds": step / 3},
                started=STARTED,
            )
        end = {
            "train_seconds": 133.0,
            "train_cpu_seconds": 250.0,
            "train_samples_per_second": 770.0,
            "parameters": 612345,
            "steps": self.steps,
        }
        self.store.write(self.point(name, **base | {"split": "train"}), end, started=STARTED)

    def examples(self, name) -> list[dict]:
        rows = []
        for query in range(12):
            for rank in range(1, 7):
                stream = io.BytesIO()
                Image.new("RGB", (32, 32), tuple(int(c) for c in self.rng.integers(0, 256, 3))).save(stream, "WEBP")
                lexicons = [] if name.startswith("clip") else [["<b>cat", 0.5, 0.4, 0.61], ["night", 0.2, 0.4, 0.39]]
                row = {
                    "query_id": f"{query:04}-0",
                    "query": HOSTILE if query == 3 else f"a cat of number {query}",
                    "rank": rank,
                    "image_id": f"{(query + rank - 2) % IMAGES:04}",
                    "relevant": rank == 2,
                    "score": 1 / rank,
                    "lexicons": json.dumps(lexicons),
                    "image": stream.getvalue(),
                }
                rows.append(row)
        return rows
