"""Exports a sparse encoder over dense vectors (`models.sparsify`) to ONNX: a graph for images and one for texts.

image.onnx, text.onnx    dense: float32 (batch, D), any length of vectors -> vectors: float32 (batch, V), unit length
"""

from pathlib import Path

import torch
from torch import nn

from models.errors import InputError, require
from models.export.common import PROBES, in_batches, largest_difference
from models.export.onnx import session, write_graph
from models.sparsify.heads import SIDES, SparseEncoder


class OneSide(nn.Module):
    """The graph of one side of an encoder."""

    def __init__(self, encoder: SparseEncoder, side: str):
        super().__init__()
        self.encoder, self.side = encoder, side

    def forward(self, dense: torch.Tensor) -> torch.Tensor:
        return self.encoder(dense, self.side)


def write(encoder: SparseEncoder, folder: Path) -> dict[str, float]:
    """Writes both graphs of an encoder in eval mode, and checks them; returns the largest difference of each side.

    Raises AbsentError for a missing package, InputError for SpLiCE, which solves a lasso for each vector and has no
    head, and for an export that differs (`models.export.common`).
    """
    if encoder.config.objective == "splice":
        raise InputError("splice has no head to export to onnx: it solves a lasso for each vector")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "export")
    probes = torch.randn(PROBES, encoder.dense, generator=torch.Generator().manual_seed(0))
    differences = {}
    for side in SIDES:
        file = folder / f"{side}.onnx"
        with torch.no_grad():
            write_graph(OneSide(encoder, side).eval(), "dense", probes[:2], file)
        found = in_batches(session(file), probes.numpy())
        differences[side] = largest_difference(file.name, found, encoder.encode(probes, side))
    return differences
