"""The galleries of a sweep: encoded by models, generated vectors fitted to them, or vectors of the user.

Model packages are imported by the functions that encode: a sweep over the user's vectors does without them.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from bench.scale.checkpoints import corpus_of, models_of
from bench.scale.points import ENCODED_CONTROL, Gallery
from bench.scale.preparation import TEST_IMAGES, record_encoding, record_satisfying, record_vectors
from bench.store import cli, config
from bench.store.records import Point, RecordStore
from bench.store.sizes import is_number, number, sizes_up_to
from bench.vectors.imports.checks import check_pair, check_same_items, check_vectors
from bench.vectors.read import Vectors, open_vectors
from models.errors import InputError
from models.files import read_json

OWN = "vectors"
"""`--corpus` of the user's own vectors, whose folders flags name."""
SIDES = ("dense", "lexicon")
"""Folders of a folder that is a corpus of own vectors, each with `documents` and `queries`."""
FITTED_TO = 100_000  # encoded images that generated vectors are fitted to
IDENTIFIED = 100_000  # documents whose ids go into the id of a user's vectors
PHOTOGRAPHS = "synthetic:flickr8k"
"""`--corpus` of vectors generated from statistics of photographs' vectors, which come with the package."""
OF_PHOTOGRAPHS = {"lexicon": "lexlip_words", "dense": "clip"}
CAPTIONS = 5  # of each photograph


def open_galleries(store: RecordStore, arguments) -> tuple[list[Gallery], list[int]]:
    """The galleries that the flags name, encoded or generated where needed, and the gallery sizes to measure.

    Raises InputError for flags that contradict each other, and for more images than there are.
    """
    if arguments.corpus == OWN:
        galleries = own_galleries(arguments)
        sizes = sizes_up_to(galleries[0].documents.count)
    else:
        galleries, sizes = _from_models(store, arguments)
    if arguments.sizes:
        sizes = sorted({number(text) for text in arguments.sizes.split(",")})
        if sizes[-1] > galleries[0].documents.count:
            raise InputError(f"--sizes {arguments.sizes}: only {galleries[0].documents.count:,} vectors")
    return galleries, sizes


def _from_models(store: RecordStore, arguments) -> tuple[list[Gallery], list[int]]:
    synthetic, _, text = arguments.corpus.rpartition(":")
    if synthetic not in ("", "synthetic", PHOTOGRAPHS):
        expected = f"expected a number of images such as 1M, synthetic:10M, {PHOTOGRAPHS}:10M, or a folder of vectors"
        raise InputError(f"--corpus {arguments.corpus}: {expected}")
    size = number(text)
    if arguments.encoded and (synthetic != "synthetic" or arguments.vocabulary or arguments.ray is not None):
        expected = "expected --corpus synthetic:N, without --vocabulary and --ray"
        raise InputError(f"--encoded {arguments.encoded}: {expected}")
    named = arguments.lexicon or arguments.dense or arguments.source
    if synthetic == PHOTOGRAPHS or (synthetic and arguments.vocabulary and not named):
        return _from_photographs(store, arguments, size), sizes_up_to(size)
    if not synthetic:
        return encoded_galleries(store, arguments, size), sizes_up_to(size)
    encoded = encoded_galleries(
        store, arguments, number(arguments.encoded) if arguments.encoded else min(FITTED_TO, size)
    )
    controls = [] if arguments.vocabulary else _as_controls(encoded)
    return synthetic_galleries(store, arguments, encoded, size) + controls, sizes_up_to(size)


def _as_controls(encoded: list[Gallery]) -> list[Gallery]:
    """Encoded galleries, to be searched in the same rounds as generated ones."""
    controls = (replace(gallery.base, task=ENCODED_CONTROL) for gallery in encoded)
    return [replace(gallery, base=base, has_qrels=False) for gallery, base in zip(encoded, controls, strict=True)]


# --- vectors of the user ----------------------------------------------------------------------------------------------


def with_own_folders(arguments) -> None:
    """Turns `--corpus FOLDER` into the flags for the vectors in that folder, and `--name` of it unless given.

    Raises InputError for a folder without FOLDER/dense/documents and so on.
    """
    folder = Path(arguments.corpus)
    if arguments.corpus == OWN or is_number(arguments.corpus):
        return
    if not folder.is_dir():
        if ":" in arguments.corpus:
            return
        expected = (
            "expected a number of images such as 5000, 250k or 1M, synthetic:10M, or a folder of imported vectors"
        )
        raise InputError(f"--corpus {folder}: {expected}")
    if arguments.documents or arguments.queries:
        raise InputError(f"--corpus {folder}: a folder of vectors; expected it without --documents and --queries")
    sides = [folder / side for side in SIDES if (folder / side).is_dir()]
    parts = {part: [side / part for side in sides] for part in ("documents", "queries")}
    missing = [made for made in (*parts["documents"], *parts["queries"]) if not (made / "meta.json").is_file()]
    if missing or not sides:
        expected = (
            "expected dense/documents and dense/queries in it, lexicon/documents and lexicon/queries, or all four"
        )
        raise InputError(f"--corpus {folder}: no vectors in {missing[0] if missing else folder}; {expected}")
    arguments.corpus, arguments.name = OWN, arguments.name or folder.resolve().name
    arguments.documents, arguments.queries = parts["documents"], parts["queries"]


def own_galleries(arguments) -> list[Gallery]:
    """The vectors that `--documents` and `--queries` name: one pair of folders, or a dense and a lexicon one.

    Raises InputError unless the folders of a pair fit together and the pairs hold the same items.
    """
    pairs = list(zip(arguments.documents, arguments.queries, strict=False))
    if not pairs or len(arguments.documents) != len(arguments.queries):
        raise InputError("--corpus vectors: expected both --documents FOLDER and --queries FOLDER")
    opened = [(open_vectors(documents), open_vectors(queries)) for documents, queries in pairs]
    for documents, queries in opened:
        check_pair(documents, queries)
        for vectors in (documents, queries):
            check_vectors(vectors)
    if len({documents.kind for documents, _ in opened}) != len(opened):
        raise InputError("--documents: expected one folder of each kind, dense and lexicon")
    for others in opened[1:]:
        for mine, theirs in zip(opened[0], others, strict=True):
            check_same_items(mine, theirs)
    ids = [tuple(map(_content_id, pair)) for pair in opened]
    name = arguments.name or pairs[0][0].resolve().name
    corpus = f"{OWN}:{name}"
    data_id = _items_id(*opened[0], corpus)
    galleries = []
    for (documents, queries), (documents_id, queries_id) in zip(opened, ids, strict=True):
        of_kind = {"kind": documents.kind, "variant": f"{name} {documents.kind}"}  # two models of one gallery
        base = Point(task="scale", corpus=corpus, **of_kind, data_id=data_id, command=cli.command_line())
        has_qrels = queries.grouped or queries.qrels is not None
        judged = _judged(documents, queries) if has_qrels else 0
        made = Gallery(documents, documents_id, queries, queries_id, base, has_qrels=has_qrels, judged=judged)
        galleries.append(made)
    return galleries


def _judged(documents: Vectors, queries: Vectors) -> int:
    """Number of first documents among which every query has all its relevant ones."""
    if queries.qrels is None:
        names, wanted = documents.groups, set(queries.groups)
    else:
        names, wanted = documents.ids, {document for of_query in queries.qrels.values() for document in of_query}
    return max((row + 1 for row, name in enumerate(names) if name in wanted), default=0)


def _items_id(documents: Vectors, queries: Vectors, corpus: str) -> str:
    """Hash of the items' ids: vectors of two models search one gallery if their documents and queries are the same.

    Ids that are row numbers say nothing about the items; then the name of the corpus stands for them. Of many
    documents, the first `IDENTIFIED` and their number count.
    """
    first = documents.prefix(min(IDENTIFIED, documents.count)).ids
    numbered = first == [str(row) for row in range(len(first))]
    judged = queries.groups if queries.qrels is None else queries.qrels
    return config.fingerprint([first, documents.count, queries.ids, judged, corpus if numbered else ""])


def _content_id(vectors: Vectors) -> str:
    return config.fingerprint(read_json(vectors.folder / "meta.json"))


# --- vectors of models ------------------------------------------------------------------------------------------------


def encoded_galleries(store: RecordStore, arguments, images: int) -> list[Gallery]:
    """The same images encoded by each model: test images first, then distractors. Records the encoding."""
    models = models_of(arguments)
    from bench import corpora
    from bench.vectors.encoder import Encoder
    from bench.vectors.gallery import encode_gallery

    encoders = {model.variant: Encoder(model.folder) for model in models}
    corpus = corpora.open_corpus(arguments.source or corpus_of(models[0].folder))
    queries, split = min(TEST_IMAGES, images), corpora.chosen_split(corpus)
    made = encode_gallery(arguments.home, encoders, corpus, split, queries, images - queries, arguments.force)
    galleries = []
    for model in models:
        encoder, encoded = encoders[model.variant], made[model.variant]
        base = Point(
            task="scale",
            corpus=corpus.name,
            split=split,
            direction="text_to_image",
            profile=arguments.profile,
            variant=model.variant,
            kind=model.kind,
            data_id=corpora.data_id(corpus),
            checkpoint_id=encoder.id,
            command=cli.command_line(),
        )
        of_captions, is_true = (encoded.captions, encoded.captions_id), getattr(corpus, "is_true", None)
        galleries.append(Gallery(encoded.images, encoded.images_id, *of_captions, base, is_true=is_true))
        record_encoding(store, encoder, encoded, base, corpus, arguments.force)
    if hasattr(corpus, "satisfying_counts"):
        record_satisfying(store, corpus, galleries[0].base, sizes_up_to(images), arguments.force)
    return galleries


# --- generated vectors ------------------------------------------------------------------------------------------------


def synthetic_galleries(store: RecordStore, arguments, encoded: list[Gallery], count: int) -> list[Gallery]:
    """For each encoded gallery, one of `count` generated vectors that are fitted to its first `FITTED_TO` images.

    With `--vocabulary`, that of lexicon vectors is stretched.
    """
    from bench.vectors.synthetic import bootstrap

    galleries = []
    for gallery in encoded:
        fitted_to = gallery.documents.prefix(min(FITTED_TO, gallery.documents.count))
        made_from = [gallery.documents_id, fitted_to.count, gallery.queries_id]
        base = replace(gallery.base, corpus=_name(f"synthetic:{gallery.base.corpus}", arguments.vocabulary))
        fit = functools.partial(bootstrap.fit, fitted_to, gallery.queries)
        galleries.append(_generated(arguments, base, made_from, fit, count, arguments.vocabulary))
        record_vectors(store, gallery, fitted_to.count, arguments.force)
    return galleries


def photograph_galleries(
    store: RecordStore, arguments, kinds: Iterable[str], count: int, vocabulary: int | None
) -> list[Gallery]:
    """For each kind, `count` vectors generated from the statistics of photographs' vectors; records the statistics.

    vocabulary: number of lexicons that the vocabulary of lexicon vectors is stretched to; None: the measured one.
    """
    from bench.vectors.synthetic import bootstrap, moments

    galleries = []
    for kind in kinds:
        known = moments.of_photographs(kind)
        items = int(known.measured["items"])
        captioned, made_from = min(TEST_IMAGES, items), [known.id, config.code_fingerprint(*moments.CODE)]
        base = Point(
            task="scale",
            corpus=PHOTOGRAPHS.removeprefix("synthetic:"),
            split="test",
            direction="text_to_image",
            profile="photos",
            variant=OF_PHOTOGRAPHS[kind],
            kind=kind,
            data_id=config.fingerprint(made_from),
            command=cli.command_line(),
        )
        measured = replace(base, task="vectors", images=items, vectors_id=known.id)
        if kind == "lexicon" and (arguments.force or not store.has(measured)):
            store.write(measured, {f"vectors_{name}": value for name, value in known.measured.items()})
        base = replace(base, corpus=_name(PHOTOGRAPHS, vocabulary))
        size = items, captioned, CAPTIONS
        fit = functools.partial(lambda known, size: bootstrap.fit(*known.sample(*size)), known, size)
        galleries.append(_generated(arguments, base, made_from, fit, count, vocabulary))
    return galleries


def _from_photographs(store: RecordStore, arguments, size: int) -> list[Gallery]:
    """Generated galleries of photographs; of the measured vocabulary with the vectors that flags name as controls."""
    made = photograph_galleries(store, arguments, arguments.kinds, size, arguments.vocabulary)
    if not arguments.documents:
        return made
    if arguments.vocabulary:
        raise InputError(f"--vocabulary {arguments.vocabulary}: expected it without --documents and --queries")
    corpus = PHOTOGRAPHS.removeprefix("synthetic:")
    return made + _as_controls(
        [
            replace(gallery, base=replace(gallery.base, corpus=corpus, variant=OF_PHOTOGRAPHS[gallery.kind]))
            for gallery in own_galleries(arguments)
        ]
    )


def _generated(
    arguments, base: Point, made_from: list, fit: Callable, count: int, vocabulary: int | None = None
) -> Gallery:
    """`count` vectors generated from a model, which `fit` returns; it is called once."""
    from bench.vectors.synthetic import bootstrap
    from bench.vectors.synthetic.command import write_synthetic

    file = (
        arguments.home
        / "synthetic"
        / f"{config.fingerprint([*made_from, config.code_fingerprint(*bootstrap.CODE)])}.npz"
    )
    if arguments.force or not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        fit().save(file)
    options = {"vocabulary": vocabulary if base.kind == "lexicon" else None, "force": arguments.force}
    made = write_synthetic(arguments.home, bootstrap.BootstrapModel.load(file), count, **options)
    return Gallery(made.images, made.images_id, made.captions, made.captions_id, base, has_qrels=False)


def _name(corpus: str, vocabulary: int | None) -> str:
    return f"{corpus}:{vocabulary}" if vocabulary else corpus


def stretched_galleries(
    store: RecordStore, arguments, galleries: list[Gallery], size: int, vocabularies: tuple[int, ...]
) -> list[Gallery]:
    """Lexicon vectors generated from photographs with each larger vocabulary, to sweep beside those of `scenes`."""
    lexicon = [gallery for gallery in galleries if gallery.kind == "lexicon"]
    if not lexicon or arguments.corpus == OWN or arguments.vocabulary:
        return []
    largest = max(gallery.documents.dimension for gallery in lexicon)
    wanted = [vocabulary for vocabulary in vocabularies if vocabulary > largest]
    return [made for size_V in wanted for made in photograph_galleries(store, arguments, ["lexicon"], size, size_V)]
