"""Imports vectors that another tool wrote, as a folder of vectors for `python -m bench.scale --corpus vectors`.

    lexlip-bench import --dense clip-0.npy clip-1.npy --ids images.txt --normalise --out mine/documents
    lexlip-bench import --lexicon splade.jsonl --out mine/documents
    lexlip-bench import --lexicon queries.jsonl --vocabulary mine/documents --relevance qrels.txt --out mine/queries

Rows stream from the files to the folder, which appears when all of them are read. The score of a query and a document
is their inner product; `--normalise` makes it the cosine.
"""

from pathlib import Path

from bench.store import cli
from models.errors import InputError


def main(arguments) -> None:
    """Writes the folder and prints what it holds."""
    from bench.vectors.imports.checks import check_ids
    from bench.vectors.imports.files import open_files
    from bench.vectors.imports.items import entries, read_vocabulary, relevant_documents
    from bench.vectors.write import write_vectors

    _check_flags(arguments)
    files = [*arguments.dense, *arguments.lexicon]
    vocabulary = read_vocabulary(arguments.vocabulary) if arguments.vocabulary else None
    known_only = bool(arguments.vocabulary) and arguments.vocabulary.is_dir()
    reader = open_files(arguments.dense, arguments.lexicon, vocabulary, known_only)
    if arguments.ids and reader.ids:
        raise InputError(f"--ids {arguments.ids}: the lines of {files[0]} have ids of their own")
    ids = entries(arguments.ids, reader.count) if arguments.ids else reader.ids
    ids = [str(row) for row in range(reader.count)] if ids is None else ids
    check_ids(ids, *((str(arguments.ids), "lines", 1) if arguments.ids else (", ".join(map(str, files)), "vectors")))
    groups, others = entries(arguments.groups, reader.count) if arguments.groups else None, 0
    if arguments.relevance:
        groups, others = relevant_documents(arguments.relevance, ids)
    made_from = {"imported": reader.kind, "normalised": arguments.normalise}
    empty, start = 0, 0
    with write_vectors(arguments.out, reader.kind, reader.dimension, reader.vocabulary, made_from) as writer:
        for rows in cli.progress(reader.batches(), desc="import", unit="batch"):
            of_rows = slice(start, start + rows.shape[0])
            lengths = _lengths(rows)
            if reader.kind == "dense" and arguments.normalise and not lengths.all():
                row = start + int(lengths.argmin())
                raise InputError(f"vector {row} ('{ids[row]}') is all zeros; expected none with --normalise")
            empty += int((lengths == 0).sum())
            rows = _normalised(rows, lengths) if arguments.normalise else rows
            writer.append(rows, ids[of_rows], groups and groups[of_rows])
            start = of_rows.stop
        if empty == reader.count:
            raise InputError(f"{files[0]}: no vector has a value other than 0; expected at least one")
    for line in _summary(arguments, reader, empty, groups, others):
        print(line)


def _check_flags(arguments) -> None:
    if bool(arguments.dense) == bool(arguments.lexicon):
        raise InputError("expected either --dense FILE.npy or --lexicon FILE.npz (or FILE.jsonl)")
    if arguments.dense and arguments.vocabulary:
        raise InputError("--vocabulary: expected with --lexicon only")
    if arguments.out.exists():
        if not arguments.force:
            raise InputError(f"--out {arguments.out}: exists; use --force to replace it, or another folder")
        if not (arguments.out / "meta.json").is_file():
            raise InputError(f"--out {arguments.out}: is not a folder of vectors, so --force does not replace it")


def _lengths(rows):
    """L2 norm of each row, (B,) float64."""
    import numpy as np
    import scipy.sparse as sp

    if sp.issparse(rows):
        squares = sp.csr_array((rows.data.astype(np.float64) ** 2, rows.indices, rows.indptr), shape=rows.shape)
        return np.sqrt(np.asarray(squares.sum(axis=1)).ravel())
    return np.linalg.norm(rows.astype(np.float64), axis=1)


def _normalised(rows, lengths):
    import numpy as np
    import scipy.sparse as sp

    lengths = np.where(lengths == 0, 1, lengths)
    if sp.issparse(rows):
        data = rows.data / np.repeat(lengths, np.diff(rows.indptr))
        return sp.csr_array((data.astype(np.float32), rows.indices, rows.indptr), shape=rows.shape)
    return (rows / lengths[:, None]).astype(np.float32)


def _summary(arguments, reader, empty: int, groups: list[str] | None, others: int) -> list[str]:
    lexicon = reader.kind == "lexicon"
    what = f"{reader.count:,} {reader.kind} vectors of {reader.dimension:,} {'lexicons' if lexicon else 'dimensions'}"
    groups = f", {len(set(groups)):,} groups" if groups else ""
    lines = [f"{arguments.out}: {what}{groups}"]
    if empty:
        lines.append(f"  {empty:,} of them are empty" + (": no search can find them" if lexicon else ""))
    if lexicon and reader.zeros:
        lines.append(f"  {reader.zeros:,} weights of 0 are left out")
    if unknown := getattr(reader, "unknown", 0):
        lines.append(f"  {unknown:,} weights of tokens that {arguments.vocabulary} does not have are left out")
    if others:
        lines.append(f"  {others:,} queries of {arguments.relevance} are not among these vectors")
    return lines


def parser():
    """Flags of `lexlip-bench import`."""
    flags = cli.parser("Import vectors that another tool wrote. Rows count from 0, lines from 1.")

    def path(name: str, text: str, target=flags, **more) -> None:
        target.add_argument(name, type=Path, metavar="FILE", help=text, **more)

    path("--dense", "(N, D) float16, float32 or float64 .npy files, one after the other", nargs="+", default=[])
    lexicon = ".npz files (SciPy CSR), or .jsonl files with lines {id, vector: {token: weight}} (Anserini, SPLADE)"
    path("--lexicon", lexicon, nargs="+", default=[])
    path("--ids", "ids, one a line; unless given, those of the .jsonl lines, or the row numbers", default=None)
    relevant = flags.add_mutually_exclusive_group()
    path("--groups", "group of each vector, one a line: items of a group are relevant to its queries", relevant)
    path("--relevance", "of queries: TREC qrels with one relevant document (grade above 0) for each query", relevant)
    vocabulary = "tokens, one a line; a vocab.json; or an imported folder, whose missing tokens are left out"
    path("--vocabulary", vocabulary, default=None)
    flags.add_argument("--normalise", action="store_true", help="divide each vector by its L2 norm")
    flags.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of vectors to write")
    return flags
