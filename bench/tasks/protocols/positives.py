"""Extra positives of COCO's test split: pictures and captions that match though neither was written for the other.

    cxc    Crisscrossed Captions (Parekh et al., 2021, arXiv 2004.15020): rated by people, 24,972 captions and 5,000 pictures as queries
    eccv   ECCV Caption (Chun et al., 2022, arXiv 2204.03359): found by models, verified by people, 1,332 captions and 1,261 pictures

Both come as JSON in the package eccv-caption (MIT; the judgements of CxC Apache-2.0), which is read, not imported. Its ids are those of
COCO's pictures and annotations.

Traps: a set names some right captions that the 25,000 of the usual protocol lack; what is not in the gallery counts as not retrieved, as the
package's own metrics do. And a caption's own picture is not always among its judged ones (CxC: 1 caption, 29 pictures).
"""

import importlib.util
from pathlib import Path

from models.errors import InputError
from models.files import read_json, sha256, sha256_text

SETS = ("cxc", "eccv")
PACKAGE, MODULE = "eccv-caption", "eccv_caption"
FILES = {"text_to_image": "caption_to_image", "image_to_text": "image_to_caption"}

Relevant = dict[str, dict[str, frozenset[str]]]


def judgements(name: str) -> tuple[Relevant, str]:
    """direction -> id of a query -> ids of all its right items; and a hash of the files. Raises InputError where the package is missing."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None:
        sets = " and ".join(SETS)
        raise InputError(
            f"{sets} are not measured: the package '{PACKAGE}' is not installed; pip install 'lexlip-bench[positives]'"
        )
    files = {direction: Path(spec.origin).parent / "data" / f"{name}_{what}.json" for direction, what in FILES.items()}
    relevant = {
        direction: {query: frozenset(map(str, items)) for query, items in read_json(file).items()}
        for direction, file in files.items()
    }
    return relevant, sha256_text("".join(sha256(file) for file in files.values()))
