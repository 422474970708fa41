"""`synthetic:N`: collections beyond what can be encoded, made from a model that was fitted to measured vectors (`bench.vectors.bootstrap` says how).

`fit` writes the model, a file of a few MB; `make` writes N items and the queries as folders of vectors, like encoded ones; `describe` prints the statistics of
vectors, those that the model was fitted to beside them.
"""

import logging
from pathlib import Path

from bench.store import cli, config
from bench.store.sizes import number
from bench.vectors.bootstrap import PROTOTYPES, Fitted, Synthetic, fit
from bench.vectors.encode import Encoded
from bench.vectors.read import Vectors, open_vectors
from bench.vectors.statistics import describe
from bench.vectors.write import SHARD_ROWS, resume_vectors
from models.errors import InputError

log = logging.getLogger(__name__)


def synthesise(
    home, model: Fitted, count: int, seed: int = 0, vocabulary: int | None = None, force: bool = False
) -> Encoded:
    """Writes `count` items and the model's queries to `<home>/vectors/`, unless they are there; one shard is in memory at a time.

    A run that was killed goes on after its last whole shard. A smaller collection of the same model and seed is a prefix of a larger one.
    Raises InputError when `count` leaves out items that the queries belong to.
    """
    if count < model.captioned:
        raise InputError(f"{count} items: expected at least the {model.captioned} that the model's queries belong to")
    items = Synthetic(model, seed, vocabulary)
    made_from = {
        "fitted": model.id,
        "seed": seed,
        "dimension": items.dimension,
        "code": config.code_fingerprint("bench.vectors.bootstrap", "bench.vectors.write"),
    }
    parts = {"images": made_from | {"part": "images", "count": count}, "captions": made_from | {"part": "captions"}}
    folders = {part: Path(home) / "vectors" / config.fingerprint(origin) for part, origin in parts.items()}
    for part, write in (("images", _write_documents), ("captions", _write_queries)):
        if force or not folders[part].is_dir():
            with resume_vectors(
                folders[part], model.kind, items.dimension, made_from=parts[part], force=force
            ) as writer:
                write(writer, items, count)
        else:
            log.info("synthetic %s: vectors %s are there", part, folders[part].name)
    images, captions = (open_vectors(folders[part]) for part in ("images", "captions"))
    return Encoded(images, captions, folders["images"].name, folders["captions"].name, {})


def item_id(item: int) -> str:
    return f"synthetic-{item:08d}"


def _write_documents(writer, items: Synthetic, count: int) -> None:
    with cli.progress(desc="synthetic items", unit="item", total=count, initial=writer.count) as bar:
        while (start := writer.count) < count:
            stop = min(start + SHARD_ROWS, count)
            writer.append(items.documents(start, stop), [item_id(item) for item in range(start, stop)])
            bar.update(stop - start)


def _write_queries(writer, items: Synthetic, count: int) -> None:
    rows, own = items.queries()
    ids = [f"{item_id(item)}-{number}" for number, item in enumerate(own)]
    writer.append(rows[writer.count :], ids[writer.count :], [item_id(item) for item in own[writer.count :]])


def side_by_side(columns: dict[str, dict[str, float]]) -> str:
    """A table of statistics, one column for each description."""
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    width = max(len(name) for name in names)
    lines = [" ".join([" " * width, *(f"{title:>12}" for title in columns)])]
    for name in names:
        lines.append(
            " ".join(
                [
                    f"{name:<{width}}",
                    *(f"{values[name]:>12.5g}" if name in values else f"{'-':>12}" for values in columns.values()),
                ]
            )
        )
    return "\n".join(lines)


def main(arguments) -> None:
    """`lexlip-bench synthetic fit | make | describe`"""
    if arguments.action == "fit":
        model = fit(
            _opened(arguments.documents, "--documents"), _opened(arguments.queries, "--queries"), arguments.prototypes
        )
        model.save(arguments.model)
        print(
            f"{arguments.model}: {model.documents.shape[0]} prototypes, {model.neighbours} neighbours, {arguments.model.stat().st_size:,} bytes"
        )
    elif arguments.action == "make":
        made = synthesise(
            arguments.home,
            Fitted.load(arguments.model),
            number(arguments.count),
            arguments.seed,
            arguments.vocabulary,
            arguments.force,
        )
        print(made.images.folder, made.captions.folder, sep="\n")
    else:
        columns = {"fitted to": Fitted.load(arguments.model).measured} if arguments.model.exists() else {}
        queries = open_vectors(arguments.queries) if arguments.queries else None
        print(side_by_side(columns | {"described": describe(_opened(arguments.documents, "--documents"), queries)}))


def _opened(folder: Path | None, flag: str) -> Vectors:
    if folder is None:
        raise InputError(f"{flag}: name a folder of vectors")
    return open_vectors(folder)


def parser():
    flags = cli.parser(
        "Synthetic vectors, fitted to measured ones: fit a model, make a collection of it, describe vectors beside what a model was fitted to.",
        writes=True,
    )
    flags.add_argument("action", choices=("fit", "make", "describe"))
    flags.add_argument(
        "--model",
        type=Path,
        default=Path("synthetic.npz"),
        help="the fitted model: written by fit, read by make, and by describe if it is there",
    )
    flags.add_argument("--documents", type=Path, help="fit, describe: folder of the documents' vectors")
    flags.add_argument("--queries", type=Path, help="fit, describe: folder of the queries' vectors")
    flags.add_argument("--prototypes", type=int, default=PROTOTYPES, help="fit: documents that the model keeps")
    flags.add_argument("--count", default="1M", help="make: number of items, such as 100k or 10M")
    flags.add_argument("--vocabulary", type=int, help="make: number of lexicons, at least the model's")
    flags.add_argument("--seed", type=int, default=0, help="make: another seed gives other items")
    return flags
