"""Make torchvision importable beside a torch that its compiled operators do not fit.

open_clip, timm and parts of transformers import torchvision. Beside a CPU-only torch the registry's torchvision wheel
cannot load its compiled library, and the import dies with "operator torchvision::nms does not exist" although nothing
here calls that operator. Two schemas without kernels are all the import wants.

Trap: declared while the real library loads as well, the schemas abort the process; so the library is tried first.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[torch.library.Library] = []


def compiled_library() -> Path | None:
    """The compiled operators of the installed torchvision, or None where there are none. Does not import torchvision."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None:
        return None
    return next(
        (
            file
            for folder in spec.submodule_search_locations
            for file in sorted(Path(folder).glob("_C*.*"))
            if file.suffix in {".so", ".pyd", ".dylib"}
        ),
        None,
    )


def make_importable() -> bool:
    """Call before importing open_clip, timm or torchvision. Returns whether the compiled operators work. May be called again."""
    if _kept_alive:
        return False
    library = compiled_library()
    try:
        if library is not None:
            torch.ops.load_library(library)
            return True
    except OSError:
        pass  # built for another torch: declare the schemas below
    declarations = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        declarations.define(schema)
    _kept_alive.append(declarations)
    return False
