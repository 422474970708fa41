"""Recall@K of a checkpoint or of a pre-trained open_clip model on a corpus: brute force, and through an index.

    lexlip-bench recall --checkpoint FOLDER --corpus scenes --split test --images 1000

For lexicon vectors each step from exact float search to the index is a point of its own:

    scipy, all lexicons, float32       brute force on the vectors as encoded (the reference)
    scipy, top-k lexicons, float32     the loss by pruning
    impact, top-k lexicons, 8 bits     the loss by pruning and quantising: what the index returns

Dense vectors are searched by FAISS's exact index. Both directions are measured. Accuracy and sizes are one point
(batch_mode ""); rates and latencies are further points (batch_mode "single" and "batched", text to image, few
results as for a user). On the whole test split of COCO its other protocols are points too (tasks "folds", "cxc",
"eccv"; `bench.tasks.retrieval.coco`).
"""

import pandas as pd

from bench.store import cli
from bench.tasks.classification.hard_negatives import measure_hard_negatives
from bench.tasks.retrieval import coco
from bench.tasks.retrieval.direction import DIRECTIONS, Direction
from bench.tasks.retrieval.settings import RecallOptions, main_setting, settings
from bench.tasks.subject import Measurement, Slice, Subject, add_subject
from bench.tasks.timing import Timing
from bench.vectors.impacts import SCALE
from models.errors import InputError


def measure_recall(measurement: Measurement, options: RecallOptions | None = None) -> list[str]:
    """Measures a model on the images of a slice and all their captions; returns the ids of its points, old and new.

    Writes points of the tasks "retrieval", "hard_negatives" (if the corpus has them) and COCO's protocols, and the one
    of the encoding, whose id is not among those returned. Raises InputError for a broken checkpoint or corpus.
    """
    options, encoded, slice_ = options or RecallOptions(), measurement.encoded, measurement.slice
    ids = []
    protocols = coco.protocols(slice_.corpus, slice_.split, encoded)
    main = main_setting(encoded.kind, options.top_k, options.bits)
    measurement.record_encoding()
    for name in DIRECTIONS:
        direction, to_image = Direction(measurement, name, options), name == "text_to_image"
        todo = settings(encoded.kind, options.top_k, options.bits)
        for setting in cli.progress(todo, desc=f"recall {slice_.split} {name}", unit="setting"):
            ids.append(direction.accuracy(setting, options.examples if to_image and setting == main else 0))
            ids += [direction.protocol(setting, protocol) for protocol in protocols]
            if options.timing and to_image and not (setting.engine == "scipy" and setting.top_k):
                ids += direction.timing(setting)
    if options.hard_negatives and hasattr(slice_.corpus, "hard_negatives"):
        ids.append(measure_hard_negatives(measurement))
    return ids


# --- lexlip-bench recall ---


def table(rows) -> str:
    """The retrieval points among rows of records, one line each."""
    values = rows.pivot_table(index="point_id", columns="metric", values="value")
    points = rows.drop_duplicates("point_id").set_index("point_id")
    accuracy = points[(points.task == "retrieval") & (points.batch_mode == "")]
    single = points[points.batch_mode == "single"].reset_index().set_index("index_id").point_id
    names = f"{'R@1':>6} {'R@5':>6} {'R@10':>6} {'median':>7} {'bytes/item':>11} {'p50 us':>8}"
    lines = [f"{'direction':<14} {'engine':<10} {'top_k':>5} {'bits':>5} {names}"]
    order = {"direction": False, "engine": False, "bits": False, "top_k": True}
    for point_id, point in accuracy.sort_values(list(order), ascending=list(order.values())).iterrows():
        top_k, bits = _text(point.top_k, "all"), _text(point.bits, "float")
        setting = f"{point.direction:<14} {point.engine:<10} {top_k:>5} {bits:>5}"
        if point.status != "ok":
            lines.append(f"{setting} {point.status}{f': {point.note}' if point.note else ''}")
            continue
        value = values.loc[point_id]
        recalls = " ".join(f"{value.get(f'recall@{k}', float('nan')):6.3f}" for k in (1, 5, 10))
        p50 = f"{values.loc[single[point.index_id]]['latency_p50_us']:.0f}" if point.index_id in single else "-"
        lines.append(f"{setting} {recalls} {value['median_rank']:7.0f} {value['bytes_per_image']:11.1f} {p50:>8}")
    return "\n".join(lines)


def _text(value, absent: str) -> str:
    return absent if pd.isna(value) else str(value)


def read_top_k(text: str) -> tuple[int | None, ...]:
    """Parses `--top-k`. Raises InputError."""
    try:
        top_k = tuple(None if part == "all" else int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--top-k {text}: expected numbers and 'all', separated by commas, such as 8,32,all") from None
    if any(k is not None and k < 1 for k in top_k):
        raise InputError(f"--top-k {text}: expected numbers of at least 1")
    return top_k


def main(arguments) -> None:
    """Measures one model and prints the results."""
    from bench.corpora import read_spec

    options = RecallOptions(
        top_k=read_top_k(arguments.top_k),
        bits=arguments.bits,
        scale=arguments.scale,
        query_top_k=arguments.query_top_k,
        timing=Timing(threads=arguments.threads) if arguments.timing else None,
        rankings=arguments.rankings,
    )
    subject = Subject.of(arguments)
    slice_ = Slice.open(read_spec(arguments.corpus), arguments.split, arguments.images, [subject.model])
    measurement = Measurement(arguments.home, subject, slice_, arguments.force)
    ids = measure_recall(measurement, options)
    rows = measurement.store.read()
    rows = rows[rows.point_id.isin(ids)]
    print(table(rows))
    if protocols := coco.table(rows):
        print(f"\n{protocols}")
    print(measurement.used)


def parser():
    """Flags of `lexlip-bench recall`."""
    flags = cli.parser("Recall@K of a model on a corpus: brute force, pruned, and through an index.", writes=True)
    add_subject(flags)
    cli.add_corpus(flags)
    flags.add_argument("--top-k", default="4,8,16,32,64,all", help="top-k lexicons of a document, separated by commas")
    flags.add_argument(
        "--query-top-k", type=cli.positive(int), default=None, help="top-k lexicons of a query; all unless given"
    )
    flags.add_argument("--bits", type=int, default=8, choices=(8, 16), help="bits of an impact")
    flags.add_argument("--scale", type=float, default=SCALE, help="impact = round(scale x weight)")
    flags.add_argument("--threads", type=cli.positive(int), default=1, help="threads of the timed search")
    cli.add_rankings(flags)
    flags.add_argument("--no-timing", dest="timing", action="store_false", help="leave out rates and latencies")
    return flags
