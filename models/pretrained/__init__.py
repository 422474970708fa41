"""Pre-trained weights: parts of a model (`sources`, `warm_start`), and whole models of open_clip (`open_clip`)."""

from pickle import UnpicklingError

from safetensors import SafetensorError

UNREADABLE = (
    SafetensorError,
    UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)
"""Exceptions of the readers of weights and configurations for files that are broken or of another model."""
