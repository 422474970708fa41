"""Train one variant: `python -m ablations.train --profile quick --variant lexlip`.

Notable choices
- One loop for every model and phase; what is minimised is the objective's business.
- All randomness of a step is a function of (seed, step): a run killed with `kill -9` goes on from its last training state
  and ends with the same weights as one that was not.
- The checkpoint is chosen on val, by the mean R@1 of both directions; test is never seen here.
"""

import contextlib
import hashlib
import logging
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel

from ablations import config as configs
from ablations import state as state_of
from ablations.config import RunConfig, TrainConfig
from ablations.data import TrainingData, prepare
from ablations.validate import ValidationSet, validate
from bench import cli
from bench.config import as_tree, code_fingerprint, fingerprint
from bench.environment import OtherWork, note_of_other_work
from bench.files import read_json, write_json
from bench.records import Point, RecordStore
from models import checkpoint
from models.errors import InputError

log = logging.getLogger(__name__)

COST = ("train_seconds", "train_cpu_seconds", "other_core_seconds")  # of all steps: wall, of this process, of others meanwhile
CODE = ("ablations.train", "ablations.state", "ablations.data", "ablations.validate")
"""What decides a run beside `models`: its id changes with them."""


@dataclass(frozen=True)
class Trained:
    """A finished run: its folder, the chosen checkpoint, and what it cost."""

    run_id: str
    folder: Path
    checkpoint: Path
    summary: dict


def train(home: Path, profile: str, variant: str, seed: int, run: RunConfig, command: str = "", force: bool = False) -> Trained:
    """Train a variant, or go on with it, or find it finished. Records are written when it is done.

    Raises:
        InputError: bad configuration or data, a broken training state, a loss that is not finite.
    """
    data = prepare(home, run.data, run.model.text)
    run = configs.with_vocabulary(run, len(data.tokenizer))
    precision = choose_precision(run.train.precision)
    run_id = fingerprint(
        [
            as_tree(run.model),
            as_tree(run.train),
            as_tree(run.data),
            data.id,
            seed,
            str(precision),
            code_fingerprint("models", *CODE),
        ]
    )
    folder = Path(home) / "runs" / run_id
    if force:
        shutil.rmtree(folder, ignore_errors=True)
    if (folder / "summary.json").exists():
        log.info("%s (seed %d): finished before, run %s", variant, seed, run_id)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        described = {"profile": profile, "variant": variant, "seed": seed, "command": command, **as_tree(run)}
        (folder / "config.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
        _loop(folder, data, run, seed, precision, label=f"{variant} seed {seed}")
    summary = read_json(folder / "summary.json")
    _record(RecordStore(home), profile, variant, seed, run, data.id, run_id, command, summary)
    return Trained(run_id, folder, folder / "best", summary)


def choose_precision(asked: str) -> torch.dtype:
    """bfloat16 where the hardware computes in it (asked "auto"), else float32."""
    if asked != "auto":
        return getattr(torch, asked)
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def learning_rate(step: int, train: TrainConfig) -> float:
    """Of a step: within its phase, linear warm-up to the phase's rate, then linear decay to 0."""
    phase, start, end = next(row for row in train.schedule() if step < row[2])
    warmup = max(round(train.warmup * (end - start)), 1)
    return phase.lr * min((step - start + 1) / warmup, (end - step) / max(end - start - warmup, 1))


def optimiser(objective: torch.nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW; no weight decay on biases, LayerNorm and other vectors and scalars."""
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=train.betas)


def _compute(device: str, precision: torch.dtype) -> contextlib.AbstractContextManager:
    """Autocast; and on a CPU plain attention, since the fused kernel's bfloat16 backward is the slower one at these sizes."""
    stack = contextlib.ExitStack()
    stack.enter_context(torch.autocast(device, precision, enabled=precision is not torch.float32))
    if device == "cpu" and precision is not torch.float32:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack


def _step(objective, batch, generator, adam, rate: float, precision: torch.dtype, clip: float) -> dict[str, torch.Tensor]:
    """One step of the optimiser; the losses, their parts and the norm of the gradient before clipping."""
    for group in adam.param_groups:
        group["lr"] = rate
    with _compute(next(objective.parameters()).device.type, precision):
        losses, beside = objective.losses(batch, generator)
        loss = torch.stack(list(losses.values())).sum()
        adam.zero_grad(set_to_none=True)
        loss.backward()
    norm = torch.nn.utils.clip_grad_norm_((p for group in adam.param_groups for p in group["params"]), clip)
    adam.step()
    objective.after_step()
    parts = {f"loss_{part}": value for part, value in losses.items()}
    return {name: value.detach() for name, value in {"loss": loss, **parts, **beside, "gradient_norm": norm}.items()}


def _loop(folder: Path, data: TrainingData, run: RunConfig, seed: int, precision: torch.dtype, label: str) -> None:
    from torch.utils.tensorboard import SummaryWriter  # a second to import, and only who trains needs it

    train, device = run.train, "cuda" if torch.cuda.is_available() else "cpu"
    held = ValidationSet.of(run.data)
    torch.manual_seed(seed)
    model = checkpoint.create(run.model, data.tokenizer).to(device)
    objective = checkpoint.objective(model).to(device).train()
    schedule, phase, adam = train.schedule(), -1, None
    state = state_of.load(folder, device)
    step, curve, best, cost = 0, [], -1.0, dict.fromkeys(COST, 0.0)
    sums: dict[str, torch.Tensor] = {}
    counted = 0
    if state is not None:
        step, curve, best, cost, phase, sums, counted = (
            state[key] for key in ("step", "curve", "best", "cost", "phase", "sums", "counted")
        )
        objective.begin(schedule[phase][0].objective)
        objective.to(device).load_state_dict(state["objective"])
        adam = optimiser(objective, train)
        adam.load_state_dict(state["optimiser"])
        log.info("%s: going on at step %d", label, step)
    with (
        SummaryWriter(folder / "tensorboard", purge_step=step) as board,
        cli.progress(total=train.steps * train.batch, initial=step * train.batch, desc=label, unit="pair") as bar,
    ):
        while step < train.steps:
            if phase < 0 or step == schedule[phase][2]:
                phase += 1
                torch.manual_seed(hash_seed(seed, phase))
                objective.begin(schedule[phase][0].objective)
                objective.to(device)
                adam = optimiser(objective, train)
            rate = learning_rate(step, train)
            with OtherWork() as work:
                generator = torch.Generator().manual_seed(hash_seed(seed, step, "masks"))
                values = _step(objective, data.batch(step, train.batch, seed).to(device), generator, adam, rate, precision, train.clip)
            cost = {name: cost[name] + spent for name, spent in zip(COST, (work.wall, work.own, work.cores * work.wall), strict=True)}
            step += 1
            counted += 1
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
            bar.update(train.batch)

            if step % train.validate_every == 0 or step == schedule[phase][2]:
                means = {name: float(total) / counted for name, total in sums.items()}
                sums, counted = {}, 0
                if not all(value == value and abs(value) != float("inf") for value in means.values()):
                    raise InputError(
                        f"{label}: the loss is not finite by step {step}; lower the learning rate of its phase (was {schedule[phase][0].lr:g})"
                    )
                found = validate(model, held)
                curve.append({"step": step, "seconds": cost["train_seconds"], "lr": rate, "train": means, "val": found})
                for part, values in (("train", {**means, "lr": rate}), ("val", found)):
                    for name, value in values.items():
                        board.add_scalar(f"{part}/{name}", value, step)
                chosen_by = (found["text_to_image/recall@1"] + found["image_to_text/recall@1"]) / 2
                bar.set_postfix(loss=f"{means['loss']:.2f}", val_r1=f"{chosen_by:.3f}")
                log.info(
                    "%s: step %d: loss %.3f, val R@1 %.3f / %.3f",
                    label,
                    step,
                    means["loss"],
                    found["text_to_image/recall@1"],
                    found["image_to_text/recall@1"],
                )
                if chosen_by > best:
                    best = chosen_by
                    checkpoint.save(model, folder / "best")
            if step % train.checkpoint_every == 0 and step < train.steps:
                state_of.save(
                    folder,
                    {
                        "step": step,
                        "phase": phase,
                        "curve": curve,
                        "best": best,
                        "cost": cost,
                        "sums": sums,
                        "counted": counted,
                        "objective": objective.state_dict(),
                        "optimiser": adam.state_dict(),
                    },
                )
    chosen = max(curve, key=lambda row: (row["val"]["text_to_image/recall@1"] + row["val"]["image_to_text/recall@1"], -row["step"]))
    summary = {
        "steps": step,
        "chosen_step": chosen["step"],
        **cost,
        "train_samples": step * train.batch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "precision": str(precision).removeprefix("torch."),
        "curve": curve,
    }
    write_json(folder / "summary.json", summary)
    state_of.remove(folder)


def hash_seed(*parts) -> int:
    """A seed below 2^63 for a tuple of plain values, the same everywhere."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def _record(
    store: RecordStore, profile: str, variant: str, seed: int, run: RunConfig, data_id: str, run_id: str, command: str, summary: dict
) -> None:
    """The learning curve (a point per validation, on train and on val) and the cost of the run, as records."""
    common = {
        "task": "training",
        "corpus": run.data.corpus["name"],
        "profile": profile,
        "variant": variant,
        "seed": seed,
        "kind": {"lexlip": "lexicon", "clip": "dense"}[run.model.kind],
        "config_id": run_id,
        "data_id": data_id,
        "command": command,
    }
    for row in summary["curve"]:
        on_train = Point(**common, split="train", step=row["step"])
        if not store.has(on_train):
            store.write(on_train, {**row["train"], "lr": row["lr"], "train_seconds": row["seconds"]})
        for direction in ("text_to_image", "image_to_text"):
            on_val = Point(**common, split="val", step=row["step"], direction=direction, images=run.data.val_images)
            if not store.has(on_val):
                store.write(
                    on_val,
                    {
                        name.removeprefix(f"{direction}/"): value
                        for name, value in row["val"].items()
                        if "/" not in name or name.startswith(direction)
                    },
                )
    total = Point(**common, split="train", images=run.data.train_images)
    if not store.has(total):
        named = ("steps", "chosen_step", "train_seconds", "train_cpu_seconds", "train_samples", "parameters")
        cost, precision = {name: summary[name] for name in named}, f"precision {summary['precision']}"
        store.write(
            total,
            {**cost, "train_samples_per_second": summary["train_samples"] / summary["train_seconds"]},
            note="; ".join(filter(None, (note_of_other_work(summary["other_core_seconds"] / summary["train_seconds"]), precision))),
            seconds=summary["train_seconds"],
        )


def add_training_flags(parser) -> None:
    """`--profile`, and dotted overrides such as `train.steps=100`."""
    parser.add_argument("--profile", default="quick", help=f"one of {', '.join(configs.names('profiles'))}, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides of the configuration, such as train.steps=100")


def main(arguments) -> None:
    run = configs.resolve(arguments.profile, arguments.variant, arguments.overrides)
    trained = train(arguments.home, arguments.profile, arguments.variant, arguments.seed, run, cli.command_line(), arguments.force)
    print(trained.checkpoint)


if __name__ == "__main__":
    arguments = cli.parser("Train one variant; prints the folder of the checkpoint chosen on val.")
    add_training_flags(arguments)
    arguments.add_argument("--variant", default="lexlip", help=f"one of {', '.join(configs.names('variants'))}, or a YAML file")
    arguments.add_argument("--seed", type=int, default=0)
    sys.exit(cli.run(main, arguments))
