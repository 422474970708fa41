"""Training states: what a killed run goes on from. One folder `state-<step>` each, written whole or not at all; the newest counts.

Tensors and plain values only, loaded with `weights_only=True`; a file that is truncated or changed is refused by name.
"""

import shutil
from pathlib import Path

import torch

from models.errors import InputError
from models.files import atomic_folder, sha256

STATE, SUM = "state.pt", "sha256"


def save(run: Path, state: dict) -> None:
    """Write the state of `state["step"]` in a run's folder, then remove older ones."""
    with atomic_folder(run / f"state-{state['step']:08d}") as part:
        torch.save(state, part / STATE)
        (part / SUM).write_text(sha256(part / STATE))
    for older in sorted(run.glob("state-*"))[:-1]:
        shutil.rmtree(older)


def load(run: Path, device: str) -> dict | None:
    """The newest state of a run, on `device`; None when there is none. Raises InputError for a broken one."""
    newest = max(run.glob("state-*"), default=None)
    if newest is None:
        return None
    remedy = f"remove {newest} or use --force to train again"
    try:
        whole = sha256(newest / STATE) == (newest / SUM).read_text()
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: missing from a training state; {remedy}") from None
    if not whole:
        raise InputError(f"{newest / STATE}: truncated or changed since it was written (sha256 differs); {remedy}")
    return torch.load(newest / STATE, weights_only=True, map_location=device)


def remove(run: Path) -> None:
    """Remove the states of a finished run."""
    for left in run.glob("state-*"):
        shutil.rmtree(left)
