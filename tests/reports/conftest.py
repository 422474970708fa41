"""Made-up records, written through the real store, as `ablations.run` would write them."""

import dataclasses
import io
import json
import shutil
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from bench.store.records import Point, RecordStore
from reports.build import build
from reports.pages.site import PAGES
from reports.records.evidence import Evidence
from reports.render import figures

IMAGES, CAPTIONS = 60, 5
MACHINE = "0123456789abcdef"
STARTED = "2026-01-02T03:04:05+00:00"
FLAT = {"engine": "faiss-flat", "knobs": {"blas_from": 4}, "exact": True}
HOSTILE = "<script>alert('x')</script> \"quoted\" | a & b\nsecond line \u202eright to left"
# Variant -> how often the correct image is found first; the report knows nothing of these.
SKILL = {"lexlip": 0.45, "clip": 0.55, "no_bottleneck": 0.44, "no_momentum": 0.15}


@dataclass
class Made:
    """Writes made-up points of a run; `rng` makes them the same each time."""

    store: RecordStore
    images: int = IMAGES
    hostile: str = HOSTILE
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def point(self, variant, **fields) -> Point:
        dense = variant.startswith("clip")
        common = {
            "task": "retrieval", "corpus": "scenes", "split": "test", "images": self.images, "queries": self.images * CAPTIONS,
            "direction": "text_to_image", "profile": "quick", "variant": variant, "seed": 0, "kind": "dense" if dense else "lexicon",
            "exact": True, "depth": self.images, "checkpoint_id": f"checkpoint of {variant}",
            "data_id": "data", "code_id": "code", "machine_id": MACHINE, "command": f"python -m ablations.run --variants {variant}",
        }  # fmt: skip
        common |= {"engine": "faiss-flat"} if dense else {"engine": "impact", "top_k": 32, "bits": 8}
        return Point(**(common | fields))

    def queries(self, skill, direction="text_to_image") -> list[dict]:
        """Ranks whose chance of 1 is `skill`, with a luck that the captions of an image share."""
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
        """Rates are points of their own, over fewer queries and results."""
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
            values = {"zero_shot_per_class": skill / 2, "zero_shot_classes": classes, "zero_shot_images": self.images, "zero_shot_broken": 0,
                      "zero_shot_chance": 1 / classes, "zero_shot_most_frequent": 0.6, "zero_shot_top1": right / self.images}  # fmt: skip
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
        values = {"items": self.images, "dimension": 1000, "empty_items": 1, "lexicons_used": 600, "dead_lexicons": 400,
                  "always_on_lexicons": 3, "lexicons_in_all": 2, "postings_gini": 0.7} | dict.fromkeys(shares, 0.25)  # fmt: skip
        values |= {f"{whose}active_{which}": 30.0 for whose in ("", "query_") for which in ("mean", "p5", "p50", "p95")}
        self.store.write(point, values, started=STARTED)

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
        for step in (100, 200, 400):
            for direction in ("text_to_image", "image_to_text"):
                on_val = self.point(name, **base | {"split": "val", "step": step, "direction": direction})
                self.store.write(
                    on_val,
                    {"recall@1": skill * step / 400, "recall@10": min(1, 2 * skill * step / 400)},
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
            "steps": 400,
        }
        self.store.write(self.point(name, **base | {"split": "train"}), end, started=STARTED)

    def examples(self, name) -> list[dict]:
        rows = []
        for query in range(12):
            for rank in range(1, 7):
                stream = io.BytesIO()
                Image.new("RGB", (32, 32), tuple(int(c) for c in self.rng.integers(0, 256, 3))).save(stream, "WEBP")
                lexicons = [] if name.startswith("clip") else [["<b>cat", 0.5, 0.4, 0.61], ["night", 0.2, 0.4, 0.39]]
                rows.append(
                    {"query_id": f"{query:04}-0", "query": HOSTILE if query == 3 else f"a cat of number {query}", "rank": rank, "image_id": f"{(query + rank - 2) % IMAGES:04}",
                     "relevant": rank == 2, "score": 1 / rank, "lexicons": json.dumps(lexicons), "image": stream.getvalue()}
                )  # fmt: skip
        return rows


class Sweep:
    """Points of a sweep: quality and size in one, the rate of single queries in another."""

    def __init__(self, store: RecordStore):
        self.store = store

    def search(self, kind, recall, qps, stored, images=10_000, seconds=3.0, **fields) -> None:
        knobs = fields.pop("knobs", {"query_top_k": None, "scale": 100.0} if kind == "lexicon" else {})
        common = {
            "task": "scale", "corpus": "scenes", "split": "test", "images": images, "queries": 5000, "direction": "text_to_image", "profile": "quick",
            "variant": "clip" if kind == "dense" else "lexlip", "kind": kind, "index_id": "index", "machine_id": MACHINE, "knobs": knobs,
        }  # fmt: skip
        values = {
            "recall@1": recall,
            "recall@10": recall + 0.2,
            "bytes_per_image": stored,
            "index_bytes": stored * images,
            "build_seconds": seconds,
        }
        self.store.write(Point(**common | fields), values, started=STARTED)
        self.store.write(
            Point(**common | fields, batch_mode="single", threads=1),
            {"qps": qps, "latency_p50_us": 1e6 / qps, "latency_p95_us": 2e6 / qps},
            note="median of 3 rounds",
            started=STARTED,
        )

    def impact(self, top_k, *numbers, **fields) -> None:
        self.search("lexicon", *numbers, **{"engine": "impact", "top_k": top_k, "bits": 8, "exact": True} | fields)

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.store)


@pytest.fixture(scope="session")
def sweep_of():
    """Makes a writer of points of a sweep, of a store."""
    return Sweep


@pytest.fixture(scope="session")
def swept(home, tmp_path_factory):
    """A home with the variants of `home` and a sweep over three sizes; read only."""
    swept = shutil.copytree(home, tmp_path_factory.mktemp("swept") / "home")
    made = Sweep(RecordStore(swept))
    for images in (1_000, 10_000, 100_000):
        lost, per_second = images / 1e6, 1e7 / images
        for top_k in (16, 64):
            made.impact(
                top_k, 0.4 + top_k / 1000 - lost, per_second / top_k, 2.0 * top_k, images=images, seconds=images / 1e4
            )
        made.search("dense", 0.45 - lost, per_second / 100, 2048.0, images=images, **FLAT)
        made.search(
            "dense", 0.43 - lost, 5e4 / images**0.3, 2304.0, images=images, engine="faiss-hnsw", knobs={"ef": 16}
        )
    return swept


@pytest.fixture(scope="session")
def whole():
    """Reads all pages of a site, given its first, one after the other in the order of the navigation."""

    def read(index) -> str:
        return "\n".join((index.parent / f"{page.name}.html").read_text(encoding="utf-8") for page in PAGES)

    return read


@pytest.fixture
def made(tmp_path) -> Made:
    """An empty store to write made-up points to."""
    return Made(RecordStore(tmp_path / "home"))


@pytest.fixture(scope="session")
def undraw():
    """Makes figures laid out and saved as nothing, given a MonkeyPatch: for tests that build a site and read its numbers."""

    def patch(monkeypatch) -> None:
        monkeypatch.setattr(figures, "_saved", lambda canvas, kind: kind.encode())
        monkeypatch.setattr(figures.Canvas, "tight_layout", lambda self, **_: None)

    return patch


@pytest.fixture
def undrawn(monkeypatch, undraw):
    undraw(monkeypatch)


@pytest.fixture(scope="session")
def skill() -> dict[str, float]:
    """The variants of `home`."""
    return SKILL


@pytest.fixture(scope="session")
def site(home, tmp_path_factory):
    """The folder of the site built from `home`."""
    return build(home, tmp_path_factory.mktemp("site") / "site").parent


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A home with made-up records of four variants; read only."""
    home = tmp_path_factory.mktemp("made_up") / "home"
    made = Made(RecordStore(home))
    for name, skill in SKILL.items():
        made.variant(name, skill)
    return home
