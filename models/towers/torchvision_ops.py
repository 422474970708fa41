"""Makes torchvision importable with a torch build that does not match its compiled operators.

open_clip, timm and parts of transformers import torchvision. With a CPU-only torch, the torchvision wheel of PyPI
cannot load its compiled library, and its import fails with "operator torchvision::nms does not exist", although this
project does not use that operator. The import only needs the schemas of two operators, without kernels.

Trap: if the schemas are declared and the real library is loaded as well, the process aborts. So the library is tried
first.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []


def compiled_library() -> Path | None:
    """The library of compiled operators of the installed torchvision, or None. Does not import torchvision."""
    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("_C*.*"))]
    return next((file for file in files if file.suffix in {".so", ".pyd", ".dylib"}), None)


def make_importable() -> bool:
    """Call before each import of open_clip, timm or torchvision. Returns whether the compiled operators work."""
    if _declared:
        return False
    library = compiled_library()
    try:
        if library is not None:
            torch.ops.load_library(library)
            return True
    except OSError:
        pass  # built for another torch
    declarations = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        declarations.define(schema)
    _declared.append(declarations)
    return False
