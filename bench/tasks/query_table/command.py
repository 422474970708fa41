"""Queries without a text encoder: by tables of token weights, beside those of the model's own encoder.

    lexlip-bench query-table --checkpoint LEXLIP --corpus scenes --images 1000

Makes a table of each method of `models.query_table.table` (idf, learned, free) and measures the four kinds of queries
over the same index. For each kind two points of the task "query_table", with knobs {"queries": "encoder" or the method,
"table": id of the table}:

    batch_mode ""          recall, lexicons per query, multiply-adds per pair
    batch_mode "single"    end-to-end time from text to ids (`bench.tasks.query_table.end_to_end`)
"""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.store import cli
from bench.store.config import code_fingerprint
from bench.tasks.query_table.end_to_end import SHARES, end_to_end
from bench.tasks.retrieval.direction import CODE as RETRIEVAL
from bench.tasks.retrieval.direction import Direction
from bench.tasks.retrieval.settings import RecallOptions, Setting
from bench.tasks.subject import Measurement, Slice, Subject, add_subject
from bench.tasks.timing import Timing
from bench.vectors.encode import Encoded
from bench.vectors.encoder import Encoder
from bench.vectors.format import to_csr
from bench.vectors.impacts import SCALE, quantise
from bench.vectors.statistics import evenly
from models.errors import InputError
from models.query_table import METHODS

if TYPE_CHECKING:
    from bench.tasks.query_table.encoder import TableEncoder
    from bench.tasks.query_table.tables import Making

TASK, ENCODER = "query_table", "encoder"
CODE = (
    *RETRIEVAL,
    "bench.tasks.query_table.command",
    "bench.tasks.query_table.encoder",
    "bench.tasks.query_table.end_to_end",
    "models.query_table.table",
)
ENGINE = "impact"


@dataclass(frozen=True)
class TableOptions:
    """top_k: lexicons of an image. bits: of an impact. depth: results ranked. timing: None leaves times out."""

    top_k: int = 32
    bits: int = 8
    depth: int = 1000
    timing: Timing | None = Timing()


@dataclass(frozen=True)
class ByTable(Measurement):
    """A measurement whose captions are encoded by a table, and its images by the model."""

    encoded: Encoded | None = None

    @classmethod
    def of(cls, measurement: Measurement, encoder: "TableEncoder") -> "ByTable":
        """Encodes the captions unless they exist."""
        from bench.tasks.query_table.encoder import encode_queries

        slice_, home, force = measurement.slice, measurement.home, measurement.force
        captions, id_ = encode_queries(home, encoder, slice_.corpus, slice_.split, slice_.images, force)
        encoded = replace(measurement.encoded, captions=captions, captions_id=id_, rates={})
        return cls(home, measurement.subject, slice_, force, encoded)


def measure_query_tables(measurement: Measurement, making: "Making", options: TableOptions) -> list["Queries"]:
    """Makes the tables and measures the queries of the encoder and of each table; returns them in this order.

    Raises InputError for dense vectors, and for a broken checkpoint or corpus.
    """
    measurement.subject.require_lexicons()
    kinds = [Queries(measurement, options, ENCODER, measurement.subject.encoder)]
    for method in METHODS:
        encoder = making.make(method)
        kinds.append(Queries(ByTable.of(measurement, encoder), options, method, encoder))
    for queries in kinds:
        queries.accuracy()
        if options.timing:
            queries.timing()
    return kinds


class Queries:
    """One kind of queries over the index of a slice. name: "encoder", or the method of the table."""

    def __init__(self, measurement: Measurement, options: TableOptions, name: str, encoder: Encoder):
        self.measurement, self.options, self.name, self.encoder = measurement, options, name, encoder
        self.setting = Setting(ENGINE, options.top_k, options.bits)
        self.search = Direction(measurement, "text_to_image", RecallOptions(depth=options.depth))
        self.index = self.search.index(self.setting, measurement.force and name == ENCODER)  # all kinds share it
        knobs = {"queries": name} | ({} if name == ENCODER else {"table": encoder.id})
        fields = {"task": TASK, "knobs": knobs, "code_id": code_fingerprint(*CODE)}
        self.base = replace(self.search.point(self.setting, self.index.id), **fields)
        self.ids: list[str] = []

    def accuracy(self) -> None:
        """Writes the point of recall, lexicons per query and multiply-adds, unless it exists."""
        search = self.search
        point = replace(self.base, queries=search.queries.count, depth=search.depth)
        self.ids.append(point.id)
        if self.measurement.exists(point):
            return
        ids, _ = search.ranking(self.setting)
        values, sidecar = search.relevance.evaluate(ids)
        self.measurement.store.write(point, values | search.cost(self.setting), sidecar)

    def timing(self) -> None:
        """Writes the point of the end-to-end time, unless it exists."""
        search, timing, slice_ = self.search, self.options.timing, self.measurement.slice
        which = evenly(search.queries.count, timing.queries)
        fields = {"depth": timing.depth, "threads": timing.threads, "queries": len(which), "batch_mode": "single"}
        point = replace(self.base, **fields)
        self.ids.append(point.id)
        if self.measurement.exists(point):
            return
        wanted = set(which.tolist())
        captions = enumerate(slice_.corpus.captions(slice_.split, 0, slice_.images))
        texts = [text for row, (_, text, _) in captions if row in wanted]
        with self.index.open() as engine:
            measured = end_to_end(self.query_of, engine, texts, timing, **self.setting.search_knobs)
        timed = which[measured.which]
        ranks, _ = search.relevance.ranks(measured.ids, timed)
        sidecar = search.relevance.sidecar(timed, ranks, measured.latency_us)
        about = {"note": measured.note, "seconds": measured.seconds}
        self.measurement.store.write(point, measured.values, sidecar, **about)

    def query_of(self, text: str):
        """The query of a text as the index takes it, CSR (1, V) of unsigned integers."""
        return quantise(to_csr(self.encoder.texts([text])), SCALE, self.options.bits)


# --- lexlip-bench query-table ---


def table(rows) -> str:
    """One line per kind of queries, among rows of records."""
    times = f"{'text to ids p50':>16} {'p95 us':>8} {'of it encoding':>15}"
    lines = [f"{'queries':<9} {'R@1':>6} {'R@5':>6} {'R@10':>6} {'lexicons':>9} {'multiply-adds':>14} {times}"]
    for knobs, of_kind in rows.groupby("knobs", sort=False):
        value = of_kind.set_index("metric").value
        recalls = " ".join(f"{value.get(f'recall@{k}', float('nan')):6.3f}" for k in (1, 5, 10))
        cost = f"{value.active_lexicons_text:9.1f} {value.flops_per_pair:14.2f}"
        names = (f"end_to_end_p{SHARES[0]}_us", f"end_to_end_p{SHARES[1]}_us", f"encode_text_latency_p{SHARES[0]}_us")
        p50, p95, encoding = (f"{value[name]:.0f}" if name in value else "-" for name in names)
        lines.append(f"{json.loads(knobs)['queries']:<9} {recalls} {cost} {p50:>16} {p95:>8} {encoding:>15}")
    return "\n".join(lines)


def main(arguments) -> None:
    """Makes and measures the tables of one checkpoint; prints a line per kind of queries, and the folders."""
    from bench.corpora import read_spec
    from bench.tasks.query_table.pairs import images_to_learn_from
    from bench.tasks.query_table.tables import Making
    from models.query_table.learn import LearnConfig

    if min(arguments.top_k, arguments.steps, arguments.batch, arguments.threads) < 1:
        raise InputError("--top-k, --steps, --batch and --threads: expected at least 1")
    subject = Subject.of(arguments)
    subject.require_lexicons()
    slice_ = Slice.open(read_spec(arguments.corpus), arguments.split, arguments.images, [subject.model])
    measurement = Measurement(arguments.home, subject, slice_, arguments.force)
    images = images_to_learn_from(slice_.corpus, subject.model, arguments.train_images)
    learning = LearnConfig(arguments.steps, arguments.batch, seed=arguments.learning_seed)
    making = Making(arguments.home, subject.encoder, slice_.corpus, images, arguments.top_k, learning, arguments.force)
    timing = Timing(threads=arguments.threads) if arguments.timing else None
    options = TableOptions(arguments.top_k, arguments.bits, timing=timing)
    kinds = measure_query_tables(measurement, making, options)
    ids, rows = [id_ for queries in kinds for id_ in queries.ids], measurement.store.read()
    print(table(rows[rows.point_id.isin(ids)].set_index("point_id").loc[ids].reset_index()))
    for queries in kinds:
        if queries.name != ENCODER:
            print(f"{queries.name}: table {queries.encoder.source}")
        print(f"{queries.name}: queries {queries.search.queries.folder}")
    print(f"images {measurement.encoded.images.folder}")
    print(measurement.used)


def parser():
    """Flags of `lexlip-bench query-table`."""
    about = "Queries without a text encoder, by tables of token weights, beside the model's own: recall, cost, time."
    flags = cli.parser(about, writes=True)
    add_subject(flags, pretrained=False)
    cli.add_corpus(flags)
    images = "images of train to learn from, a number or all; those of the run, at most 20,000, unless given"
    flags.add_argument("--train-images", type=cli.images_or_all, default=None, help=images)
    flags.add_argument("--top-k", type=int, default=32, help="top-k lexicons of an image, in learning and in the index")
    flags.add_argument("--bits", type=int, default=8, choices=(8, 16), help="bits of an impact")
    flags.add_argument("--steps", type=int, default=400, help="steps of learning")
    flags.add_argument("--batch", type=int, default=512, help="pairs of a step")
    flags.add_argument(
        "--learning-seed",
        type=cli.positive(int, or_zero=True),
        default=0,
        help="seed of learning, beside that of the model",
    )
    flags.add_argument("--threads", type=cli.positive(int), default=1, help="threads of the timed search")
    flags.add_argument("--no-timing", dest="timing", action="store_false", help="leave out times")
    return flags
