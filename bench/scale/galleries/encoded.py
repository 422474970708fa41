"""Galleries that models encode: checkpoints that flags name, or variants of a profile, trained unless they exist."""

from dataclasses import dataclass
from pathlib import Path

from bench.scale.points import Gallery
from bench.scale.preparation import TEST_IMAGES, record_encoding, record_satisfying
from bench.store import cli, config
from bench.store.commands import run_command
from bench.store.records import Point, RecordStore
from bench.store.sizes import sizes_up_to
from models.errors import InputError

VARIANTS = {"lexicon": "lexlip", "dense": "clip"}
"""Kind of vectors -> its variant unless flags name others."""


@dataclass(frozen=True)
class Model:
    """A checkpoint, the kind of its vectors, and the name of its variant."""

    kind: str
    variant: str
    folder: Path


def encoded_galleries(store: RecordStore, arguments, images: int) -> list[Gallery]:
    """The same images encoded by each model: test images first, then distractors. Records the encoding."""
    chosen = models_of(arguments)
    from bench import corpora
    from bench.vectors.encoder import Encoder
    from bench.vectors.gallery import encode_gallery

    encoders = {model.variant: Encoder(model.folder) for model in chosen}
    corpus = corpora.open_corpus(arguments.source or corpus_of(chosen[0].folder))
    queries, split = min(TEST_IMAGES, images), corpora.chosen_split(corpus)
    made = encode_gallery(arguments.home, encoders, corpus, split, queries, images - queries, arguments.force)
    galleries = []
    for model in chosen:
        encoder, encoded = encoders[model.variant], made[model.variant]
        base = Point(
            task="scale",
            corpus=corpus.name,
            split=split,
            direction="text_to_image",
            profile=arguments.profile,
            variant=model.variant,
            kind=model.kind,
            data_id=corpora.data_id(corpus),
            checkpoint_id=encoder.id,
            command=cli.command_line(),
        )
        of_captions, is_true = (encoded.captions, encoded.captions_id), getattr(corpus, "is_true", None)
        known = {"judged": queries, "is_true": is_true}
        galleries.append(Gallery(encoded.images, encoded.images_id, *of_captions, base, **known))
        record_encoding(store, encoder, encoded, base, corpus, arguments.force)
    if hasattr(corpus, "satisfying_counts"):
        record_satisfying(store, corpus, galleries[0].base, sizes_up_to(images), arguments.force)
    return galleries


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
