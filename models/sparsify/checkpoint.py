"""Checkpoints of sparse encoders: a folder with `model.safetensors`, `model.json` and, for words, `tokenizer.json`.

`model.json` is sealed and holds the configuration, the lexicons, what the dense vectors were, and the SHA-256 of the
other files. Nothing is unpickled.
"""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from models.errors import InputError
from models.files import atomic_folder, read_json, sha256, sha256_text, write_json
from models.sparsify.config import SparsifyConfig
from models.tokenizer import LexiconTokenizer

WEIGHTS, ABOUT, TOKENIZER = "model.safetensors", "model.json", "tokenizer.json"
EXPECTED = f"expected a folder with {ABOUT} and {WEIGHTS}, written by lexlip-bench sparsify"
CODE = ("models.lexicon.head", "models.sparsify.checkpoint", "models.sparsify.config", "models.sparsify.heads")
"""Modules that decide the vectors of a checkpoint."""


def save(encoder, folder: Path, made_from: dict, tokenizer: LexiconTokenizer | None = None) -> None:
    """Writes a checkpoint atomically, in place of an existing one. tokenizer: whose tokens the lexicons are."""
    from safetensors.torch import save_model

    with atomic_folder(folder) as partial:
        try:
            save_model(encoder, str(partial / WEIGHTS))
        except SafetensorError as error:  # only the disk can fail here
            raise OSError(f"{folder / WEIGHTS}: {error}") from None
        files = [partial / WEIGHTS]
        if tokenizer is not None:
            files += tokenizer.save(partial / TOKENIZER)
        about = {
            "config": TypeAdapter(SparsifyConfig).dump_python(encoder.config, mode="json"),
            "dense": encoder.dense,
            "vocabulary": encoder.vocabulary,
            "made_from": made_from,
            "sha256": {file.name: sha256(file) for file in files},
        }
        write_json(partial / ABOUT, about, seal=True)


def load(folder: Path):
    """The sparse encoder of a folder, in eval mode. Raises InputError for a missing, broken or foreign file."""
    from safetensors.torch import load_model

    from models.sparsify import heads

    folder = Path(folder)
    about = read_about(folder)
    for name, written in about["sha256"].items():
        if not (folder / name).is_file() or sha256(folder / name) != written:
            raise InputError(f"{folder / name}: missing, truncated or changed since it was written; {EXPECTED}")
    try:
        config = TypeAdapter(SparsifyConfig).validate_python(about["config"])
        encoder = heads.create(config, about["dense"], about["vocabulary"])
        load_model(encoder, str(folder / WEIGHTS))
    except (ValidationError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder}: not a checkpoint this version can read: {str(error).splitlines()[0]}") from None
    return encoder.eval()


def tokenizer(folder: Path, max_tokens: int) -> LexiconTokenizer:
    """The tokenizer whose tokens are the lexicons. Raises InputError if there is none."""
    return LexiconTokenizer.load(Path(folder) / TOKENIZER, max_tokens)


def read_about(folder: Path) -> dict:
    """The content of `model.json`. Raises InputError."""
    about = read_json(Path(folder) / ABOUT, EXPECTED)
    if not isinstance(about, dict) or not {"config", "dense", "vocabulary", "made_from", "sha256"} <= about.keys():
        raise InputError(f"{Path(folder) / ABOUT}: not a description of a sparse encoder; {EXPECTED}")
    return about


def fingerprint(folder: Path) -> str:
    """A 16-digit hash of weights and configuration, from `model.json` alone."""
    about = read_about(folder)
    return sha256_text(f"{about['config']} {sorted(about['sha256'].items())}")[:16]
