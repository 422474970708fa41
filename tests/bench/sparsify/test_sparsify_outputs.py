"""What `lexlip-bench sparsify` hands on: exports, the vectors of an open_clip model, the table of several runs."""

import csv
import json

import numpy as np
import onnxruntime
import pytest
import scipy.sparse as sp
import torch
from PIL import Image

from bench.__main__ import main
from bench.sparsify import exports
from bench.sparsify.compressed import compressed_rankings
from bench.sparsify.report import page, verdict
from bench.vectors.impacts import Impacts
from bench.vectors.read import LexiconVectors, open_vectors
from models import sparsify
from models.files import read_json
from models.pretrained.open_clip_model import open_clip
from models.sparsify import heads
from models.sparsify.config import SparsifyConfig
from tests.bench.sparsify.conftest import CAPTIONS, IMAGES, SHORT, flags

VOCABULARY = ["a", "über", 'c"d', "dog", "e"]


def command(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def small() -> LexiconVectors:
    """300 documents, of which one is empty and one has a weight too small for an impact."""
    random = np.random.default_rng(0)
    rows = random.random((300, len(VOCABULARY))) * (random.random((300, len(VOCABULARY))) < 0.6)
    rows[3], rows[4] = 0, [0.001, 0, 0, 0.5, 0]
    return LexiconVectors.of(rows, [f"dóc-{row}" for row in range(300)], vocabulary=VOCABULARY)


@pytest.mark.parametrize("form", ["jsonl", "ciff"])
def test_exports_of_impacts_are_imported_as_they_are(small, tmp_path, form):
    file = tmp_path / f"documents.{form}"
    exports.export(small, form, file, top_k=2)
    assert command("import", "--lexicon", file, "--out", tmp_path / "back") == 0
    back = open_vectors(tmp_path / "back")
    assert back.ids == small.ids
    expected = Impacts(small, 2, 8).to_scipy().toarray()
    places = [VOCABULARY.index(token) for token in back.vocabulary]
    assert np.array_equal(back.to_scipy().toarray(), expected[:, places])
    assert not np.delete(expected, places, axis=1).any()


def test_an_npz_export_has_all_weights_and_the_names_of_its_columns(small, tmp_path):
    exports.export(small, "npz", tmp_path / "documents.npz", top_k=2)
    assert np.array_equal(sp.load_npz(tmp_path / "documents.npz").toarray(), small.to_scipy().toarray())
    assert (tmp_path / "vocabulary.txt").read_text(encoding="utf-8").splitlines() == VOCABULARY


def test_json_lines_are_those_of_anserini(small, tmp_path):
    exports.export(small, "jsonl", tmp_path / "documents.jsonl", top_k=None)
    lines = [json.loads(line) for line in (tmp_path / "documents.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[3] == {"id": "dóc-3", "contents": "", "vector": {}}
    assert lines[4]["vector"] == {"dog": 50}


@pytest.mark.parametrize("objective", ["d2s", "csr"])
def test_onnx_graphs_give_the_vectors_of_the_encoder(tmp_path, objective):
    from models.export import sparse_head

    config = SparsifyConfig(objective=objective, image_top_k=3, text_top_k=5)
    encoder = heads.create(config, 6, [f"word{v}" for v in range(12)])
    if objective != "csr":
        encoder.start(torch.nn.functional.normalize(torch.randn(12, 6), dim=-1))
    differences = sparse_head.write(encoder.eval(), tmp_path)
    assert set(differences) == {"image", "text"} and max(differences.values()) < 1e-5
    dense = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "text.onnx")
    (vectors,) = session.run(["vectors"], {"dense": dense})
    np.testing.assert_allclose(vectors, encoder.encode_text(dense).numpy(), atol=1e-6)


def test_a_lasso_has_no_graph(made, tmp_path, capsys):
    run = flags(made, tmp_path / "out", "--objective", "splice", "image_top_k=6", "--export", "onnx")
    assert command("sparsify", *run) == 2
    assert "splice has no head to export to onnx" in capsys.readouterr().err


def test_the_command_writes_all_exports_once(made, tmp_path):
    out = tmp_path / "out"
    assert command("sparsify", *flags(made, out, *SHORT, "--export", "jsonl,ciff,npz,onnx")) == 0
    names = {file.name for file in (out / "exports").iterdir()}
    of_sides = {f"{side}s.{form}" for side in heads.SIDES for form in exports.FORMATS}
    assert names == {*of_sides, "onnx", "vocabulary.txt"}
    assert command("import", "--lexicon", out / "exports" / "images.ciff", "--out", tmp_path / "back") == 0
    assert open_vectors(tmp_path / "back").count == IMAGES


def test_new_vectors_are_encoded_with_ids_and_refused_where_they_do_not_fit(made, finished, tmp_path, capsys):
    out = finished
    np.save(tmp_path / "new.npy", np.load(made["images.npy"])[:3].astype(np.float16))
    (tmp_path / "ids.txt").write_text("x\ny\nz\n")
    encode = ["sparsify", "--encode", out / "checkpoint", "--dense", tmp_path / "new.npy"]
    assert command(*encode, "--ids", tmp_path / "ids.txt", "--out", tmp_path / "new", "--export", "jsonl") == 0
    assert open_vectors(tmp_path / "new").ids == ["x", "y", "z"]
    again = [*encode, "--out", tmp_path / "new", "--export", "jsonl"]
    assert command(*again, "--ids", tmp_path / "ids.txt", "--export-top-k", "2") == 0
    exported = (tmp_path / "new" / "exports" / "images.jsonl").read_text().splitlines()
    assert all(len(json.loads(line)["vector"]) == 2 for line in exported), "not those of the first call"
    assert command(*again) == 2 and "vectors of other inputs" in capsys.readouterr().err, "without ids"
    np.save(tmp_path / "new.npy", np.zeros((3, 7), np.float32))
    assert command(*encode, "--out", tmp_path / "other") == 2
    assert "vectors of length 7; the checkpoint expects 24" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert command(*encode[:-1], tmp_path / "new.npy", "--out", tmp_path / "new") == 2
    assert "vectors of other inputs" in capsys.readouterr().err


def test_open_clip_computes_the_dense_vectors_itself(tmp_path, capsys):
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-sparsify-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-sparsify-clip.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-sparsify-clip").state_dict(), tmp_path / "weights.pt")
    rows, random = [("path", "caption", "split")], np.random.default_rng(0)
    for image in range(12):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / f"{image}.png")
        rows += [(f"{image}.png", f"a {word} thing", "test" if image < 4 else "train") for word in ("red", "blue")]
    rows.append(("", "a red text alone", "train"))
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    model = f"open_clip:tiny-sparsify-clip/{tmp_path / 'weights.pt'}"
    run = ["sparsify", "--model", model, "--captions", tmp_path / "captions.csv", "--out", tmp_path / "out", "steps=4"]
    assert command(*run, "image_top_k=3", "batch=4", "--min-count", "1") == 0
    images, texts = (np.load(tmp_path / "out" / "dense" / f"{name}.npy") for name in ("images", "texts"))
    assert images.shape == (12, 8) and texts.shape == (25, 8)
    from models.pretrained import open_clip as pretrained

    loaded = pretrained.load(model)
    square = np.asarray(Image.open(tmp_path / "5.png").resize((32, 32), Image.Resampling.BICUBIC))[None]
    np.testing.assert_allclose(images[5], loaded.encode_image(square).numpy()[0], atol=1e-5)
    np.testing.assert_allclose(texts[24], loaded.encode_text(["a red text alone"]).numpy()[0], atol=1e-5)
    assert open_vectors(tmp_path / "out" / "images").ids[5] == "5.png"

    torch.save(open_clip.create_model("tiny-sparsify-clip").state_dict(), tmp_path / "other.pt")
    other = [part if part != model else f"open_clip:tiny-sparsify-clip/{tmp_path / 'other.pt'}" for part in run]
    assert command(*other, "image_top_k=3", "batch=4", "--min-count", "1") == 2, "the vectors are of another model"
    assert "of another model or other captions" in capsys.readouterr().err

    (tmp_path / "5.png").unlink()
    assert command(*run, "--force") == 2
    assert "5.png: no such image" in capsys.readouterr().err
    assert command(*other) == 2
    assert "5.png: no such image" in capsys.readouterr().err, "a run that failed does not block its folder"


def test_the_table_has_means_over_seeds_and_says_first_what_is_better(made, tmp_path, capsys):
    for name, objective, seed in (("a", "d2s", 0), ("b", "d2s", 1), ("c", "csr", 0)):
        run = flags(made, tmp_path / name, *SHORT, "--objective", objective, "--seed", str(seed))
        assert command("sparsify", *run) == 0
    for name, value in (("a", 0.25), ("b", 0.5), ("c", 0.75)):
        about = read_json(tmp_path / name / "report.json")
        about["measured"]["recall"]["32"]["text_to_image"]["R@1"] = value
        (tmp_path / name / "report.json").write_text(json.dumps(about))
    capsys.readouterr()
    assert command("sparsify", "--table", *(tmp_path / name for name in "abc")) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert "than the best lexicons" in first and "37.5%" in first and ", 32 units (75.0%)" in first
    (row,) = [line for line in lines if line.startswith("| d2s") and "| 32 | 2 |" in line]
    assert "37.5%" in row
    assert [line for line in lines if line.startswith("| d2s") and "| 64 to all | 2 |" in line], "equal rows are one"
    assert command("sparsify", "--table", tmp_path / "none") == 2
    assert "expected the folder of a finished run" in capsys.readouterr().err


def test_the_verdict_names_compressed_vectors_that_are_better():
    row = lambda value: {"text_to_image": {"R@1": value}}  # noqa: E731
    recall = {"dense": row(0.2), "32": row(0.15), "PQ, 64 bytes": row(0.18), "RaBitQ, 72 bytes": row(0.1)}
    line = verdict({"recall": recall})
    assert line.startswith("**Compressed dense vectors reach more R@1 than the lexicons: PQ, 64 bytes: 18.0%.**")
    assert verdict({"recall": recall | {"PQ, 64 bytes": row(0.1)}}).startswith("With 32 lexicons an image")


def test_captions_cannot_write_markdown_into_the_page(finished):
    about = read_json(finished / "report.json")
    about["measured"]["shown"][0] |= {"captions": ["<b>*bold*</b> [x](y)"], "lexicons": [["#a|b", 0.5, 1]]}
    made_page = page(about)
    assert "&lt;b&gt;\\*bold\\*&lt;/b&gt; \\[x\\](y)" in made_page and "**\\#a\\|b** 0.50" in made_page


def test_codes_as_large_as_the_vectors_find_nearly_what_the_vectors_find():
    random = np.random.default_rng(0)
    train, documents = random.standard_normal((400, 16)), random.standard_normal((50, 16))
    queries = documents[:20] + 0.05 * random.standard_normal((20, 16))
    rankings = compressed_rankings(train, documents, queries, 16, 5)
    assert list(rankings) == ["PQ, 8 bytes", "RaBitQ, 10 bytes"]
    assert (rankings["PQ, 8 bytes"][:, 0] == np.arange(20)).mean() > 0.9
    assert rankings["RaBitQ, 10 bytes"].shape == (20, 5)
    odd = compressed_rankings(train[:9, :15], documents[:, :15], queries[:, :15], 3, 5)
    assert list(odd) == ["PQ, 3 bytes", "RaBitQ, 10 bytes"]


def test_python_in_five_lines(made, finished):
    model = sparsify.load(finished / "checkpoint")
    weights = model.encode_text(np.load(made["texts.npy"])[:1])
    strongest = [model.vocabulary[lexicon] for lexicon in weights[0].topk(3).indices]
    assert len(strongest) == 3 and weights.shape == (1, model.dimension) and CAPTIONS == 2
