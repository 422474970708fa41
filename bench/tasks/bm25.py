"""Text-only baseline: BM25 over words that describe each image, without looking at the image.

    lexlip-bench bm25 --corpus scenes --split test --images 1000

Trap: the words are correct. Names of the things in an image are no lower bound for a model, which must first
recognise them: they show what word search reaches once everything has been recognised and named.

Documents and queries
- A corpus with `facts`, such as `scenes`: the document of an image is the name of each concept, once, its place and
  its time of day; without counts, colours, sizes, styles, positions, relations, and the synonyms and plurals of
  captions. All captions are queries, as for a model, so that both pair query by query.
- Any other corpus: the first caption of each image is its document and never a query; its other captions are the
  queries. A model's queries are all captions, so the two share all but one per image.

BM25 is Lucene's variant, by bm25s, with its default parameters (k1 1.5, b 0.75), not tuned; stop words are removed and
words stemmed (Snowball), since a name is "apple" where a caption has "two apples". Both are English unless `--language`
names another one; a language of which bm25s has no stop words keeps them. Items of equal score
are in gallery order; images that share no word with the query are not retrieved.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.corpora import data_id
from bench.engines import ranking
from bench.store import cli
from bench.store.config import code_fingerprint
from bench.store.records import Point, RecordStore
from bench.tasks.relevance import Relevance
from bench.tasks.subject import Slice, used
from models.errors import InputError, nearest

VARIANT = ENGINE = "bm25"
METHOD = {"method": "lucene", "k1": 1.5, "b": 0.75}
ENGLISH = "english"
STOP_WORDS = (
    *("english", "german", "dutch", "french", "spanish", "portuguese", "italian", "russian", "swedish", "norwegian"),
    *("turkish", "danish"),
)
"""Languages of which bm25s has stop words."""
DEPTH = 1000  # results retrieved per query, as in `bench.tasks.recall`
CODE = (
    "bench.tasks.bm25",
    "bench.corpora.scenes.claims",
    "bench.corpora.scenes.facts",
    "bench.tasks.relevance",
    "bench.tasks.evaluation",
    "bench.engines.ranking",
)


@dataclass(frozen=True)
class Texts:
    """Texts with their ids and the images (`groups`) that they belong to."""

    ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def add(self, id: str, group: str, text: str) -> None:
        """Appends a text."""
        self.ids.append(id)
        self.groups.append(group)
        self.texts.append(text)


def names(corpus, split: str, images: int) -> tuple[Texts, Texts]:
    """Documents of a corpus with `facts`: names of concepts, place, time of day. Queries: all captions."""
    documents, queries = Texts(), Texts()
    for i in range(images):
        image_id, facts = corpus.image_id(split, i), corpus.facts(split, i)
        words = [*(group.concept for group in facts.groups), facts.place, facts.time]
        documents.add(image_id, image_id, " ".join(words))
    for caption_id, text, image_id in corpus.captions(split, 0, images):
        queries.add(caption_id, image_id, text)
    return documents, queries


def held_out_caption(corpus, split: str, images: int) -> tuple[Texts, Texts]:
    """The first caption of each image as its document, the others as queries.

    Raises InputError if no image has a second caption, and if the split has too few images.
    """
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
            f"corpus {corpus.name}: one caption per image; expected several, the first as document and "
            "the others as queries"
        )
    return documents, queries


NOTES = {
    names: "documents: true names of concepts, place and time of day, from the corpus's facts; queries: all captions",
    held_out_caption: "documents: the first caption of each image; queries: its other captions",
}


def rank(
    documents: Sequence[str], queries: Sequence[str], depth: int, language: str = ENGLISH
) -> tuple[np.ndarray, np.ndarray]:
    """The best documents of each query by BM25, as an engine returns them.

    Returns ids (Q, depth) int64 and scores (Q, depth) float32.

    Raises InputError for an unknown language, and if no document has a word that is not a stop word.
    """
    import bm25s
    import Stemmer

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # its import sets DEBUG, which logs each step
    if language not in Stemmer.algorithms():
        raise InputError(f"language {language!r}: no stemmer{nearest(language, Stemmer.algorithms())}")
    stemmer, stop_words = Stemmer.Stemmer(language), language if language in STOP_WORDS else None
    document_tokens, query_tokens = (
        bm25s.tokenize(list(texts), stopwords=stop_words, stemmer=stemmer, return_ids=False, show_progress=False)
        for texts in (documents, queries)
    )
    if not any(document_tokens):
        raise InputError(f"{len(documents)} documents contain only stop words; expected {language} text")
    index = bm25s.BM25(**METHOD)
    index.index(document_tokens, show_progress=False)
    ids, scores = ranking.empty(len(query_tokens), depth)
    for row, of_query in enumerate(query_tokens):
        of_all = index.get_scores_from_ids(index.get_tokens_ids(of_query))
        ids[row : row + 1], scores[row : row + 1] = ranking.top_k(of_all[None], depth, positive=True)
    return ids, scores


def measure_bm25(
    home, slice_: Slice, profile: str = "", command: str = "", force: bool = False, language: str = ENGLISH
) -> str:
    """Measures BM25 on a slice, text to image; returns the id of its point, old or new.

    Raises InputError for a corpus with too few images or captions.
    """
    corpus, split, images = slice_.corpus, slice_.split, slice_.images
    describe = names if hasattr(corpus, "facts") else held_out_caption
    documents, queries = describe(corpus, split, images)
    store, depth = RecordStore(home), min(DEPTH, images)
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
        knobs=METHOD | {"documents": describe.__name__} | ({} if language == ENGLISH else {"language": language}),
        exact=True,
        depth=depth,
        data_id=data_id(corpus),
        code_id=code_fingerprint(*CODE),
        command=command or cli.command_line(),
    )
    if store.has(point) and not force:
        return point.id
    is_true = getattr(corpus, "is_true", None)
    began, relevance = time.perf_counter(), Relevance(documents, queries, is_true=is_true)
    ids, _ = rank(documents.texts, queries.texts, depth, language)
    values, sidecar = relevance.evaluate(ids)
    return store.write(point, values, sidecar, note=NOTES[describe], seconds=time.perf_counter() - began)


# --- lexlip-bench bm25 ---


def main(arguments) -> None:
    """Measures BM25 and prints the results."""
    from bench.corpora import read_spec

    slice_ = Slice.open(read_spec(arguments.corpus), arguments.split, arguments.images)
    options = {"force": arguments.force, "language": arguments.language}
    point_id = measure_bm25(arguments.home, slice_, arguments.profile, **options)
    rows = RecordStore(arguments.home).read()
    rows = rows[rows.point_id == point_id]
    values = dict(zip(rows.metric, rows.value, strict=True))
    recalls = ", ".join(f"R@{k} {values[f'recall@{k}']:.3f}" for k in (1, 5, 10) if f"recall@{k}" in values)
    print(f"bm25, text to image: {recalls}, median rank {values['median_rank']:.0f} ({rows.note.iloc[0]})")
    stop_words = "stop words removed" if arguments.language in STOP_WORDS else "stop words kept"
    print(f"words stemmed as {arguments.language}, {stop_words}; --language names another language")
    print(used(slice_.corpus.name, slice_.split, slice_.images, rows.queries.iloc[0]))


def parser():
    """Flags of `lexlip-bench bm25`."""
    flags = cli.parser(
        "Text-only baseline: BM25 over names of the things in an image, or a held-out caption.", writes=True
    )
    cli.add_corpus(flags, images="images of the split")
    flags.add_argument("--language", default=ENGLISH, help="language of the captions: of the stemmer and stop words")
    flags.add_argument("--profile", default="", help="profile in the records")
    return flags
