"""Ids of vectors hash the modules that make them; a rerun that finds its vectors imports no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import config
from bench.vectors import jobs
from bench.vectors.encode import encode
from bench.vectors.encoder import Encoder

ROOT = Path(__file__).resolve().parents[3]
RERUN = """
import sys
from pathlib import Path
from types import SimpleNamespace
from bench.vectors import encoder
from bench.vectors.encode import encode
from tests.bench.conftest import WordCorpus, fingerprint
encoder.loader = lambda source: SimpleNamespace(fingerprint=fingerprint)
encoded = encode(sys.argv[1], encoder.Encoder(Path("dense")), WordCorpus(), "test", 20)
print(encoded.images.count, encoded.images_id, "torch" in sys.modules, "numba" in sys.modules)
"""


def test_finding_vectors_imports_neither_torch_nor_numba(tmp_path, words, word_corpus):
    made = encode(tmp_path, Encoder(Path("dense")), word_corpus, "test", 50)
    assert made.rates.keys() == {"encode_images_per_second", "encode_texts_per_second"}
    assert encode(tmp_path, Encoder(Path("dense")), word_corpus, "test", 50).rates == {}
    again = encode(tmp_path, Encoder(Path("dense")), word_corpus, "test", 20)
    command = [sys.executable, "-c", RERUN, tmp_path]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["20", again.images_id, "False", "False"]


@pytest.mark.parametrize("command", ["encode", "gallery", "synthetic", "pack"])
def test_help_imports_no_heavy_package(command):
    heavy = {"torch", "transformers", "open_clip", "timm", "numba", "ray", "pyarrow.dataset", "matplotlib", "faiss"}
    code = "import sys; from bench.__main__ import main\ntry: main([sys.argv[1], '--help'])\nexcept SystemExit: pass\n"
    code += f"print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, command], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("source", ["open_clip:ViT-B-32/openai", "runs/checkpoint"])
def test_the_code_of_an_id_names_existing_modules(source):
    made_by = Encoder(source)
    assert len(config.code_fingerprint(*made_by.code, *jobs.CODE)) == config.ID_LENGTH
    assert "models" not in made_by.code, "an edit of the ONNX export must not encode everything again"
