"""Export of a checkpoint for other runtimes: `lexlip-bench export --checkpoint FOLDER --format onnx --out FOLDER`.

    onnx                    image encoder, text encoder, tokenizer (`models.export.onnx`)
    sentence-transformers   text side of a lexicon model as a SparseEncoder (`models.export.sparse_encoder`)

The export is compared with the model before the folder gets its name, so an export that differs leaves nothing.
`export.json` in the folder states the checkpoint and the largest difference.
"""

import importlib
from pathlib import Path

from bench.store import cli
from models.errors import InputError
from models.files import atomic_folder, write_json

FORMATS = {"onnx": "models.export.onnx", "sentence-transformers": "models.export.sparse_encoder"}
ABOUT = "export.json"


def export(source: Path, form: str, out: Path, force: bool = False) -> dict:
    """Writes a checkpoint in a format of `FORMATS` to a new folder; returns the content of its `export.json`.

    force: replace an earlier export. Raises InputError for a broken checkpoint, for an existing folder that is not
    an export, and for models that the format does not support.
    """
    from models import checkpoint
    from models.export.common import TOLERANCE

    if out.exists() and not (force and (out / ABOUT).is_file()):
        remedy = "" if force else ", or --force to replace an earlier export"
        raise InputError(f"{out}: exists already; expected a new folder{remedy}")
    model = checkpoint.load(source)
    with atomic_folder(out) as partial:
        about = {
            "format": form,
            "checkpoint": checkpoint.fingerprint(source),
            "kind": model.kind,
            "tolerance": TOLERANCE,
        }
        about |= importlib.import_module(FORMATS[form]).write(model, partial)
        write_json(partial / ABOUT, about)
    return about


# --- lexlip-bench export ---


def main(arguments) -> None:
    """Writes the export and prints the largest difference of each side from the model."""
    about = export(arguments.checkpoint, arguments.format, arguments.out, arguments.force)
    for side, difference in about["largest_difference"].items():
        print(f"{side:<6} differs from the model by at most {difference:.1e} in a component of a unit vector")
    print(arguments.out)


def parser():
    """Flags of `lexlip-bench export`."""
    flags = cli.parser("A checkpoint as ONNX, or its text side as a SparseEncoder of sentence-transformers.")
    flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    flags.add_argument("--format", choices=FORMATS, required=True, help="format to write")
    flags.add_argument("--out", type=Path, required=True, help="folder to write")
    return flags
