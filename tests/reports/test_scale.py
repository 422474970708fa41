"""The sections of `bench.scale` from made-up records, with ratios computed by hand."""

import re

import numpy as np
import pandas as pd
import pytest

from bench.records import Point, RecordStore
from reports import scale
from reports.build import build
from reports.evidence import Evidence
from reports.scale import Call, sweeps
from reports.scale_answer import findings, verdicts
from reports.scale_ratios import comparisons, lexicon_side, sizes
from reports.sections import scale as claim
from reports.sections import scale_engines, scale_growth
from reports.site import STATIC
from reports.tables import text

STARTED = "2026-01-02T03:04:05+00:00"
ONE, MANY = Call("single", 1), Call("batched", 2)
HOSTILE = "<script>alert('x')</script>"
FLAT = {"engine": "faiss-flat", "knobs": {"blas_from": 4}, "exact": True}


class Made:
    """Writes points as `bench.scale` does."""

    def __init__(self, store: RecordStore):
        self.store = store

    def point(self, kind: str, **fields) -> Point:
        common = {
            "task": "scale", "corpus": "scenes", "split": "test", "images": 10_000, "queries": 5000, "direction": "text_to_image", "profile": "quick",
            "variant": "clip" if kind == "dense" else "lexlip", "kind": kind, "checkpoint_id": f"of {kind}", "data_id": "data",
            "vectors_id": f"vectors {kind}", "index_id": "index", "machine_id": "one", "command": "python -m bench.scale --corpus 10k",
        }  # fmt: skip
        return Point(**(common | fields))

    def write(self, point: Point, values=None, status="ok", note="", started=STARTED) -> None:
        self.store.write(point, values or {}, status=status, note=note, started=started)

    def search(self, kind: str, recall: float | None, rates: dict[Call, float], stored=100.0, note="", limit=None, **fields) -> None:
        """The accuracy of one way of searching, and its rates."""
        fields.setdefault("knobs", {"query_kept": None, "scale": 100.0} if kind == "lexicon" else {})
        point = self.point(kind, **fields)
        values = {
            "engine_recall@10": 0.875,
            "bytes_per_image": stored,
            "index_bytes": stored * point.images,
            "build_seconds": 3.0,
            "resident_bytes": 5e6,
        }
        if recall is not None:
            values |= {"recall@1": recall, "recall@5": recall + 0.1, "recall@10": recall + 0.2}
        self.write(point, values, note=note)
        for call, qps in rates.items():
            timed = {"qps": qps} | (
                {f"latency_p{p}_us": (1e6 / qps if qps else 0) + p for p in (50, 95, 99)} if call.mode == "single" else {}
            )
            timed |= {"limit_qps": limit} if limit else {}
            self.write(self.point(kind, **fields | {"batch_mode": call.mode, "threads": call.threads}), timed, note="median of 3 rounds")

    def ended(self, kind: str, status: str, note: str, **fields) -> None:
        """A way of searching that was never measured."""
        for call in ({}, {"batch_mode": "single", "threads": 1}, {"batch_mode": "batched", "threads": 2}):
            self.write(self.point(kind, **fields | call), status=status, note=note)

    def impact(self, kept: int, recall: float, single: float, batched: float, stored: float, **fields) -> None:
        self.search(
            "lexicon", recall, {ONE: single, MANY: batched}, stored, **{"engine": "impact", "kept": kept, "bits": 8, "exact": True} | fields
        )

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.store)

    @property
    def home(self):
        return self.store.folder.parent


@pytest.fixture
def made(tmp_path):
    return Made(RecordStore(tmp_path / "home"))


@pytest.fixture
def small(made):
    """R@1 of flat search 50 %; HNSW reaches 45 and 30 %. Lexicons: 20 % with 4 kept, 40 % with 32, 60 % with 256."""
    made.impact(4, 0.20, 2000.0, 9000.0, 20.0)
    made.impact(32, 0.40, 600.0, 3000.0, 64.0, limit=1200.0)
    made.impact(256, 0.60, 100.0, 500.0, 400.0)
    made.impact(32, 0.41, 550.0, 2900.0, 128.0, bits=16)
    made.search("dense", 0.50, {ONE: 10.0, MANY: 150.0}, 2048.0, **FLAT)
    for ef, recall, rate in ((16, 0.30, 1000.0), (64, 0.45, 400.0)):
        made.search("dense", recall, {ONE: rate, MANY: 2 * rate}, 2304.0, engine="faiss-hnsw", knobs={"ef": ef, "m": 32})
    made.search("dense", 0.25, {ONE: 3000.0, MANY: 6000.0}, 32.0, engine="faiss-ivf-pq", knobs={"nprobe": 16, "refine": None})
    made.ended("dense", "absent", "build: the package 'scann' is not installed", engine="scann", knobs={"leaves_to_search": 10})
    made.ended("dense", "absent", "build: the package 'scann' is not installed", engine="scann", knobs={"leaves_to_search": 30})
    for kind in ("lexicon", "dense"):
        made.search(kind, 0.0, {ONE: 90_000.0, MANY: 800_000.0}, 0.0, engine="dummy", kept=32 if kind == "lexicon" else None)
    return made


def cell(table, column: str, **where):
    """The text of a cell of the one row whose cells read so."""
    columns = {one.key: one for one in table.columns}
    rows = [
        row for row in table.rows if all(text(table.cell(row, columns[key]), columns[key]) == str(value) for key, value in where.items())
    ]
    assert len(rows) == 1
    return text(table.cell(rows[0], columns[column]), columns[column])


def engines_of(made):
    return next(table for table in scale_engines.section(made.evidence).tables if table.name == "scale_engines_10000")


# --- ratios


def test_the_lexicon_side_is_impact_by_lexicons_kept(small):
    assert [(search.kept, search.bits) for search in lexicon_side(sweeps(small.evidence)[0])] == [(4, 8), (32, 8), (256, 8)]


@pytest.mark.parametrize(
    ("kept", "column", "expected"),
    [
        (4, "flat single", 200.0),  # 2000 / 10
        (4, "hnsw", 2.0),  # 2000 / 1000: the point of 30 % is good enough for 20 %
        (4, "ivf", 2000 / 3000),
        (4, "any", 2000 / 3000),
        (32, "flat single", 60.0),
        (32, "hnsw", 1.5),  # 600 / 400: the point of 30 % is not good enough for 40 %
        (32, "any", 1.5),
    ],
)
def test_ratios_are_against_the_fastest_of_equal_quality(small, kept, column, expected):
    rows = comparisons(sweeps(small.evidence)[0])
    found = next(row for row in rows if row.search.kept == kept and row.call == ONE).faster[column]
    assert found.value == pytest.approx(expected)
    ids = set(small.store.read().point_id)
    assert len(set(found.points)) == 4  # accuracy and rate of both sides
    assert set(found.points) <= ids


def test_words_where_there_is_no_ratio(small):
    rows = comparisons(sweeps(small.evidence)[0])
    at = {(row.search.kept, row.call): row.faster for row in rows}
    assert at[256, ONE]["flat single"].missing == "not reached"
    assert at[256, ONE]["any"].missing == "not reached"
    assert at[256, ONE]["any"].n == "the best R@1 is 50.0 %"
    assert at[32, ONE]["ivf"].missing == "not reached"
    assert at[32, ONE]["flat batched"].missing == "not measured"  # in batches, with one thread
    assert at[32, MANY]["flat single"].missing == "not measured"
    assert at[32, MANY]["flat batched"].value == pytest.approx(20.0)  # 3000 / 150


def test_flat_batched_with_equal_threads_stands_beside_single_queries(small):
    small.write(small.point("dense", **FLAT, batch_mode="batched", threads=1), {"qps": 80.0})
    found = next(row for row in comparisons(sweeps(small.evidence)[0]) if row.search.kept == 32 and row.call == ONE)
    assert found.faster["flat batched"].value == pytest.approx(7.5)  # 600 / 80


def test_an_engine_that_ended_badly_says_how(small):
    for status, note in (("timeout", "build: 3,600 s"), ("out_of_memory", "search: 8 GiB")):
        small.ended("lexicon", status, note, engine="lucene", kept=32, bits=8)
        table = claim.section(small.evidence).tables[1]
        assert cell(table, "any", search="lucene", called=ONE.label) == f"{status.replace('_', ' ')}: {note}"


def test_sizes(small):
    at = {search.kept: sizes(sweeps(small.evidence)[0], search) for search in lexicon_side(sweeps(small.evidence)[0])}
    assert at[32]["flat float32"].value == pytest.approx(32.0)  # 2048 / 64
    assert at[32]["flat float32"].mark == ""
    assert at[256]["flat float32"].mark == "†"  # 50 % against 60 %
    assert at[4]["PQ"].value == pytest.approx(1.6)
    assert (at[32]["PQ"].value, at[32]["PQ"].mark) == (pytest.approx(0.5), "†")  # half the size, and 25 % against 40 %
    assert at[32]["SQ8"].missing == "not measured"


def test_the_claim_has_both_versions_and_the_range(small):
    table = claim.section(small.evidence).tables[0]
    speed = "Speed against flat, one query at a time, 1 thread"
    assert cell(table, "v1", what=speed) == "5.5× to 221.3× faster"
    assert cell(table, "iccv", what=speed) == "5.8× faster"
    assert cell(table, "impact", what=speed) == "60.0× to 200× faster; not reached in 1 of 3"
    assert cell(table, "impact", what="Index against flat float32") == "5.12× to 102× smaller"
    assert cell(table, "v1", what="Index against PQ") == "not available"


def answered(made, kind: str, hits: np.ndarray, **fields) -> None:
    """The accuracy of one way of searching with the first rank of each query, each on an image of its own."""
    point = made.point(kind, images=10_000, **fields)
    queries = [
        {"query_id": f"q{i}", "group": f"g{i}", "ranks": [1] if hit else [2], "relevant": 1, "latency_us": None}
        for i, hit in enumerate(hits)
    ]
    made.store.write(point, {"recall@1": float(hits.mean()), "bytes_per_image": 10.0}, queries, started=STARTED)


@pytest.mark.parametrize(
    ("only_lexicon", "only_dense", "equal"),
    [
        (88, 80, True),  # 0.4 points lower, as good as chance
        (8, 0, False),  # as far, but every query that differs says the same: p = 2 / 2^8
        (5, 0, True),  # 2 / 2^5
        (112, 100, False),  # chance too, but more than half a point
        (80, 88, True),
        (0, 0, True),
    ],
)
def test_equal_is_lower_by_little_and_by_chance(made, only_lexicon, only_dense, equal):
    lexicon, dense = np.zeros(2000, bool), np.zeros(2000, bool)
    lexicon[: 200 + only_lexicon], dense[:200] = True, True
    dense[200 + only_lexicon : 200 + only_lexicon + only_dense] = True
    answered(made, "lexicon", lexicon, engine="impact", kept=32, bits=8, knobs={"query_kept": None, "scale": 100.0})
    answered(made, "dense", dense, **FLAT)
    sweep = sweeps(made.evidence)[0]
    flat, impact = (next(search for search in sweep.searches if search.kind == kind) for kind in ("dense", "lexicon"))
    assert sweep.as_good(flat, impact) is equal
    assert (sizes(sweep, impact)["flat float32"].mark == "") is equal


def test_without_the_same_queries_only_what_is_as_high_is_equal(made):
    hits = np.arange(1000) < 250
    answered(made, "lexicon", hits, engine="impact", kept=32, bits=8, knobs={"query_kept": None, "scale": 100.0})
    answered(made, "dense", hits[1:], **FLAT)
    sweep = sweeps(made.evidence)[0]
    flat, impact = (next(search for search in sweep.searches if search.kind == kind) for kind in ("dense", "lexicon"))
    assert flat.recall < impact.recall
    assert not sweep.as_good(flat, impact)


# --- sentences


def test_losses_come_first(small):
    sweep = sweeps(small.evidence)[0]
    found = findings(sweep, comparisons(sweep))
    assert [finding.verdict for finding in found] == ["loses", "loses", "open", "wins"]
    assert [finding.what for finding in found] == [
        "Speed, one query at a time, 1 thread",
        "Index size",
        "R@1",
        "Speed, in batches, 2 threads",
    ]
    assert "a dense engine is faster than impact with 4 lexicons kept (by up to 1.50×" in found[0].sentence
    assert "no dense engine that ran reaches the R@1 of impact with 256 lexicons kept" in found[0].sentence
    assert "As good as flat dense search for impact with 256 lexicons kept, and below it otherwise" in found[2].sentence
    assert all(finding.points for finding in found)


def test_lower_quality_at_every_number_kept_is_a_loss(made):
    made.impact(4, 0.20, 2000.0, 9000.0, 20.0)
    made.impact(32, 0.40, 600.0, 3000.0, 64.0)
    made.search("dense", 0.50, {ONE: 10.0}, 2048.0, **FLAT)
    sweep = sweeps(made.evidence)[0]
    first = findings(sweep, comparisons(sweep))[0]
    assert (first.verdict, first.what) == ("loses", "R@1")
    assert first.sentence.startswith("Below flat dense search at every number of lexicons kept: flat dense search has 50.0 %")
    assert first.sentence.endswith("40.0 %, −10.0 points.")
    said = verdicts(sweep, comparisons(sweep))
    assert (
        said[0]
        == "Speed against flat search, one query at a time: 60.0× to 200× here, within the 5.5× to 221.3× of arXiv v1 (ICCV version: 5.8×)."
    )
    assert said[1].startswith("Index against flat float32: 32.0× to 102× here, partly within the 13.2× to 48.8×")
    assert "impact with 4 and 32 lexicons kept, R@1 is −10.0 to −30.0 points" in said[2]


@pytest.mark.parametrize(("rate", "relation"), [(20.0, "below"), (100.0, "within"), (5000.0, "above")])
def test_one_ratio_against_the_published_range(made, rate, relation):
    made.impact(32, 0.50, rate, rate, 64.0)
    made.search("dense", 0.50, {ONE: 10.0}, 2048.0, **FLAT)
    sweep = sweeps(made.evidence)[0]
    said = verdicts(sweep, comparisons(sweep))
    assert f"here, {relation} the 5.5× to 221.3×" in said[0]
    assert said[2] == "Quality: R@1 is as good as that of flat search at every number of lexicons kept."


# --- engines


def test_engine_table(small):
    table = engines_of(small)
    main = "impact, 32 kept, 8 bits"
    assert cell(table, "recall@5", search=main) == "50.0"
    assert cell(table, "single 1 qps", search=main) == "600"
    assert cell(table, "single 1 limit", search=main) == "1,200"
    assert cell(table, "single 1 share", search=main) == "50.0"
    assert cell(table, "single 1 p95", search=main) == "1,762"
    assert cell(table, "bytes_per_image", search=main) == "64 B"
    assert cell(table, "single 1 share", search="faiss-flat blas_from=4") == "–"
    assert cell(table, "recall@1", search="faiss-ivf-pq nprobe=16") == "25.0"
    assert [row["search"].value for row in table.rows[-2:]] == ["dummy", "dummy"]
    assert cell(table, "recall@1", search="dummy", kind="dense") == "–"
    assert cell(table, "single 1 qps", search="dummy", kind="dense") == "90,000"


def test_settings_that_never_ran_are_one_row(small):
    table = engines_of(small)
    assert cell(table, "recall@1", search="scann, 2 settings") == "absent"
    assert cell(table, "note", search="scann, 2 settings") == "absent: build: the package 'scann' is not installed"


def test_rates_that_failed_leave_the_quality(made):
    made.search("dense", 0.50, {ONE: 10.0}, 2048.0, **FLAT)
    made.write(made.point("dense", **FLAT, batch_mode="batched", threads=2), status="failed", note="round 2: killed")
    table = engines_of(made)
    assert cell(table, "recall@1", search="faiss-flat blas_from=4") == "50.0"
    assert cell(table, "batched 2 qps", search="faiss-flat blas_from=4") == "failed"
    assert "round 2: killed" in cell(table, "note", search="faiss-flat blas_from=4")


def test_not_as_exact_as_it_says(made):
    made.search("lexicon", 0.4, {ONE: 10.0}, note="called exact, and is not on these vectors", engine="lucene", kept=32, bits=8, exact=True)
    assert cell(engines_of(made), "note", kind="lexicon") == "called exact, and is not on these vectors"


def test_pareto():
    assert scale_engines.pareto([(1, 9), (2, 8), (2, 7), (3, 8), (4, 1), (0, 9)]) == [0, 3, 4]
    assert scale_engines.pareto([(1, 1), (1, 1)]) == [0, 1]
    assert scale_engines.pareto([]) == []


def test_end_to_end_is_the_sum(small):
    encoding = {"task": "encoding", "images": None, "vectors_id": "", "index_id": "", "batch_mode": "single", "threads": 1}
    small.write(small.point("lexicon", **encoding), {"encode_text_latency_p50_us": 4000.0})
    table = next(table for table in scale_engines.section(small.evidence).tables if table.name == "scale_end_to_end")
    assert cell(table, "found", search="impact, 256 kept, 8 bits") == "10,050"  # 1e6 / 100 + 50
    assert cell(table, "whole", search="impact, 256 kept, 8 bits") == "14,050"
    assert cell(table, "share", search="impact, 256 kept, 8 bits") == f"{100 * 4000 / 14050:.1f}"
    assert cell(table, "whole", search="faiss-flat blas_from=4") == "not measured"


# --- growth


@pytest.fixture
def grown(made):
    for images in (1_000, 10_000, 100_000):
        made.impact(32, 0.5 - images / 1e6, 1e7 / images, 1e8 / images, 64.0, images=images)
        made.search("dense", 0.6 - images / 1e6, {ONE: 1e5 / images**0.5, MANY: 100.0}, 2048.0, images=images, **FLAT)
        made.write(made.point("", task="false_negatives", variant="", checkpoint_id="", index_id="", images=images),
                   {"satisfying_mean": images / 1000, "satisfying_median": 1.0, "satisfied_share": 0.5})  # fmt: skip
    made.ended("dense", "timeout", "build: 60 s", engine="faiss-hnsw", images=100_000)
    return made


def test_exponents(grown, undrawn):
    table = next(table for table in scale_growth.section(grown.evidence).tables if table.name == "scale_growth")
    assert cell(table, "single 1", search="impact, 32 kept, 8 bits") == "−1.00"
    assert cell(table, "single 1", search="faiss-flat blas_from=4") == "−0.50"
    assert cell(table, "batched 2", search="faiss-flat blas_from=4") == "0.00"
    assert cell(table, "bytes", search="impact, 32 kept, 8 bits") == "+1.00"
    assert cell(table, "build", search="impact, 32 kept, 8 bits") == "0.00"  # 3 s at every size
    slope = np.polyfit(np.log([1e3, 1e4, 1e5]), np.log([0.499, 0.49, 0.4]), 1)[0]
    assert cell(table, "recall@1", search="impact, 32 kept, 8 bits") == f"{slope:+.2f}".replace("-", "−")
    slope = np.polyfit(np.log([1e3, 1e4, 1e5]), np.log([100 + 95, 1000 + 95, 10000 + 95]), 1)[0]
    assert cell(table, "latency_p95_us", search="impact, 32 kept, 8 bits") == f"{slope:+.2f}"
    assert cell(table, "sizes", search="impact, 32 kept, 8 bits") == "1,000 to 100,000 (3 sizes)"
    assert cell(table, "single 1", search="faiss-hnsw") == "timeout"


def test_two_sizes_are_no_fit(made, undrawn):
    for images in (1_000, 10_000):
        made.impact(32, 0.5, 100.0, 100.0, 64.0, images=images)
    table = next(table for table in scale_growth.section(made.evidence).tables if table.name == "scale_growth")
    assert cell(table, "single 1", search="impact, 32 kept, 8 bits") == "fewer than 3 sizes"


def test_distractors(grown, undrawn):
    table = next(table for table in scale_growth.section(grown.evidence).tables if table.name == "scale_distractors")
    lexicon, dense = (column.key for column in table.columns if column.group == "R@1, %")
    assert cell(table, lexicon, images="100,000") == "40.0"
    assert cell(table, dense, images="1,000") == "59.9"
    assert cell(table, "satisfying_mean", images="10,000") == "10.0"


def test_the_figures_are_drawn(grown):
    for section in (scale_engines.section(grown.evidence), scale_growth.section(grown.evidence)):
        assert section.figures
        assert all(figure.svg.startswith(b"<?xml") and figure.alt for figure in section.figures)


# --- vectors


@pytest.fixture
def twins(made):
    """The same engine over encoded vectors and over generated ones."""
    for corpus, rate, exponent in (("scenes", 600.0, 0.9), ("synthetic:scenes", 450.0, 0.8)):
        vectors = {"corpus": corpus, "vectors_id": f"lexicons of {corpus}"}
        made.impact(32, None if rate == 450 else 0.4, rate, 3000.0, 64.0, **vectors)
        statistics = made.point("lexicon", task="vectors", index_id="", **vectors)
        made.write(statistics, {"vectors_dimension": 4096.0, "vectors_zipf_exponent": exponent, "vectors_active_mean": 60.0})
    return made


def test_generated_beside_encoded(twins):
    tables = {table.name: table for table in scale_growth.section(twins.evidence).tables}
    factors = tables["scale_generated_2"]
    assert cell(factors, "factor", called=ONE.label) == "0.750×"
    assert cell(factors, "factor", called=MANY.label) == "1.00×"
    encoded, generated = (column.key for column in tables["scale_vectors_2"].columns[1:])
    assert (encoded, generated) == ("lexlip, encoded, 10,000 images", "lexlip, generated, 10,000 images")
    assert cell(tables["scale_vectors_2"], encoded, statistic="Zipf exponent") == "0.900"
    assert cell(tables["scale_vectors_2"], generated, statistic="Zipf exponent") == "0.800"


def test_generated_vectors_have_no_claim(twins, tmp_path, undrawn, whole):
    html = whole(build(twins.home, tmp_path / "site"))
    assert "No R@1 was measured on these vectors" in html
    assert "Zipf exponent 0.90" in html
    assert twins.evidence.corpus == "scenes"


def test_generated_vectors_alone(made, tmp_path, undrawn, whole):
    made.impact(32, None, 100.0, 200.0, 64.0, corpus="synthetic:scenes")
    assert "No engine was measured on both synthetic:scenes and scenes" in whole(build(made.home, tmp_path / "site"))


# --- what is compared with what


def test_machines_never_mix(small):
    small.impact(32, 0.40, 7000.0, 7000.0, 64.0, machine_id="two")
    found = {sweep.machine_id: comparisons(sweep) for sweep in sweeps(small.evidence)}
    assert {row.search.rate(ONE) for row in found["two"]} == {7000.0}
    assert {row.faster["any"].missing for row in found["two"]} == {"not measured"}
    assert 7000.0 not in {row.search.rate(ONE) for row in found["one"]}


def test_an_earlier_checkpoint_of_another_machine_stays(small):
    small.impact(32, 0.40, 7000.0, 7000.0, 64.0, machine_id="two", checkpoint_id="other")
    assert {sweep.machine_id for sweep in sweeps(small.evidence)} == {"one", "two"}


def test_of_two_codes_of_an_engine_the_newest_index_stands(made):
    made.impact(32, 0.40, 600.0, 3000.0, 64.0, index_id="old")
    point = made.point("lexicon", engine="impact", kept=32, bits=8, index_id="new", exact=True, knobs={"query_kept": None, "scale": 100.0})
    made.write(point, {"recall@1": 0.45, "bytes_per_image": 60.0}, started="2026-02-01T00:00:00+00:00")
    (search,) = sweeps(made.evidence)[0].searches
    assert (search.recall, search.calls) == (0.45, {})


def test_chosen_is_the_setting_of_most_sizes(small):
    small.impact(32, 0.45, 900.0, 3000.0, 64.0, images=1_000)
    settings = {
        (search.engine, search.kept, search.images) for search in scale.chosen(sweeps(small.evidence)[0]) if search.engine == "impact"
    }
    assert settings == {("impact", 32, 10_000), ("impact", 32, 1_000)}


# --- the page


def test_page(small, tmp_path, undrawn, whole):
    index = build(small.home, tmp_path / "site")
    html, first = whole(index), index.read_text(encoding="utf-8")
    csv = pd.read_csv(tmp_path / "site" / "tables" / "scale_speed.csv").set_index(["kept", "called"])
    assert float(csv.loc[(32, ONE.label), "flat single"]) == pytest.approx(60.0)
    assert "python -m bench.scale --corpus 10k" in html
    assert first.index("Loses") < first.index("Wins")
    assert "Absent: clip" not in html  # no line for each setting that did not run


def test_a_page_without_a_sweep_says_what_to_run(home, site, whole):
    html = whole(site / "index.html")
    assert "Not measured: run <code>python -m bench.scale --corpus 1M</code>" in html
    assert 'id="scale_engines"' not in html
    assert scale_growth.section(Evidence(RecordStore(home))) is None


@pytest.mark.parametrize("only", ["lexicon", "dense"])
def test_one_side_only(made, tmp_path, undrawn, whole, only):
    if only == "lexicon":
        made.impact(32, 0.4, 100.0, 200.0, 64.0)
    else:
        made.search("dense", 0.5, {ONE: 10.0}, 2048.0, **FLAT)
    html = whole(build(made.home, tmp_path / "site"))
    assert ("Only dense engines were measured" in html) == (only == "dense")


def test_names_are_text(small, tmp_path, undrawn, whole):
    small.search("dense", 0.5, {ONE: 10.0}, engine=HOSTILE, knobs={HOSTILE: HOSTILE}, variant=HOSTILE)
    small.impact(8, 0.3, 100.0, 100.0, 10.0, corpus=f"vectors:{HOSTILE}", profile="")
    small.ended("dense", "failed", HOSTILE, engine="scann", knobs={"leaves_to_search": 99}, images=1_000)
    small.write(small.point("dense", engine="faiss-flat", command=HOSTILE, images=1_000), {"recall@1": 0.5})
    html = whole(build(small.home, tmp_path / "site"))
    scripts = re.findall(r"<script[^>]*>", html)
    assert all('type="application/json"' in one or one in [f'<script src="static/{name}" defer>' for name in STATIC] for one in scripts)
    assert "&lt;script&gt;" in html


def test_strange_numbers_do_not_stop_it(small, tmp_path, undrawn):
    small.search("dense", 0.55, {ONE: 0.0, MANY: float("inf")}, 0.0, engine="usearch")
    small.search("dense", float("nan"), {ONE: float("nan")}, float("nan"), engine="hnswlib")
    build(small.home, tmp_path / "site")
    found = [row.faster[name] for row in comparisons(sweeps(small.evidence)[0]) for name in row.faster]
    assert all(cell.missing or np.isfinite(cell.value) for cell in found)
