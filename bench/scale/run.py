"""Dense against lexicon search at scale: `python -m bench.scale --corpus 1M`.

Trains the `quick` checkpoints unless they are there, encodes the gallery with both, builds every index and sweeps every knob at the size asked
for, both sides in the same rounds; then measures how each engine grows, at its first knobs, over 1k, 10k, 100k and so on up to it. A record
of each point is written at once. Killed, the same command goes on where it stood.

    --corpus 1M              1,000 test images and 999,000 distractors of `scenes`; any size: 250k, 5000, 10M
    --corpus synthetic:10M   vectors fitted to those of an encoded gallery: engines are compared, no task is measured; at the sizes that are
                             encoded too (--encoded 1M), engines search both in the same rounds: how far generated vectors stand for encoded ones
    --corpus vectors         your own: --documents FOLDER --queries FOLDER (as `lexlip-bench encode` or `bench.vectors.read` writes them)
    --ray HOST:PORT          each index in --shards, over the nodes of a Ray cluster (`bench.engines.sharded`)
"""

import argparse
import logging
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil

from bench import engines
from bench.scale.plan import GRID, Cell, Grid, plan
from bench.scale.sweep import ENCODED_CONTROL, Side, Sweep, record_vectors, take_turns
from bench.store import cli, config
from bench.store.commands import build_report
from bench.store.isolated import Limits
from bench.store.records import Point, RecordStore
from bench.store.sizes import number, sizes_up_to
from bench.vectors import nodes as cluster
from bench.vectors.read import Vectors, open_vectors
from models.errors import InputError
from models.files import read_json

log = logging.getLogger(__name__)

KINDS = ("lexicon", "dense")


def own_sides(arguments) -> list[Side]:
    """Vectors that the user has."""
    if not (arguments.documents and arguments.queries):
        raise InputError("--corpus vectors: name both --documents FOLDER and --queries FOLDER")
    documents, queries = open_vectors(arguments.documents), open_vectors(arguments.queries)
    if (documents.kind, documents.dimension) != (queries.kind, queries.dimension):
        raise InputError(
            f"{arguments.queries}: {queries.kind} vectors of {queries.dimension}, but the documents are {documents.kind} of {documents.dimension}"
        )
    base = Point(
        task="scale", corpus=f"vectors:{arguments.documents.name}", kind=documents.kind, command=cli.command_line()
    )
    return [Side(documents, _content_id(documents), queries, _content_id(queries), base, judged=queries.grouped)]


def _content_id(vectors: Vectors) -> str:
    return config.fingerprint(read_json(vectors.folder / "meta.json"))


# --- python -m bench.scale --------------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Encodes, builds, sweeps; prints where the time went, and builds the page."""
    if arguments.shards is not None and (arguments.ray is None or arguments.shards < 1):
        raise InputError(f"--shards {arguments.shards}: expected at least 1, and --ray, which says where they go")
    with cluster.joined(arguments.ray) as nodes:
        _main(arguments, shards=nodes and (arguments.shards or len(nodes.alive)))


def _main(arguments, shards: int | None) -> None:
    grid = Grid.read(arguments.grid, tuple(arguments.overrides))
    chosen = engines.unasked() if arguments.engines == "all" else arguments.engines.split(",")
    for name in chosen:
        engines.get(name)
    limits = Limits(arguments.time_limit, int(arguments.memory_limit * 2**30))
    store, began = RecordStore(arguments.home), time.perf_counter()
    sides, sizes = _sides(store, arguments)
    print(f"vectors ready after {time.perf_counter() - began:.0f} s", flush=True)

    def sweep_of(side: Side, size: int, every_knob: bool) -> tuple[Sweep, list[Cell]]:
        record_vectors(store, side, size, arguments.force)
        cells = plan(side.kind, size, grid, chosen, every_knob, shards)
        return Sweep(store, arguments.home, side, grid, limits, arguments.force), cells

    for size in reversed(sizes):  # the largest holds the answer; the others say how it came to be so
        largest = size == sizes[-1]
        at_size = [
            side for side in sides if side.base.task != ENCODED_CONTROL or (size <= side.documents.count and not shards)
        ]
        stretched = _stretched(store, arguments, sides, size, grid.vocabularies) if largest else []
        measure(
            [sweep_of(side, size, largest) for side in at_size] + [sweep_of(side, size, False) for side in stretched]
        )
    rows = store.read()
    print(table(rows[(rows.task == ("sharded" if shards else "scale")) & rows.images.isin(sizes)]))
    build_report(arguments.home, sides[0].base.profile)


def measure(turns: list[tuple[Sweep, list[Cell]]]) -> None:
    """Sweeps the sides of one gallery size in the same rounds; prints and records where the time went."""
    left = [sweep.pending(cells) for sweep, cells in turns]
    begun = [
        any((sweep.home / "sweeps" / sweep.cell_id(cell)).exists() for cell in cells)
        for (sweep, _), cells in zip(turns, left, strict=True)
    ]
    for (sweep, cells), pending, went_on, steps in zip(turns, left, begun, take_turns(turns), strict=True):
        if any(sweep.store.status(point) == "ok" for cell in pending for point in sweep.points(cell)):
            record_steps(sweep, cells[0].count, (len(pending), len(cells)), went_on, steps)
        twin = ", beside generated ones" if sweep.side.base.task == ENCODED_CONTROL else ""
        taken = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in steps.items())
        whole = f"{len(cells)} indexes, {sum(steps.values()):.0f} s"
        print(
            f"{cells[0].count if cells else 0:>10,} {sweep.side.kind:<8} {sweep.side.base.corpus}{twin}: {whole} ({taken})",
            flush=True,
        )


def record_steps(sweep: Sweep, size: int, cells: tuple[int, int], begun: bool, steps: dict[str, float]) -> None:
    """The seconds that building, judging and timing the indexes of one gallery took.

    cells: those that were left to measure, of how many. begun: whether an earlier run had begun with some of them, and so took part of the time.
    """
    (left, all_cells), side = cells, sweep.side
    knobs = {"indexes": left} | ({"beside": "generated"} if side.base.task == ENCODED_CONTROL else {})
    point = replace(side.base, task="steps", images=size, knobs=knobs, vectors_id=side.documents_id, code_id=sweep.code)
    note = "" if left == all_cells else f"the {left} of {all_cells} indexes that an earlier run had left"
    note = "; ".join(filter(None, (note, begun and "some begun by an earlier run, whose time is not in it")))
    sweep.store.write(
        point,
        {f"sweep_{step}_seconds": seconds for step, seconds in steps.items()},
        note=note,
        seconds=sum(steps.values()),
    )


def _sides(store: RecordStore, arguments) -> tuple[list[Side], list[int]]:
    """The vectors to search, and the sizes to search them at."""
    if arguments.corpus == "vectors":
        sides = own_sides(arguments)
        sizes = sizes_up_to(sides[0].documents.count)
    else:
        from bench.scale.sides import FITTED_TO, encoded_sides, synthetic_sides  # with torch, which takes seconds

        synthetic, _, text = arguments.corpus.rpartition(":")
        if synthetic not in ("", "synthetic"):
            raise InputError(
                f"--corpus {arguments.corpus}: expected a number of images such as 1M, synthetic:10M, or vectors"
            )
        size = number(text)
        sizes = sizes_up_to(size)
        if arguments.encoded and (not synthetic or arguments.vocabulary or arguments.ray is not None):
            raise InputError(
                f"--encoded {arguments.encoded}: expected --corpus synthetic:N beside it, and neither --vocabulary nor --ray"
            )
        if synthetic:
            encoded = encoded_sides(
                store, arguments, number(arguments.encoded) if arguments.encoded else min(FITTED_TO, size)
            )
            twins = [replace(side, base=replace(side.base, task=ENCODED_CONTROL), judged=False) for side in encoded]
            sides = synthetic_sides(store, arguments, encoded, size, arguments.vocabulary) + (
                twins if arguments.vocabulary is None else []
            )
        else:
            sides = encoded_sides(store, arguments, size)
    if arguments.sizes:
        sizes = sorted({number(text) for text in arguments.sizes.split(",")})
        if sizes[-1] > sides[0].documents.count:
            raise InputError(f"--sizes {arguments.sizes}: there are {sides[0].documents.count:,} vectors")
    return sides, sizes


def _stretched(
    store: RecordStore, arguments, sides: list[Side], size: int, vocabularies: tuple[int, ...]
) -> list[Side]:
    """Beside encoded lexicon vectors: as many generated ones, with their vocabulary stretched to each of these that is larger."""
    lexicon = [side for side in sides if side.kind == "lexicon"]
    wanted = [
        vocabulary for vocabulary in vocabularies if all(side.documents.dimension < vocabulary for side in lexicon)
    ]
    if arguments.corpus == "vectors" or arguments.corpus.startswith("synthetic:") or not (lexicon and wanted):
        return []
    from bench.scale.sides import synthetic_sides

    return [made for vocabulary in wanted for made in synthetic_sides(store, arguments, lexicon, size, vocabulary)]


def table(rows) -> str:
    """One line for each corpus, engine, setting and size: quality, bytes, and the rates of the modes."""
    if not len(rows):
        return "no records"
    keys = ["corpus", "images", "kind", "engine", "top_k", "bits", "knobs"]
    points = rows.drop_duplicates("point_id").set_index("point_id")[[*keys, "batch_mode", "threads", "status"]]
    values = (
        rows[rows.metric != ""].pivot_table(index="point_id", columns="metric", values="value").reindex(points.index)
    )
    heads = f"{'images':>10} {'engine':<16} {'kept':>5} {'bits':>5} {'R@1':>6} {'engine R@10':>11} {'bytes/image':>11}"
    lines = []
    for key, group in points.groupby(keys, dropna=False, sort=True):
        corpus, images, _, engine, top_k, bits, knobs = key
        if (head := f"{heads}  rates (queries/s), knobs: {corpus}") not in lines:
            lines.append(head)
        accuracy = group[group.batch_mode == ""]
        if not len(accuracy) or accuracy.status.iloc[0] != "ok":
            lines.append(f"{images:>10,} {engine:<16} {group.status.iloc[0]}")
            continue
        at = values.loc[accuracy.index[0]]
        timed = group[(group.batch_mode != "") & (group.status == "ok")]
        rates = ", ".join(
            f"{row.batch_mode} x{row.threads} {values.loc[point, 'qps']:.0f}" for point, row in timed.iterrows()
        )
        unknown = float("nan")
        quality = f"{at.get('recall@1', unknown):>6.3f} {at['engine_recall@10']:>11.3f} {at.get('bytes_per_image', unknown):>11.1f}"
        lines.append(f"{images:>10,} {engine:<16} {_text(top_k):>5} {_text(bits):>5} {quality}  {rates}  {knobs}")
    return "\n".join(lines)


def _text(value) -> str:
    return "-" if pd.isna(value) else str(value)


def _mapping(text: str) -> dict:
    try:
        found = config.parse_yaml(text, "--corpus")
    except InputError:
        found = None
    if not isinstance(found, dict | str):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a corpus by name, or a mapping such as '{{name: scenes, concepts: 200}}'"
        )
    return found


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if unknown := next((kind for kind in kinds if kind not in KINDS), None):
        raise argparse.ArgumentTypeError(f"{unknown!r}: expected lexicon, dense or both, separated by a comma")
    return kinds


def parser():
    flags = cli.parser(
        "Dense against lexicon search at scale: encode, build every index, sweep every knob. Resumable point by point.",
        writes=True,
    )
    flags.add_argument(
        "--corpus", default="1M", help="images in the gallery such as 100k or 1M, synthetic:10M, or vectors"
    )
    flags.add_argument(
        "--sizes",
        default="",
        help="gallery sizes, separated by commas; every power of ten up to the corpus unless given",
    )
    only_named = [name for name in engines.names() if name not in engines.unasked()]
    which = f"separated by commas; all: {', '.join(engines.unasked())}; only when named: {', '.join(only_named)}"
    flags.add_argument("--engines", default="all", help=which)
    flags.add_argument("--kinds", type=_kinds, default=list(KINDS), help="lexicon, dense, or both separated by a comma")
    flags.add_argument(
        "--lexicon", type=Path, default=None, help="checkpoint of the lexicon model; trained by --profile unless given"
    )
    flags.add_argument(
        "--dense", type=Path, default=None, help="checkpoint of the dense model; trained by --profile unless given"
    )
    flags.add_argument("--profile", default="quick", help="profile that checkpoints are trained by, or found")
    flags.add_argument(
        "--source", type=_mapping, default=None, help="corpus of pictures; the one that the checkpoint saw unless given"
    )
    flags.add_argument(
        "--documents", type=Path, default=None, help="with --corpus vectors: folder of the vectors to search"
    )
    flags.add_argument(
        "--queries", type=Path, default=None, help="with --corpus vectors: folder of the vectors to search with"
    )
    flags.add_argument(
        "--encoded",
        default="",
        help="with synthetic: so many images are encoded, and searched in the same rounds as generated vectors at the sizes up to it "
        "(default: the 100k that those are fitted to)",
    )
    flags.add_argument(
        "--vocabulary", type=int, default=None, help="with synthetic: lexicons to stretch the fitted vocabulary to"
    )
    cluster.add_flag(flags, "search shards over the nodes of")
    flags.add_argument(
        "--shards", type=int, default=None, help="with --ray: shards of each index; one for each node unless given"
    )
    flags.add_argument("--grid", type=Path, default=GRID, help="YAML of what is swept and how it is measured")
    flags.add_argument(
        "--time-limit", type=float, default=3600.0, help="seconds for one job: building an index, one round of it"
    )
    flags.add_argument(
        "--memory-limit",
        type=float,
        default=round(0.9 * psutil.virtual_memory().total / 2**30, 1),
        help="GiB for one job",
    )
    flags.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted overrides of the grid, such as rounds=1 top_k=[8,32]"
    )
    return flags
