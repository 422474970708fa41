"""The sparse twin of a dense gallery: its vectors made sparse by a checkpoint of `lexlip-bench sparsify`.

The twin is a gallery of lexicon vectors of the same items and queries, swept in the same rounds as the dense one.
"""

from dataclasses import replace
from pathlib import Path

from bench.scale.points import Gallery
from bench.sparsify import encode
from bench.store import config
from bench.vectors.read import DenseVectors, LexiconVectors
from models.errors import InputError

CODE = ("bench.scale.galleries.twins", "bench.sparsify.encode", "bench.vectors.format", "bench.vectors.write")


def with_twins(galleries: list[Gallery], folder: Path | None, home: Path) -> list[Gallery]:
    """The galleries and, with the folder of a checkpoint, the twin of each dense one. Raises InputError."""
    if folder is None:
        return galleries
    from models.sparsify import checkpoint

    dense = [gallery for gallery in galleries if gallery.kind == "dense"]
    if not dense:
        raise InputError(f"--sparsify {folder}: no dense vectors in this sweep; expected some to make sparse")
    encoder, identity = checkpoint.load(folder), checkpoint.fingerprint(folder)
    return galleries + [_twin(gallery, encoder, identity, checkpoint.CODE, home) for gallery in dense]


def _twin(gallery: Gallery, encoder, identity: str, code: tuple[str, ...], home: Path) -> Gallery:
    def made(side: str, vectors: DenseVectors, vectors_id: str) -> tuple[LexiconVectors, str]:
        made_from = {"checkpoint": identity, "side": side, "dense": vectors_id}
        made_from |= {"code": config.code_fingerprint(*CODE, *code)}
        made_id = config.fingerprint(made_from)
        described = made_from, vectors.ids, vectors.groups if vectors.grouped else None, str(vectors.folder)
        into = home / "vectors" / made_id
        return encode.write(encoder, side, _Rows(vectors), into, *described, vectors.qrels), made_id

    documents, documents_id = made("image", gallery.documents, gallery.documents_id)
    queries, queries_id = made("text", gallery.queries, gallery.queries_id)
    base = replace(gallery.base, kind="lexicon", variant=f"{gallery.base.variant} sparse", checkpoint_id=identity)
    ids = {"documents_id": documents_id, "queries_id": queries_id}
    return replace(gallery, documents=documents, queries=queries, base=base, **ids)


class _Rows:
    """Dense vectors as an array of rows."""

    def __init__(self, vectors: DenseVectors):
        self.vectors, self.shape = vectors, (vectors.count, vectors.dimension)

    def __len__(self) -> int:
        return self.vectors.count

    def __getitem__(self, rows: slice):
        return self.vectors.rows(rows.start, min(rows.stop, self.vectors.count))
