"""Opens the corpus that models encode: the one they were trained on unless another is named, at their resolution."""

import inspect
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import yaml

from bench import corpora
from bench.store.config import corpus_of
from models.errors import InputError
from models.pretrained import open_clip

log = logging.getLogger(__name__)
DEFAULT = "scenes"


def open_at(spec: str | dict | None, models: Sequence[Path | str]) -> corpora.Corpus:
    """Opens a corpus, with `pixels` set to the models' own resolution where the specification states none.

    That holds for corpora of files, and for every corpus if a model is a pre-trained one: `scenes` is rendered at 64
    pixels by default, the size of the profiles. Models of different sizes get the largest. A warning says what was set,
    and which images are resized again.

    spec: None for the corpus that the first checkpoint was trained on, or `scenes` without one. models: checkpoint
    folders or `open_clip:` names. Raises InputError as `open_corpus`, and for a broken checkpoint.
    """
    if spec is None:
        spec = next(filter(None, (corpus_of(Path(m)) for m in models if not open_clip.named(m))), None)
        if spec:
            written = yaml.safe_dump(spec, default_flow_style=True, sort_keys=False, width=math.inf).strip()
            log.warning("corpus: %s, that of the training", written)
        spec = spec or DEFAULT
    stated = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "pixels" not in stated and models and _takes_model_size(stated, models):
        largest = max(pixels(model) for model in models)
        spec = at_pixels(spec, largest)
        log.warning(
            "corpus %s: images at %d pixels, the model's own size, since pixels is not given", stated["name"], largest
        )
    corpus = corpora.open_corpus(spec)
    size = getattr(corpus, "pixels", None)
    for model in models if size else ():
        if (own := pixels(model)) != size:
            log.warning("corpus %s: images of %d pixels are resized to the %d of %s", corpus.name, size, own, model)
    return corpus


def at_pixels(spec: str | dict, pixels: int) -> str | dict:
    """A specification with `pixels`, unless it states them or the corpus has none."""
    stated = {"name": spec} if isinstance(spec, str) else spec
    corpus = corpora.corpus_class(stated["name"]) if stated.get("name") in corpora.CORPORA else None
    return {"pixels": pixels} | stated if corpus and "pixels" in inspect.signature(corpus).parameters else spec


def pixels(model: Path | str) -> int:
    """The resolution of a model, from its configuration alone. Raises InputError for a broken checkpoint."""
    if open_clip.named(model):
        return open_clip.pixels(model)
    from models import checkpoint
    from models.config import ImageConfig
    from models.files import read_json

    checkpoint.kind(Path(model))  # checks the description
    image = read_json(Path(model) / checkpoint.CONFIG)["config"].get("image", {})
    size = image.get("pixels", ImageConfig().pixels)
    if not isinstance(size, int):
        raise InputError(f"{Path(model) / checkpoint.CONFIG}: config.image.pixels is {size!r}; expected an integer")
    return size


def _takes_model_size(stated: dict, models: Sequence[Path | str]) -> bool:
    from bench.corpora.readers.stored import StoredCorpus

    if stated.get("name") not in corpora.CORPORA:
        return False  # `open_corpus` names the nearest
    made = corpora.corpus_class(stated["name"])
    return issubclass(made, StoredCorpus) or any(map(open_clip.named, models))
