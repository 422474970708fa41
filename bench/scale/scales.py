"""The scales that a sweep quantises lexicon weights with: given in the grid, published, or fitted to the vectors."""

from dataclasses import replace

from bench.scale.plan import Grid
from bench.scale.points import Gallery
from bench.vectors.impacts import Impacts
from bench.vectors.scales import Weights, check_scale


def with_scales(gallery: Gallery, grid: Grid, fitted: bool) -> Gallery:
    """The gallery with a scale of documents and one of queries for all bits of the grid; dense ones as they are.

    fitted: whether scales that the grid does not give follow from the weights (and are printed), not from the paper.
    They suit the shortest rows of the grid: the fewer lexicons a unit vector keeps, the larger are their weights.
    Raises InputError for a scale that cuts too many weights.
    """
    if gallery.kind == "dense":
        return gallery
    all_bits = sorted({bits for bits in (grid.main.bits, *grid.bits) if bits})
    documents, queries = [grid.main.top_k, *grid.top_k], [grid.main.query_top_k, *grid.query_top_k]
    parts = {
        "documents": Impacts(gallery.documents, min(filter(None, documents), default=None)),
        "queries": Impacts(gallery.queries, min(filter(None, queries), default=None)),
    }
    weights = {part: Weights.of(vectors) for part, vectors in parts.items()}
    scales = dict(gallery.scales)
    for bits in all_bits:
        if bits in grid.scales:
            scales[bits] = (grid.scales[bits],) * 2
        elif fitted:
            scales[bits] = tuple(weights[part].scale(bits, grid.scale_percentile) for part in parts)
        for (part, vectors), scale in zip(parts.items(), scales.get(bits, (1.0, 1.0)), strict=True):
            check_scale(vectors, bits, scale, f"scales.{bits}={{}}", weights[part])
    if fitted:
        for place, part in enumerate(parts):
            chosen = ", ".join(f"{scales[bits][place]:g} at {bits} bits" for bits in all_bits)
            print(f"{part}: largest weight {weights[part].largest:g}; scale {chosen}", flush=True)
    return replace(gallery, scales=scales)
