"""Hybrid search: two models of the same images searched together, beside each of them alone.

    lexlip-bench hybrid --checkpoint LEXLIP --with CLIP --corpus scenes --images 1000

One point per method, with knobs {"with": id of the second checkpoint, "kinds": of both, "method": ..., and its own}:

    first, second         each model alone
    rrf, dbsf             reciprocal rank fusion, distribution-based score fusion
    convex                convex combination of scores; its weight is chosen on val, by R@1
    first_then_second     a cascade: the top N of the first model, re-ranked by the second; and the reverse
    union                 no method: whether either model has a relevant image in its top K, the bound of every fusion

Both models are checkpoints. Two of one kind with different seeds are the control: a fusion of lexicon and dense
vectors must gain more than those do.
"""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.corpora import check_split
from bench.store import cli
from bench.store.config import code_fingerprint
from bench.store.records import Point, RecordStore
from bench.tasks import evaluation
from bench.tasks.hybrid import fusion
from bench.tasks.retrieval.direction import CODE as RETRIEVAL
from bench.tasks.retrieval.direction import Direction
from bench.tasks.retrieval.settings import RecallOptions, Setting, main_setting
from bench.tasks.subject import Measurement, Slice, Subject, used
from bench.vectors.encoder import PRECISIONS
from models.errors import InputError

TASK = "hybrid"
CODE = (*RETRIEVAL, "bench.tasks.hybrid.fusion", "bench.tasks.hybrid.measure")
WEIGHTS = tuple(step / 20 for step in range(21))
FIRSTS = (10, 30, 100, 300, 1000)  # results that a cascade re-ranks
DEPTH = 1000  # results of each search that are fused
RECALLS = (1, 5, 10)
RETURNED = 100  # results of a method that are ranked
VAL = "val"


@dataclass(frozen=True)
class HybridOptions:
    """top_k, bits: lexicons per image and bits of an impact, of a lexicon model. depth: results of each search that are
    fused. val_images: images of the split val on which the convex weight is chosen."""

    top_k: int = 32
    bits: int = 8
    depth: int = DEPTH
    val_images: int = 500


@dataclass(frozen=True)
class Side:
    """One model on one slice, and its search of images by captions."""

    measurement: Measurement
    options: HybridOptions

    @functools.cached_property
    def setting(self) -> Setting:
        """The exact search of the model: an index for lexicon vectors, flat for dense ones."""
        return main_setting(self.measurement.encoded.kind, (self.options.top_k,), self.options.bits)

    @functools.cached_property
    def search(self) -> Direction:
        return Direction(self.measurement, "text_to_image", RecallOptions(depth=self.options.depth))

    @functools.cached_property
    def results(self) -> tuple[np.ndarray, np.ndarray]:
        """ids and scores (Q, depth) of all queries."""
        return self.search.ranking(self.setting)

    @property
    def bytes_per_image(self) -> float:
        return self.search.index(self.setting).bytes / max(1, self.search.gallery.count)

    def scores_of(self, ids: np.ndarray) -> np.ndarray:
        """This model's scores of given images, (Q, N); -inf for padding."""
        queries, documents = self.search.query_matrix(self.setting.bits), self.search.documents(self.setting)
        gallery = documents.to_numpy() if documents.kind == "dense" else documents.to_scipy()
        scores = np.full(ids.shape, -np.inf)
        for query, images in enumerate(ids):
            real = images >= 0
            product = gallery[images[real]].astype(np.float64) @ queries[query : query + 1].astype(np.float64).T
            scores[query, real] = np.asarray(product if documents.kind == "dense" else product.toarray()).ravel()
        return scores


def measure_hybrid(
    home: Path, subjects: tuple[Subject, Subject], slice_: Slice, options: HybridOptions, force: bool = False
) -> list[str]:
    """Measures two models together and alone on a slice; returns the ids of the points, old and new.

    Raises InputError for a corpus without the split val, and for one model given twice.
    """
    if subjects[0].encoder.id == subjects[1].encoder.id:
        raise InputError(f"--with {subjects[1].model}: the same model as --checkpoint; expected another one")
    check_split(slice_.corpus, VAL, options.val_images)
    first, second = (Side(Measurement(home, subject, slice_, force), options) for subject in subjects)
    store, points = first.measurement.store, []
    if first.measurement.encoded.captions.ids != second.measurement.encoded.captions.ids:
        raise InputError("the captions of the two models differ; expected vectors of the same slice")
    held = tuple(Side(replace(side.measurement, slice=_val(slice_, options)), options) for side in (first, second))
    for knobs, ids in methods(first, second, held):
        points.append(_write(store, (first, second), knobs, ids, force))
    return points


def _val(slice_: Slice, options: HybridOptions) -> Slice:
    return Slice(slice_.corpus, VAL, options.val_images)


def methods(first: Side, second: Side, held: tuple[Side, Side]) -> Iterator[tuple[dict, np.ndarray | None]]:
    """Each method's knobs and its results, ids (Q, N); None for the union of both, which is no ranking.

    N: the depth for a model alone, the number re-ranked for a cascade, else at most RETURNED.
    """
    sides = {"first": first, "second": second}
    for name, side in sides.items():
        yield {"method": name}, side.results[0]
    union = fusion.Union.of(*zip(first.results, second.results, strict=True))
    yield {"method": "rrf"}, union.best(fusion.reciprocal_rank(union), RETURNED)
    yield {"method": "dbsf"}, union.best(fusion.distribution_based(union), RETURNED)
    weight = chosen_weight(*held)
    yield {"method": "convex", "weight": weight}, union.best(fusion.convex(union, weight), RETURNED)
    for name, other in (("first", "second"), ("second", "first")):
        ids = sides[name].results[0]
        numbers = dict.fromkeys(min(number, ids.shape[1]) for number in FIRSTS)
        scores = sides[other].scores_of(ids[:, : max(numbers)])
        for number in numbers:
            ranked = fusion.reranked(ids, scores[:, :number], number)
            yield {"method": f"{name}_then_{other}", "first": number}, ranked
    yield {"method": "union"}, None


def chosen_weight(first: Side, second: Side) -> float:
    """The weight of the first model with the largest R@1 on the slice of both; of equal ones, the nearest to 0.5."""
    union = fusion.Union.of(*zip(first.results, second.results, strict=True))
    found = {}
    for weight in WEIGHTS:
        ranks, relevant = first.search.relevance.ranks(union.best(fusion.convex(union, weight), 1))
        found[weight] = evaluation.success_at(1, ranks, relevant, 1)
    return max(WEIGHTS, key=lambda weight: (found[weight], -abs(weight - 0.5)))


def _write(store: RecordStore, sides: tuple[Side, Side], knobs: dict, ids: np.ndarray | None, force: bool) -> str:
    first, second = sides
    relevance, with_ = first.search.relevance, second.measurement.subject
    of_second = {"with": with_.encoder.id, "with_variant": with_.variant, "with_seed": with_.seed}
    kinds = [side.measurement.encoded.kind for side in sides]
    pruned = "lexicon" in kinds
    fields = {
        "queries": first.search.queries.count,
        "depth": first.search.depth,
        "direction": "text_to_image",
        "kind": "",  # a pair has none, and tables read the kind of a variant from its records
        "top_k": first.options.top_k if pruned else None,
        "bits": first.options.bits if pruned else None,
        "knobs": knobs | of_second | {"kinds": kinds},
        "vectors_id": first.search.gallery_id,
        "code_id": code_fingerprint(*CODE),
    }
    point: Point = first.measurement.point(TASK, **fields)
    if not force and store.has(point):
        return point.id
    if ids is None:
        ranks, relevant = _of_either(sides)
    else:
        ranks, relevant = relevance.ranks(ids)
    values = {f"recall@{k}": evaluation.success_at(k, ranks, relevant, max(RECALLS)) for k in RECALLS}
    used_sides = {"first": sides[:1], "second": sides[1:]}.get(knobs["method"], sides)
    values["bytes_per_image"] = sum(side.bytes_per_image for side in used_sides)
    return store.write(point, values, relevance.sidecar(range(len(ranks)), ranks))


def _of_either(sides: tuple[Side, Side]) -> tuple[list[np.ndarray], np.ndarray]:
    """For each query the ranks of its relevant images under whichever model ranks one first."""
    (first, relevant), (second, _) = (side.search.relevance.ranks(side.results[0]) for side in sides)
    best = [min(pair, key=lambda ranks: ranks[0] if len(ranks) else np.inf) for pair in zip(first, second, strict=True)]
    return best, relevant


# --- lexlip-bench hybrid ---


def table(rows) -> str:
    """The points of both models among rows of records, one line each."""
    lines = [f"{'method':<32} {'R@1':>6} {'R@5':>6} {'R@10':>6} {'bytes/image':>12}"]
    for _, of_point in rows.groupby("point_id", sort=False):
        knobs, values = json.loads(of_point.knobs.iloc[0]), of_point.set_index("metric").value
        own = " ".join(f"{name}={knobs[name]:g}" for name in ("weight", "first") if name in knobs)
        recalls = " ".join(f"{values[f'recall@{k}']:6.3f}" for k in RECALLS)
        lines.append(f"{' '.join(filter(None, (knobs['method'], own))):<32} {recalls} {values.bytes_per_image:12.1f}")
    return "\n".join(lines)


def main(arguments) -> None:
    """Measures two models together and prints one line per method."""
    from bench.corpora import read_spec
    from bench.store.config import run_of

    models = (arguments.checkpoint, getattr(arguments, "with"))
    slice_ = Slice.open(read_spec(arguments.corpus), arguments.split, arguments.images, models)
    subjects = tuple(Subject(model, **run_of(model), precision=arguments.precision) for model in models)
    options = HybridOptions(arguments.top_k, arguments.bits, arguments.depth, arguments.val_images)
    if min(options.top_k, options.val_images) < 1 or options.depth < max(RECALLS):
        raise InputError(f"--top-k and --val-images: expected at least 1; --depth: at least {max(RECALLS)}, for R@K")
    ids = measure_hybrid(arguments.home, subjects, slice_, options, arguments.force)
    rows = RecordStore(arguments.home).read()
    rows = rows[rows.point_id.isin(ids)].set_index("point_id").loc[ids].reset_index()
    print(table(rows))
    print(used(slice_.corpus.name, slice_.split, slice_.images, int(rows.queries.iloc[0])))


def parser():
    """Flags of `lexlip-bench hybrid`."""
    about = "Two models searched together: rank and score fusion, cascades, each alone, and the bound of every fusion."
    flags = cli.parser(about, writes=True)
    flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder of the first model")
    flags.add_argument("--with", type=Path, required=True, metavar="CHECKPOINT", help="that of the second model")
    flags.add_argument("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="what the models compute in")
    cli.add_corpus(flags)
    flags.add_argument("--top-k", type=int, default=32, help="top-k lexicons of an image")
    flags.add_argument("--bits", type=int, default=8, choices=(8, 16), help="bits of an impact")
    flags.add_argument("--depth", type=int, default=DEPTH, help="results of each model that are fused")
    flags.add_argument("--val-images", type=int, default=500, help="images of val on which the convex weight is chosen")
    return flags
