"""The main job: trains every variant, measures each, writes records and the report.

`python -m ablations.run --profile quick` trains `lexlip`, its ablations and the CLIP baseline on the same data,
then measures them one after another. Finished work is reused, and a killed run resumes. A variant that fails is
recorded as failed; the others continue, and the exit code tells of the failure.
"""

if __name__ == "__main__":  # before the imports below, so that Ctrl-C during them ends in one line too
    import sys

    from bench.__main__ import command

    sys.exit(command("ablations", sys.argv[1:], prog="python -m ablations.run"))

import logging
import time
from pathlib import Path

from ablations import config as configs
from ablations import torchrun
from ablations.config import RunConfig
from ablations.parallel import FAILURES, Job, default_parallel, train_all
from ablations.train import Trained, add_training_flags, is_finished, seed_number, train
from bench.corpora import data_id, open_corpus, title_of
from bench.corpora.counts import check_splits
from bench.store import cli
from bench.store.commands import build_report
from bench.store.config import as_tree, fingerprint
from bench.store.records import Point, RecordStore
from bench.tasks.judgements import read as judgements
from models.errors import InputError

log = logging.getLogger(__name__)
COMPARED = ("lexlip", "clip")  # the two variants whose rankings are compared query by query
SPARSIFIERS = tuple(
    f"{name}_{strength}" for name in ("flops", "df_flops", "l1", "top_k") for strength in ("weak", "medium", "strong")
)
VARIANT_SETS = {
    "core": configs.CORE,
    "sparsifiers": ("clip", "lexlip", *SPARSIFIERS),
    "all": tuple(name for name in configs.names("variants") if name not in SPARSIFIERS),
}


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
    """Measures a trained variant: all tasks of `bench.tasks.measure`."""
    from bench.tasks.measure import Plan, measure_variant
    from bench.tasks.retrieval.settings import RecallOptions
    from bench.tasks.subject import Subject

    subject = Subject(trained.checkpoint, variant, seed, profile, trained.run_id, command)
    of_recall = RecallOptions(top_k=run.measure.top_k, bits=run.measure.bits, examples=run.measure.examples)
    plan = Plan(run.measure.images, run.measure.slices, run.measure.zero_shot, of_recall)
    measured = measure_variant(home, subject, run.data.corpus, plan, force)
    print(f"{variant}, seed {seed}: {measured.used}", flush=True)


def measure_or_record_failure(job: Job, outcome: Trained | Exception, data_id: str) -> str | None:
    """Measures a trained variant. On failure, of the training too, writes a failure record and returns the reason.

    The failure record is removed once the same run succeeds. data_id: of the corpus, since a failed training may have
    no training data; it tells the report which of several data sets of one title failed.
    """
    started = time.perf_counter()
    home, profile, variant, seed, run, command, force = job
    point = Point(
        task="training",
        corpus=title_of(run.data.corpus),
        split="train",
        images=run.data.train_images,
        profile=profile,
        variant=variant,
        seed=seed,
        config_id=fingerprint(as_tree(run)),
        data_id=data_id,
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
        out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
        status = "out_of_memory" if out_of_memory else "failed"
        RecordStore(home).write(point, {}, status=status, note=note, seconds=time.perf_counter() - started)
        return note
    RecordStore(home).remove(point)
    return None


def compare_rankings(
    home: Path, checkpoints: dict[tuple[str, int], Path], seed: int, run: RunConfig | None, force: bool = False
) -> str | None:
    """Compares the rankings of the `COMPARED` variants of a seed if both are measured; returns the error message."""
    folders = [checkpoints.get((variant, seed)) for variant in COMPARED]
    if not all(folders):
        return None
    from bench.tasks.disagreement import measure_disagreement
    from bench.tasks.subject import Slice, Subject

    measured = run.measure
    try:
        subjects, slice_ = [Subject(folder) for folder in folders], Slice.open(run.data.corpus, "test", measured.images)
        measure_disagreement(home, subjects, slice_, measured.top_k, measured.bits, force)
    except FAILURES as error:
        return str(error) or type(error).__name__
    return None


def main(arguments) -> None:
    """Checks all input, then trains, measures and reports. Raises InputError after the report if anything failed."""
    if torchrun.launched():
        raise InputError(
            "torchrun cannot start this command: train with torchrun -m ablations.train, "
            "then run this command without torchrun; it finds the trained models"
        )
    variants = VARIANT_SETS.get(arguments.variants) or arguments.variants.split(",")
    runs = {variant: configs.resolve(arguments.profile, variant, arguments.overrides) for variant in variants}
    _check_distinct(runs)
    data_ids = {}
    for run in {fingerprint([as_tree(run.data), as_tree(run.measure)]): run for run in runs.values()}.values():
        corpus = open_corpus(run.data.corpus)
        check_splits(corpus, [*run.trained_on(), *run.measured_on(corpus.splits)])
        judgements.check(corpus, required=False)
        data_ids[fingerprint(run.data.corpus)] = data_id(corpus)
    jobs = []
    for seed in arguments.seeds:
        for variant, run in runs.items():
            command = f"python -m ablations.run --profile {arguments.profile} --variants {variant} --seeds {seed}"
            command = " ".join([command, *arguments.overrides])
            jobs.append(Job(arguments.home, arguments.profile, variant, seed, run, command, arguments.force))
    failed, checkpoints, problems = {}, {}, []
    parallel = min(arguments.parallel or default_parallel(len(jobs)), len(jobs))
    for job, outcome in zip(jobs, train_all(jobs, parallel, train, _is_finished), strict=True):
        if problem := measure_or_record_failure(job, outcome, data_ids[fingerprint(job.run.data.corpus)]):
            failed[f"{job.variant} (seed {job.seed})"] = problem
            log.warning("%s, seed %d: failed: %s", job.variant, job.seed, problem)
        else:
            checkpoints[job.variant, job.seed] = outcome.checkpoint
    for seed in arguments.seeds:
        if problem := compare_rankings(arguments.home, checkpoints, seed, runs.get(COMPARED[0]), arguments.force):
            problems.append(f"the comparison of {' and '.join(COMPARED)} (seed {seed}) failed: {problem}")
    build_report(arguments.home, arguments.profile)
    if failed:
        each = "; ".join(f"{name}: {why}" for name, why in failed.items())
        problems.insert(0, f"{len(failed)} of {len(jobs)} runs failed, the others are reported: {each}")
    if problems:
        raise InputError("; ".join(problems))


def _check_distinct(runs: dict[str, RunConfig]) -> None:
    """Raises InputError for two variants that are one run: two processes would train it at once."""
    first: dict[str, str] = {}
    for variant, run in runs.items():
        same = first.setdefault(fingerprint([as_tree(part) for part in (run.model, run.train, run.data)]), variant)
        if same != variant:
            raise InputError(f"--variants: {same} and {variant} are one configuration here; expected one of them")


def _is_finished(job: Job) -> bool:
    return not job.force and is_finished(job.home, job.seed, job.run)


def _seeds(text: str) -> list[int]:
    return list(dict.fromkeys(seed_number(seed) for seed in text.split(",")))


def parser():
    """The flags of `python -m ablations.run`."""
    flags = cli.parser("Train variants and the CLIP baseline, measure each, write records and the report.", writes=True)
    add_training_flags(flags)
    sets = "; ".join(f"{name}: {', '.join(variants)}" for name, variants in VARIANT_SETS.items())
    flags.add_argument("--variants", default="core", help=f"comma-separated, or the name of a set. {sets}")
    flags.add_argument(
        "--parallel",
        type=cli.positive(int),
        default=None,
        metavar="N",
        help="parallel trainings, each on its share of the cores; None: one per core with 4 GiB of memory, 1 on a GPU",
    )
    flags.add_argument("--seeds", type=_seeds, default=[0], metavar="0,1,2", help="comma-separated seeds")
    return flags
