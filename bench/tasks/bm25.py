"""The text-only baseline: BM25 over words that stand for each picture, which nobody looks at.

    lexlip-bench bm25 --corpus scenes --split test --images 1000

Trap: the words are true. Where they are the names of what is in a picture, this is no lower bound for a model, which must first see what
is there: it is what plain word search reaches once everything has been recognised and named.

What stands for a picture
- Names, where a corpus knows what is in it (`facts`, as `scenes`): the name of each concept, once; the place; the time of day. Not in it:
  numbers, colours, sizes, styles, positions, relations, and the synonyms and plurals that captions use. All captions are queries, the
  same as a model's, so that the two pair query by query.
- Elsewhere a held-out caption: the first of each image. The others are the queries, and the held-out one is never a query. A model's
  queries are all captions, so the two share all but one of each image.

BM25 as Lucene computes it, by bm25s, with its defaults (k1 1.5, b 0.75), untuned; English stop words left out; words reduced to their
stems (Snowball), because a name says "apple" where a caption says "two apples". Equal scores are in the order of the gallery; pictures
that share no word with the query are not retrieved.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import bm25s
import numpy as np
import Stemmer

from bench.corpora import check_split, open_corpus, read_spec
from bench.engines import ranking
from bench.store import cli, config
from bench.store.records import Point, RecordStore
from bench.tasks import evaluation
from bench.tasks.relevance import Relevance
from models.errors import InputError

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG, and would say each step on stderr

VARIANT = ENGINE = "bm25"
METHOD = {"method": "lucene", "k1": 1.5, "b": 0.75}
DEPTH = 1000  # results retrieved, as `bench.tasks.recall` does
CODE = (
    "bench.tasks.bm25",
    "bench.corpora.scenes.facts",
    "bench.tasks.relevance",
    "bench.tasks.evaluation",
    "bench.engines.ranking",
)


@dataclass(frozen=True)
class Texts:
    """Texts in order, with the id of each and of the image (`groups`) that it belongs to."""

    ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def add(self, id: str, group: str, text: str) -> None:
        self.ids.append(id)
        self.groups.append(group)
        self.texts.append(text)


def names(corpus, split: str, images: int) -> tuple[Texts, Texts]:
    """Documents of a corpus that knows its `facts`: names of concepts, place, time of day; and all captions as queries."""
    documents, queries = Texts(), Texts()
    for i in range(images):
        image_id, facts = corpus.image_id(split, i), corpus.facts(split, i)
        documents.add(
            image_id, image_id, " ".join([*(group.concept for group in facts.groups), facts.place, facts.time])
        )
    for caption_id, text, image_id in corpus.captions(split, 0, images):
        queries.add(caption_id, image_id, text)
    return documents, queries


def held_out_caption(corpus, split: str, images: int) -> tuple[Texts, Texts]:
    """The first caption of each image as its document, the others as queries. Raises InputError when there is no other, or an image too few."""
    documents, queries, seen = Texts(), Texts(), set()
    for caption_id, text, image_id in corpus.captions(split, 0, images):
        if image_id in seen:
            queries.add(caption_id, image_id, text)
        else:
            documents.add(image_id, image_id, text)
            seen.add(image_id)
    if len(seen) != images:
        raise InputError(f"corpus {corpus.name}: split {split} has captions of {len(seen)} images, expected {images}")
    if not queries.ids:
        raise InputError(
            f"corpus {corpus.name}: one caption for each image; expected several, one as the document and the others as queries"
        )
    return documents, queries


NOTES = {
    names: "documents: true names of concepts, place and time of day, from the corpus's facts; queries: all captions",
    held_out_caption: "documents: the first caption of each image; queries: its other captions",
}


def rank(documents: Sequence[str], queries: Sequence[str], depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The best documents of each query by BM25: ids (Q, depth) int64, scores (Q, depth) float32, as an engine gives them.

    Raises InputError when no document has a word that counts.
    """
    stemmer = Stemmer.Stemmer("english")
    tokens, asked = (
        bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
        for texts in (documents, queries)
    )
    if not any(tokens):
        raise InputError(f"{len(documents)} documents without a word that is no stop word; expected English text")
    index = bm25s.BM25(**METHOD)
    index.index(tokens, show_progress=False)
    ids, scores = ranking.empty(len(asked), depth)
    for row, of_query in enumerate(asked):
        of_all = index.get_scores_from_ids(index.get_tokens_ids(of_query))
        ids[row : row + 1], scores[row : row + 1] = ranking.top_k(of_all[None], depth, positive=True)
    return ids, scores


def measure_text_floor(
    store: RecordStore,
    corpus_spec,
    split: str = "test",
    images: int = 1000,
    *,
    profile: str = "",
    command: str = "",
    force: bool = False,
) -> str:
    """Measures BM25 on images 0..`images` of a split, text to image; returns the id of its point, old or new.

    Raises InputError for an unknown corpus or split, and for one that is too short or has too few captions.
    """
    if images < 1:
        raise InputError(f"images {images}: expected at least 1")
    corpus = open_corpus(corpus_spec)
    check_split(corpus, split)
    texts_of = names if hasattr(corpus, "facts") else held_out_caption
    documents, queries = texts_of(corpus, split, images)
    depth = min(DEPTH, images)
    point = Point(
        task="retrieval",
        corpus=corpus.name,
        split=split,
        images=images,
        queries=len(queries.ids),
        direction="text_to_image",
        profile=profile,
        variant=VARIANT,
        kind="lexicon",
        engine=ENGINE,
        knobs=METHOD | {"documents": texts_of.__name__},
        exact=True,
        depth=depth,
        data_id=corpus.fingerprint,
        code_id=config.code_fingerprint(*CODE),
        command=command or cli.command_line(),
    )
    if store.has(point) and not force:
        return point.id
    began, relevance = time.perf_counter(), Relevance(documents, queries)
    ids, _ = rank(documents.texts, queries.texts, depth)
    ranks, relevant = relevance.ranks(ids)
    sidecar = relevance.sidecar(range(len(ranks)), ranks)
    values = evaluation.evaluate(ranks, relevant, depth)
    return store.write(point, values, sidecar, note=NOTES[texts_of], seconds=time.perf_counter() - began)


# --- lexlip-bench bm25 ---------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Measures BM25 and prints what it reached."""
    store = RecordStore(arguments.home)
    flags = {"profile": arguments.profile, "force": arguments.force}
    point_id = measure_text_floor(store, read_spec(arguments.corpus), arguments.split, arguments.images, **flags)
    rows = store.read()
    rows = rows[rows.point_id == point_id]
    values = dict(zip(rows.metric, rows.value, strict=True))
    recalls = ", ".join(f"R@{k} {values[f'recall@{k}']:.3f}" for k in (1, 5, 10) if f"recall@{k}" in values)
    print(f"bm25, text to image: {recalls}, median rank {values['median_rank']:.0f} ({rows.note.iloc[0]})")


def parser():
    flags = cli.parser(
        "The text-only baseline: BM25 over the names of what is in a picture, or over a held-out caption.", writes=True
    )
    cli.add_corpus(flags, images="images of the split")
    flags.add_argument("--profile", default="", help="profile under which the report shows it")
    return flags
