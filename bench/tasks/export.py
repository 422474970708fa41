"""A checkpoint for other runtimes: `lexlip-bench export --checkpoint FOLDER --format onnx --out FOLDER`.

    onnx                    image encoder, text encoder, tokenizer (`models.export.onnx`)
    sentence-transformers   the text side of a lexicon model as a SparseEncoder (`models.export.sparse_encoder`)

What was written is compared with the model before the folder gets its name: an export that differs leaves nothing. `export.json` in it says
what it was made of, and the largest difference.
"""

from pathlib import Path

from bench.store import cli
from models import checkpoint
from models.errors import InputError
from models.export import onnx as export_onnx
from models.export import sparse_encoder as export_sparse_encoder
from models.export.common import TOLERANCE
from models.files import atomic_folder, write_json

FORMATS = {"onnx": export_onnx, "sentence-transformers": export_sparse_encoder}
ABOUT = "export.json"


def export(source: Path, form: str, out: Path, force: bool = False) -> dict:
    """Write a checkpoint in a format of `FORMATS` to a new folder; returns what its `export.json` says.

    force: replace an earlier export that stands there. Raises InputError for a broken checkpoint, a folder that is in the way, and all that
    the formats refuse.
    """
    if out.exists() and not (force and (out / ABOUT).is_file()):
        raise InputError(
            f"{out}: is there already; expected a new folder"
            + ("" if force else ", or --force to replace an earlier export")
        )
    model = checkpoint.load(source)
    with atomic_folder(out) as partial:
        about = {
            "format": form,
            "checkpoint": checkpoint.fingerprint(source),
            "kind": model.kind,
            "tolerance": TOLERANCE,
        }
        about |= FORMATS[form].write(model, partial)
        write_json(partial / ABOUT, about)
    return about


# --- lexlip-bench export -------------------------------------------------------------------------------------------------------


def main(arguments) -> None:
    """Writes the export and prints how far each side of it is from the model."""
    about = export(arguments.checkpoint, arguments.format, arguments.out, arguments.force)
    for side, difference in about["largest_difference"].items():
        print(f"{side:<6} differs from the model by at most {difference:.1e} in a component of a unit vector")
    print(arguments.out)


def parser():
    flags = cli.parser("A checkpoint as ONNX, or its text side as a SparseEncoder of sentence-transformers.")
    flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    flags.add_argument("--format", choices=FORMATS, required=True, help="what to write")
    flags.add_argument("--out", type=Path, required=True, help="folder to write")
    return flags
