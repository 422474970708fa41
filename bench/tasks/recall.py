"""Recall@K of a checkpoint, or of a pre-trained model of open_clip, on a corpus, on what an index returns, next to brute force on the
un-pruned vectors.

For lexicon vectors each step from exact float search to the index is a point of its own:

    scipy, all lexicons, float32     brute force on the vectors as encoded (the reference)
    scipy, K lexicons, float32       the loss by pruning
    impact, K lexicons, 8 bits       the loss by pruning and quantising: what the index returns

For dense vectors it is FAISS's exact index. Both directions. Accuracy and sizes are one point (batch_mode ""); rates and latencies are
points of their own (batch_mode "single" and "batched", text to image), retrieving few results, as a user would. Over the whole test split
of COCO its other protocols are points of their own too (task "folds", "cxc", "eccv"; `bench.tasks.protocols.protocols`).
"""

import functools
import inspect
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench import engines
from bench.engines.indexes import Index, build_index
from bench.store import cli, config
from bench.store.records import Point, RecordStore
from bench.tasks import evaluation
from bench.tasks import timing as measure
from bench.tasks.examples import chosen, example_rows
from bench.tasks.hard_negatives import measure_hard_negatives
from bench.tasks.protocols import protocols
from bench.tasks.relevance import Relevance
from bench.tasks.subject import begun
from bench.tasks.timing import Timing
from bench.vectors.encode import PRECISIONS, Encoded, Encoder, encode
from bench.vectors.impacts import SCALE, Impacts
from models.errors import InputError
from models.pretrained import open_clip as pretrained

log = logging.getLogger(__name__)

TOP_KS = (4, 8, 16, 32, 64, None)
MAIN_TOP_K = 32  # the setting that tables show and that examples are taken from
DIRECTIONS = ("text_to_image", "image_to_text")
CODE = (
    "bench.tasks.recall",
    "bench.tasks.relevance",
    "bench.tasks.timing",
    "bench.tasks.evaluation",
    "bench.vectors.impacts",
    "bench.engines.ranking",
)


@dataclass(frozen=True)
class Setting:
    """One way to search: engine, document lexicons kept (None = all), bits of the impacts (None = float32)."""

    engine: str
    top_k: int | None = None
    bits: int | None = None


def settings(kind: str, top_k: Sequence[int | None] = TOP_KS, bits: int = 8) -> list[Setting]:
    """The settings measured for vectors of a kind; the first is brute force on the vectors as encoded."""
    if kind == "dense":
        return [Setting("faiss-flat")]
    pruned = [Setting("scipy", k) for k in top_k if k is not None]
    return [Setting("scipy"), *pruned, *(Setting("impact", k, bits) for k in top_k)]


def main_setting(kind: str, top_k: Sequence[int | None] = TOP_KS, bits: int = 8) -> Setting:
    """The setting that stands for the model: 32 lexicons (or the nearest measured) at the given bits; exact search for dense vectors."""
    if kind == "dense":
        return Setting("faiss-flat")
    return Setting("impact", min(top_k, key=lambda k: abs((k or 1 << 30) - MAIN_TOP_K)), bits)


def search_knobs(setting: Setting) -> dict:
    """The first point of the engine's search grid: its default."""
    return engines.grid(setting.engine, "search")[0]


def measure_recall(
    store: RecordStore,
    home,
    checkpoint,
    corpus_spec,
    split: str = "test",
    images: int = 1000,
    *,
    top_k: Sequence[int | None] = TOP_KS,
    bits: int = 8,
    scale: float = SCALE,
    query_top_k: int | None = None,
    depth: int = 1000,
    timing: Timing | bool = True,
    examples: int = 10,
    hard_negatives: bool = True,
    variant: str = "",
    seed: int | None = None,
    profile: str = "",
    config_id: str = "",
    command: str = "",
    precision: str = "float32",
    force: bool = False,
) -> list[str]:
    """Measures a model on images 0..`images` of a split and all their captions; returns the ids of its points, old and new.

    checkpoint: a folder, or the `open_clip:` name of a pre-trained model, whose resolution the corpus then has, unless its specification
    states `pixels`. precision: what the model computes in (`bench.vectors.encode.Encoder`).
    kept: document lexicons, None = all; queries keep `query_top_k` (all, as the paper prunes documents only). scale: of the quantiser.
    depth: results retrieved for accuracy (at most the gallery); a first relevant item beyond it counts as depth + 1 in the median rank.
    timing: False leaves rates out. Raises InputError for a broken checkpoint or corpus.
    """
    if images < 1:
        raise InputError(f"images {images}: expected at least 1")
    from bench.corpora import check_split, open_corpus

    if pretrained.named(checkpoint):
        corpus_spec = drawn_at(corpus_spec, pretrained.pixels(checkpoint))
    corpus = open_corpus(corpus_spec)
    check_split(corpus, split)
    encoder = Encoder(checkpoint, precision)
    named = {"variant": variant, "seed": seed, "profile": profile, "config_id": config_id, "command": command}
    base = begun("retrieval", encoder, corpus, split, images, **named)
    encoded = encode(home, encoder, corpus, split, images, force)
    base = replace(base, kind=encoded.kind)
    ids = [_write_encoding(store, base, encoded)]
    timing = Timing() if timing is True else timing or None
    judges = protocols.judges(corpus, split, encoded)
    for direction in DIRECTIONS:
        run = _Direction(store, Path(home), corpus, encoded, direction, base, scale, query_top_k, depth, force)
        for setting in cli.progress(
            settings(encoded.kind, top_k, bits), desc=f"recall {split} {direction}", unit="setting"
        ):
            shown = (
                examples if direction == "text_to_image" and setting == main_setting(encoded.kind, top_k, bits) else 0
            )
            ids.append(run.accuracy(setting, shown))
            ids += [run.protocol(setting, judge) for judge in judges]
            if timing and direction == "text_to_image" and not (setting.engine == "scipy" and setting.top_k):
                ids += run.timing(setting, timing)
    if hard_negatives and hasattr(corpus, "hard_negatives"):
        ids.append(measure_hard_negatives(store, encoder, corpus, encoded, base, force))
    return [point_id for point_id in ids if point_id]


def drawn_at(corpus_spec, pixels: int):
    """The specification at a model's resolution, where the corpus can be made at any and none is stated.

    Pre-trained models take 224 pixels and more; the default of 64, enlarged, would measure the blur.
    """
    from bench.corpora import CORPORA

    stated = {"name": corpus_spec} if isinstance(corpus_spec, str) else corpus_spec
    corpus = CORPORA.get(stated.get("name"))
    return {"pixels": pixels} | stated if corpus and "pixels" in inspect.signature(corpus).parameters else corpus_spec


class _Direction:
    """One direction of retrieval over encoded vectors: what is searched, with what, and the points that come of it."""

    def __init__(self, store, home, corpus, encoded: Encoded, direction, base: Point, scale, query_top_k, depth, force):
        self.store, self.home, self.corpus, self.direction, self.force = store, home, corpus, direction, force
        self.scale, self.query_top_k = scale, query_top_k
        to_image = direction == "text_to_image"
        self.gallery, self.queries = (
            (encoded.images, encoded.captions) if to_image else (encoded.captions, encoded.images)
        )
        self.gallery_id = encoded.images_id if to_image else encoded.captions_id
        self.depth = min(depth, self.gallery.count)
        self.relevance = Relevance(self.gallery, self.queries)
        code = config.code_fingerprint(*CODE)
        self.knobs = {} if encoded.kind == "dense" else {"scale": scale, "query_top_k": query_top_k}
        self.base = replace(base, direction=direction, vectors_id=self.gallery_id, code_id=code)

    def documents(self, setting: Setting):
        return (
            self.gallery
            if self.gallery.kind == "dense"
            else Impacts(self.gallery, setting.top_k, setting.bits, self.scale)
        )

    @functools.lru_cache(maxsize=2)  # noqa: B019  (lives as long as one direction)
    def asked(self, bits: int | None):
        """All queries in the form that an index of these bits is searched with."""
        if self.queries.kind == "dense":
            return self.queries.to_numpy()
        return Impacts(self.queries, self.query_top_k, bits, self.scale).to_scipy()

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """ids (Q, 10) of exact search over the vectors as encoded."""
        queries = self.queries.rows(0, self.queries.count)
        with self.index(settings(self.gallery.kind)[0]).open() as engine:
            return engine.search(engine.prepare(queries), min(10, self.gallery.count))[0]

    def index(self, setting: Setting, force: bool = False) -> Index:
        return build_index(self.home, setting.engine, self.documents(setting), self.gallery_id, force=force)

    def point(self, setting: Setting, index_id: str, **fields) -> Point:
        of_setting = {
            "engine": setting.engine,
            "top_k": setting.top_k,
            "bits": setting.bits,
            "exact": engines.get(setting.engine).exact,
        }
        return replace(self.base, **of_setting, knobs=self.knobs | search_knobs(setting), index_id=index_id, **fields)

    def accuracy(self, setting: Setting, shown: int) -> str:
        """Writes the point of recall, sizes and cost per pair; returns its id."""
        index = self.index(setting, self.force)
        point = self.point(setting, index.id, queries=self.queries.count, depth=self.depth)
        if self.store.has(point) and not self.force:
            return point.id
        began, queries = time.perf_counter(), self.asked(setting.bits)
        ids, scores = self.found(setting)
        ranks, relevant = self.relevance.ranks(ids)
        values = evaluation.evaluate(ranks, relevant, self.depth) | {
            "overlap@10": evaluation.overlap(ids, self.reference, 10),
            "index_bytes": index.bytes,
            "bytes_per_image": index.bytes / max(1, self.gallery.count),
            "vectors_bytes": self.gallery.bytes,
            "build_seconds": index.seconds,
            "build_cpu_seconds": index.cpu_seconds,
        }
        values |= self.cost(setting, queries)
        found = self.examples(setting, queries, ids, scores, shown) if shown else None
        seconds = time.perf_counter() - began
        return self.store.write(point, values, self.relevance.sidecar(range(len(ranks)), ranks), found, seconds=seconds)

    @functools.lru_cache(maxsize=1)  # noqa: B019  (for the protocols, which judge the same ranking)
    def found(self, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
        """ids and scores (Q, depth) of all queries."""
        with self.index(setting).open() as engine:
            knobs = search_knobs(setting)
            return engine.search(engine.prepare(self.asked(setting.bits), **knobs), self.depth, **knobs)

    def protocol(self, setting: Setting, judge: protocols.Judge) -> str:
        """Writes the point of one of the corpus's own protocols; returns its id."""
        code, data = (
            config.code_fingerprint(*CODE, *protocols.CODE),
            "-".join(filter(None, (self.base.data_id, judge.data_id))),
        )
        fields = {
            "task": judge.task,
            "queries": self.queries.count,
            "depth": self.depth,
            "code_id": code,
            "data_id": data,
        }
        point = replace(self.point(setting, self.index(setting).id), **fields)
        if self.store.has(point) and not self.force:
            return point.id
        judged = judge.judge(self.direction, self.gallery, self.queries, self.found(setting)[0])
        return self.store.write(point, judged.values, judged.sidecar(self.queries))

    def timing(self, setting: Setting, timing: Timing) -> list[str]:
        """Writes the points of rate and latency; returns their ids."""
        index = self.index(setting)
        which = measure.evenly(self.queries.count, timing.queries)
        fields = {"depth": timing.depth, "threads": timing.threads, "queries": len(which)}
        points = {mode: self.point(setting, index.id, batch_mode=mode, **fields) for mode in ("single", "batched")}
        if missing := [mode for mode, point in points.items() if self.force or not self.store.has(point)]:
            with index.open() as engine:
                for mode in missing:
                    measured = getattr(measure, mode)(
                        engine, self.asked(setting.bits)[which], timing, **search_knobs(setting)
                    )
                    asked = which[: measured.queries]
                    ranks, _ = self.relevance.ranks(measured.ids, asked)
                    sidecar = self.relevance.sidecar(asked, ranks, measured.latency_us)
                    self.store.write(
                        points[mode], measured.values, sidecar, note=measured.note, seconds=measured.seconds
                    )
        return [point.id for point in points.values()]

    def cost(self, setting: Setting, queries) -> dict[str, float]:
        """Active lexicons on both sides and multiply-adds per pair, of the vectors as indexed and as asked."""
        if self.gallery.kind == "dense":
            return {"flops_per_pair": float(self.gallery.dimension)}
        sides = {}
        for name, shards, count in (
            ("document", self.documents(setting).shards(), self.gallery.count),
            ("query", [queries], self.queries.count),
        ):
            active = sum(np.bincount(rows.indices, minlength=self.gallery.dimension) for rows in shards)
            sides[name] = active / max(1, count)
        image, text = ("document", "query") if self.direction == "text_to_image" else ("query", "document")
        return {
            "active_lexicons_image": float(np.sum(sides[image])),
            "active_lexicons_text": float(np.sum(sides[text])),
            "flops_per_pair": evaluation.flops_per_pair(sides["query"], sides["document"]),
        }

    def examples(self, setting: Setting, queries, ids, scores, shown: int) -> list[dict]:
        documents = None if self.gallery.kind == "dense" else self.documents(setting).to_scipy()
        ours = (self.queries.ids, self.queries.groups, self.gallery.ids, self.gallery.vocabulary)
        which = chosen(self.queries.count, shown)
        return example_rows(
            self.corpus, self.base.split, self.base.images, queries, documents, which, ids, scores, *ours
        )


def _write_encoding(store: RecordStore, base: Point, encoded: Encoded) -> str | None:
    """The rates of encoding, when it was done just now."""
    if not encoded.rates:
        return None
    code = config.code_fingerprint("bench.vectors.encode")
    point = replace(base, task="encoding", queries=encoded.captions.count, vectors_id=encoded.images_id, code_id=code)
    return store.write(point, encoded.rates | {"vectors_bytes": encoded.images.bytes})


# --- lexlip-bench recall -------------------------------------------------------------------------------------------------------


def table(rows) -> str:
    """The retrieval points among the rows, one line each."""
    values = rows.pivot_table(index="point_id", columns="metric", values="value")
    points = rows.drop_duplicates("point_id").set_index("point_id")
    accuracy = points[(points.task == "retrieval") & (points.batch_mode == "")]
    single = points[points.batch_mode == "single"].reset_index().set_index("index_id").point_id
    names = f"{'R@1':>6} {'R@5':>6} {'R@10':>6} {'median':>7} {'bytes/item':>11} {'p50 us':>8}"
    lines = [f"{'direction':<14} {'engine':<10} {'kept':>5} {'bits':>5} {names}"]
    for point_id, point in accuracy.sort_values(
        ["direction", "engine", "bits", "top_k"], ascending=[False, False, False, True]
    ).iterrows():
        value = values.loc[point_id]
        recalls = " ".join(f"{value.get(f'recall@{k}', float('nan')):6.3f}" for k in (1, 5, 10))
        p50 = f"{values.loc[single[point.index_id]]['latency_p50_us']:.0f}" if point.index_id in single else "-"
        setting = (
            f"{point.direction:<14} {point.engine:<10} {_text(point.top_k, 'all'):>5} {_text(point.bits, 'float'):>5}"
        )
        lines.append(f"{setting} {recalls} {value['median_rank']:7.0f} {value['bytes_per_image']:11.1f} {p50:>8}")
    return "\n".join(lines)


def _text(value, absent: str) -> str:
    return absent if pd.isna(value) else str(value)


def _top_k(text: str) -> tuple[int | None, ...]:
    try:
        top_k = tuple(None if part == "all" else int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--top-k {text}: expected numbers and 'all', separated by commas, such as 8,32,all") from None
    if any(k is not None and k < 1 for k in top_k):
        raise InputError(f"--top-k {text}: expected numbers of at least 1")
    return top_k


def main(arguments) -> None:
    """Measures one model and prints what was measured."""
    from bench.corpora import read_spec

    store = RecordStore(arguments.home)
    name = pretrained.variant(arguments.model) if arguments.model else arguments.checkpoint.resolve().name
    ids = measure_recall(
        store,
        arguments.home,
        arguments.model or arguments.checkpoint,
        read_spec(arguments.corpus),
        arguments.split,
        arguments.images,
        top_k=_top_k(arguments.top_k),
        bits=arguments.bits,
        scale=arguments.scale,
        query_top_k=arguments.query_top_k,
        timing=Timing(threads=arguments.threads) if arguments.timing else False,
        variant=arguments.variant or name,
        seed=arguments.seed,
        profile=arguments.profile,
        precision=arguments.precision,
        force=arguments.force,
    )
    rows = store.read()
    rows = rows[rows.point_id.isin(ids)]
    print(table(rows))
    if others := protocols.table(rows):
        print(f"\n{others}")


def parser():
    flags = cli.parser("Recall@K of a model on a corpus: brute force, pruned, and through the index.", writes=True)
    model = flags.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help="checkpoint folder")
    model.add_argument(
        "--model",
        help="a pre-trained one: open_clip:ARCHITECTURE/TAG, fetched from the hub; open_clip:ARCHITECTURE/FILE of weights; "
        "open_clip:local-dir:FOLDER. The corpus is flags at its resolution, unless --corpus states one: '{name: scenes, pixels: 64}'",
    )
    flags.add_argument("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="what the model computes in")
    cli.add_corpus(flags)
    flags.add_argument("--top-k", default="4,8,16,32,64,all", help="document lexicons kept, separated by commas")
    flags.add_argument("--query-kept", type=int, default=None, help="query lexicons kept; all unless given")
    flags.add_argument("--bits", type=int, default=8, choices=(8, 16), help="bits of an impact")
    flags.add_argument("--scale", type=float, default=SCALE, help="impact = round(scale x weight)")
    flags.add_argument("--threads", type=int, default=1, help="threads of the timed search")
    flags.add_argument("--no-timing", dest="timing", action="store_false", help="leave rates and latencies out")
    flags.add_argument(
        "--variant",
        default="",
        help="name of the variant in the records; the folder's or the model's name unless given",
    )
    flags.add_argument("--seed", type=int, default=None)
    flags.add_argument("--profile", default="")
    return flags
