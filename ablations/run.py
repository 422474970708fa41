"""The main job: train every variant, measure each, write records and the report page.

`python -m ablations.run --profile quick` trains `lexlip`, its ablations and the CLIP baseline on the same data, then measures one after the
other; what is finished is not made again, and what was killed goes on where it stood. A variant that fails is recorded as failed,
the others go on, and the exit code says so.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import torch

from ablations import config as configs
from ablations.config import RunConfig
from ablations.parallel import FAILURES, Job, at_once, trained
from ablations.train import Trained, add_training_flags, is_finished, train
from bench.corpora import open_corpus
from bench.store import cli
from bench.store.commands import build_report
from bench.store.config import as_tree, fingerprint
from bench.store.records import Point, RecordStore
from bench.tasks.disagreement import look_inside
from bench.tasks.recall import measure_recall
from bench.tasks.sparsity import measure_diagnostics
from bench.tasks.zero_shot import measure_zero_shot
from bench.vectors.encode import Encoder, encode
from models.errors import InputError

log = logging.getLogger(__name__)
COMPARED = ("lexlip", "clip")  # the variants that the report looks inside


def measure(
    home: Path,
    trained: Trained,
    profile: str,
    variant: str,
    seed: int,
    run: RunConfig,
    command: str,
    force: bool = False,
) -> None:
    """Recall, index, speed, hard negatives and pictures of a trained variant on test; recall alone on the other slices; zero-shot
    classification and what its lexicons are like, on test again, with the vectors that are there."""
    store, measured, corpus = RecordStore(home), run.measure, open_corpus(run.data.corpus)
    named = {"variant": variant, "seed": seed, "profile": profile, "command": command, "force": force}
    common = {"top_k": measured.top_k, "bits": measured.bits, "config_id": trained.run_id, **named}
    measure_recall(
        store, home, trained.checkpoint, run.data.corpus, "test", measured.images, examples=measured.examples, **common
    )
    for split in measured.slices:
        if split in corpus.splits:
            measure_recall(
                store,
                home,
                trained.checkpoint,
                run.data.corpus,
                split,
                measured.images,
                examples=0,
                timing=False,
                hard_negatives=False,
                **common,
            )
    encoder = Encoder(trained.checkpoint)
    encoded = encode(home, encoder, corpus, "test", measured.images)  # by measure_recall
    if measured.zero_shot and hasattr(corpus, "facts"):
        measure_zero_shot(store, encoder, corpus, "test", measured.zero_shot, known=encoded.images, **named)
    if encoded.kind == "lexicon":
        of_run = {"config_id": trained.run_id, **named}
        measure_diagnostics(store, home, encoder, corpus, "test", measured.images, encoded=encoded, **of_run)


def one(job: Job, outcome: Trained | Exception) -> str | None:
    """Measure one trained variant; what went wrong, or None. A failure is a record too, until the same run ends well."""
    started = time.perf_counter()
    home, profile, variant, seed, run, command, force = job
    point = Point(
        task="training",
        corpus=str(run.data.corpus.get("name", "")),
        split="train",
        images=run.data.train_images,
        profile=profile,
        variant=variant,
        seed=seed,
        config_id=fingerprint(as_tree(run)),
        command=command,
    )
    try:
        if isinstance(outcome, Exception):
            raise outcome
        measure(home, outcome, profile, variant, seed, run, command, force)
    except FAILURES as error:
        if not isinstance(error, InputError):
            log.exception("%s, seed %d", variant, seed)
        note = str(error) or type(error).__name__
        status = "out_of_memory" if isinstance(error, MemoryError | torch.OutOfMemoryError) else "failed"
        RecordStore(home).write(point, {}, status=status, note=note, seconds=time.perf_counter() - started)
        return note
    RecordStore(home).remove(point)
    return None


def inside(
    home: Path, checkpoints: dict[tuple[str, int], Path], seed: int, run: RunConfig | None, force: bool = False
) -> str | None:
    """What the two compared variants of a seed put first where they disagree, and heat maps, once both were measured; what went wrong, or None."""
    folders = [checkpoints.get((variant, seed)) for variant in COMPARED]
    if not all(folders):
        return None
    measured = run.measure
    of_points = {"top_k": measured.top_k, "bits": measured.bits, "force": force}
    try:
        look_inside(RecordStore(home), home, folders, run.data.corpus, "test", measured.images, **of_points)
    except FAILURES as error:
        return str(error) or type(error).__name__
    return None


def main(arguments) -> None:
    """Refuses bad input before anything is computed; then trains, measures and reports."""
    if torch.distributed.is_torchelastic_launched():
        raise InputError(
            "torchrun starts the trainer, python -m ablations.train; this command then finds what it trained"
        )
    sets = {"core": configs.CORE, "all": configs.names("variants")}
    variants = sets.get(arguments.variants) or arguments.variants.split(",")
    runs = {variant: configs.resolve(arguments.profile, variant, arguments.overrides) for variant in variants}
    for run in runs.values():
        open_corpus(run.data.corpus)
    jobs = []
    for seed in arguments.seeds:
        for variant, run in runs.items():
            command = f"python -m ablations.run --profile {arguments.profile} --variants {variant} --seeds {seed}"
            command = " ".join([command, *arguments.overrides])
            jobs.append(Job(arguments.home, arguments.profile, variant, seed, run, command, arguments.force))
    failed, checkpoints, problems = {}, {}, []
    number = min(arguments.at_once or at_once(len(jobs)), len(jobs))
    for job, outcome in zip(jobs, trained(jobs, number, train, _finished), strict=True):
        if problem := one(job, outcome):
            failed[f"{job.variant} (seed {job.seed})"] = problem
            log.warning("%s, seed %d: failed: %s", job.variant, job.seed, problem)
        else:
            checkpoints[job.variant, job.seed] = outcome.checkpoint
    for seed in arguments.seeds:
        if problem := inside(arguments.home, checkpoints, seed, runs.get(COMPARED[0]), arguments.force):
            problems.append(f"looking inside {' and '.join(COMPARED)} (seed {seed}) failed: {problem}")
    build_report(arguments.home, arguments.profile)
    if failed:
        each = "; ".join(f"{name}: {why}" for name, why in failed.items())
        problems.insert(0, f"{len(failed)} of {len(jobs)} runs failed, the others are reported: {each}")
    if problems:
        raise InputError("; ".join(problems))


def _finished(job: Job) -> bool:
    return not job.force and is_finished(job.home, job.seed, job.run)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of trainings, at least 1")
    return int(text)


def _seeds(text: str) -> list[int]:
    return [int(seed) for seed in text.split(",")]


def parser():
    flags = cli.parser(
        "Train every variant and the CLIP baseline, measure each, write records and the report page.", writes=True
    )
    add_training_flags(flags)
    known = f"core: {', '.join(configs.CORE)}; all: {', '.join(configs.names('variants'))}"
    flags.add_argument("--variants", default="core", help=f"separated by commas, or core, or all. {known}")
    flags.add_argument(
        "--at-once", type=_number, default=None, metavar="N",
        help="trainings side by side, each on its share of the cores; unless given, one per core with 4 GiB of memory, and one with a GPU",
    )  # fmt: skip
    flags.add_argument("--seeds", type=_seeds, default=[0], metavar="0,1,2", help="seeds, separated by commas")
    return flags


if __name__ == "__main__":
    sys.exit(cli.run(main, parser()))
