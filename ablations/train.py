"""Train one variant: `python -m ablations.train --profile quick --variant lexlip`, or over several GPUs or machines by `torchrun`.

Notable choices
- One loop for every model and phase; what is minimised is the objective's business.
- Each of several processes takes its slice of every batch; weights and losses do not depend on how many there are, but for rounding.
  The first alone validates and writes; the state of a killed run goes on under any number of them.
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

from ablations import card, start
from ablations import config as configs
from ablations import state as state_of
from ablations import torchrun as processes
from ablations.augment import batch_of_step
from ablations.config import RunConfig, TrainConfig
from ablations.data import TrainingData, prepare
from ablations.step import learning_rate, optimiser, take_step
from ablations.validate import ValidationSet, validate
from bench.store import cli
from bench.store.config import as_tree, code_fingerprint, fingerprint
from bench.store.machine import OtherWork, cores, note_of_other_work
from bench.store.records import Point, RecordStore
from models import checkpoint
from models.distributed import rank, world
from models.errors import InputError
from models.files import read_json, write_json
from models.lexicon.head import set_way
from models.lexicon.max_linear import chosen as chosen_way
from models.objective import Objective

log = logging.getLogger(__name__)

COST = (
    "train_seconds",
    "train_cpu_seconds",
    "other_core_seconds",
)  # of all steps: wall, of these processes, of others meanwhile
PARTS = ("train", "step", "processes", "start", "state", "data", "augment", "validate")
CODE = tuple(f"ablations.{part}" for part in PARTS)
"""What decides a run beside `models`: its id changes with them."""


@dataclass(frozen=True)
class Trained:
    """A finished run: its folder, the chosen checkpoint, and what it cost."""

    run_id: str
    folder: Path
    checkpoint: Path
    summary: dict


def identify(home: Path, seed: int, run: RunConfig) -> tuple[TrainingData, RunConfig, torch.dtype, str]:
    """The data of a run, made where it is not there; the run with its vocabulary; what it computes in; and its id, of all that decides its weights."""
    data = prepare(home, run.data, run.model.text, tokenizer=start.tokenizer(run))
    run = configs.with_vocabulary(run, len(data.tokenizer))
    precision = choose_precision(run.train.precision)
    identified = start.identified(run)
    made_from = [as_tree(identified.model), as_tree(identified.train), as_tree(run.data), data.id, seed, str(precision)]
    return data, run, precision, fingerprint([*made_from, code_fingerprint("models", *CODE)])


def is_finished(home: Path, seed: int, run: RunConfig) -> bool:
    """Whether `train` would find it finished. Raises InputError as `train` does."""
    return (Path(home) / "runs" / identify(home, seed, run)[3] / "summary.json").exists()


def train(
    home: Path, profile: str, variant: str, seed: int, run: RunConfig, command: str = "", force: bool = False
) -> Trained:
    """Train a variant, or go on with it, or find it finished. Records are written when it is done.

    Raises:
        InputError: bad configuration or data, a broken training state, a loss that is not finite.
    """
    for size in [run.train.batch_of(phase) for phase, _, _ in run.train.schedule()]:
        if size % world():
            raise InputError(
                f"train.batch: {size} pairs cannot be shared by {world()} processes; expected a multiple of {world()}"
            )
    with processes.first_then_others():
        data, run, precision, run_id = identify(home, seed, run)
    processes.agree("the run id", run_id)
    folder = Path(home) / "runs" / run_id
    if force and processes.is_first():
        shutil.rmtree(folder, ignore_errors=True)
    processes.barrier()
    if (folder / "summary.json").exists():
        log.info("%s (seed %d): finished before, run %s", variant, seed, run_id)
    else:
        if processes.is_first():
            folder.mkdir(parents=True, exist_ok=True)
            described = {"profile": profile, "variant": variant, "seed": seed, "command": command, **as_tree(run)}
            (folder / "config.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
        _loop(folder, data, run, seed, precision, label=f"{variant} seed {seed}")
    summary = read_json(folder / "summary.json", f"remove {folder} to train again")
    if processes.is_first():
        if not (folder / "best" / card.NAME).exists():
            card.write(folder / "best", profile, variant, seed, run, summary, command)
        _record(RecordStore(home), profile, variant, seed, run, data.id, run_id, command, summary)
    return Trained(run_id, folder, folder / "best", summary)


def choose_precision(asked: str) -> torch.dtype:
    """bfloat16 where the hardware computes in it (asked "auto"), else float32."""
    if asked != "auto":
        return getattr(torch, asked)
    fast = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if torch.cuda.is_available()
        else torch.cpu._is_avx512_bf16_supported()
    )
    return torch.bfloat16 if fast else torch.float32


def _begin(objective: Objective, phase: str, device: str, train: TrainConfig) -> torch.optim.AdamW:
    """Enter a phase; its optimiser."""
    objective.begin(phase)
    objective.to(device)
    set_way(objective, train.lexicon_head)
    if train.gradient_checkpointing:
        objective.recompute_activations()
    if train.compile:
        objective.compile_towers()
    return optimiser(objective, train)


def _loop(folder: Path, data: TrainingData, run: RunConfig, seed: int, precision: torch.dtype, label: str) -> None:
    from torch.utils.tensorboard import SummaryWriter  # a second to import, and only who trains needs it

    train, device, first = run.train, "cuda" if torch.cuda.is_available() else "cpu", processes.is_first()
    held = ValidationSet.of(run.data) if first else None
    torch.manual_seed(seed)
    model = checkpoint.create(run.model, data.tokenizer).to(device)
    start.load(model, run)
    objective = checkpoint.objective(model).to(device).train()
    schedule, phase, adam = train.schedule(), -1, None
    steps = schedule[-1][2]
    state = state_of.load(folder, device)
    step, curve, best, cost = 0, [], -1.0, dict.fromkeys(COST, 0.0)
    sums: dict[str, torch.Tensor] = {}
    counted = 0
    if state is not None:
        step, curve, best, cost, phase, sums, counted = (
            state[key] for key in ("step", "curve", "best", "cost", "phase", "sums", "counted")
        )
        adam = _begin(objective, schedule[phase][0].objective, device, train)
        objective.load_state_dict(state["objective"])
        adam.load_state_dict(state["optimiser"])
        log.info("%s: going on at step %d", label, step)
    with contextlib.ExitStack() as told:
        if first:
            board = told.enter_context(SummaryWriter(folder / "tensorboard", purge_step=step))
            seen = {"total": train.pairs_before(steps), "initial": train.pairs_before(step)}
            bar = told.enter_context(cli.progress(**seen, desc=label, unit="pair"))
        while step < steps:
            if phase < 0 or step == schedule[phase][2]:
                phase += 1
                torch.manual_seed(hash_seed(seed, phase))
                adam = _begin(objective, schedule[phase][0].objective, device, train)
            rate = learning_rate(step, train)
            with OtherWork() as work:
                generator = torch.Generator().manual_seed(hash_seed(seed, step, "masks"))
                batch = batch_of_step(data, train, schedule[phase][0], seed, step, rank(), world(), device)
                values = take_step(objective, batch, generator, adam, rate, precision, train)
            own, beside = processes.cpu_seconds(work.own)
            spent = work.wall, own, max(work.cores * work.wall - beside, 0.0)
            cost = {name: cost[name] + seconds for name, seconds in zip(COST, spent, strict=True)}
            step += 1
            counted += 1
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
            if first:
                bar.update(train.batch_of(schedule[phase][0]))

            if step % train.validate_every == 0 or step == schedule[phase][2]:
                means = {name: float(total) / counted for name, total in sums.items()}
                sums, counted = {}, 0
                if not all(value == value and abs(value) != float("inf") for value in means.values()):
                    raise InputError(
                        f"{label}: the loss is not finite by step {step}; lower the learning rate of its phase (was {schedule[phase][0].lr:g})"
                    )
                if first:
                    found = validate(model, held)
                    curve.append(
                        {"step": step, "seconds": cost["train_seconds"], "lr": rate, "train": means, "val": found}
                    )
                    for part, values in (("train", {**means, "lr": rate}), ("val", found)):
                        for name, value in values.items():
                            board.add_scalar(f"{part}/{name}", value, step)
                    to_images, to_texts = found["text_to_image/recall@1"], found["image_to_text/recall@1"]
                    bar.set_postfix(loss=f"{means['loss']:.2f}", val_r1=f"{(to_images + to_texts) / 2:.3f}")
                    log.info(
                        "%s: step %d: loss %.3f, val R@1 %.3f / %.3f", label, step, means["loss"], to_images, to_texts
                    )
                    if (to_images + to_texts) / 2 > best:
                        best = (to_images + to_texts) / 2
                        checkpoint.save(model, folder / "best")
                processes.barrier()
            if first and step % train.checkpoint_every == 0 and step < steps:
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
    if first:
        chosen = max(
            curve,
            key=lambda row: (row["val"]["text_to_image/recall@1"] + row["val"]["image_to_text/recall@1"], -row["step"]),
        )
        summary = {
            "steps": step,
            "chosen_step": chosen["step"],
            **cost,
            "train_samples": train.pairs_before(step),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "precision": str(precision).removeprefix("torch."),
            "lexicon_head": chosen_way(train.lexicon_head, torch.device(device)) if model.kind == "lexicon" else "",
            "processes": world(),
            "threads": torch.get_num_threads(),
            "curve": curve,
        }
        write_json(folder / "summary.json", summary, seal=True)
        state_of.remove(folder)
    processes.barrier()


def hash_seed(*parts) -> int:
    """A seed below 2^63 for a tuple of plain values, the same everywhere."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def _record(
    store: RecordStore,
    profile: str,
    variant: str,
    seed: int,
    run: RunConfig,
    data_id: str,
    run_id: str,
    command: str,
    summary: dict,
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
        cost = {name: summary[name] for name in named}
        left = max(0, cores() - summary["threads"])  # to trainings beside this one, which are not in its way
        loaded = note_of_other_work(max(0.0, summary["other_core_seconds"] / summary["train_seconds"] - left))
        threads = f"{summary['threads']} thread{'s' if summary['threads'] > 1 else ''}"
        head = summary["lexicon_head"] and f"lexicon head {summary['lexicon_head']}"
        several = f"{summary['processes']} processes of {threads}" if summary["processes"] > 1 else threads
        store.write(
            total,
            {**cost, "train_samples_per_second": summary["train_samples"] / summary["train_seconds"]},
            note="; ".join(filter(None, (loaded, f"precision {summary['precision']}", head, several))),
            seconds=summary["train_seconds"],
        )


def add_training_flags(parser) -> None:
    """`--profile`, and dotted overrides such as `train.steps=100`."""
    parser.add_argument(
        "--profile", default="quick", help=f"one of {', '.join(configs.names('profiles'))}, or a YAML file"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="dotted overrides of the configuration, such as train.steps=100",
    )


def main(arguments) -> None:
    with processes.joined():
        run = configs.resolve(arguments.profile, arguments.variant, arguments.overrides)
        trained = train(
            arguments.home,
            arguments.profile,
            arguments.variant,
            arguments.seed,
            run,
            cli.command_line(),
            arguments.force,
        )
        if processes.is_first():
            print(trained.checkpoint)


def parser():
    flags = cli.parser("Train one variant; prints the folder of the checkpoint chosen on val.", writes=True)
    add_training_flags(flags)
    flags.add_argument(
        "--variant", default="lexlip", help=f"one of {', '.join(configs.names('variants'))}, or a YAML file"
    )
    flags.add_argument("--seed", type=int, default=0)
    return flags


if __name__ == "__main__":
    sys.exit(cli.run(main, parser()))
