"""Makes dense vectors sparse: trains a small head on them, writes lexicon vectors and a one-page report.

    lexlip-bench sparsify --dense-images x.npy --dense-texts y.npy --captions c.csv --out FOLDER
    lexlip-bench sparsify --model open_clip:ViT-B-32/laion2b_s34b_b79k --captions c.csv --out FOLDER
    lexlip-bench sparsify --encode FOLDER/checkpoint --dense z.npy --out NEW
    lexlip-bench sparsify --table FOLDER FOLDER ...

FOLDER then holds `checkpoint/`, the lexicon vectors of all given ones in `images/` and `texts/`, `report.md`, and
`report.json` with its values. The same command resumes what a kill left and keeps what is whole.
"""

from pathlib import Path

from bench.store import cli
from models.errors import InputError


def main(arguments) -> None:
    """Runs one of the four forms of the command."""
    if arguments.table:
        from bench.sparsify.table import table_of

        print(table_of(arguments.table))
        return
    if arguments.out is None:
        raise InputError("--out FOLDER: missing")
    if arguments.encode:
        _encode(arguments)
        return
    _check_inputs(arguments)
    from bench.sparsify.run import run

    run(arguments)


def _check_inputs(arguments) -> None:
    dense = [arguments.dense_images, arguments.dense_texts]
    if arguments.captions is None:
        raise InputError("--captions FILE: missing; expected a row for each text vector")
    if arguments.captions.is_dir():
        raise InputError(f"--captions {arguments.captions}: a folder; expected a table of paths and captions")
    if arguments.model and any(dense):
        raise InputError("--model computes the dense vectors; expected no --dense-images and --dense-texts beside it")
    if not arguments.model and not all(dense):
        raise InputError("expected --dense-images FILE and --dense-texts FILE, or --model open_clip:NAME")
    if arguments.dense:
        raise InputError("--dense: expected with --encode CHECKPOINT only")


def _encode(arguments) -> None:
    """Writes the lexicon vectors of new dense ones, and the exports asked for."""
    from bench.sparsify import encode
    from bench.sparsify.data import open_dense
    from bench.sparsify.run import write_exports
    from bench.store.config import fingerprint
    from bench.vectors.imports.checks import check_ids
    from bench.vectors.imports.items import entries
    from models.files import sha256
    from models.sparsify import checkpoint

    if arguments.dense is None:
        raise InputError("--encode: expected --dense FILE.npy with it")
    dense = open_dense(arguments.dense)
    ids = entries(arguments.ids, len(dense)) if arguments.ids else [str(row) for row in range(len(dense))]
    check_ids(ids, str(arguments.ids or arguments.dense))
    encoder = checkpoint.load(arguments.encode)
    made_from = {"checkpoint": checkpoint.fingerprint(arguments.encode), "side": arguments.side}
    made_from |= {"dense": sha256(arguments.dense)} | ({"ids": fingerprint(ids)} if arguments.ids else {})
    if arguments.out.is_dir() and arguments.force:
        _clear(arguments.out)
    made = encode.write(encoder, arguments.side, dense, arguments.out, made_from, ids, name=str(arguments.dense))
    print(f"{arguments.out}: {made.count:,} lexicon vectors of {made.dimension:,} lexicons")
    for file in write_exports(arguments.export, encoder, {arguments.side: made}, arguments.out, arguments.export_top_k):
        print(file)


def _clear(folder: Path) -> None:
    """Removes a folder of vectors for `--force`. Raises InputError for another folder."""
    import shutil

    if not (folder / "meta.json").is_file():
        raise InputError(f"--out {folder}: is not a folder of vectors, so --force does not replace it")
    shutil.rmtree(folder)


def parser():
    """Flags of `lexlip-bench sparsify`."""
    from models.sparsify.config import OBJECTIVES

    flags = cli.parser(
        "Make dense vectors sparse: train a head, write lexicon vectors, exports and a report.", home=False
    )

    def path(name: str, text: str, metavar: str = "FILE", **more) -> None:
        flags.add_argument(name, type=Path, metavar=metavar, help=text, **more)

    path("--dense-images", ".npy of (N, D) floats: a row for each image, in the order of first mention in --captions")
    path("--dense-texts", ".npy of (M, D) floats: a row for each row of --captions")
    captions = (
        "table with columns path and caption, and optionally split (train, test); a row without path is a text only"
    )
    path("--captions", captions)
    flags.add_argument("--model", help="computes the dense vectors: open_clip:NAME; paths are relative to --captions")
    flags.add_argument("--objective", choices=OBJECTIVES, default=OBJECTIVES[0], help="how dense vectors become sparse")
    flags.add_argument("--seed", type=cli.positive(int, or_zero=True), default=0, help="seed of the training")
    tokenizer = (
        "folder of a BERT, or package:NAME, whose tokens become lexicons; unless given, learned from the captions"
    )
    flags.add_argument("--tokenizer", help=tokenizer)
    least = "times that a token must occur in the captions trained on to become a lexicon"
    flags.add_argument("--min-count", type=cli.positive(int), default=3, help=least)
    flags.add_argument(
        "--threads", type=cli.positive(int), default=1, help="threads of training and of the timed searches"
    )
    flags.add_argument("--export", default="", help="also write: jsonl, ciff, npz, onnx, separated by commas")
    flags.add_argument(
        "--export-top-k", type=cli.positive(int), default=32, help="lexicons of a document in jsonl and ciff"
    )
    path("--encode", "encode new vectors with this checkpoint", "CHECKPOINT")
    path("--dense", "with --encode: .npy of the vectors")
    flags.add_argument(
        "--side", choices=("image", "text"), default="image", help="with --encode: what the vectors are of"
    )
    path("--ids", "with --encode: ids, one a line; row numbers unless given")
    path("--table", "print the table of several finished runs", "FOLDER", nargs="+", default=[])
    path("--out", "folder to write", "FOLDER")
    overrides = "keys of the configuration (models/sparsify/config.py), such as steps=400 image_words=2"
    flags.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=overrides)
    return flags
