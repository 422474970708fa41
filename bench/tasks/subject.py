"""Where the records of a model's measurements on a corpus begin alike."""

from bench.store import cli
from bench.store.records import Point
from bench.vectors.encode import Encoder


def begun(
    task: str,
    encoder: Encoder,
    corpus,
    split: str,
    images: int | None,
    *,
    variant: str = "",
    seed: int | None = None,
    profile: str = "",
    config_id: str = "",
    command: str = "",
) -> Point:
    """The point of a task on images 0..`images` of a split, without what only the task knows. Does not load the model.

    corpus: whatever has a name and a fingerprint. command: this process's own unless given.
    """
    return Point(
        task=task,
        corpus=corpus.name,
        split=split,
        images=images,
        profile=profile,
        variant=variant,
        seed=seed,
        config_id=config_id,
        data_id=corpus.fingerprint,
        checkpoint_id=encoder.id,
        command=command or cli.command_line(),
    )
