"""Additional positives of COCO's test split: matching pairs whose caption was written for another image.

    cxc    Crisscrossed Captions (Parekh et al., 2021, arXiv 2004.15020): human ratings; 24,972 captions, 5,000 images
    eccv   ECCV Caption (Chun et al., 2022, arXiv 2204.03359): model-found, human-verified; 1,332 captions, 1,261
    images

Both are JSON files of the package eccv-caption (MIT; the CxC data Apache-2.0), which are read without importing the
package. Ids are those of COCO's images and annotations.

Traps:
- The sets name some relevant captions that are not among the 25,000 of the usual protocol. Items outside the gallery
  count as not retrieved, as in the package's own metrics.
- A caption's own image is not always in its set of relevant images (CxC: 1 caption, 29 images).
"""

import importlib.util
from pathlib import Path

from models.errors import InputError
from models.files import read_json, sha256, sha256_text

SETS = ("cxc", "eccv")
PACKAGE, MODULE = "eccv-caption", "eccv_caption"
FILES = {"text_to_image": "caption_to_image", "image_to_text": "image_to_caption"}

Qrels = dict[str, dict[str, frozenset[str]]]


def read_qrels(name: str) -> tuple[Qrels, str]:
    """direction -> query id -> ids of its relevant items; and a hash of the files.

    name: one of `SETS`. Raises InputError if the package is not installed.
    """
    spec = importlib.util.find_spec(MODULE)
    if spec is None:
        raise InputError(
            f"{' and '.join(SETS)} are not measured: the package '{PACKAGE}' is not installed; "
            "pip install 'lexlip-bench[positives]'"
        )
    files = {direction: Path(spec.origin).parent / "data" / f"{name}_{part}.json" for direction, part in FILES.items()}
    qrels = {
        direction: {query: frozenset(map(str, items)) for query, items in read_json(file).items()}
        for direction, file in files.items()
    }
    return qrels, sha256_text("".join(sha256(file) for file in files.values()))
