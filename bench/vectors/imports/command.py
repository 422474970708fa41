"""Imports vectors that another tool wrote, as a folder of vectors for `python -m bench.scale --corpus vectors`.

    lexlip-bench import --dense clip-0.npy clip-1.npy --ids images.txt --normalise --out mine/documents
    lexlip-bench import --lexicon splade.jsonl --out mine/documents
    lexlip-bench import --lexicon index.ciff --out mine/documents
    lexlip-bench import --lexicon queries.jsonl --documents mine/documents --relevance qrels.txt --out mine/queries

Rows stream from the files to the folder, which appears when all of them are read. The score of a query and a document
is their inner product; `--normalise` makes it the cosine.
"""

from collections.abc import Iterator
from pathlib import Path

from bench.store import cli
from models.errors import InputError


def main(arguments) -> None:
    """Writes the folder and prints what it holds."""
    from bench.vectors.imports.checks import check_ids
    from bench.vectors.imports.files import open_files
    from bench.vectors.imports.items import entries, read_vocabulary
    from bench.vectors.imports.qrels import read_qrels
    from bench.vectors.read import open_vectors
    from bench.vectors.write import write_vectors

    _check_flags(arguments)
    files = [*arguments.dense, *arguments.lexicon]
    vocabulary = read_vocabulary(arguments.vocabulary) if arguments.vocabulary else None
    documents = open_vectors(arguments.documents) if arguments.documents else None
    reader = open_files(arguments.dense, arguments.lexicon, vocabulary, documents)
    if arguments.ids and reader.ids:
        raise InputError(f"--ids {arguments.ids}: the vectors of {files[0]} have ids of their own")
    ids = entries(arguments.ids, reader.count) if arguments.ids else reader.ids
    ids = [str(row) for row in range(reader.count)] if ids is None else ids
    check_ids(ids, *((str(arguments.ids), "lines", 1) if arguments.ids else (", ".join(map(str, files)), "vectors")))
    groups = entries(arguments.groups, reader.count) if arguments.groups else None
    qrels = read_qrels(arguments.relevance, ids, arguments.judged_only) if arguments.relevance else None
    written, graded = ids, None
    if qrels:
        written = list(qrels.grades)
        groups, graded = (qrels.groups, None) if qrels.single else (None, qrels.grades)
    left_out = {row for row, name in enumerate(ids) if qrels and name not in qrels.grades}
    made_from = {"imported": reader.kind, "normalised": arguments.normalise}
    empty, start, done = 0, 0, 0
    with write_vectors(
        arguments.out, reader.kind, reader.dimension, reader.vocabulary, made_from, qrels=graded
    ) as writer:
        for rows in cli.progress(reader.batches(), desc="import", unit="batch"):
            kept = [row - start for row in range(start, start + rows.shape[0]) if row not in left_out]
            start += rows.shape[0]
            rows = rows if len(kept) == rows.shape[0] else rows[kept]
            of_rows, lengths = slice(done, done + len(kept)), _lengths(rows)
            if reader.kind == "dense" and arguments.normalise and not lengths.all():
                row = ids.index(written[done + int(lengths.argmin())])
                raise InputError(f"vector {row} ('{ids[row]}') is all zeros; expected none with --normalise")
            empty += int((lengths == 0).sum())
            rows = _normalised(rows, lengths) if arguments.normalise else rows
            writer.append(rows, written[of_rows], groups and groups[of_rows])
            done = of_rows.stop
        if empty == len(written):
            raise InputError(f"{files[0]}: no vector has a value other than 0; expected at least one")
    made = f"{len(written):,} {reader.kind} vectors of {reader.dimension:,}"
    for line in _summary(arguments, reader, made, empty, groups):
        print(line)
    for line in _of_qrels(arguments, qrels, documents) if qrels else ():
        print(line)


def _check_flags(arguments) -> None:
    if bool(arguments.dense) == bool(arguments.lexicon):
        raise InputError("expected either --dense FILE.npy or --lexicon FILE.npz (or FILE.jsonl, FILE.ciff)")
    if arguments.dense and arguments.vocabulary:
        raise InputError("--vocabulary: expected with --lexicon only")
    if arguments.judged_only and not arguments.relevance:
        raise InputError("--judged-only: expected together with --relevance QRELS")
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


def _summary(arguments, reader, made: str, empty: int, groups: list[str] | None) -> Iterator[str]:
    lexicon = reader.kind == "lexicon"
    groups = f", {len(set(groups)):,} groups" if groups else ""
    yield f"{arguments.out}: {made} {'lexicons' if lexicon else 'dimensions'}{groups}"
    if empty:
        yield f"  {empty:,} of them are empty" + (": no search can find them" if lexicon else "")
    if lexicon and reader.zeros:
        yield f"  {reader.zeros:,} weights of 0 are left out"
    if unknown := getattr(reader, "unknown", 0):
        yield f"  {unknown:,} weights of tokens that {arguments.documents} does not have are left out"


def _of_qrels(arguments, qrels, documents) -> Iterator[str]:
    """What the qrels hold, and what of them does not count."""
    file, relevant = arguments.relevance, sum(map(len, qrels.grades.values()))
    several = "" if qrels.single else "; R@K counts a query with one of them in the top K, nDCG@10 weighs their grades"
    yield f"  {relevant:,} relevant documents of {len(qrels.grades):,} queries{several}"
    if qrels.not_relevant:
        yield f"  {qrels.not_relevant:,} judgements of {file} with grade 0 or below: not relevant"
    if qrels.others:
        yield f"  {qrels.others:,} queries of {file} are not among these vectors"
    if qrels.without:
        yield f"  {len(qrels.without):,} queries without a relevant document are left out: {_named(qrels.without)}"
    if documents and (lost := qrels.lost(documents.groups if qrels.single else documents.ids)):
        yield f"  {len(lost):,} relevant documents are not in {arguments.documents}, so not found: {_named(lost)}"


def _named(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")


def parser():
    """Flags of `lexlip-bench import`."""
    flags = cli.parser("Import vectors that another tool wrote. Rows count from 0, lines from 1.")

    def path(name: str, text: str, target=flags, **more) -> None:
        target.add_argument(name, type=Path, metavar="FILE", help=text, **more)

    path("--dense", "(N, D) float16, float32 or float64 .npy files, one after the other", nargs="+", default=[])
    lexicon = (
        ".npz files (SciPy CSR), .jsonl files with lines {id, vector: {token: weight}} (Anserini, SPLADE), or one "
        ".ciff file (Common Index File Format), whose tf are the weights"
    )
    path("--lexicon", lexicon, nargs="+", default=[])
    path("--ids", "ids, one a line; unless given, those of a .jsonl or .ciff file, or the row numbers", default=None)
    relevant = flags.add_mutually_exclusive_group()
    path("--groups", "group of each vector, one a line: items of a group are relevant to its queries", relevant)
    path("--relevance", "of queries: TREC qrels; documents of a grade above 0 are relevant", relevant)
    judged = "with --relevance: leave out queries without a relevant document"
    flags.add_argument("--judged-only", action="store_true", help=judged)
    vocabulary = "tokens of the lexicons of .npz or .jsonl files, one a line, or a vocab.json"
    path("--vocabulary", vocabulary, default=None)
    documents = "of queries: imported documents; tokens that they do not have are left out and counted"
    flags.add_argument("--documents", type=Path, default=None, metavar="FOLDER", help=documents)
    flags.add_argument("--normalise", action="store_true", help="divide each vector by its L2 norm")
    flags.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of vectors to write")
    return flags
