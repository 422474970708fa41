"""docs/results.md, docs/scaling.md and the table of the README hold what the committed records say."""

import re
from types import SimpleNamespace

import pytest

from models.errors import InputError
from reports import results, scaling
from reports.pages import answer, method
from reports.records import bundle
from tests.reports.scale.records import FLAT, LEXICON, MANY, ONE
from tests.reports.scale.records import Made as Sweep

REFERENCE = results.ROOT / "results" / "reference"


@pytest.fixture(scope="module")
def found():
    return results.corpora_of(REFERENCE)


@pytest.fixture(scope="module")
def evidence(found):
    """Of the main corpus."""
    return found[0]


def test_the_main_results_are_those_of_the_reference_records(found):
    text = (results.ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for table in (*(answer.rows(one) for one in found), method.claims(found[0])):
        assert table.to_markdown() in text, table.name


@pytest.mark.nightly
def test_the_results_are_those_of_the_reference_records(found):
    text, figures = results.document(found, "../results/reference")
    assert text == (results.ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for name, svg in figures.items():
        assert (REFERENCE / f"{name}.svg").read_text(encoding="utf-8") == svg, name


def test_the_readme_holds_the_answer_and_the_table_of_the_records(found):
    text = (results.ROOT / "README.md").read_text(encoding="utf-8")
    parts = {"answer": results.readme_answer(found), "results": results.readme_table(found)}
    assert results.filled(text, parts) == text
    assert results.filled(text, {"answer": "other\n"}) != text


def test_numbers_of_the_readme_by_hand(evidence):
    by_hand = evidence.cell("clip", "recall@1", **evidence.retrieval(), **evidence.operating_point("clip"))
    table = results.readme_table([evidence])
    rows = [line.replace("\\", "") for line in table.splitlines() if re.match(r"\| [a-z]", line)]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows][:2] == ["lexlip", "clip"]
    assert f"| {100 * by_hand.value:.1f} [{100 * by_hand.low:.1f}, {100 * by_hand.high:.1f}] |" in rows[1]


def test_an_answer_without_measurements_says_so(made):
    sweep = Sweep(made.store)
    sweep.impact(32, 0.5, 1e4, 100.0, 64.0, images=1_000)
    assert results.readme_answer([sweep.evidence]).count("was not compared") == 3


def test_each_corpus_has_its_answer_its_table_and_its_charts(made, tmp_path):
    """Two corpora; charts of one name do not overwrite each other."""
    for corpus, variants in (("scenes", ("lexlip", "clip", "no_queue")), ("flickr8k", ("lexlip", "clip"))):
        for variant in variants:
            made.retrieval(made.point(variant, corpus=corpus, data_id=corpus), 0.5)
    reference, readme = tmp_path / "reference", tmp_path / "README.md"
    bundle.write([made.store], reference)
    readme.write_text("".join(f"{start}{stop}\n" for start, stop in results.MARKERS.values()))
    results.write(reference, tmp_path / "docs" / "results.md", readme)
    written, shown = (tmp_path / "docs" / "results.md").read_text(), readme.read_text()
    assert written.index("# scenes") < written.index("# flickr8k")
    assert written.count("**The paper against the records**") == 2 and written.count("**Reliability**") == 1
    assert [shown.count(text) for text in ("**scenes**", "**flickr8k**", "The models: ")] == [1, 1, 2]
    links = re.findall(r"\]\((\S+\.svg)\)", written)
    assert len(set(links)) == len(links) and any("/corpus-flickr8k_forest.svg" in link for link in links)
    for link in links:
        assert (tmp_path / "docs" / link).is_file(), link


def test_a_readme_without_the_markers_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# nothing to fill in")
    with pytest.raises(InputError, match="README.md: expected the markers"):
        results.write(REFERENCE, tmp_path / "results.md", tmp_path / "README.md")
    assert not (tmp_path / "results.md").exists()


# --- 100M and 1B images


def test_scaling_is_that_of_the_reference_records(tmp_path):
    arguments = SimpleNamespace(reference=REFERENCE, out=tmp_path / "scaling.md")
    scaling.main(arguments)
    assert arguments.out.read_text(encoding="utf-8") == (results.ROOT / "docs" / "scaling.md").read_text(
        encoding="utf-8"
    )


@pytest.fixture
def grown(made):
    """impact: time in proportion to the gallery, 64 B per image; flat: the square root of it. Two sizes of hnswlib."""
    sweep = Sweep(made.store)
    for images in (1_000, 10_000, 100_000):
        sweep.impact(32, 0.5, 1e7 / images, 100.0, 64.0, images=images)
        sweep.search("dense", 0.6, {ONE: 1e5 / images**0.5, MANY: 1.0}, 2048.0, images=images, **FLAT)
        if images > 1_000:
            sweep.search("dense", 0.6, 1e4, 2200.0, images=images, engine="hnswlib")
    return sweep.evidence


def test_extrapolation_by_hand(grown):
    found = [one for engine in scaling.ENGINES if (one := scaling.largest(grown, engine))]
    assert [search.engine for _, search, *_ in found] == ["impact", "faiss-flat"], "hnswlib has two sizes only"
    measured, made = scaling.measured_table(found).rows, scaling.extrapolated_table(found).rows
    assert [row["seconds"].value for row in measured] == pytest.approx([0.01, 100_000**0.5 / 1e5])
    assert [row["seconds exponent"].value for row in measured] == pytest.approx([1.0, 0.5])
    assert [row["bytes exponent"].value for row in measured] == pytest.approx([1.0, 1.0])
    for images in scaling.TARGETS:
        impact, flat = made
        assert impact[f"{images} bytes"].value == pytest.approx(64.0 * images)
        assert impact[f"{images} seconds"].value == pytest.approx(images / 1e7)
        assert impact[f"{images} cores"].value == pytest.approx(100 * images / 1e7)
        assert flat[f"{images} seconds"].value == pytest.approx(images**0.5 / 1e5)


def test_too_few_sizes_are_not_measured(made):
    sweep = Sweep(made.store)
    sweep.impact_single(32, 0.5, 100.0, 64.0, knobs=LEXICON)
    assert "Not measured" in scaling.document(sweep.evidence)
