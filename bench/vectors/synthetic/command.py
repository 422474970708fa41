"""`lexlip-bench synthetic fit | make | describe | statistics`: vectors of collections larger than can be encoded.

`fit` writes a model of a few MB, fitted to encoded vectors (`bootstrap`). `make` writes N items and the queries as
folders of vectors, like encoded ones. `describe` prints the statistics of vectors beside those of the vectors the
model was fitted to. `statistics` writes statistics from which vectors can be drawn, without the vectors (`moments`).
"""

import logging
from pathlib import Path

from bench.store import cli, config
from bench.store.sizes import number
from bench.vectors.encode import Encoded
from bench.vectors.format import SHARD_ROWS
from bench.vectors.read import Vectors, open_vectors
from bench.vectors.statistics import describe
from bench.vectors.synthetic import generate, moments
from bench.vectors.synthetic.bootstrap import PROTOTYPES, BootstrapModel, fit
from bench.vectors.synthetic.generate import SyntheticVectors
from bench.vectors.write import resume_vectors
from models.errors import InputError

log = logging.getLogger(__name__)


def write_synthetic(
    home, model: BootstrapModel, count: int, seed: int = 0, vocabulary: int | None = None, force: bool = False
) -> Encoded:
    """Writes `count` items and the queries of a model to `<home>/vectors/`, unless they exist. Memory: one shard.

    A killed run resumes after its last complete shard. A smaller collection of the same model and seed is a prefix of
    a larger one. Raises InputError if `count` excludes items with queries.
    """
    if count < model.captioned:
        raise InputError(f"{count} items: expected at least the {model.captioned} items with queries")
    items = SyntheticVectors(model, seed, vocabulary)
    made_from = {
        "fitted": model.id,
        "seed": seed,
        "dimension": items.dimension,
        "code": config.code_fingerprint(*generate.CODE, "bench.vectors.format", "bench.vectors.write"),
    }
    parts = {"images": made_from | {"part": "images", "count": count}, "captions": made_from | {"part": "captions"}}
    folders = {part: Path(home) / "vectors" / config.fingerprint(origin) for part, origin in parts.items()}
    for part, write in (("images", _write_documents), ("captions", _write_queries)):
        if force or not folders[part].is_dir():
            described = {"made_from": parts[part], "force": force}
            with resume_vectors(folders[part], model.kind, items.dimension, **described) as writer:
                write(writer, items, count)
        else:
            log.info("synthetic %s: vectors %s exist", part, folders[part].name)
    images, captions = (open_vectors(folders[part]) for part in ("images", "captions"))
    return Encoded(images, captions, folders["images"].name, folders["captions"].name, {})


def item_id(item: int) -> str:
    """Id of a synthetic item."""
    return f"synthetic-{item:08d}"


def _write_documents(writer, items: SyntheticVectors, count: int) -> None:
    with cli.progress(desc="synthetic items", unit="item", total=count, initial=writer.count) as bar:
        while (start := writer.count) < count:
            stop = min(start + SHARD_ROWS, count)
            writer.append(items.documents(start, stop), [item_id(item) for item in range(start, stop)])
            bar.update(stop - start)


def _write_queries(writer, items: SyntheticVectors, count: int) -> None:
    rows, own = items.queries()
    ids = [f"{item_id(item)}-{number}" for number, item in enumerate(own)]
    writer.append(rows[writer.count :], ids[writer.count :], [item_id(item) for item in own[writer.count :]])


def side_by_side(columns: dict[str, dict[str, float]]) -> str:
    """A text table of statistics: column title -> result of `describe`."""
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    width = max(len(name) for name in names)
    lines = [" ".join([" " * width, *(f"{title:>12}" for title in columns)])]
    for name in names:
        cells = (f"{values[name]:>12.5g}" if name in values else f"{'-':>12}" for values in columns.values())
        lines.append(" ".join([f"{name:<{width}}", *cells]))
    return "\n".join(lines)


def main(arguments) -> None:
    """`lexlip-bench synthetic fit | make | describe`."""
    if arguments.action == "fit":
        documents, queries = _opened(arguments.documents, "--documents"), _opened(arguments.queries, "--queries")
        model = fit(documents, queries, arguments.prototypes)
        model.save(arguments.model)
        size = f"{model.documents.shape[0]} prototypes, {model.neighbours} neighbours"
        print(f"{arguments.model}: {size}, {arguments.model.stat().st_size:,} bytes")
    elif arguments.action == "statistics":
        documents, queries = _opened(arguments.documents, "--documents"), _opened(arguments.queries, "--queries")
        moments.measure(documents, queries).save(arguments.model)
        print(f"{arguments.model}: {arguments.model.stat().st_size:,} bytes, without any of the vectors")
    elif arguments.action == "make":
        model, count = BootstrapModel.load(arguments.model), number(arguments.count)
        settings = arguments.seed, arguments.vocabulary, arguments.force
        made = write_synthetic(arguments.home, model, count, *settings)
        print(made.images.folder, made.captions.folder, sep="\n")
    else:
        columns = {"fitted to": BootstrapModel.load(arguments.model).measured} if arguments.model.exists() else {}
        queries = open_vectors(arguments.queries) if arguments.queries else None
        print(side_by_side(columns | {"described": describe(_opened(arguments.documents, "--documents"), queries)}))


def _opened(folder: Path | None, flag: str) -> Vectors:
    if folder is None:
        raise InputError(f"{flag}: missing; expected a folder of vectors")
    return open_vectors(folder)


def parser():
    """Flags of `lexlip-bench synthetic`."""
    flags = cli.parser("Fit a model to vectors, make synthetic vectors with it, or describe vectors.", writes=True)
    flags.add_argument("action", choices=("fit", "make", "describe", "statistics"))
    flags.add_argument(
        "--model",
        type=Path,
        default=Path("synthetic.npz"),
        help="the fitted model: written by fit, read by make, and by describe if it exists; or statistics",
    )
    flags.add_argument("--documents", type=Path, help="fit, describe, statistics: folder of the documents' vectors")
    flags.add_argument("--queries", type=Path, help="fit, describe, statistics: folder of the queries' vectors")
    flags.add_argument("--prototypes", type=int, default=PROTOTYPES, help="fit: number of prototypes")
    flags.add_argument("--count", default="1M", help="make: number of items, such as 100k or 10M")
    flags.add_argument("--vocabulary", type=int, help="make: number of lexicons, at least the model's")
    flags.add_argument("--seed", type=int, default=0, help="make: another seed gives other items")
    return flags
