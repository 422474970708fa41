"""The models of a sweep: checkpoints that flags name, or variants of a profile, trained unless they exist."""

from dataclasses import dataclass
from pathlib import Path

from bench.store import config
from bench.store.commands import run_command
from models.errors import InputError

VARIANTS = {"lexicon": "lexlip", "dense": "clip"}
"""Kind of vectors -> its variant unless flags name others."""


@dataclass(frozen=True)
class Model:
    """A checkpoint, the kind of its vectors, and the name of its variant."""

    kind: str
    variant: str
    folder: Path


def models_of(arguments) -> list[Model]:
    """The models of the kinds that flags ask for, lexicon first.

    Raises InputError for a checkpoint of the other kind, and for two models of one variant; given checkpoints are
    checked before any training.
    """
    asked = [(kind, one) for kind in VARIANTS if kind in arguments.kinds for one in getattr(arguments, kind) or [None]]
    given = {
        folder: _checked(kind, folder, f"--{kind} {folder}", config.run_of(folder)["variant"])
        for kind, folder in asked
        if folder and _is_checkpoint(folder)
    }
    variants = [given[one].variant if one in given else str(one or VARIANTS[kind]) for kind, one in asked]
    if repeated := [variant for variant in variants if variants.count(variant) > 1]:
        raise InputError(f"two models of the variant {repeated[0]!r}; expected one of each variant")
    return [
        given.get(one) or _checked(kind, _trained(arguments, variant), f"--{kind} {variant}", variant)
        for (kind, one), variant in zip(asked, variants, strict=True)
    ]


def corpus_of(checkpoint: Path) -> dict:
    """The corpus that a checkpoint was trained on. Raises InputError when no configuration lies beside it."""
    described = checkpoint.parent / "config.yaml"
    if not described.exists():
        raise InputError(f"{described}: no such file, so the training corpus is unknown; name one with --source")
    return config.read_yaml(described)["data"]["corpus"]


def _is_checkpoint(named: Path) -> bool:
    return named.is_dir() or len(named.parts) > 1


def _checked(kind: str, folder: Path, flag: str, variant: str) -> Model:
    from models import checkpoint

    if (found := checkpoint.kind(folder)) != kind:
        raise InputError(f"{flag}: expected a model of {kind} vectors, got one of {found} vectors")
    return Model(kind, variant, folder)


def _trained(arguments, variant: str) -> Path:
    """The checkpoint of a variant of the profile; trains it unless it exists."""
    flags = ["--home", str(arguments.home), "--profile", arguments.profile, "--variant", variant]
    return Path(run_command("ablations.train", *flags, failed="training failed"))
