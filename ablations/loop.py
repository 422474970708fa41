"""The training loop: one for every model and phase; the objective defines what is minimised.

Notable choices
- All randomness of a step is a function of (seed, step). A run killed with `kill -9` resumes from its last training
  state and ends with the same weights as an undisturbed one.
- Under torchrun each process takes its slice of every batch; weights and losses do not depend on the number of
  processes, up to rounding. Only the first process validates and writes. A run resumes under any number of
  processes.
- The checkpoint is chosen on val by the mean R@1 of both directions; test is never seen here.
"""

import contextlib
import hashlib
import logging
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ablations import start, torchrun
from ablations.augment import batch_of_step
from ablations.cache.states import with_states
from ablations.config import RunConfig, TrainConfig
from ablations.data import TrainingData
from ablations.step import learning_rate, optimiser, take_step
from ablations.validate import ValidationSet, validate
from bench.store import cli
from bench.store.machine import OtherWork, machine
from models import checkpoint
from models.distributed import rank, world
from models.errors import InputError
from models.files import atomic_folder, sha256, write_json
from models.lexicon.head import set_backend
from models.lexicon.max_linear import resolve_backend
from models.objective import Objective

log = logging.getLogger(__name__)

COST = ("train_seconds", "train_cpu_seconds", "other_core_seconds")
"""Of all steps: wall time, CPU time of all processes of the run, CPU time of other work meanwhile."""


@dataclass
class Position:
    """The plain part of a training state; tensors of the objective and the optimiser are saved beside it.

    `sums` are of the values of `counted` steps since the last validation.
    """

    step: int = 0
    phase: int = -1
    best: float = -1.0
    curve: list[dict] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COST, 0.0))
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    counted: int = 0


def train_loop(folder: Path, data: TrainingData, run: RunConfig, seed: int, precision: str, label: str) -> None:
    """Trains a model, or resumes it, and writes `best/` and `summary.json` to the run's folder.

    Raises:
        InputError: a broken training state, a loss that is not finite, initial weights that do not fit.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    train, device, first = run.train, "cuda" if torch.cuda.is_available() else "cpu", torchrun.is_first()
    held = ValidationSet.of(run.data) if first else None
    torch.manual_seed(seed)
    model = checkpoint.create(run.model, data.tokenizer).to(device)
    start.load(model, run)
    if model.kind == "lexicon":
        model.idf_V.copy_(torch.from_numpy(data.idf()))
    with torchrun.first_then_others():
        data, held = with_states(folder.parents[1], model, run, data, held)
    objective = checkpoint.objective(model).to(device).train()
    schedule, adam, at = train.schedule(), None, Position()
    steps = schedule[-1][2]
    if (saved := load_state(folder, device)) is not None:
        objective_state, optimiser_state = saved.pop("objective"), saved.pop("optimiser")
        at = Position(**saved)
        adam = _begin(objective, schedule[at.phase][0].objective, device, train)
        objective.load_state_dict(objective_state)
        adam.load_state_dict(optimiser_state)
        log.info("%s: resumes at step %d", label, at.step)
    with contextlib.ExitStack() as open_:
        if first:
            board = open_.enter_context(SummaryWriter(folder / "tensorboard", purge_step=at.step))
            pairs = {"total": train.pairs_before(steps), "initial": train.pairs_before(at.step)}
            bar = open_.enter_context(cli.progress(**pairs, desc=label, unit="pair"))
        while at.step < steps:
            if at.phase < 0 or at.step == schedule[at.phase][2]:
                at.phase += 1
                torch.manual_seed(hash_seed(seed, at.phase))
                adam = _begin(objective, schedule[at.phase][0].objective, device, train)
            phase, _, phase_end = schedule[at.phase]
            rate = learning_rate(at.step, train)
            with OtherWork() as work:
                generator = torch.Generator().manual_seed(hash_seed(seed, at.step, "masks"))
                batch = batch_of_step(data, train, phase, seed, at.step, rank(), world(), device)
                objective.progress = at.step / steps
                values = take_step(objective, batch, generator, adam, rate, getattr(torch, precision), train)
            _count(at, work, values)
            if first:
                bar.update(train.batch_of(phase))
            if at.step % train.validate_every == 0 or at.step == phase_end:
                means = _means(at)
                if not all(map(math.isfinite, means.values())):
                    raise InputError(
                        f"{label}: the loss is not finite by step {at.step}; "
                        f"lower the learning rate of its phase (was {phase.lr:g})"
                    )
                if first:
                    row = {"lr": rate, "train": means, "val": validate(model, held)}
                    at.curve.append({"step": at.step, "seconds": at.cost["train_seconds"], **row})
                    _show(at, steps, board, bar)
                    if (score := mean_recall(at.curve[-1])) > at.best:
                        at.best = score
                        checkpoint.save(model, folder / "best")
                torchrun.barrier()
            if first and at.step % train.checkpoint_every == 0 and at.step < steps:
                save_state(folder, {**vars(at), "objective": objective.state_dict(), "optimiser": adam.state_dict()})
    if first:
        write_json(folder / "summary.json", _summary(at, model, train, precision, device), seal=True)
    torchrun.barrier()


def mean_recall(row: dict) -> float:
    """The mean R@1 of both directions on val, by which a row of the learning curve is chosen."""
    return (row["val"]["text_to_image/recall@1"] + row["val"]["image_to_text/recall@1"]) / 2


def hash_seed(*parts) -> int:
    """A seed below 2^63 for a tuple of plain values, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def _begin(objective: Objective, phase: str, device: str, train: TrainConfig) -> torch.optim.AdamW:
    """Prepares the objective for a phase; returns the phase's optimiser."""
    objective.begin(phase)
    objective.to(device)
    set_backend(objective, train.lexicon_head)
    if train.gradient_checkpointing:
        objective.recompute_activations()
    if train.compile:
        objective.compile_towers()
    return optimiser(objective, train)


def _count(at: Position, work: OtherWork, values: dict[str, torch.Tensor]) -> None:
    """Adds a step that was taken: its cost and its values."""
    own, others_on_machine = torchrun.cpu_seconds(work.own)
    spent = work.wall, own, max(work.cores * work.wall - others_on_machine, 0.0)
    at.cost = {name: at.cost[name] + seconds for name, seconds in zip(COST, spent, strict=True)}
    at.step += 1
    at.counted += 1
    for name, value in values.items():
        at.sums[name] = at.sums.get(name, 0.0) + value


def _means(at: Position) -> dict[str, float]:
    """The means of the values since the last validation, which are then forgotten."""
    means = {name: float(total) / at.counted for name, total in at.sums.items()}
    at.sums, at.counted = {}, 0
    return means


def _show(at: Position, steps: int, board, bar) -> None:
    """Writes the newest row of the learning curve to TensorBoard and to the progress bar."""
    row = at.curve[-1]
    for part, values in (("train", {**row["train"], "lr": row["lr"]}), ("val", row["val"])):
        for name, value in values.items():
            board.add_scalar(f"{part}/{name}", value, at.step)
    loss, recall = f"{row['train']['loss']:.3f}", f"{mean_recall(row):.3f}"
    bar.set_postfix(**{"step": f"{at.step}/{steps}", "loss": loss, "val R@1": recall})


def _summary(at: Position, model: torch.nn.Module, train: TrainConfig, precision: str, device: str) -> dict:
    chosen = max(at.curve, key=lambda row: (mean_recall(row), -row["step"]))
    head = resolve_backend(train.lexicon_head, torch.device(device)) if model.kind == "lexicon" else ""
    return {
        "steps": at.step,
        "chosen_step": chosen["step"],
        **at.cost,
        "train_samples": train.pairs_before(at.step),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "precision": precision,
        "lexicon_head": head,
        "processes": world(),
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "curve": at.curve,
    }


# --- training states: one folder `state-<step>` each, of tensors and plain values, loaded with `weights_only=True` ---

STATE, SUM = "state.pt", "sha256"


def save_state(run: Path, state: dict) -> None:
    """Writes the state of step `state["step"]` to the run's folder, then removes older ones."""
    with atomic_folder(run / f"state-{state['step']:08d}") as part:
        torch.save(state, part / STATE)
        (part / SUM).write_text(sha256(part / STATE))
    for older in sorted(run.glob("state-*"))[:-1]:
        shutil.rmtree(older)


def load_state(run: Path, device: str) -> dict | None:
    """The newest state of a run, on `device`, or None. Raises InputError if it is broken."""
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
