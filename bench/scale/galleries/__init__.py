"""The galleries of a sweep: encoded by models, generated vectors fitted to them, or vectors of the user.

Model packages are imported by the functions that encode: a sweep over the user's vectors does without them.
"""

from bench.scale.galleries.encoded import encoded_galleries
from bench.scale.galleries.generated import FITTED_TO, PHOTOGRAPHS, as_controls, from_photographs, synthetic_galleries
from bench.scale.galleries.own import OWN, own_galleries
from bench.scale.points import Gallery
from bench.store.records import RecordStore
from bench.store.sizes import number, sizes_up_to
from models.errors import InputError


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
        return from_photographs(store, arguments, size), sizes_up_to(size)
    if not synthetic:
        return encoded_galleries(store, arguments, size), sizes_up_to(size)
    encoded = encoded_galleries(
        store, arguments, number(arguments.encoded) if arguments.encoded else min(FITTED_TO, size)
    )
    controls = [] if arguments.vocabulary else as_controls(encoded)
    return synthetic_galleries(store, arguments, encoded, size) + controls, sizes_up_to(size)
