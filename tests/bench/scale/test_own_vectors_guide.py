"""docs/own-vectors.md, typed as it stands, with small models of random weights in place of those of the hub."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.store.records import RecordStore
from bench.vectors.read import open_vectors
from tests.fuzz.targets.imports import CIFF

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "own-vectors.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^(?:`(\S+\.py)`:\n\n)?```(\w*)\n(.*?)^```", GUIDE, re.S | re.M)
SCRIPTS = {name: text for name, language, text in BLOCKS if language == "python"}
COMMANDS = [text for _, language, text in BLOCKS if not language]
SEARCH = next(text for text in COMMANDS if "lexlip-bench scale" in text)
HUB = {'"ViT-B-32", "laion2b_s34b_b79k"': '"tiny-guide", "clip.pt"', '"naver/splade-v3"': '"splade"'}
"""Names of the hub in the scripts -> what stands for them here."""
IMAGES = 12
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "red", "green", "on", "grass", "two", "cats"]

MODELS = """
import json, sys, torch
from models.towers import torchvision_ops
torchvision_ops.make_importable()
import open_clip
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast
open_clip.add_model_config("tiny-guide.json")
torch.manual_seed(0)
torch.save(open_clip.create_model("tiny-guide").state_dict(), "clip.pt")
words = json.loads(sys.argv[1])
open("words.txt", "w").write("\\n".join(words))
size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
config = BertConfig(vocab_size=len(words), initializer_range=1.0, **size)
BertForMaskedLM(config).save_pretrained("bert")
BertTokenizerFast("words.txt").save_pretrained("bert")
bert = Transformer("bert", transformer_task="fill-mask")
SparseEncoder(modules=[bert, SpladePooling("max")], device="cpu").save_pretrained("splade", create_model_card=False)
"""
RUN = """
import runpy, sys
from models.towers import torchvision_ops
torchvision_ops.make_importable()
import open_clip
open_clip.add_model_config("tiny-guide.json")
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""Runs a script where the wheel of torchvision does not fit that of torch, and makes the small architecture known."""


def shell(commands: str, folder: Path) -> subprocess.CompletedProcess:
    start = 'lexlip-bench() { "$PYTHON" -m bench "$@"; }\npython() { "$PYTHON" run.py "$@"; }\n'
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LEXLIP_BENCH_HOME": "runs", "PYTHON": sys.executable}
    environment |= {"HF_HUB_OFFLINE": "1"}
    options = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(["bash", "-ec", start + commands], **options)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The folder in which all that comes before the search was typed."""
    folder = tmp_path_factory.mktemp("guide")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    with (folder / "photos" / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "caption"])
        for i in range(IMAGES):
            Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / "photos" / f"{i}.png")
            table.writerows([f"{i}.png", " ".join(rng.choice(WORDS[5:], 4))] for _ in range(3))
    towers = {"layers": 1, "width": 16}
    vision = {"image_size": 16, "patch_size": 8, "head_width": 8, **towers}
    text = {"context_length": 8, "vocab_size": 49408, "heads": 2, **towers}
    (folder / "tiny-guide.json").write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}))
    vector = lambda name, **weights: json.dumps({"id": name, "vector": weights}) + "\n"  # noqa: E731
    (folder / "documents.jsonl").write_text(vector("d0", b=1.5) + vector("d1", a=2, b=0.5))
    (folder / "queries.jsonl").write_text(vector("q0", a=1, unseen=3) + vector("q1", b=1) + vector("q2", b=2))
    (folder / "graded.txt").write_text("q0 0 d1 2\nq0 0 d0 1\nq1 0 d0 3\nq2 0 d0 0\n")
    (folder / "index.ciff").write_bytes(CIFF)
    (folder / "run.py").write_text(RUN)
    for name, script in SCRIPTS.items():
        for of_hub, small in HUB.items():
            script = script.replace(of_hub, small)
        (folder / name).write_text(script)
    options = {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "check": True, "capture_output": True}
    subprocess.run([sys.executable, "-c", MODELS, json.dumps(WORDS)], **options)
    shell("\n".join(text for text in COMMANDS if text != SEARCH), folder)
    return folder


def test_the_guide_names_what_stands_for_the_hub():
    assert all(any(of_hub in script for script in SCRIPTS.values()) for of_hub in HUB)
    assert set(SCRIPTS) == {"clip.py", "splade.py"} and len(COMMANDS) == 5


def test_the_imports_of_the_guide_work_as_written(imported):
    sides = {kind: [open_vectors(imported / "mine" / kind / part) for part in ("documents", "queries")] for kind in
             ("dense", "lexicon")}  # fmt: skip
    for documents, queries in sides.values():
        assert documents.ids == [f"{i}.png" for i in range(IMAGES)] and queries.count == 2 * IMAGES
        assert queries.groups == [f"{i // 2}.png" for i in range(2 * IMAGES)]
    assert np.allclose(np.linalg.norm(sides["dense"][0].to_numpy(), axis=1), 1, atol=1e-6)
    assert sides["lexicon"][0].vocabulary == sides["lexicon"][1].vocabulary == WORDS
    assert sides["lexicon"][0].to_scipy().nnz
    for corpus in ("words", "index"):
        documents, queries = (open_vectors(imported / corpus / "lexicon" / part) for part in ("documents", "queries"))
        assert documents.ids == ["d0", "d1"] and sorted(documents.vocabulary) == ["a", "b"]
        assert queries.ids == ["q0", "q1"] and queries.qrels == {"q0": {"d1": 2, "d0": 1}, "q1": {"d0": 3}}


@pytest.mark.nightly
def test_the_search_of_the_guide_works_as_written(imported):
    done = shell(SEARCH, imported)
    found = RecordStore(imported / "runs").read()
    assert set(found.variant) == {"mine dense", "mine lexicon"} and set(found.corpus) == {"vectors:mine"}
    assert set(found[found.metric == "recall@1"].kind) == {"dense", "lexicon"}
    assert len(list((imported / "rankings").glob("mine_*.run"))) == 2 and "vectors:mine" in done.stdout
    pages = {path.name: path.read_text(encoding="utf-8") for path in (imported / "runs" / "site").glob("*.html")}
    assert "vectors:mine" in pages["scale.html"] and "mine lexicon" in pages["scale.html"]
    assert not [name for name, page in pages.items() if re.search(r"\(\s*,", page)]  # a label without a name
