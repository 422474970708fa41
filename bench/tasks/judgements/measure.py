"""Agreement of a model's scores with the graded judgements of Flickr8k: Kendall's tau.

    lexlip-bench judgements --checkpoint FOLDER --corpus '{name: flickr8k, root: data/flickr8k}'

The score of an image and a caption is the model's own: the inner product of their vectors. For lexicon vectors it is
measured un-pruned, and at the top-k lexicons and bits of `lexlip-bench recall`, the image in the place of the document.

As in CLIPScore (Hessel et al., 2021, arXiv 2104.08718, and its reference code):
- Experts: tau-c, each of the three grades a sample of its own. Pairs whose caption equals a caption of the image itself
  are left out: 158 of 5,822, which leaves 16,992 grades.
- Crowd: tau-b with the share of yes. All 47,830 pairs count.

Trap: CLIPScore puts "A photo depicts" before each caption and cuts negative cosines at 0; here captions and scores are
used as they are.
"""

import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.corpora import data_id
from bench.corpora.counts import ALL, count
from bench.corpora.resolution import open_at
from bench.store import cli
from bench.store.config import code_fingerprint
from bench.store.records import RecordStore
from bench.tasks.judgements import tau
from bench.tasks.judgements.read import KINDS, Judgements, Kind, check, find, read
from bench.tasks.retrieval.settings import RecallOptions
from bench.tasks.subject import Measurement, Slice, Subject, add_subject
from bench.vectors.batches import BATCH
from bench.vectors.encode import Encoded
from bench.vectors.impacts import Impacts
from bench.vectors.statistics import products
from models.errors import InputError
from models.files import sha256

log = logging.getLogger(__name__)

CODE = (
    "bench.tasks.judgements.measure",
    "bench.tasks.judgements.read",
    "bench.tasks.judgements.tau",
    "bench.vectors.impacts",
)
NAMED = 3  # missing images and captions named


@dataclass(frozen=True)
class Scored:
    """The usable rows of a file, by number of the image and of the caption in the vectors, with their grades.

    own: rows left out because the caption is the image's own. missing: reason -> number of rows left out.
    """

    images_N: np.ndarray
    captions_N: np.ndarray
    grades_NS: np.ndarray
    own: int
    missing: Counter[str]

    @property
    def note(self) -> str:
        """Why rows are left out, without names: those of licensed images stay out of records."""
        return "; ".join(f"{count:,} whose {what} is missing" for what, count in self.missing.items())


def usable(judged: Judgements, encoded: Encoded, texts: dict[str, str]) -> Scored:
    """The rows whose image and caption are encoded; the others are counted, and what they lack is named in a warning.

    texts: caption id -> text.
    """
    image_row = {image_id: row for row, image_id in enumerate(encoded.images.ids)}
    caption_row = {caption_id: row for row, caption_id in enumerate(encoded.captions.ids)}
    own_texts = {
        (image, texts[caption]) for caption, image in zip(encoded.captions.ids, encoded.captions.groups, strict=True)
    }
    rows, named, missing, own = [], {}, Counter(), 0
    for number, (image, caption) in enumerate(zip(judged.images, judged.captions, strict=True)):
        lacks = "image" if image not in image_row else "caption" if caption not in caption_row else ""
        if lacks:
            missing[lacks] += 1
            named[image if lacks == "image" else caption] = True
        elif not judged.kind.own and (image, texts[caption]) in own_texts:
            own += 1
        else:
            rows.append((number, image_row[image], caption_row[caption]))
    if named:
        first = ", ".join(name if name.isprintable() else ascii(name) for name in list(named)[:NAMED])
        more = f" and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
        lost = f"{missing.total():,} of {len(judged.images):,} rows left out"
        log.warning("%s: %s; images and captions that the split lacks: %s%s", judged.file, lost, first, more)
    numbers, images_N, captions_N = np.array(rows, np.int64).reshape(-1, 3).T
    return Scored(images_N, captions_N, judged.grades_NS[numbers], own, missing)


def scores(encoded: Encoded, scored: Scored, top_k: int | None, bits: int | None, options: RecallOptions) -> np.ndarray:
    """(N,) float64: inner product of image and caption of each row. top_k: lexicons of an image, None = all."""
    images, captions = encoded.images, encoded.captions
    if encoded.kind == "lexicon":
        images = Impacts(images, top_k, bits, options.scale)
        captions = Impacts(captions, options.query_top_k if bits else None, bits, options.scale)
    used, column_N = np.unique(scored.captions_N, return_inverse=True)
    of_captions = captions.rows(0, captions.count)[used].astype(np.float64)
    found_N = np.empty(len(column_N))
    for start in range(0, images.count, BATCH):
        here = np.flatnonzero((scored.images_N >= start) & (scored.images_N < start + BATCH))
        if len(here):
            products_BC = products(images.rows(start, start + BATCH).astype(np.float64), of_captions)
            found_N[here] = products_BC[scored.images_N[here] - start, column_N[here]]
    return found_N


def measure_judgements(measurement: Measurement, options: RecallOptions | None = None) -> list[str]:
    """Measures a model on each file of judgements of the corpus; returns the ids of its points, old and new.

    One point per kind of judgements, with knobs {"judgements": kind}, and per setting of the vectors. A kind without
    any row whose image and caption are in the slice is not measured, which a warning says. options: its top_k, bits,
    scale and query_top_k. Raises InputError for a broken file.
    """
    options, slice_, store, ids = options or RecallOptions(), measurement.slice, measurement.store, []
    lexicon = measurement.encoded.kind == "lexicon"
    quantised = [(top_k, options.bits) for top_k in options.top_k] if lexicon else []
    knobs = {"scale": options.scale, "query_top_k": options.query_top_k} if lexicon else {}
    for kind, file in find(slice_.corpus).items():
        fields = {
            "knobs": {"judgements": kind.name} | knobs,
            "data_id": f"{data_id(slice_.corpus)}-{sha256(file)}",
            "vectors_id": measurement.encoded.images_id,
            "code_id": code_fingerprint(*CODE),
        }
        base = measurement.point("judgements", **fields)
        points = [base, *(replace(base, top_k=top_k, bits=bits) for top_k, bits in quantised)]
        if missing := [point for point in points if not measurement.exists(point)]:
            judged = read(kind, file)
            texts = {caption: text for caption, text, _ in slice_.corpus.captions(slice_.split, 0, slice_.images)}
            rows = usable(judged, measurement.encoded, texts)
            if not len(rows.images_N):
                log.warning("%s: no row has its image and caption in split %s; not measured", file, slice_.split)
                continue
            for point in missing:
                began = time.perf_counter()
                values, of_images = evaluate(
                    kind, rows, scores(measurement.encoded, rows, point.top_k, point.bits, options)
                )
                store.write(point, values, of_images, note=rows.note, seconds=time.perf_counter() - began)
        ids += [point.id for point in points]
    return ids


def evaluate(kind: Kind, rows: Scored, scores_N: np.ndarray) -> tuple[dict[str, float], list[dict]]:
    """Values, and per-image results for the record store, of the scores of a kind's rows."""
    samples = rows.grades_NS.shape[1]
    images, image_N = np.unique(rows.images_N, return_inverse=True)
    flat = np.repeat(scores_N, samples), rows.grades_NS.ravel()
    values = {
        kind.metric: tau.tau(*flat, kind.variant),
        "judgements_rows": len(scores_N),
        "judgements_own": rows.own,
        "judgements_missing": rows.missing.total(),
    }
    outcomes_G = tau.outcomes(*flat, np.repeat(image_N, samples), kind.variant)
    of_images = [
        {"query_id": str(image), "group": str(image), "outcome": outcome}
        for image, outcome in zip(images, outcomes_G, strict=True)
    ]
    return values, of_images


# --- lexlip-bench judgements ---


def table(rows: pd.DataFrame) -> str:
    """The points among rows of records, one line each: experts, then crowd; by bits and top-k, un-pruned last."""
    values = rows.pivot_table(index="point_id", columns="metric", values="value")
    points = rows.drop_duplicates("point_id").set_index("point_id")
    points = points.assign(kind=[json.loads(knobs)["judgements"] for knobs in points.knobs])
    lines = [f"{'judgements':<10} {'top_k':>5} {'bits':>5} {'pairs':>7} {'tau':>8}"]
    for kind in KINDS:
        of_kind = points[points.kind == kind.name].sort_values(["bits", "top_k"], na_position="last")
        for point_id, point in of_kind.iterrows():
            top_k, bits = (
                ("all" if pd.isna(point.top_k) else point.top_k),
                ("float" if pd.isna(point.bits) else point.bits),
            )
            value = values.loc[point_id]
            written = (
                f"{top_k:>5} {bits:>5} {value['judgements_rows']:7,.0f} {value.get(kind.metric, float('nan')):8.3f}"
            )
            lines.append(f"{kind.name:<10} {written}  tau-{kind.variant}")
    return "\n".join(lines)


def summary(rows: pd.DataFrame) -> list[str]:
    """Per kind of judgements, how many rows were used and how many were left out and why."""
    said = {}
    for _, point in rows.groupby("point_id"):
        name, value = json.loads(point.knobs.iloc[0])["judgements"], point.set_index("metric").value
        used, own, missing = (int(value[f"judgements_{what}"]) for what in ("rows", "own", "missing"))
        why = [f"{own:,} with a caption of the image itself"] if own else []
        why += [point.note.iloc[0]] if missing else []
        left_out = f"; left out: {'; '.join(why)}" if why else "; none left out"
        said[name] = f"{name}: used {used:,} of {used + own + missing:,} rows{left_out}"
    return [said[kind.name] for kind in KINDS if kind.name in said]


def main(arguments) -> None:
    """Measures one model and prints the results."""
    from bench.corpora import read_spec
    from bench.tasks.recall import read_top_k

    options = RecallOptions(top_k=read_top_k(arguments.top_k), bits=arguments.bits)
    subject = Subject.of(arguments)
    corpus = open_at(read_spec(arguments.corpus), [subject.model])
    check(corpus)
    slice_ = Slice(corpus, arguments.split, count(corpus, arguments.split, ALL))
    measurement = Measurement(arguments.home, subject, slice_, arguments.force)
    ids = measure_judgements(measurement, options)
    if not ids:
        raise InputError(f"corpus {corpus.name}: no judged pair has its image and caption in split {arguments.split}")
    recorded = RecordStore(arguments.home).read()
    rows = recorded[recorded.point_id.isin(ids)]
    print(table(rows))
    print("\n".join(summary(rows)))
    print(measurement.used)


def parser():
    """Flags of `lexlip-bench judgements`."""
    flags = cli.parser(
        "Agreement of a model's scores with the graded judgements of Flickr8k: Kendall's tau.", writes=True
    )
    add_subject(flags)
    flags.add_argument("--corpus", required=True, help="'{name: flickr8k, root: FOLDER}', with the judgements in it")
    flags.add_argument("--split", default="test", help="split of the judged images and captions; all of it is used")
    flags.add_argument("--top-k", default="4,8,16,32,64,all", help="top-k lexicons of an image, separated by commas")
    flags.add_argument("--bits", type=int, default=8, choices=(8, 16), help="bits of an impact")
    return flags
