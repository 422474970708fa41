"""What grows with the gallery, and what the vectors are like."""

import numpy as np
import pytest

from reports.pages import scale
from tests.reports.scale.records import FLAT, LEXICON, MANY, ONE, cell


@pytest.fixture
def grown(made):
    for images in (1_000, 10_000, 100_000):
        made.impact(32, 0.5 - images / 1e6, 1e7 / images, 1e8 / images, 64.0, images=images)
        made.search("dense", 0.6 - images / 1e6, {ONE: 1e5 / images**0.5, MANY: 100.0}, 2048.0, images=images, **FLAT)
        made.write(made.point("", task="false_negatives", variant="", checkpoint_id="", index_id="", images=images),
                   {"satisfying_mean": images / 1000, "satisfying_median": 1.0, "satisfied_share": 0.5})  # fmt: skip
    made.ended("dense", "timeout", "build: 60 s", engine="faiss-hnsw", images=100_000)
    return made


def tables_of(made) -> dict:
    return {table.name: table for section in scale.sections(made.evidence) for table in section.all_tables}


def test_exponents(grown):
    table = tables_of(grown)["scale_growth"]
    assert cell(table, "qps", search="impact, top-32, 8 bits") == "−1.00"
    assert cell(table, "qps", search="faiss-flat blas_from=4") == "−0.50"
    assert cell(table, "bytes", search="impact, top-32, 8 bits") == "+1.00"
    assert cell(table, "build", search="impact, top-32, 8 bits") == "0.00"  # 3 s at every size
    slope = np.polyfit(np.log([1e3, 1e4, 1e5]), np.log([100 + 95, 1000 + 95, 10000 + 95]), 1)[0]
    assert cell(table, "p95", search="impact, top-32, 8 bits") == f"{slope:+.2f}"
    assert cell(table, "least", search="faiss-hnsw") == "timeout"
    assert "over 1,000, 10,000, 100,000 images" in [row["qps"].n for row in table.rows]


def test_two_sizes_are_no_fit(made):
    for images in (1_000, 10_000):
        made.impact(32, 0.5, 100.0, 100.0, 64.0, images=images)
    assert cell(tables_of(made)["scale_growth"], "qps", search="impact, top-32, 8 bits") == "fewer than 3 sizes"


def test_distractors(grown):
    table = tables_of(grown)["scale_distractors"]
    lexicon, dense = (column.key for column in table.columns if column.group.startswith("R@1"))
    assert cell(table, lexicon, images="100,000") == "40.0"
    assert cell(table, dense, images="1,000") == "59.9"
    assert cell(table, "satisfying_mean", images="10,000") == "10.0"


def test_charts_hold_the_points_of_the_records(grown):
    (growth,) = scale.sections(grown.evidence)[0].charts
    rates = next(panel for panel in growth.panels if panel.title == "Queries per second")
    lexicon = next(series for series in rates.series if series.name == "lexlip, lexicon vectors")
    assert [(mark.x, mark.y) for mark in lexicon.marks] == [(1_000, 1e4), (10_000, 1e3), (100_000, 100.0)]
    assert all("records: " in mark.tip for mark in lexicon.marks)


def test_the_fastest_and_the_exact_engine_of_each_model_are_bold(grown):
    for images in (1_000, 10_000, 100_000):
        of = {"top_k": 32, "bits": 8, "images": images}
        grown.search("lexicon", 0.4, 3e7 / images, found=0.97, engine="kannolo", **of)
        grown.search("lexicon", 0.4, 9e7 / images, found=0.60, engine="seismic", **of)
        grown.impact(32, 0.6, 2e7 / images, 100.0, 64.0, images=images, variant="lexlip_words", found=1.0)
    (growth,) = scale.sections(grown.evidence)[0].charts
    rates = next(panel for panel in growth.panels if panel.title == "Queries per second")
    ends = {(one.name, one.colour): [] for one in rates.series}
    for one in rates.series:
        ends[one.name, one.colour].append((one.marks[-1].label, one.quiet))
    assert ends == {
        ("lexlip, lexicon vectors", 0): [("", True), ("impact", False), ("kannolo", False)],  # seismic finds too few
        ("clip, dense vectors", 1): [("faiss-flat", False)],
        ("lexlip_words, lexicon vectors", 2): [("impact", False)],
    }


@pytest.fixture
def controls(made):
    """The same engine over encoded vectors and over generated ones."""
    for corpus, rate, exponent in (("scenes", 600.0, 0.9), ("synthetic:scenes", 450.0, 0.8)):
        vectors = {"corpus": corpus, "vectors_id": f"lexicons of {corpus}"}
        made.impact(32, None if rate == 450 else 0.4, rate, 3000.0, 64.0, **vectors)
        statistics = made.point("lexicon", task="vectors", index_id="", **vectors)
        made.write(
            statistics, {"vectors_dimension": 4096.0, "vectors_zipf_exponent": exponent, "vectors_active_mean": 60.0}
        )
    return made


def test_generated_beside_encoded(controls):
    factors = tables_of(controls)["scale_generated_2"]
    assert cell(factors, "factor", called=ONE.label) == "0.750×"
    assert cell(factors, "factor", called=MANY.label) == "1.00×"
    assert "A factor near 1" in factors.notes[0]


def test_encoded_vectors_that_were_searched_in_the_same_rounds_come_first(controls):
    timed = {"engine": "impact", "top_k": 32, "bits": 8, "exact": True, "knobs": LEXICON, "batch_mode": "single"}
    point = controls.point("lexicon", task="encoded_control", vectors_id="lexicons of scenes", threads=1, **timed)
    controls.write(point, {"qps": 900.0})
    assert cell(tables_of(controls)["scale_generated_2"], "factor", called=ONE.label) == "0.500×"


def test_a_stretched_vocabulary_says_so(controls):
    corpus = "synthetic:scenes:30522"
    controls.impact(32, None, 4000.0, 9000.0, 64.0, corpus=corpus, vectors_id="stretched lexicons")
    notes = [t.notes[0] for name, t in tables_of(controls).items() if name.startswith("scale_generated")]
    assert any("stretched to 30522 lexicons" in note for note in notes)


def test_vectors_generated_after_another_checkpoint_are_not_held_against_the_encoded_ones(controls):
    impact = {"engine": "impact", "top_k": 32, "bits": 8, "exact": True, "knobs": LEXICON}
    newer = controls.point("lexicon", vectors_id="newer", checkpoint_id="newer", **impact)
    controls.write(newer, {"recall@1": 0.5, "bytes_per_image": 64.0}, started="2027-01-01T00:00:00+00:00")
    assert "scale_generated_2" not in tables_of(controls)
