"""A checkpoint as ONNX: an image encoder, a text encoder and the tokenizer, for runtimes without torch.

    image.onnx       images: uint8 (batch, P, P, 3), of the model's P pixels  -> vectors: float32 (batch, V or D), L2-normalised
    text.onnx        tokens: int64 (batch, T), padded to the model's T tokens -> vectors: the same
    tokenizer.json   texts to such tokens, cut and padded

Notable choices
- Pixels go in as they are: normalising them is part of the graph, so there is nothing beside it to get wrong.
- The lexicon head's own operator (`models.lexicon.max_linear`) becomes the plain product and max over tokens. So a batch needs its (B, L, V)
  logits in memory: 24 MB for each picture at 197 tokens and 30,522 lexicons.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from models.export.common import compared, in_batches, probe_pictures, probe_texts, require
from models.lexicon import max_linear  # noqa: F401  (registers the operator that is translated)
from models.tokenizer import PAD

IMAGE, TEXT, TOKENIZER = "image.onnx", "text.onnx", "tokenizer.json"


class ImageEncoder(nn.Module):
    """What `encode_image` does to pixels."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.model.kind == "lexicon":
            return F.normalize(self.model.image_states(images)[1].weights_BV, dim=-1)
        return self.model.image_vectors(images)


class TextEncoder(nn.Module):
    """What `encode_text` does to tokens; shared padding stays, since to drop it would need a graph that depends on its input."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.model.kind == "lexicon":
            return F.normalize(self.model.text_states(tokens)[1].weights_BV, dim=-1)
        return F.normalize(self.model.clip.encode_text(tokens).float(), dim=-1)


def write(model: nn.Module, folder: Path) -> dict:
    """Write the three files of a model in eval mode, on the CPU, into a folder; check them; say what they are.

    Returns the shapes of inputs, and the largest differences from the model on the probes. Raises InputError for a package that is
    missing and for an export that differs (`models.export.common`).
    """
    require("onnx", "onnxscript", "onnxruntime")
    pictures, tokens = probe_pictures(model), _tokenizer(model, folder / TOKENIZER)
    with torch.no_grad():
        _write_graph(ImageEncoder(model).eval(), "images", torch.from_numpy(pictures[:2]), folder / IMAGE)
        _write_graph(
            TextEncoder(model).eval(),
            "tokens",
            torch.zeros(2, model.tokenizer.max_tokens, dtype=torch.int64),
            folder / TEXT,
        )
    texts, text, image = probe_texts(model), _session(folder / TEXT), _session(folder / IMAGE)
    return {
        "image": {
            "images": f"uint8 (batch, {model.pixels}, {model.pixels}, 3)",
            "vectors": f"float32 (batch, {model.dimension})",
        },
        "text": {
            "tokens": f"int64 (batch, {model.tokenizer.max_tokens})",
            "vectors": f"float32 (batch, {model.dimension})",
        },
        "largest_difference": {
            "image": compared(IMAGE, in_batches(image, pictures), model.encode_image(pictures)),
            "text": compared(TEXT, in_batches(lambda part: text(tokens(part)), texts), model.encode_text(texts)),
        },
    }


def _write_graph(encoder: nn.Module, name: str, example: torch.Tensor, file: Path) -> None:
    from onnxscript import INT16
    from onnxscript import opset18 as op

    def plain_product(hidden_BLD, weight_VD):
        """`lexlip::max_product` in ONNX's operators: the highest product of each lexicon, and its token."""
        products_BLV = op.MatMul(hidden_BLD, op.Transpose(weight_VD, perm=[1, 0]))
        highest_BV = op.ReduceMax(products_BLV, op.Constant(value_ints=[1]), keepdims=0)
        return highest_BV, op.Cast(op.ArgMax(products_BLV, axis=1, keepdims=0), to=INT16.dtype)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about torch's own code
        traced = torch.export.export(encoder, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        ours = {torch.ops.lexlip.max_product.default: plain_product}
        names = {"input_names": [name], "output_names": ["vectors"]}
        torch.onnx.export(traced, dynamo=True, custom_translation_table=ours, **names, verbose=False).save(file)


def _session(file: Path):
    """The vectors of a batch by a written graph."""
    from onnxruntime import InferenceSession

    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {session.get_inputs()[0].name: batch})[0]


def _tokenizer(model: nn.Module, file: Path):
    """Write the tokenizer with its padding; the tokens (B, T) of texts by the file that was written."""
    model.tokenizer.save(file)
    padded = Tokenizer.from_file(str(file))
    padded.enable_padding(length=model.tokenizer.max_tokens, pad_id=model.tokenizer.pad_id, pad_token=PAD)
    padded.save(str(file))
    written = Tokenizer.from_file(str(file))
    return lambda texts: np.array([encoding.ids for encoding in written.encode_batch(texts)], np.int64)
