"""Zero-shot classification: a picture is given the class whose prompts its vector is nearest to. The same for lexicon and dense vectors.

Notable choices
- A class is the mean of its prompts' normalised vectors, normalised again (Radford et al., 2021, arXiv 2103.00020). Its prompts are the
  templates of `zero_shot.yaml` with its name put in.
- The rank of a picture's own class is the number of classes that score at least as high, so ties are wrong: a lexicon vector that shares
  no lexicon with any class scores 0 for all, and must not be right by the order of the classes.
- On `scenes` every picture has a place and a time of day. Concept and colour are taken on scenes with exactly one group of things (one to
  four copies of one concept): with more of them nobody could say which is meant. Each is measured on the first scenes of the split that
  have such a label, as many as were asked for.
"""

import dataclasses
import itertools
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.corpora import open_corpus, read_spec
from bench.store import cli, config
from bench.store.records import Point, RecordStore
from bench.tasks import evaluation
from bench.tasks.labelled import FactsOf, ImageFolder, Labelled, Numbered
from bench.tasks.subject import begun
from bench.vectors.encode import PRECISIONS, Encoder, batches
from bench.vectors.read import Vectors
from bench.vectors.rendering import BATCH
from bench.vectors.statistics import joined, normalised, products
from bench.vectors.write import to_csr
from models.errors import InputError
from models.pretrained import open_clip as pretrained

log = logging.getLogger(__name__)

TEMPLATES = Path(__file__).with_name("zero_shot.yaml")
CODE = (
    "models",
    "bench.vectors.encode",
    "bench.vectors.rendering",
    "bench.vectors.statistics",
    "bench.corpora.readers.decode",
    "bench.tasks.labelled",
    "bench.tasks.zero_shot",
)
IMAGES = 1000
NAMED = 5  # broken pictures named in a record's note


@dataclass(frozen=True)
class Prompts:
    """Templates for each kind of class; `{}` is where the name of a class goes."""

    concept: tuple[str, ...] = ("{}",)
    place: tuple[str, ...] = ("{}",)
    time: tuple[str, ...] = ("{}",)
    colour: tuple[str, ...] = ("{}",)
    folder: tuple[str, ...] = ("{}",)

    @classmethod
    def read(cls, file: Path | None = None) -> "Prompts":
        """Those of `zero_shot.yaml`, with a file of the user's laid over them. Raises InputError."""
        tree = (
            config.read_yaml(TEMPLATES)
            if file is None
            else config.merge(config.read_yaml(TEMPLATES), config.read_yaml(file))
        )
        read = config.build(cls, tree, str(file or TEMPLATES))
        for kind, templates in dataclasses.asdict(read).items():
            if not templates or any(template.count("{}") != 1 for template in templates):
                raise InputError(
                    f"{file or TEMPLATES}: {kind}: {list(templates)}: expected templates with one {{}} for the class's name"
                )
        return read


# --- classification ---------------------------------------------------------------------------------------------------------------


def class_vectors(encoder: Encoder, classes: Sequence[str], templates: Sequence[str]):
    """The vector of each class, L2-normalised: CSR (C, V), or (C, D) float32."""
    pieces = []
    for names in batches(classes, max(1, BATCH // len(templates))):
        prompts = [template.replace("{}", name) for name in names for template in templates]
        prompts_CTV = encoder.texts(prompts).reshape(len(names), len(templates), -1)
        pieces.append(_rows(encoder, prompts_CTV.mean(axis=1)))
    return normalised(joined(pieces))


def encode_pictures(
    encoder: Encoder, source: FactsOf | ImageFolder, split: str, wanted: np.ndarray, known: Vectors | None = None
):
    """Numbers (N,) of the pictures wanted, ascending, and their vectors: CSR (N, V), or (N, D) float32.

    `known` has the vectors of the first pictures of the split.
    """
    there, numbers, pieces = 0 if known is None else int(np.searchsorted(wanted, known.count)), [], []
    if there:
        numbers += wanted[:there].tolist()
        pieces.append(known.rows(0, known.count)[wanted[:there]])
    pictures: Numbered = source.pictures(split, wanted[there:].tolist(), encoder.model.pixels)
    for batch in batches(cli.progress(pictures, total=len(wanted), initial=there, desc="zero-shot", unit="image")):
        numbers += [number for number, _ in batch]
        pieces.append(_rows(encoder, encoder.images(np.stack([picture for _, picture in batch]))))
    if not pieces:
        raise InputError(f"none of the {len(wanted)} pictures could be decoded")
    return np.array(numbers, np.int64), joined(pieces)


def own_ranks(vectors, classes, labels: np.ndarray) -> np.ndarray:
    """(N,) int64: how many classes score at least as high as a picture's own (1 = it alone is the best); ties are against it.

    vectors: (N, V or D); classes: (C, V or D), both dense or both CSR; labels: (N,) places in `classes`.
    """
    ranks = [np.zeros(0, np.int64)]
    for start in range(0, len(labels), BATCH):
        scores_BC = products(vectors[start : start + BATCH], classes)
        own_B = scores_BC[np.arange(len(scores_BC)), labels[start : start + BATCH]]
        ranks.append((scores_BC >= own_B[:, None]).sum(axis=1))
    return np.concatenate(ranks)


def accuracy(ranks: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, float]:
    """The metrics of pictures from the rank of each one's own class (N,) and that class (N,); top-5 only among more than 5 classes."""
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


def _rows(encoder: Encoder, values: np.ndarray):
    if not np.isfinite(values).all():
        raise InputError(f"{encoder.source}: gives vectors that are not finite: the model is broken")
    return to_csr(values) if encoder.kind == "lexicon" else values


# --- measurement ------------------------------------------------------------------------------------------------------------------


def measure_zero_shot(
    store: RecordStore,
    encoder: Encoder,
    corpus,
    split: str = "test",
    images: int | None = IMAGES,
    *,
    prompts: Prompts | None = None,
    known: Vectors | None = None,
    variant: str = "",
    seed: int | None = None,
    profile: str = "",
    command: str = "",
    force: bool = False,
) -> list[str]:
    """Measures a model on each kind of class of a corpus or an `ImageFolder`; returns the ids of its points, old and new.

    images: pictures for each kind (of an `ImageFolder`, which has no split, None: all). known: the encoder's vectors of the first images
    of the split, which are then not made again: they are the same but for rounding, so the record does not say. One point for each kind, under knobs
    {"classes": kind}; its per-item results hold the rank of each picture's own class, with "image id/class" as query id. A picture that
    cannot be decoded is left out: named in a warning and in the point's note, and counted. Raises InputError for a broken checkpoint,
    and for a corpus that does not say what its pictures show.
    """
    if images is not None and images < 1:
        raise InputError(f"images {images}: expected at least 1")
    source, prompts = corpus if isinstance(corpus, ImageFolder) else FactsOf(corpus), prompts or Prompts.read()
    tasks = source.labelled(split, images)
    named = {"variant": variant, "seed": seed, "profile": profile, "command": command}
    base = begun("zero_shot", encoder, source, split, images, **named)
    base = replace(base, kind=encoder.kind, code_id=config.code_fingerprint(*CODE))
    points = {}
    for task in tasks:
        made_of = {"classes": task.classes, "templates": getattr(prompts, task.kind), "precision": encoder.precision}
        points[task.kind] = replace(
            base, queries=len(task.ids), knobs={"classes": task.kind}, config_id=config.fingerprint(made_of)
        )
    if missing := [task for task in tasks if force or not store.has(points[task.kind])]:
        began, wanted = time.perf_counter(), np.unique(np.concatenate([task.numbers for task in missing]))
        encoded = encode_pictures(encoder, source, split, wanted, known)
        shared = (time.perf_counter() - began) / len(missing)
        for task in missing:
            _write(store, points[task.kind], encoder, task, getattr(prompts, task.kind), *encoded, shared)
    return [point.id for point in points.values()]


def _write(
    store: RecordStore,
    point: Point,
    encoder: Encoder,
    task: Labelled,
    templates,
    numbers: np.ndarray,
    vectors,
    seconds: float,
) -> None:
    """Classifies the pictures of a task that are among those encoded (`numbers`, ascending, and their vectors), and writes its point."""
    began, whole = time.perf_counter(), np.isin(task.numbers, numbers)
    labels = task.labels[whole]
    classes = class_vectors(encoder, task.classes, templates)
    ranks = own_ranks(vectors[np.searchsorted(numbers, task.numbers[whole])], classes, labels)
    broken = list(itertools.compress(task.ids, ~whole))
    values = accuracy(ranks, labels, len(task.classes)) | {"zero_shot_broken": len(broken)}
    rows = [
        {"query_id": f"{id}/{task.classes[label]}", "group": id, "ranks": [rank], "relevant": 1, "latency_us": None}
        for id, label, rank in zip(itertools.compress(task.ids, whole), labels, ranks, strict=True)
    ]
    more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    note = f"left out, cannot be decoded: {', '.join(broken[:NAMED])}{more}" if broken else ""
    store.write(point, values, rows, note=note, seconds=seconds + time.perf_counter() - began)


# --- lexlip-bench zero-shot ----------------------------------------------------------------------------------------------------


def table(rows) -> str:
    """The points of the rows of records, one line each, in their order."""
    lines = [
        f"{'classes of':<12} {'pictures':>8} {'classes':>8} {'chance':>7} {'most frequent':>14} {'top-1':>6} {'top-5':>6} {'per class':>10}"
    ]
    for _, of_point in rows.groupby("point_id", sort=False):
        value = of_point.set_index("metric").value
        kind = json.loads(of_point.knobs.iloc[0])["classes"]
        top5 = f"{value['zero_shot_top5']:6.3f}" if "zero_shot_top5" in value else f"{'-':>6}"
        lines.append(
            f"{kind:<12} {value['zero_shot_images']:8.0f} {value['zero_shot_classes']:8.0f} {value['zero_shot_chance']:7.3f}"
            f" {value['zero_shot_most_frequent']:14.3f} {value['zero_shot_top1']:6.3f} {top5} {value['zero_shot_per_class']:10.3f}"
        )
    return "\n".join(lines)


def main(arguments) -> None:
    """Measures one model and prints what was measured."""
    store, encoder = RecordStore(arguments.home), Encoder(arguments.model or arguments.checkpoint, arguments.precision)
    name = pretrained.variant(arguments.model) if arguments.model else arguments.checkpoint.resolve().name
    common = {
        "prompts": Prompts.read(arguments.prompts),
        "variant": arguments.variant or name,
        "seed": arguments.seed,
        "profile": arguments.profile,
        "force": arguments.force,
    }
    if arguments.folder:
        ids = measure_zero_shot(store, encoder, ImageFolder(arguments.folder), "", arguments.images, **common)
    else:
        images = IMAGES if arguments.images is None else arguments.images
        ids = measure_zero_shot(
            store, encoder, open_corpus(read_spec(arguments.corpus)), arguments.split, images, **common
        )
    rows = store.read().set_index("point_id", drop=False)
    print(table(rows.loc[ids].reset_index(drop=True)))


def parser():
    flags = cli.parser("Zero-shot classification of pictures by prompts over the names of classes.", writes=True)
    model = flags.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help="checkpoint folder")
    model.add_argument(
        "--model", help="a pre-trained one, such as open_clip:ARCHITECTURE/TAG; see lexlip-bench recall --help"
    )
    flags.add_argument("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="what the model computes in")
    cli.add_corpus(flags, images=None)
    flags.add_argument(
        "--folder", type=Path, default=None, help="pictures in one sub-folder for each class, in place of a corpus"
    )
    flags.add_argument(
        "--images",
        type=int,
        default=None,
        help=f"pictures for each kind of class: {IMAGES} of a corpus, all of a folder",
    )
    flags.add_argument("--prompts", type=Path, default=None, help=f"YAML of templates, laid over {TEMPLATES.name}")
    flags.add_argument(
        "--variant",
        default="",
        help="name of the variant in the records; the folder's or the model's name unless given",
    )
    flags.add_argument("--seed", type=int, default=None)
    flags.add_argument("--profile", default="")
    return flags
