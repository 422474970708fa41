"""Zero-shot classification: an image gets the class with the nearest prompt vector, lexicon or dense.

    lexlip-bench zero-shot --checkpoint FOLDER --corpus scenes --split test --images 1000

Notable choices
- A class is the mean of its prompts' normalised vectors, normalised again (Radford et al., 2021, arXiv 2103.00020).
  Its prompts are the templates of `zero_shot.yaml` with the class name inserted.
- The rank of an image's own class is the number of classes that score at least as high, so ties are wrong. Trap: a
  lexicon vector that shares no lexicon with any class scores 0 for all, and would otherwise be right by the order of
  the classes.
- On `scenes` every image has a place and a time of day. Concept and colour are measured on scenes with exactly one
  group of things (one to four copies of one concept), where the label is unambiguous. Each kind uses the first
  scenes of the split that have such a label, `images` of them.
"""

import dataclasses
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.corpora.resolution import open_at
from bench.store import cli, config
from bench.store.records import RecordStore
from bench.tasks import evaluation
from bench.tasks.classification.labelled import FactsOf, ImageFolder, Labelled
from bench.tasks.subject import Subject, add_subject
from bench.vectors.batches import BATCH, batches
from bench.vectors.format import to_csr
from bench.vectors.jobs import CODE as ENCODING
from bench.vectors.read import Vectors
from bench.vectors.statistics import joined, normalised, products
from models.errors import InputError

TEMPLATES = Path(__file__).with_name("zero_shot.yaml")
CODE = (
    "bench.vectors.statistics",
    "bench.corpora.readers.decode",
    "bench.tasks.classification.labelled",
    "bench.tasks.classification.zero_shot",
    "bench.tasks.evaluation",
)
IMAGES = 1000
NAMED = 5  # broken images named in the note of a record


@dataclass(frozen=True)
class Prompts:
    """Templates of each kind of class; `{}` is replaced by the class name."""

    concept: tuple[str, ...] = ("{}",)
    place: tuple[str, ...] = ("{}",)
    time: tuple[str, ...] = ("{}",)
    colour: tuple[str, ...] = ("{}",)
    folder: tuple[str, ...] = ("{}",)

    @classmethod
    def read(cls, file: Path | None = None) -> "Prompts":
        """Reads `zero_shot.yaml`, with the keys of `file` laid over it. Raises InputError."""
        tree = config.merge(config.read_yaml(TEMPLATES), {} if file is None else config.read_yaml(file))
        read = config.build(cls, tree, str(file or TEMPLATES))
        for kind, templates in dataclasses.asdict(read).items():
            if not templates or any(template.count("{}") != 1 for template in templates):
                where = f"{file or TEMPLATES}: {kind}: {list(templates)}"
                raise InputError(f"{where}: expected templates with one {{}} for the class name")
        return read


# --- classification ---


def class_vectors(encoder, classes: Sequence[str], templates: Sequence[str]):
    """L2-normalised vector of each class: CSR (C, V), or (C, D) float32."""
    pieces = []
    for names in batches(classes, max(1, BATCH // len(templates))):
        prompts = [template.replace("{}", name) for name in names for template in templates]
        prompts_CTV = encoder.texts(prompts).reshape(len(names), len(templates), -1)
        pieces.append(_rows(encoder, prompts_CTV.mean(axis=1)))
    return normalised(joined(pieces))


def encode_images(encoder, source: FactsOf | ImageFolder, split: str, wanted: np.ndarray, known: Vectors | None = None):
    """Encodes the wanted images.

    Returns the numbers (N,) of those that can be decoded, ascending, and their vectors: CSR (N, V), or (N, D)
    float32. known: vectors of the first images of the split.
    """
    there, numbers, pieces = 0 if known is None else int(np.searchsorted(wanted, known.count)), [], []
    if there:
        numbers += wanted[:there].tolist()
        pieces.append(known.rows(0, known.count)[wanted[:there]])
    images = source.images(split, wanted[there:].tolist(), encoder.model.pixels)
    for batch in batches(cli.progress(images, total=len(wanted), initial=there, desc="zero-shot", unit="image")):
        numbers += [number for number, _ in batch]
        pieces.append(_rows(encoder, encoder.images(np.stack([image for _, image in batch]))))
    if not pieces:
        raise InputError(f"none of the {len(wanted)} images can be decoded")
    return np.array(numbers, np.int64), joined(pieces)


def own_ranks(vectors, classes, labels: np.ndarray) -> np.ndarray:
    """(N,) int64: number of classes that score at least as high as an image's own class; 1 = its own is strictly best.

    vectors: (N, V or D); classes: (C, V or D), both dense or both CSR; labels: (N,) indexes into `classes`.
    """
    ranks = [np.zeros(0, np.int64)]
    for start in range(0, len(labels), BATCH):
        scores_BC = products(vectors[start : start + BATCH], classes)
        own_B = scores_BC[np.arange(len(scores_BC)), labels[start : start + BATCH]]
        ranks.append((scores_BC >= own_B[:, None]).sum(axis=1))
    return np.concatenate(ranks)


def accuracy(ranks: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, float]:
    """Metrics from the rank of each image's own class (N,) and that class (N,); top-5 only for more than 5 classes."""
    values = {"zero_shot_per_class": evaluation.mean_per_class(ranks[:, None], labels)}
    for k in (1, 5):
        if k == 1 or classes > k:
            values[f"zero_shot_top{k}"] = evaluation.success_at(k, ranks[:, None], None, classes)
    return values | {
        "zero_shot_classes": classes,
        "zero_shot_images": len(ranks),
        "zero_shot_chance": 1 / classes,
        "zero_shot_most_frequent": float(np.bincount(labels).max() / len(labels)),
    }


def _rows(encoder, values: np.ndarray):
    if not np.isfinite(values).all():
        raise InputError(f"{encoder.source}: produces vectors that are not finite; the model is broken")
    return to_csr(values) if encoder.kind == "lexicon" else values


# --- measurement ---


@dataclass(frozen=True)
class ZeroShotOptions:
    """images: per kind of class (of an `ImageFolder`, None: all). prompts: those of `zero_shot.yaml` if None.

    known: the model's vectors of the first images of the split, which are then not encoded again; they are equal up
    to rounding, so the record does not state it.
    """

    images: int | None = IMAGES
    prompts: Prompts | None = None
    known: Vectors | None = None


def measure_zero_shot(
    home, subject: Subject, source, split: str = "test", options: ZeroShotOptions | None = None, force: bool = False
) -> list[str]:
    """Measures a model on each kind of class of a corpus or an `ImageFolder`.

    Returns the ids of its points, old and new. One point per kind, with knobs {"classes": kind}. Its per-query
    results hold the rank of each image's own class, with "image id/class" as query id. An image that cannot be
    decoded is left out: named in a warning and in the point's note, and counted. Raises InputError for a broken
    checkpoint and for a corpus without facts about its images.
    """
    options = options or ZeroShotOptions()
    if options.images is not None and options.images < 1:
        raise InputError(f"images {options.images}: expected at least 1")
    source = source if isinstance(source, ImageFolder) else FactsOf(source)
    tasks, prompts = source.labelled(split, options.images), options.prompts or Prompts.read()
    store, encoder, points = RecordStore(home), subject.encoder, {}
    shared = {"kind": encoder.kind, "code_id": config.code_fingerprint(*CODE, *ENCODING, *encoder.code)}
    for task in tasks:
        made_of = {"classes": task.classes, "templates": getattr(prompts, task.kind), "precision": subject.precision}
        fields = {"queries": len(task.ids), "knobs": {"classes": task.kind}, "config_id": config.fingerprint(made_of)}
        points[task.kind] = subject.point("zero_shot", source, split, options.images, **shared | fields)
    if missing := [task for task in tasks if force or not store.has(points[task.kind])]:
        began, wanted = time.perf_counter(), np.unique(np.concatenate([task.numbers for task in missing]))
        numbers, vectors = encode_images(encoder, source, split, wanted, options.known)
        seconds = (time.perf_counter() - began) / len(missing)
        for task in missing:
            began = time.perf_counter()
            result = classify(encoder, task, getattr(prompts, task.kind), numbers, vectors)
            store.write(points[task.kind], **result, seconds=seconds + time.perf_counter() - began)
    return [point.id for point in points.values()]


def classify(encoder, task: Labelled, templates, numbers: np.ndarray, vectors) -> dict:
    """Values, per-query results and note of a kind of class.

    numbers, vectors: of the images that were encoded, ascending; images of the task that are not among them are
    broken.
    """
    whole = np.isin(task.numbers, numbers)
    labels, ids = task.labels[whole], list(itertools.compress(task.ids, whole))
    classes = class_vectors(encoder, task.classes, templates)
    ranks = own_ranks(vectors[np.searchsorted(numbers, task.numbers[whole])], classes, labels)
    broken = list(itertools.compress(task.ids, ~whole))
    rows = [
        {"query_id": f"{id}/{task.classes[label]}", "group": id, "ranks": [rank], "relevant": 1, "latency_us": None}
        for id, label, rank in zip(ids, labels, ranks, strict=True)
    ]
    more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    return {
        "values": accuracy(ranks, labels, len(task.classes)) | {"zero_shot_broken": len(broken)},
        "queries": rows,
        "note": f"left out, cannot be decoded: {', '.join(broken[:NAMED])}{more}" if broken else "",
    }


# --- lexlip-bench zero-shot ---


def table(rows) -> str:
    """The points among rows of records, one line each, in their order."""
    names = f"{'chance':>7} {'most frequent':>14} {'top-1':>6} {'top-5':>6} {'per class':>10}"
    lines = [f"{'classes of':<12} {'images':>8} {'classes':>8} {names}"]
    for _, of_point in rows.groupby("point_id", sort=False):
        value = of_point.set_index("metric").value.rename(lambda name: name.removeprefix("zero_shot_"))
        kind = json.loads(of_point.knobs.iloc[0])["classes"]
        top5 = f"{value['top5']:6.3f}" if "top5" in value else f"{'-':>6}"
        counts = f"{value['images']:8.0f} {value['classes']:8.0f} {value['chance']:7.3f}"
        shares = f"{value['most_frequent']:14.3f} {value['top1']:6.3f} {top5} {value['per_class']:10.3f}"
        lines.append(f"{kind:<12} {counts} {shares}")
    return "\n".join(lines)


def main(arguments) -> None:
    """Measures one model and prints the results."""
    from bench.corpora import chosen_split, read_spec
    from bench.corpora.counts import ALL, count

    images, subject = arguments.images, Subject.of(arguments)
    if arguments.folder:
        source, split = ImageFolder(arguments.folder), ""
        images = None if images == ALL else images
    else:
        source = open_at(read_spec(arguments.corpus), [subject.model])
        split = chosen_split(source, arguments.split)
        FactsOf(source)  # refuses a corpus without facts before its images are counted
        images = count(source, split, IMAGES if images is None else images)
    options = ZeroShotOptions(images, Prompts.read(arguments.prompts))
    ids = measure_zero_shot(arguments.home, subject, source, split, options, arguments.force)
    rows = RecordStore(arguments.home).read().set_index("point_id", drop=False)
    rows = rows.loc[ids].reset_index(drop=True)
    print(table(rows))
    classified = rows[rows.metric == "zero_shot_images"].value.sum()
    print(
        f"used {source.name}{split and f', {split}'}: {classified:,.0f} images classified, all kinds of class together"
    )


def parser():
    """Flags of `lexlip-bench zero-shot`."""
    flags = cli.parser("Zero-shot classification of images by prompts over class names.", writes=True)
    add_subject(flags)
    cli.add_corpus(flags, images=None)
    folder = "folder with one sub-folder of images per class, instead of a corpus"
    flags.add_argument("--folder", type=Path, default=None, help=folder)
    count = f"images per kind of class: {IMAGES} of a corpus, all of a folder unless given"
    flags.add_argument("--images", type=cli.images_or_all, default=None, help=count)
    flags.add_argument("--prompts", type=Path, default=None, help=f"YAML of templates, laid over {TEMPLATES.name}")
    return flags
