"""Exports against the torch model: ONNX by onnxruntime and tokenizers, SparseEncoder by sentence-transformers."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer

from models.config import HeadConfig
from models.errors import InputError
from models.export import common as export
from models.export import onnx as export_onnx
from models.export import sparse_encoder as export_sparse_encoder

TEXTS = [
    "a red apple",
    "",
    "zebra? Dolphin!",
    "a blue guitar on the grass under the clouds near a mountain under the clouds",
]


@pytest.fixture(scope="module")
def model(make_model):
    return with_biases(make_model())


def with_biases(model):
    """Random biases, so that a lost one changes the vectors."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name:
                parameter.normal_(std=0.3, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def as_onnx(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    return folder, export_onnx.write(model, folder)


def test_images_by_onnxruntime(as_onnx, model, images):
    folder, about = as_onnx
    session = onnxruntime.InferenceSession(folder / "image.onnx")
    for size in (1, 3, 8):
        (vectors,) = session.run(["vectors"], {"images": images[:size]})
        np.testing.assert_allclose(vectors, model.encode_image(images[:size]), atol=1e-6)
    assert about["image"] == {
        "images": "uint8 (batch, 16, 16, 3)",
        "vectors": f"float32 (batch, {len(model.vocabulary)})",
    }
    assert 0 <= about["largest_difference"]["image"] < 1e-6


def test_texts_by_onnxruntime(as_onnx, model, captions):
    folder, about = as_onnx
    session, tokenizer = (
        onnxruntime.InferenceSession(folder / "text.onnx"),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    for texts in (TEXTS, TEXTS[:1], captions[:9]):
        tokens = np.array([encoding.ids for encoding in tokenizer.encode_batch(texts)], np.int64)
        (vectors,) = session.run(["vectors"], {"tokens": tokens})
        np.testing.assert_allclose(vectors, model.encode_text(texts), atol=1e-6)
    assert about["text"]["tokens"] == "int64 (batch, 14)"


def test_the_graphs_use_onnx_operators_only(as_onnx):
    for name in ("image.onnx", "text.onnx"):
        graph = onnx.load(as_onnx[0] / name)
        onnx.checker.check_model(graph, full_check=True)
        assert {node.domain for node in graph.graph.node} == {""} and not graph.functions
        assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param, "the batch size is dynamic"


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_texts_by_a_sparse_encoder(pooling, model, make_model, captions, tmp_path, capsys):
    from sentence_transformers import SparseEncoder

    model = model if pooling == "max" else with_biases(make_model(head=HeadConfig(pooling="sum")))
    about = export_sparse_encoder.write(model, tmp_path)
    assert capsys.readouterr() == ("", ""), "no progress bars"
    encoder = SparseEncoder(str(tmp_path), device="cpu", local_files_only=True)
    for texts in (TEXTS, captions[:5]):
        found = encoder.encode_query(texts)
        assert found.is_sparse
        np.testing.assert_allclose(found.to_dense(), model.encode_text(texts), atol=1e-6)
        assert torch.equal(encoder.encode_document(texts).to_dense(), found.to_dense())
    assert [word for word, _ in encoder.decode(encoder.encode_query("a red apple"), top_k=3)] == [
        model.vocabulary[v] for v in model.encode_text(["a red apple"])[0].argsort(descending=True)[:3]
    ]
    assert about["largest_difference"]["text"] < 1e-6
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert all(module["type"].startswith("sentence_transformers.") for module in modules), (
        "none that needs trust_remote_code"
    )


def test_unsupported_models_of_a_sparse_encoder_are_refused(make_model, tmp_path):
    for refused, model in (
        ("pools without .CLS. and .SEP.", make_model(head=HeadConfig(tokens="content"))),
        ("a model of dense vectors", make_model("clip")),
    ):
        with pytest.raises(InputError, match=f"{refused}.*; export it to onnx"):
            export_sparse_encoder.write(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_export_that_differs_is_refused(model, tmp_path, monkeypatch):
    whole = export_sparse_encoder.masked_language_model

    def without_bias(model):
        made = whole(model)
        torch.nn.init.zeros_(made.cls.predictions.bias)
        torch.nn.init.zeros_(made.cls.predictions.decoder.bias)
        return made

    monkeypatch.setattr(export_sparse_encoder, "masked_language_model", without_bias)
    with pytest.raises(InputError, match="text: the export differs from the model by .*; expected at most 1e-05"):
        export_sparse_encoder.write(model, tmp_path)


@pytest.mark.parametrize(
    "found, expected, message",
    [
        ([[1.0, 2e-5]], [[1.0, 0.0]], "differs from the model by 2.0e-05"),
        ([[1.0, np.nan]], [[1.0, 0.0]], "differs from the model by nan"),
        ([[1.0]], [[1.0, 0.0]], r"the export gives shape \(1, 1\), the model \(1, 2\)"),
        ([[0.0, 0.0]], [[0.0, 0.0]], "the model gives zero vectors"),
    ],
)
def test_the_check_of_vectors(found, expected, message):
    with pytest.raises(InputError, match=f"side: .*{message}"):
        export.largest_difference("side", np.array(found), torch.tensor(expected))
    assert export.largest_difference("side", np.array([[0.5, 1e-6]]), torch.tensor([[0.5, 0.0]])) == pytest.approx(1e-6)


def test_the_probes_exceed_the_length_limit_and_differ(model):
    texts, images = export.probe_texts(model), export.probe_images(model)
    lengths = [len(text.split()) for text in texts]
    assert lengths[0] == 1 and lengths[-1] > model.tokenizer.max_tokens
    assert images.shape == (export.PROBES, 16, 16, 3) and images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == export.PROBES
    assert np.ptp(images[0], axis=(0, 1)).max() == 0 and np.ptp(images[-1], axis=(0, 1)).min() > 100


def test_a_missing_package_is_named(model, tmp_path, monkeypatch):
    for module in ("onnx", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, module, None)
    for write, package in ((export_onnx.write, "onnx"), (export_sparse_encoder.write, "sentence-transformers")):
        with pytest.raises(
            InputError, match=f"the package '{package}' is not installed; pip install 'lexlip-bench.export.'"
        ):
            write(model, tmp_path)
