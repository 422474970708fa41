"""Look inside two models: what each put first where they disagree most, and which patches of a picture fired the lexicons that matched.

    lexlip-bench disagreement --checkpoint FOLDER --baseline FOLDER --corpus scenes --images 1000

Both were measured before (`bench.tasks.recall`): what is found here goes into the examples sidecars of those two points, which stay as they are
otherwise. Nobody picks what is shown: `bench.tasks.rank_gap` chooses the queries, from the recorded ranks. A lexicon model's heat maps are of the
picture it put first, for some of the queries evenly spaced through the list; for the query furthest apart each way, of the right picture too.
"""

import functools
import json
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from bench.engines.indexes import build_index
from bench.store import cli
from bench.store.records import EXAMPLES_SCHEMA, RecordStore
from bench.tasks import evaluation
from bench.tasks.examples import Result, result_rows
from bench.tasks.lexicon_views.views import read_image
from bench.tasks.rank_gap import RANK_GAP, furthest, paired
from bench.tasks.recall import TOP_KS, Setting, main_setting, search_knobs
from bench.tasks.timing import evenly
from bench.vectors.encode import PRECISIONS, Encoder, encode
from bench.vectors.impacts import Impacts
from bench.vectors.rendering import render
from models.errors import InputError

EVENLY = 4  # queries of those evenly spaced whose first picture has heat maps
HEAT_MAPS = 4  # of a picture: of the lexicons that matched most
DECIMALS = 4  # of a logit


def look_inside(
    store: RecordStore,
    home,
    checkpoints,
    corpus_spec,
    split: str = "test",
    images: int = 1000,
    *,
    top_k=TOP_KS,
    bits: int = 8,
    precision: str = "float32",
    force: bool = False,
) -> list[str]:
    """Adds to the examples of two checkpoints that were measured on images 0..`images` of a split; returns the ids of their two points.

    kept, bits, precision: as `measure_recall` was called with. What is there is not made again. Raises InputError where one was not measured.
    """
    from bench.corpora import open_corpus

    corpus, rows = open_corpus(corpus_spec), store.read()
    encoders = [Encoder(checkpoint, precision) for checkpoint in checkpoints]
    sides = [
        _Side(store, Path(home), encoder, corpus, _point(rows, encoder, corpus, split, images, top_k, bits))
        for encoder in encoders
    ]
    both = paired(*(side.first for side in sides), *(side.point.depth for side in sides))
    chosen = [furthest(both, ours_lower).query_id.tolist() for ours_lower in (True, False)]
    for side in sides:
        if force or not side.has(chosen):
            side.write(chosen)
    return [side.point.point_id for side in sides]


def _point(rows: pd.DataFrame, encoder: Encoder, corpus, split: str, images: int, top_k, bits: int):
    """The newest record of text-to-image recall that stands for a checkpoint, as a namedtuple."""
    rows = rows[
        (rows.task == "retrieval") & (rows.metric == "recall@1") & (rows.checkpoint_id == encoder.id) & (rows.data_id == corpus.fingerprint)
        & (rows.split == split) & (rows.images == images) & (rows.direction == "text_to_image") & (rows.batch_mode == "") & (rows.status == "ok")
    ]  # fmt: skip
    settings = [main_setting(kind, top_k, bits) for kind in rows.kind]
    rows = rows[[_setting(row) == setting for row, setting in zip(rows.itertuples(), settings, strict=True)]]
    if rows.empty:
        raise InputError(
            f"{encoder.source}: no recall of this checkpoint on {images} images of {corpus.name}, {split}; measure it with bench.tasks.recall"
        )
    return next(rows.sort_values("started").tail(1).itertuples())


def _setting(point) -> Setting:
    return Setting(point.engine, *(None if pd.isna(value) else int(value) for value in (point.top_k, point.bits)))


class _Side:
    """One of the two models: its recorded point, and the search that the point came of. The model is loaded when it is first needed."""

    def __init__(self, store: RecordStore, home: Path, encoder: Encoder, corpus, point):
        self.store, self.home, self.encoder, self.corpus, self.point = store, home, encoder, corpus, point
        found = store.examples(point.point_id)
        table = (pd.DataFrame() if found is None else found).reindex(columns=EXAMPLES_SCHEMA.names).astype(object)
        self.examples: list[dict] = table.where(table.notna(), None).to_dict("records")

    @functools.cached_property
    def first(self) -> pd.DataFrame:
        """query_id, group, and `first`, the recorded rank of the first right picture."""
        queries = self.store.queries(self.point.point_id)
        if queries is None:
            raise InputError(
                f"{self.point.point_id}: no ranks of each query beside this record; measure it again (--force)"
            )
        return queries.assign(first=evaluation.first_rank(queries.ranks, np.inf))

    def has(self, chosen: list[list[str]]) -> bool:
        """Whether what would be written stands there: results of the chosen queries (two lists), and heat maps."""
        there = {row["query_id"] for row in self.examples if row["chosen"] == RANK_GAP}
        heated = self._heated(self.examples, chosen) if self.point.kind == "lexicon" else []
        return there == set(chain(*chosen)) and all(row["heat_maps"] for row in heated)

    def write(self, chosen: list[list[str]]) -> None:
        """Replaces the results of chosen queries, and heat maps; the examples evenly spaced stay."""
        rows = [row | {"heat_maps": None} for row in self.examples if row["chosen"] != RANK_GAP]
        rows += [row | {"chosen": RANK_GAP} for row in self._results(list(chain(*chosen)))]
        if self.point.kind == "lexicon":
            places = {image_id: i for i, image_id in enumerate(self._encoded.images.ids)}
            for row in self._heated(rows, chosen):
                row["heat_maps"] = self._heat_maps(places[row["image_id"]], json.loads(row["lexicons"]))
        self.store.replace_examples(self.point.point_id, rows)

    @staticmethod
    def _heated(rows: list[dict], chosen: list[list[str]]) -> list[dict]:
        """The rows that get heat maps."""
        spaced = [row for row in rows if row["chosen"] != RANK_GAP and row["rank"] == 1]
        furthest_apart = {query_ids[0] for query_ids in chosen if query_ids}
        apart = [row for row in rows if row["chosen"] == RANK_GAP and row["query_id"] in furthest_apart]
        return [spaced[i] for i in evenly(len(spaced), EVENLY)] + apart

    @functools.cached_property
    def _encoded(self):
        return encode(self.home, self.encoder, self.corpus, self.point.split, int(self.point.images))

    def _results(self, query_ids: list[str]) -> list[dict]:
        """What was put first for these queries, and the right picture where it is another."""
        encoded, setting, knobs = self._encoded, _setting(self.point), json.loads(self.point.knobs)
        if encoded.kind == "dense":
            documents, queries, gallery = encoded.images, encoded.captions.to_numpy(), encoded.images.to_numpy()
        else:
            documents = Impacts(encoded.images, setting.top_k, setting.bits, knobs["scale"])
            queries = Impacts(encoded.captions, knobs["query_top_k"], setting.bits, knobs["scale"]).to_scipy()
            gallery = documents.to_scipy()
        with build_index(self.home, setting.engine, documents, encoded.images_id).open() as engine:
            at = search_knobs(setting)
            ids, scores = engine.search(
                engine.prepare(queries, **at), 1, **at
            )  # of all queries, as recorded: batches decide the rounding
        place, right = (
            {q: i for i, q in enumerate(encoded.captions.ids)},
            {image: i for i, image in enumerate(encoded.images.ids)},
        )
        ranks = dict(zip(self.first.query_id, self.first["first"], strict=True))
        results = []
        for query_id in query_ids:
            q = place[query_id]
            i, rank = right[encoded.captions.groups[q]], ranks[query_id]
            if ids[q, 0] >= 0:
                results.append(Result(q, int(ids[q, 0]), 1, float(scores[q, 0])))
            if ids[q, 0] != i:
                results.append(
                    Result(
                        q, i, int(rank) if np.isfinite(rank) else None, _product(queries[q : q + 1], gallery[i : i + 1])
                    )
                )
        ours = (encoded.captions.ids, encoded.captions.groups, encoded.images.ids, encoded.images.vocabulary)
        return result_rows(self.corpus, self.point.split, int(self.point.images), queries, gallery, results, *ours)

    def _heat_maps(self, i: int, lexicons: list[list]) -> str:
        """JSON for gallery picture i: the logits of the lexicons that matched most at each of its tokens."""
        model, vocabulary = self.encoder.model, self._vocabulary
        picture = render(self.corpus, [(self.point.split, i, i + 1)], {model.pixels}).of_size[model.pixels][0]
        _, logits_LV = read_image(model, picture)
        first_pooled = int(model.content_only)
        logits = {
            name: np.round(logits_LV[:, vocabulary[name]].astype(np.float64), DECIMALS).tolist()
            for name, *_ in lexicons[:HEAT_MAPS]
        }
        return json.dumps([[name, first_pooled, of_tokens] for name, of_tokens in logits.items()], allow_nan=False)

    @functools.cached_property
    def _vocabulary(self) -> dict[str, int]:
        return {name: v for v, name in enumerate(self.encoder.vocabulary)}


def _product(query, document) -> float:
    """The score of one pair of rows, CSR or dense; impacts are summed in float64."""
    product = query.astype(np.float64) @ document.astype(np.float64).T
    return float(product.sum())


# --- lexlip-bench disagreement -------------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Adds to the records of two models and prints how many examples they have."""
    from bench.corpora import read_spec

    store = RecordStore(arguments.home)
    checkpoints = (arguments.checkpoint, arguments.baseline)
    spec, options = read_spec(arguments.corpus), {"precision": arguments.precision, "force": arguments.force}
    for point_id in look_inside(store, arguments.home, checkpoints, spec, arguments.split, arguments.images, **options):
        print(f"{point_id}: {len(store.examples(point_id))} results shown")


def parser():
    flags = cli.parser(
        "What two measured models put first where they disagree most, and which patches fired the lexicons that matched."
    )
    flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    flags.add_argument("--baseline", type=Path, required=True, help="checkpoint folder of the other model")
    flags.add_argument("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="what the models compute in")
    cli.add_corpus(flags, images="images of the split that they were measured on")
    return flags
