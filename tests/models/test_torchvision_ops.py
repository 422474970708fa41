"""torchvision with a torch that matches its compiled operators, and with one that does not.

In a separate process, because declared operators stay declared.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BOTH_SITUATIONS = """
import json
from pathlib import Path
import torch
from models.towers import torchvision_ops

def has_nms():
    return hasattr(torch.ops.torchvision, "nms")

real, seen = torchvision_ops.compiled_library, {}
libraries = sorted((Path(torch.__file__).parent / "lib").iterdir())
loadable = next(file for file in libraries if file.stem in {"libc10", "c10"})
torchvision_ops.compiled_library = lambda: loadable
seen["fits"] = [torchvision_ops.make_importable(), torchvision_ops.make_importable()]
seen["declared where it fits"] = has_nms()
seen["loaded"] = any(Path(path).name == loadable.name for path in torch.ops.loaded_libraries)

torchvision_ops.compiled_library = real
library = real()
try:
    torch.ops.load_library(library)
    seen["real library loads"] = True
except OSError:
    seen["real library loads"] = False
seen["beside this torch"] = [torchvision_ops.make_importable(), torchvision_ops.make_importable()]
seen["nms"] = has_nms()
import torchvision, open_clip, timm
import transformers
transformers.ViTModel, transformers.BertModel
seen["imported"] = [torchvision.__name__, open_clip.__name__, timm.__name__]
seen["after the imports"] = torchvision_ops.make_importable()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen() -> dict:
    done = subprocess.run(
        [sys.executable, "-c", BOTH_SITUATIONS], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.nightly
def test_nothing_is_declared_if_the_compiled_operators_load(seen):
    assert seen["loaded"]
    assert seen["fits"] == [True, True], "calls can be repeated"
    assert not seen["declared where it fits"]


@pytest.mark.nightly
def test_torchvision_imports_without_its_compiled_operators(seen):
    assert seen["imported"] == ["torchvision", "open_clip", "timm"]
    assert seen["nms"]


@pytest.mark.nightly
def test_the_result_is_whether_the_compiled_operators_work(seen):
    works = seen["real library loads"]
    assert seen["beside this torch"] == [works, works]
    assert seen["after the imports"] == works


def test_no_library_without_torchvision(monkeypatch):
    from models.towers import torchvision_ops

    monkeypatch.setattr(torchvision_ops.importlib.util, "find_spec", lambda name: None)
    assert torchvision_ops.compiled_library() is None
