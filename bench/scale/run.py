"""Dense against lexicon search at scale: `python -m bench.scale --corpus 1M`.

Trains the `quick` checkpoints unless they exist, encodes the gallery with both models, builds every index and sweeps
every knob at the given size, both models in the same rounds; then measures how each engine grows, at the first value of
each knob, over 1k, 10k, 100k and so on up to that size. Each point is recorded as soon as it is measured; a killed
sweep resumes with the same command.

    --corpus 1M              1,000 test images and 999,000 distractors of `scenes`; any size: 250k, 5000, 10M
    --corpus synthetic:10M   generated vectors fitted to an encoded gallery: compares engines, measures no retrieval. At
                             sizes that are encoded too (--encoded 1M), both are searched in the same rounds, which
                             shows how well generated vectors represent encoded ones
    --corpus synthetic:flickr8k:10M   the same from statistics of photographs' vectors, without any model; --vocabulary
                             stretches their lexicons, and vectors of --documents and --queries are searched beside
    --corpus FOLDER          your own vectors, as `lexlip-bench import` writes them: FOLDER/dense/documents and
                             FOLDER/dense/queries, likewise lexicon; with both kinds, they take turns
    --corpus vectors         the same from other folders: --documents FOLDER --queries FOLDER, once or twice
    --ray HOST:PORT          splits each index into --shards over the nodes of a Ray cluster (`bench.engines.sharded`)
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import psutil

from bench import engines
from bench.scale.galleries import open_galleries
from bench.scale.galleries.encoded import VARIANTS
from bench.scale.galleries.generated import stretched_galleries
from bench.scale.galleries.own import OWN, with_own_folders
from bench.scale.galleries.twins import with_twins
from bench.scale.plan import GRID, Cell, Grid, check_engines, plan
from bench.scale.points import ENCODED_CONTROL, Gallery
from bench.scale.preparation import record_vectors
from bench.scale.scales import with_scales
from bench.scale.sweep import Sweep, take_turns
from bench.scale.table import table
from bench.store import cli, config
from bench.store.commands import build_report
from bench.store.isolated import Limits
from bench.store.records import RecordStore
from bench.vectors import nodes as cluster
from models.errors import InputError

KINDS = ("lexicon", "dense")


def main(arguments) -> None:
    """Encodes, builds and sweeps; prints a table and where the time went, and builds the report."""
    if arguments.shards is not None and (arguments.ray is None or arguments.shards < 1):
        raise InputError(f"--shards {arguments.shards}: expected at least 1, together with --ray HOST:PORT")
    with cluster.joined(arguments.ray) as nodes:
        _main(arguments, shards=nodes and (arguments.shards or len(nodes.alive)))


def _main(arguments, shards: int | None) -> None:
    with_own_folders(arguments)
    grid = Grid.read(arguments.grid, tuple(arguments.overrides))
    chosen = engines.default_names() if arguments.engines == "all" else arguments.engines.split(",")
    for name in chosen:
        engines.get(name)
    kinds = arguments.kinds
    if arguments.sparsify:  # before models are trained
        from models.sparsify import checkpoint

        checkpoint.read_about(arguments.sparsify)
        kinds = list(dict.fromkeys((*kinds, "lexicon")))
    if arguments.engines != "all" and arguments.corpus != OWN:
        check_engines(chosen, kinds)
    limits = Limits(arguments.time_limit, int(arguments.memory_limit * 2**30))
    store, began = RecordStore(arguments.home), time.perf_counter()
    galleries, sizes = open_galleries(store, arguments)
    galleries = with_twins(galleries, arguments.sparsify, arguments.home)
    if arguments.engines != "all" and arguments.corpus == OWN:
        check_engines(chosen, list(dict.fromkeys(gallery.kind for gallery in galleries)))
    galleries = [with_scales(gallery, grid, fitted=arguments.corpus == OWN) for gallery in galleries]
    print(f"vectors ready after {time.perf_counter() - began:.0f} s", flush=True)
    for gallery in galleries:
        timed = f"{min(gallery.queries.count, grid.queries):,} of {gallery.queries.count:,} queries"
        print(f"used {gallery.base.corpus}, {gallery.kind}: {gallery.documents.count:,} images, {timed}", flush=True)

    def sweep_of(gallery: Gallery, size: int, every_knob: bool) -> tuple[Sweep, list[Cell]]:
        record_vectors(store, gallery, size, arguments.force)
        if gallery.has_qrels and size < gallery.judged:
            print(f"{size:>10,} {gallery.kind:<8} no R@K: relevant documents lie in the first {gallery.judged:,}")
            gallery = replace(gallery, has_qrels=False)
        cells = plan(gallery.kind, size, grid, chosen, every_knob, shards)
        return Sweep(store, arguments.home, gallery, grid, limits, arguments.force, arguments.rankings), cells

    for size in reversed(sizes):  # the largest first: it holds the main result
        largest = size == sizes[-1]
        sweeps = [sweep_of(gallery, size, largest) for gallery in galleries if _is_swept(gallery, size, shards)]
        if largest:
            stretched = stretched_galleries(store, arguments, galleries, size, grid.vocabularies)
            sweeps += [sweep_of(gallery, size, False) for gallery in stretched]
        measure(sweeps)
    rows = store.read()
    print(table(rows[(rows.task == ("sharded" if shards else "scale")) & rows.images.isin(sizes)]))
    build_report(arguments.home, galleries[0].base.profile)


def _is_swept(gallery: Gallery, size: int, shards: int | None) -> bool:
    """Encoded control vectors are swept at the sizes that they reach, and not in shards."""
    return gallery.base.task != ENCODED_CONTROL or (size <= gallery.documents.count and not shards)


def measure(sweeps: list[tuple[Sweep, list[Cell]]]) -> None:
    """Measures the galleries of one size in the same rounds; prints and records the time of each step."""
    pending = [sweep.pending(cells) for sweep, cells in sweeps]
    begun = [sweep.has_begun(cells) for (sweep, _), cells in zip(sweeps, pending, strict=True)]
    for (sweep, cells), left, resumed, steps in zip(sweeps, pending, begun, take_turns(sweeps), strict=True):
        if any(sweep.store.status(point) == "ok" for cell in left for point in sweep.points.of(cell)):
            record_steps(sweep, cells[0].count, (len(left), len(cells)), resumed, steps)
        taken = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in steps.items())
        base, size = sweep.gallery.base, cells[0].count if cells else 0
        control = " (encoded control)" if base.task == ENCODED_CONTROL else ""
        total = f"{len(cells)} indexes, {sum(steps.values()):.0f} s"
        print(f"{size:>10,} {sweep.gallery.kind:<8} {base.corpus}{control}: {total} ({taken})", flush=True)


def record_steps(sweep: Sweep, size: int, cells: tuple[int, int], resumed: bool, steps: dict[str, float]) -> None:
    """Records the seconds of building, accuracy and timing of one gallery.

    cells: number that was left to measure, and total number. resumed: an earlier run had begun some of those left, so a
    part of their time is missing.
    """
    (left, total), gallery = cells, sweep.gallery
    control = gallery.base.task == ENCODED_CONTROL
    point = replace(
        gallery.base,
        task="steps",
        images=size,
        knobs={"indexes": left} | ({"beside": "generated"} if control else {}),
        vectors_id=gallery.documents_id,
        code_id=sweep.points.code,
    )
    notes = [
        "" if left == total else f"the {left} of {total} indexes that an earlier run had left",
        "some were begun by an earlier run, whose time is not included" if resumed else "",
    ]
    values = {f"sweep_{step}_seconds": seconds for step, seconds in steps.items()}
    sweep.store.write(point, values, note="; ".join(filter(None, notes)), seconds=sum(steps.values()))


# --- flags ------------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Flags of the command."""
    description = (
        "Compares dense and lexicon search at scale: encodes, builds every index, sweeps every knob. Resumable."
    )
    flags = cli.parser(description, writes=True)
    _add_gallery_flags(flags)
    only_named = ", ".join(name for name in engines.names() if name not in engines.default_names())
    which = f"separated by commas; all: {', '.join(engines.default_names())}; only by name: {only_named}"
    flags.add_argument("--engines", default="all", help=which)
    cluster.add_flag(flags, "search shards over the nodes of")
    shards = "with --ray: number of shards of each index; one per node unless given"
    flags.add_argument("--shards", type=int, default=None, help=shards)
    flags.add_argument("--grid", type=Path, default=GRID, help="YAML of what is swept and how it is measured")
    time_limit = "seconds for one job: building an index, or one round of it"
    flags.add_argument("--time-limit", type=cli.positive(float), default=3600.0, help=time_limit)
    memory = round(0.9 * psutil.virtual_memory().total / 2**30, 1)
    flags.add_argument("--memory-limit", type=cli.positive(float), default=memory, help="GiB for one job")
    cli.add_rankings(flags)
    overrides = "dotted overrides of the grid, such as rounds=1 top_k=[8,32]"
    flags.add_argument("overrides", nargs="*", metavar="key=value", help=overrides)
    return flags


def _add_gallery_flags(flags: argparse.ArgumentParser) -> None:
    def folder(name: str, text: str) -> None:
        flags.add_argument(name, type=Path, default=None, help=text)

    sizes = "gallery sizes, separated by commas; every power of ten up to the corpus unless given"
    folder("--sparsify", "checkpoint of lexlip-bench sparsify: also search the dense vectors made sparse by it")
    encoded = "with synthetic: number of images to encode, and to search in the same rounds (default: 100k)"
    flags.add_argument(
        "--corpus", default="1M", help="images in the gallery such as 100k or 1M, synthetic:10M, a folder, or vectors"
    )
    flags.add_argument("--sizes", default="", help=sizes)
    flags.add_argument("--kinds", type=_kinds, default=list(KINDS), help="lexicon, dense, or both separated by a comma")
    for kind, variant in VARIANTS.items():
        model = f"checkpoint of a {kind} model, or a variant, which is trained by --profile unless it exists"
        text = f"{model}; repeat for several models (default: {variant})"
        flags.add_argument(f"--{kind}", type=Path, action="append", default=[], metavar="MODEL", help=text)
    flags.add_argument("--profile", default="quick", help="profile of the checkpoints")
    source = "corpus of images; the training corpus of the checkpoint unless given"
    flags.add_argument("--source", type=_corpus, default=None, help=source)
    repeated = {"type": Path, "action": "append", "default": [], "metavar": "FOLDER"}
    documents = "with --corpus vectors: folder of the vectors to search; repeat for a dense and a lexicon one"
    flags.add_argument("--documents", help=documents, **repeated)
    flags.add_argument("--queries", help="with --corpus vectors: folder of query vectors; repeat likewise", **repeated)
    name = "with --corpus vectors: its name in tables and pages; that of the folder unless given"
    flags.add_argument("--name", default="", help=name)
    flags.add_argument("--encoded", default="", help=encoded)
    vocabulary = "with synthetic: number of lexicons; generated from photographs unless --lexicon or --source is given"
    flags.add_argument("--vocabulary", type=cli.positive(int), default=None, help=vocabulary)


def _corpus(text: str) -> dict | str:
    try:
        found = config.parse_yaml(text, "--source")
    except InputError:
        found = None
    if not isinstance(found, dict | str):
        expected = "expected the name of a corpus, or a mapping such as '{name: scenes, concepts: 200}'"
        raise argparse.ArgumentTypeError(f"{text!r}: {expected}")
    return found


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if unknown := next((kind for kind in kinds if kind not in KINDS), None):
        raise argparse.ArgumentTypeError(f"{unknown!r}: expected lexicon, dense or both, separated by a comma")
    return kinds
