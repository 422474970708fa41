"""GPU and number formats of this machine, found without importing torch where the operating system can tell."""

import sys
from pathlib import Path

from bench.store.machine import cpu_flags

DEVICE_FILES = ("nvidia[0-9]*", "nvhost-gpu", "dxg", "kfd")
"""Device files in `/dev` of the GPU drivers that torch's "cuda" stands on: NVIDIA, Jetson, WSL, AMD."""


def has_gpu() -> bool:
    """Whether torch finds a GPU. Imports torch only if a driver has made a device file, or the system is not Linux."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(pattern)) for pattern in DEVICE_FILES):
        return False
    import torch

    return torch.cuda.is_available()


def choose_precision(setting: str) -> str:
    """The dtype to train in: `setting`, or for "auto" bfloat16 if the hardware computes in it, else float32."""
    if setting != "auto":
        return setting
    return "bfloat16" if _computes_in_bfloat16() else "float32"


def _computes_in_bfloat16() -> bool:
    if has_gpu():
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    if flags := cpu_flags():
        return "avx512_bf16" in flags
    import torch

    return torch.cpu._is_avx512_bf16_supported()
