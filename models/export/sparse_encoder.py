"""Exports the text side of a LexLIP checkpoint as a folder of sentence-transformers' `SparseEncoder`.

The text encoder and its lexicon head are BERT with its masked-language-model head, so modules of the library hold them
exactly: `Transformer` (task fill-mask), `SpladePooling` (log(1 + ReLU(logit)), max or sum over tokens) and `Normalize`.
The folder loads without code of this project.

A lexicon that is a part of the vocabulary has vectors of the whole vocabulary, in which other tokens have weight 0.

Not supported
- Pooling without [CLS] and [SEP] (`tokens: content`): SpladePooling pools all attended tokens. Refused.
- A learned minimum of a text's own words (`own_words`), and texts cut to their strongest lexicons (`text_top_k`): no
  module of the library has them. Refused.
- Layers on a frozen text encoder (`text.top`): they are no part of BERT. Refused.
- CLIP checkpoints: their vectors are dense. Refused.
- The image side: SpladePooling needs an attention mask, which image processors do not return; the library's LayerNorm,
  which the lexicon head has between its two linear layers, works on a pooled vector, not on tokens; and convolutional
  stems and EfficientNet are no models of transformers. A module of our own would only load where users trust remote
  code. The folder therefore encodes texts only; `models.export.onnx` exports both sides.
"""

import tempfile
from pathlib import Path

import torch
from torch import nn

from models.errors import InputError, require
from models.export.common import in_batches, largest_difference, probe_texts
from models.pretrained.warm_start import silent
from models.tokenizer import CLS, MASK, PAD, SEP, UNKNOWN
from models.towers.transformer import BertForMaskedLM, PreTrainedTokenizerFast

NO_LEXICON = -1e4
"""Bias of a token that is no lexicon: its logit is never positive."""


def write(model: nn.Module, folder: Path) -> dict:
    """Writes the text side of a LexLIP model, in eval mode on the CPU, to a folder, and checks it.

    Returns the largest difference from the model on the probes.

    Raises AbsentError for a missing package, InputError for an unsupported model and for an export that differs
    (`models.export.common`).
    """
    if model.kind != "lexicon":
        raise InputError(f"a model of {model.kind} vectors: a SparseEncoder holds lexicon vectors; export it to onnx")
    if model.content_only:
        raise InputError(
            "a model that pools without [CLS] and [SEP]: not supported by sentence-transformers; export it to onnx"
        )
    for key in ("own_words", "text_top_k"):
        if getattr(model.config.lexlip.head, key):
            raise InputError(f"a model with {key}: not supported by sentence-transformers; export it to onnx")
    if model.config.text.top:
        raise InputError(
            "a model with layers on a frozen text encoder: not supported by sentence-transformers; export it to onnx"
        )
    require("sentence_transformers", "export", "sentence-transformers")
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    with silent():
        with tempfile.TemporaryDirectory() as bert:
            masked_language_model(model).save_pretrained(bert)
            _tokenizer(model, Path(bert)).save_pretrained(bert)
            transformer = Transformer(bert, transformer_task="fill-mask", max_seq_length=model.tokenizer.max_tokens)
            pooling = SpladePooling(model.text.head.pooling, embedding_dimension=len(model.tokenizer))
            encoder = SparseEncoder(modules=[transformer, pooling, Normalize()], similarity_fn_name="dot", device="cpu")
            encoder.save_pretrained(str(folder), create_model_card=False)
        written = SparseEncoder(str(folder), device="cpu", local_files_only=True)
    texts = probe_texts(model)
    found = in_batches(lambda part: written.encode_query(part, convert_to_sparse_tensor=False), texts)
    expected = torch.zeros(len(texts), len(model.tokenizer))
    expected[:, model.tokenizer.lexicon_V] = model.encode_text(texts)
    return {"largest_difference": {"text": largest_difference("text", found, expected)}}


def masked_language_model(model: nn.Module) -> BertForMaskedLM:
    """BERT of transformers with the weights of the text encoder and its lexicon head."""
    bert = BertForMaskedLM(model.text.encoder.config).eval()
    bert.bert.load_state_dict(model.text.encoder.state_dict())
    head = bert.cls.predictions
    head.transform.load_state_dict(model.text.head.transform.state_dict())
    with torch.no_grad():
        head.decoder.weight.copy_(model.text.encoder.embeddings.word_embeddings.weight)
        for bias_T in (head.decoder.bias, head.bias):
            bias_T.fill_(NO_LEXICON)[torch.from_numpy(model.tokenizer.lexicon_V)] = model.text.head.bias_V
    return bert


def _tokenizer(model: nn.Module, folder: Path) -> PreTrainedTokenizerFast:
    file = folder / "ours.json"
    model.tokenizer.save(file)
    names = {"pad_token": PAD, "unk_token": UNKNOWN, "cls_token": CLS, "sep_token": SEP, "mask_token": MASK}
    return PreTrainedTokenizerFast(tokenizer_file=str(file), model_max_length=model.tokenizer.max_tokens, **names)
