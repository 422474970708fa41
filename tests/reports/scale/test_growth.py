"""What grows with the gallery, and what the vectors are like."""

import numpy as np
import pytest

from reports.build import build
from reports.pages.scale import engines as scale_engines
from reports.pages.scale import growth as scale_growth
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


def test_exponents(grown, undrawn):
    table = next(table for table in scale_growth.section(grown.evidence).tables if table.name == "scale_growth")
    assert cell(table, "single 1", search="impact, top-32, 8 bits") == "−1.00"
    assert cell(table, "single 1", search="faiss-flat blas_from=4") == "−0.50"
    assert cell(table, "batched 2", search="faiss-flat blas_from=4") == "0.00"
    assert cell(table, "bytes", search="impact, top-32, 8 bits") == "+1.00"
    assert cell(table, "build", search="impact, top-32, 8 bits") == "0.00"  # 3 s at every size
    slope = np.polyfit(np.log([1e3, 1e4, 1e5]), np.log([0.499, 0.49, 0.4]), 1)[0]
    assert cell(table, "recall@1", search="impact, top-32, 8 bits") == f"{slope:+.2f}".replace("-", "−")
    slope = np.polyfit(np.log([1e3, 1e4, 1e5]), np.log([100 + 95, 1000 + 95, 10000 + 95]), 1)[0]
    assert cell(table, "latency_p95_us", search="impact, top-32, 8 bits") == f"{slope:+.2f}"
    assert cell(table, "sizes", search="impact, top-32, 8 bits") == "1,000 to 100,000 (3 sizes)"
    assert cell(table, "single 1", search="faiss-hnsw") == "timeout"


def test_two_sizes_are_no_fit(made, undrawn):
    for images in (1_000, 10_000):
        made.impact(32, 0.5, 100.0, 100.0, 64.0, images=images)
    table = next(table for table in scale_growth.section(made.evidence).tables if table.name == "scale_growth")
    assert cell(table, "single 1", search="impact, top-32, 8 bits") == "fewer than 3 sizes"


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
    tables = {table.name: table for table in scale_growth.section(controls.evidence).tables}
    factors = tables["scale_generated_2"]
    assert cell(factors, "factor", called=ONE.label) == "0.750×"
    assert cell(factors, "factor", called=MANY.label) == "1.00×"
    assert factors.notes[0] == "Searched in other rounds: 2 rates agree within a factor of 1.33."
    encoded, generated = (column.key for column in tables["scale_vectors_2"].columns[1:])
    assert (encoded, generated) == ("lexlip, encoded, 10,000 images", "lexlip, generated, 10,000 images")
    assert cell(tables["scale_vectors_2"], encoded, statistic="Zipf exponent") == "0.900"
    assert cell(tables["scale_vectors_2"], generated, statistic="Zipf exponent") == "0.800"


def test_encoded_vectors_that_were_searched_in_the_same_rounds_come_first(controls):
    timed = {
        "engine": "impact",
        "top_k": 32,
        "bits": 8,
        "exact": True,
        "knobs": LEXICON,
        "batch_mode": "single",
        "threads": 1,
    }
    controls.write(
        controls.point("lexicon", task="encoded_control", vectors_id="lexicons of scenes", **timed), {"qps": 900.0}
    )
    (factors,) = (
        table for table in scale_growth.section(controls.evidence).tables if table.name == "scale_generated_2"
    )
    assert cell(factors, "factor", called=ONE.label) == "0.500×"
    assert "in the same rounds" in factors.notes[0]


def test_generated_vectors_have_no_claim(controls, tmp_path, undrawn, whole):
    html = whole(build(controls.home, tmp_path / "site"))
    assert "These vectors have no task" in html
    assert "Zipf exponent 0.90" in html
    assert controls.evidence.corpus == "scenes"


def test_a_stretched_vocabulary_says_so(controls):
    corpus = "synthetic:scenes:30522"
    controls.impact(32, None, 4000.0, 9000.0, 64.0, corpus=corpus, vectors_id="stretched lexicons")
    generated = {
        table.caption: table
        for table in scale_growth.section(controls.evidence).tables
        if table.name.startswith("scale_generated")
    }
    notes = {"30522" in title: table.notes for title, table in generated.items()}
    assert "agree within a factor" in notes[False][0] and "stretched to 30522 lexicons" in notes[True][0]


def test_vectors_generated_after_another_checkpoint_are_not_held_against_the_encoded_ones(controls):
    impact = {"engine": "impact", "top_k": 32, "bits": 8, "exact": True, "knobs": LEXICON}
    newer = controls.point("lexicon", vectors_id="newer", checkpoint_id="newer", **impact)
    controls.write(newer, {"recall@1": 0.5, "bytes_per_image": 64.0}, started="2027-01-01T00:00:00+00:00")
    tables = {table.name: table for table in scale_growth.section(controls.evidence).tables}
    assert tables["scale_generated_2"].rows == []
    assert [column.key for column in tables["scale_vectors_2"].columns[1:]] == ["lexlip, generated, 10,000 images"]


def test_generated_vectors_alone(made, tmp_path, undrawn, whole):
    made.impact(32, None, 100.0, 200.0, 64.0, corpus="synthetic:scenes")
    assert "No search was measured on both synthetic:scenes and the vectors of scenes" in whole(
        build(made.home, tmp_path / "site")
    )
