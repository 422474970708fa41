"""Galleries of generated vectors, fitted to encoded ones or to the statistics of photographs' vectors."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace

from bench.scale.galleries.own import OWN, own_galleries
from bench.scale.points import ENCODED_CONTROL, Gallery
from bench.scale.preparation import TEST_IMAGES, record_vectors
from bench.store import cli, config
from bench.store.records import Point, RecordStore
from models.errors import InputError

FITTED_TO = 100_000  # encoded images that generated vectors are fitted to
PHOTOGRAPHS = "synthetic:flickr8k"
"""`--corpus` of vectors generated from statistics of photographs' vectors, which come with the package."""
OF_PHOTOGRAPHS = {"lexicon": "lexlip_words", "dense": "clip"}
CAPTIONS = 5  # of each photograph


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

    Their points have no `data_id`: the statistics are of the corpus of that name, whichever copy of it a home holds.
    vocabulary: number of lexicons that the vocabulary of lexicon vectors is stretched to; None: the measured one.
    """
    from bench.vectors.synthetic import bootstrap, moments

    galleries = []
    for kind in kinds:
        known = moments.of_photographs(kind)
        items, made_from = int(known.measured["items"]), [known.id, config.code_fingerprint(*moments.CODE)]
        base = Point(
            task="scale",
            corpus=PHOTOGRAPHS.removeprefix("synthetic:"),
            split="test",
            direction="text_to_image",
            profile="photos",
            variant=OF_PHOTOGRAPHS[kind],
            kind=kind,
            command=cli.command_line(),
        )
        measured = replace(base, task="vectors", images=items, vectors_id=known.id)
        if kind == "lexicon" and (arguments.force or not store.has(measured)):
            store.write(measured, {f"vectors_{name}": value for name, value in known.measured.items()})
        base = replace(base, corpus=_name(PHOTOGRAPHS, vocabulary))
        size = items, captioned(known.measured), CAPTIONS
        fit = functools.partial(lambda known, size: bootstrap.fit(*known.sample(*size)), known, size)
        galleries.append(_generated(arguments, base, made_from, fit, count, vocabulary))
    return galleries


def captioned(measured: dict[str, float]) -> int:
    """Number of photographs with queries; generated vectors start with them. measured: as in `Moments`."""
    return min(TEST_IMAGES, int(measured["items"]))


def from_photographs(store: RecordStore, arguments, size: int) -> list[Gallery]:
    """Generated galleries of photographs; of the measured vocabulary with the vectors that flags name as controls."""
    made = photograph_galleries(store, arguments, arguments.kinds, size, arguments.vocabulary)
    if not arguments.documents:
        return made
    if arguments.vocabulary:
        raise InputError(f"--vocabulary {arguments.vocabulary}: expected it without --documents and --queries")
    corpus = PHOTOGRAPHS.removeprefix("synthetic:")

    def of_photographs(gallery: Gallery) -> Gallery:
        base = replace(gallery.base, corpus=corpus, variant=OF_PHOTOGRAPHS[gallery.kind], data_id="")
        return replace(gallery, base=base)

    return made + as_controls([of_photographs(gallery) for gallery in own_galleries(arguments)])


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
    """Lexicon vectors generated from photographs with each larger vocabulary, to sweep beside those of `scenes`.

    Prints a line and returns none for a size that does not hold the items with queries.
    """
    from bench.vectors.synthetic import moments

    lexicon = [gallery for gallery in galleries if gallery.kind == "lexicon"]
    if not lexicon or arguments.corpus == OWN or arguments.vocabulary:
        return []
    largest = max(gallery.documents.dimension for gallery in lexicon)
    wanted = [vocabulary for vocabulary in vocabularies if vocabulary > largest]
    if wanted and size < (least := captioned(moments.of_photographs("lexicon").measured)):
        left_out = ", ".join(f"{vocabulary:,}" for vocabulary in wanted)
        print(f"{size:>10,} lexicon  no vocabulary of {left_out}: generated vectors need at least {least:,} images")
        return []
    return [made for size_V in wanted for made in photograph_galleries(store, arguments, ["lexicon"], size, size_V)]


def as_controls(encoded: list[Gallery]) -> list[Gallery]:
    """Encoded galleries, to be searched in the same rounds as generated ones."""
    controls = (replace(gallery.base, task=ENCODED_CONTROL) for gallery in encoded)
    return [replace(gallery, base=base, has_qrels=False) for gallery, base in zip(encoded, controls, strict=True)]
