"""Exports a checkpoint to ONNX: an image encoder, a text encoder and the tokenizer, for runtimes without torch.

    image.onnx       images: uint8 (batch, P, P, 3)          -> vectors: float32 (batch, V or D), L2-normalised
    text.onnx        tokens: int64 (batch, T), padded to T   -> vectors: the same
    tokenizer.json   texts to tokens, cut and padded to T

Notable choices
- The graph normalises the pixels, so its input is the raw image.
- The operator of the lexicon head (`models.lexicon.max_linear`) becomes a plain product and a max over tokens. A batch
  then needs its (B, L, V) logits in memory: 24 MB per image with 197 tokens and 30,522 lexicons.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from models.errors import require
from models.export.common import in_batches, largest_difference, probe_images, probe_texts
from models.lexicon import max_linear  # noqa: F401  (registers the operator that is translated)
from models.tokenizer import PAD

IMAGE, TEXT, TOKENIZER = "image.onnx", "text.onnx", "tokenizer.json"


class ImageEncoder(nn.Module):
    """The graph of `encode_image`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.image_vectors(images)


class TextEncoder(nn.Module):
    """The graph of `encode_text` from tokens on; common padding is kept, since trimming depends on the input."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.model.kind == "lexicon":
            return self.model.text_vectors(tokens)
        return F.normalize(self.model.clip.encode_text(tokens).float(), dim=-1)


def write(model: nn.Module, folder: Path) -> dict:
    """Writes the three files of a model, in eval mode on the CPU, to a folder, and checks them.

    Returns shapes of inputs and outputs, and the largest differences from the model on the probes.

    Raises AbsentError for a missing package, InputError for an export that differs (`models.export.common`).
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "export")
    images, tokenize = probe_images(model), _write_tokenizer(model, folder / TOKENIZER)
    tokens_BL = torch.zeros(2, model.tokenizer.max_tokens, dtype=torch.int64)
    with torch.no_grad():
        write_graph(ImageEncoder(model).eval(), "images", torch.from_numpy(images[:2]), folder / IMAGE)
        write_graph(TextEncoder(model).eval(), "tokens", tokens_BL, folder / TEXT)
    texts, encode_text, encode_image = probe_texts(model), session(folder / TEXT), session(folder / IMAGE)
    text_BX = in_batches(lambda part: encode_text(tokenize(part)), texts)
    vectors = f"float32 (batch, {model.dimension})"
    return {
        "image": {"images": f"uint8 (batch, {model.pixels}, {model.pixels}, 3)", "vectors": vectors},
        "text": {"tokens": f"int64 (batch, {model.tokenizer.max_tokens})", "vectors": vectors},
        "largest_difference": {
            "image": largest_difference(IMAGE, in_batches(encode_image, images), model.encode_image(images)),
            "text": largest_difference(TEXT, text_BX, model.encode_text(texts)),
        },
    }


def write_graph(encoder: nn.Module, name: str, example: torch.Tensor, file: Path) -> None:
    """Writes the graph of a module with one input, called `name`, and one output; any batch size."""
    from onnxscript import INT16
    from onnxscript import opset18 as op

    def plain_product(hidden_BLD, weight_VD):
        """`lexlip::max_product` in ONNX operators: the highest product of each lexicon, and its token."""
        products_BLV = op.MatMul(hidden_BLD, op.Transpose(weight_VD, perm=[1, 0]))
        highest_BV = op.ReduceMax(products_BLV, op.Constant(value_ints=[1]), keepdims=0)
        return highest_BV, op.Cast(op.ArgMax(products_BLV, axis=1, keepdims=0), to=INT16.dtype)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about torch's own code
        traced = torch.export.export(encoder, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        ours = {torch.ops.lexlip.max_product.default: plain_product}
        names = {"input_names": [name], "output_names": ["vectors"]}
        torch.onnx.export(traced, dynamo=True, custom_translation_table=ours, **names, verbose=False).save(file)


def session(file: Path):
    """A function from a batch to its vectors, computed by a written graph."""
    from onnxruntime import InferenceSession

    opened = InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda batch: opened.run(None, {opened.get_inputs()[0].name: batch})[0]


def _write_tokenizer(model: nn.Module, file: Path):
    """Writes the tokenizer with its padding; a function from texts to tokens (B, T), computed by the written file."""
    model.tokenizer.save(file)
    padded = Tokenizer.from_file(str(file))
    padded.enable_padding(length=model.tokenizer.max_tokens, pad_id=model.tokenizer.pad_id, pad_token=PAD)
    padded.save(str(file))
    written = Tokenizer.from_file(str(file))
    return lambda texts: np.array([encoding.ids for encoding in written.encode_batch(texts)], np.int64)
