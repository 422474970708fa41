"""Galleries of the user's own vectors."""

from pathlib import Path

from bench.scale.points import Gallery
from bench.store import cli, config
from bench.store.records import Point
from bench.store.sizes import is_number
from bench.vectors.imports.checks import check_pair, check_same_items, check_vectors
from bench.vectors.read import Vectors, open_vectors
from models.errors import InputError
from models.files import read_json

OWN = "vectors"
"""`--corpus` of the user's own vectors, whose folders flags name."""
SIDES = ("dense", "lexicon")
"""Folders of a folder that is a corpus of own vectors, each with `documents` and `queries`."""
IDENTIFIED = 100_000  # documents whose ids go into the id of a user's vectors


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
