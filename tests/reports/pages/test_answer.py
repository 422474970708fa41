"""The first page: each sentence is one of the fixed templates, and each of its numbers is computed by hand."""

import numpy as np
import pytest

from bench.store.records import RecordStore
from reports.findings import answer as findings
from reports.findings import comparisons, fronts
from reports.pages import answer, limits
from reports.records.evidence import Evidence
from tests.reports.made import STARTED
from tests.reports.scale.records import FLAT, IMPACT, LEXICON, ONE
from tests.reports.scale.records import Made as Sweep


def text_of(evidence, name: str) -> findings.Sentence:
    return next(one for one in findings.sentences(evidence) if one.template.partition(" ")[0] == name)


def test_no_template_is_long():
    assert len(findings.TEMPLATES) <= 11
    for name, template in findings.TEMPLATES.items():
        said = template.replace("{range}", " (23.7 to 26.2 over rounds)").replace("{winner}", "lexlip")
        assert len(said.split()) <= findings.MOST_WORDS, name


def test_quality_is_the_paired_difference(home):
    evidence = Evidence(RecordStore(home))
    sides = [(n, evidence.retrieval() | evidence.operating_point(n)) for n in ("lexlip", "clip")]
    e, behind = comparisons.difference(evidence, *sides, "recall@1")
    found = text_of(evidence, "quality")
    assert e.value < 0 and set(found.points) == set(behind)
    if e.high < 0:
        gap, low, high = (f"{100 * value:.1f}" for value in (-e.value, -e.high, -e.low))
        expected = f"clip finds the right image first more often than lexlip: {gap} points of R@1 over 60 images "
        assert found.text == f"{expected}(95% interval {low} to {high}, 1 seed)." and found.winner == "clip"
    else:
        assert found.text.startswith("No clear difference in R@1 over 60 images: −") and found.winner == ""


def test_a_clear_winner_and_no_clear_difference(made):
    sweep = Sweep(made.store)
    hits = np.arange(1000) < 600
    common = {"task": "retrieval", "images": 1000, "seed": 0}
    sweep.answered("lexicon", hits, **IMPACT | {"top_k": 32, "knobs": LEXICON} | common)
    sweep.answered("dense", hits & (np.arange(1000) >= 100), **FLAT | common)
    clear = text_of(Evidence(made.store), "quality")
    assert clear.winner == "lexlip" and "more often than clip: 10.0 points of R@1 over 1,000 images" in clear.text
    other = Sweep(RecordStore(made.store.folder.parent.parent / "other"))
    other.answered("lexicon", hits, **IMPACT | {"top_k": 32, "knobs": LEXICON} | common)
    other.answered("dense", np.roll(hits, 5), **FLAT | common)
    equal = text_of(other.evidence, "quality")
    assert equal.winner == "" and equal.text.startswith("No clear difference in R@1 over 1,000 images: 0.0 points")


def test_a_sweep_alone_compares_the_best_of_both_kinds(tmp_path):
    made = Sweep(RecordStore(tmp_path / "home"))
    hits = np.arange(1000) < 600
    own = {"corpus": "vectors:mine", "profile": "", "variant": "", "checkpoint_id": ""}
    made.answered("lexicon", hits, {ONE: 50.0}, **IMPACT | {"top_k": 64, "knobs": LEXICON} | own)
    made.answered("dense", hits & (np.arange(1000) >= 100), {ONE: 100.0}, **FLAT | own)
    quality, speed, _ = findings.sentences(made.evidence)
    assert quality.text.startswith("lexicon finds the right image first more often than dense: 10.0 points of R@1 over")
    assert "dense answers 2.00× as many" in speed.text, "top-64 stands in for the operating point"


def test_speed_and_size_are_of_equal_engine_recall(tmp_path):
    """Engines find 87.5 %: the level is 80 %. top-4 is faster and smaller, but its vectors are not those compared."""
    made = Sweep(RecordStore(tmp_path / "home"))
    made.impact_single(4, 0.0, 9000.0, 8.0)
    made.impact_single(32, 0.4, 600.0, 64.0)
    made.search("dense", 0.5, 10.0, 2048.0, **FLAT)
    made.search("dense", 0.3, 3000.0, 32.0, engine="faiss-ivf-pq", knobs={"nprobe": 16})
    poor = made.point("dense", engine="scann", knobs={"leaves": 1})
    made.write(poor, {"engine_recall@10": 0.7, "recall@1": 0.2, "bytes_per_image": 9.0})
    timed = made.point("dense", engine="scann", knobs={"leaves": 1}, batch_mode="single", threads=1)
    made.write(timed, {"qps": 1e6})
    speed, size = text_of(made.evidence, "speed"), text_of(made.evidence, "size")
    assert (
        speed.text
        == "At 80% engine recall over 10,000 images, clip answers 5.00× as many queries per second as lexlip."
    )
    said = "32 B an image (faiss-ivf-pq, 3,000 queries/s) against 64 B (impact, 600 queries/s)."
    assert size.text == f"At that engine recall, the smallest index of clip is 2.00× smaller: {said}"
    assert (speed.winner, size.winner) == ("clip", "clip") and len(set(speed.points)) == 4
    assert set(speed.points + size.points) <= set(made.store.read().point_id)


def test_rounds_give_a_range_and_about_equal_is_open(tmp_path):
    made = Sweep(RecordStore(tmp_path / "home"))
    made.impact_single(32, 0.4, 100.0, 64.0)
    made.search("dense", 0.5, 100.0, 65.0, **FLAT)
    at = {"batch_mode": "single", "threads": 1}
    made.write(
        made.point("lexicon", **IMPACT | at | {"top_k": 32, "knobs": LEXICON}),
        {"qps": 103.0, "qps_min": 90.0, "qps_max": 110.0},
    )
    made.write(made.point("dense", **FLAT | at), {"qps": 100.0, "qps_min": 80.0, "qps_max": 120.0})
    speed, size = text_of(made.evidence, "speed"), text_of(made.evidence, "size")
    assert speed.winner == size.winner == ""
    said = "no clear difference: lexlip answers 1.03× as many queries per second as clip (0.750 to 1.38 over rounds)."
    assert speed.text.endswith(said), "90 / 120 and 110 / 80"
    said = "64 B an image (impact, 103 queries/s) and 65 B (faiss-flat, 100 queries/s)."
    assert size.text == f"At that engine recall, the smallest indexes are about equal: {said}"


@pytest.mark.parametrize(("least", "winner"), [(125.0, "lexlip"), (115.0, "")])
def test_a_side_is_faster_only_if_its_slowest_round_is(tmp_path, least, winner):
    """150 against 100 queries per second; the fastest round of the slower side had 120."""
    made = Sweep(RecordStore(tmp_path / "home"))
    made.impact_single(32, 0.4, 100.0, 64.0, found=1.0)
    made.search("dense", 0.5, 100.0, 65.0, found=1.0, **FLAT)
    at = {"batch_mode": "single", "threads": 1}
    lexicon = made.point("lexicon", **IMPACT | at | {"top_k": 32, "knobs": LEXICON})
    made.write(lexicon, {"qps": 150.0, "qps_min": least, "qps_max": 160.0})
    made.write(made.point("dense", **FLAT | at), {"qps": 100.0, "qps_min": 90.0, "qps_max": 120.0})
    speed = text_of(made.evidence, "speed")
    assert speed.winner == winner and "lexlip answers 1.50× as many" in speed.text
    (front,) = fronts.fronts(made.evidence)
    assert front.faster("exact").value == ("lexlip 1.50×" if winner else "about equal")


def test_the_time_with_text_encoding_stands_beside_that_of_search(tmp_path):
    made = Sweep(RecordStore(tmp_path / "home"))
    at = {"batch_mode": "single", "threads": 1}
    made.impact_single(32, 0.4, 200.0, 64.0)
    made.search("dense", 0.5, 100.0, 65.0, **FLAT)
    lexicon = made.point("lexicon", **IMPACT | at | {"top_k": 32, "knobs": LEXICON})
    made.write(lexicon, {"qps": 200.0, "latency_p50_us": 5000.0})
    made.write(made.point("dense", **FLAT | at), {"qps": 100.0, "latency_p50_us": 10_000.0})
    assert "text encoding" not in text_of(made.evidence, "speed").text
    for kind, spent in (("lexicon", 9000.0), ("dense", 1000.0)):
        made.write(made.point(kind, task="encoding", **at), {"encode_text_latency_p50_us": spent})
    said = "as clip. With text encoding, the median query takes 11,000 µs with clip and 14,000 µs with lexlip."
    assert text_of(made.evidence, "speed").text.endswith(said)


def test_what_was_not_measured_has_sentences_of_its_own(tmp_path):
    made = Sweep(RecordStore(tmp_path / "home"))
    made.impact_single(32, 0.4, 100.0, 64.0)
    found = findings.sentences(made.evidence)
    assert [one.template for one in found] == ["quality missing", "speed missing", "size missing"]
    assert all(one.winner is None for one in found) and answer.chart(made.evidence, "") is None
    assert findings.title(found) == "Quality not compared, speed not compared"


@pytest.mark.parametrize(
    ("quality", "speed", "title"),
    [
        ("lexlip", "clip", "lexlip finds more, clip searches faster"),
        ("clip", "clip", "clip finds more and searches faster"),
        ("", "lexlip", "Equal quality, lexlip searches faster"),
        ("lexlip", "", "lexlip finds more, equal speed"),
    ],
)
def test_the_title_states_the_finding(quality, speed, title):
    assert findings.title([findings.Sentence("", "", quality), findings.Sentence("", "", speed)]) == title


def test_the_chart_holds_the_searches_of_the_largest_gallery(sweep):
    sweep.impact_single(32, 0.9, 77.0, 64.0, images=1_000)
    sweep.search("dense", 0.9, 88.0, 2048.0, images=1_000, **FLAT)
    (panel,) = answer.chart(sweep.evidence, "").panels
    marks = {series.name: [(mark.x, mark.y, mark.size) for mark in series.marks] for series in panel.series}
    assert sorted(marks["clip, dense vectors"]) == [
        (10.0, 70.0, 2048.0), (300.0, pytest.approx(69.0), 2304.0), (800.0, 65.0, 2304.0)
    ]  # fmt: skip
    assert (900.0, pytest.approx(60.0), 64.0) in marks["lexlip, lexicon vectors"] and len(
        marks["lexlip, lexicon vectors"]
    ) == 4
    tips = [mark.tip for series in panel.series for mark in series.marks]
    ids = set(sweep.store.read().point_id)
    for tip in tips:
        assert set(tip.partition("records: ")[2].split(", ")) <= ids


def test_the_first_page_has_the_chart_then_sentences_then_the_models(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    order = ['id="figure-answer"', 'class="sentences"', "The models", "What was not measured"]
    assert [html.index(part) for part in order] == sorted(html.index(part) for part in order)
    assert html.count('<svg class="chart wide"') == html.count('<svg class="chart narrow"') == 1


def test_the_models_are_five_and_that_of_words_where_it_was_measured(home, made):
    shown = [row["variant"].value for row in answer.rows(Evidence(RecordStore(home))).rows]
    assert shown == ["lexlip", "clip", "no_bottleneck", "strong_decoder", "no_momentum"]
    for variant in ("lexlip", "lexlip_words"):
        made.retrieval(made.point(variant), 0.5)
    assert answer.rows(Evidence(made.store)).rows[-1]["variant"].value == "lexlip_words"


def test_the_variant_of_words_is_the_reference_where_the_plain_one_was_not_measured(made):
    for variant in ("lexlip_words", "clip"):
        made.retrieval(made.point(variant), 0.5)
    evidence = Evidence(made.store)
    assert evidence.reading.reference == "lexlip_words" and text_of(evidence, "quality").winner is not None
    assert [row["variant"].value for row in answer.rows(evidence).rows][:2] == ["lexlip_words", "clip"]


def test_pictures_of_scenes_only(made, tmp_path, page_of):
    for corpus in ("scenes", "flickr8k"):
        made.retrieval(made.point("lexlip", corpus=corpus, data_id=corpus), 0.5, made.examples("lexlip"))
    by_corpus = {one.corpus: answer.sections(one)[0].data["images"] for one in Evidence(made.store).by_corpus()}
    assert len(by_corpus["scenes"]) == 3 and by_corpus["flickr8k"] == []


def test_a_training_that_ended_early_is_a_caveat(home):
    rows = limits.not_measured(Evidence(RecordStore(home))).texts()
    (gained,) = [which for what, which in rows if what.endswith("until they stop improving")]
    assert gained == "4 of 4 gained +3.8 to +13.8 points of R@1 in the last quarter"  # a straight line: skill / 4


def test_several_precisions_are_a_caveat(made):
    """A home that moved to a machine without bfloat16: its later trainings are no repetitions of the earlier."""
    end = {"task": "training", "engine": "", "top_k": None, "bits": None, "images": None, "queries": None}
    end |= {"direction": "", "depth": None, "checkpoint_id": "", "split": "train"}
    said = []
    for name, seed, precision in (("lexlip", 0, "bfloat16"), ("clip", 0, "bfloat16"), ("clip", 1, "float32")):
        made.retrieval(made.point(name, seed=seed), 0.5)
        point = made.point(name, **end | {"seed": seed, "config_id": f"{name} {seed}"})
        made.store.write(point, {"train_seconds": 9.0}, note=f"precision {precision}; 1 thread", started=STARTED)
        rows = limits.caveats(Evidence(made.store)).texts()
        said.append([which for what, which in rows if what.startswith("Trained at several precisions")])
    assert said == [[], [], ["bfloat16: 2 trainings; float32: clip seed 1"]]


def test_rates_are_those_of_one_call(sweep):
    found = findings.field(sweep.evidence)
    assert (found.call, found.images) == (ONE, 10_000)


def test_words_have_a_sentence_of_their_own(made):
    """80 of 1,000 captions more, weights of 46.2% against 8%; three times as many queries at the same engine recall."""
    sweep = Sweep(made.store)
    hits = np.arange(1000) < 600
    common = {"task": "retrieval", "images": 1000, "seed": 0}
    words = {"variant": "lexlip_words", "checkpoint_id": "of words"}
    for of, found, share in (({}, hits, 0.08), (words, np.arange(1000) < 680, 0.462)):
        sweep.answered("lexicon", found, **IMPACT | {"top_k": 32, "knobs": LEXICON} | common | of)
        at = sweep.point("lexicon", task="sparsity", images=1000, seed=0, top_k=32, direction="", index_id="", **of)
        assert len(findings.words(Evidence(made.store))) == 0, "one of the two shares is missing"
        sweep.write(at, {"caption_precision_weighted": share})
    (found,) = findings.words(Evidence(made.store))
    start = "lexlip_words, trained on caption words, puts 46.2% of an image's weight on them (lexlip: 8.0%). "
    assert found.text.startswith(f"{start}R@1 minus lexlip: +8.0 points (+") and "queries" not in found.text
    sweep.impact_single(32, 0.4, 200.0, 64.0)
    sweep.impact_single(32, 0.4, 600.0, 64.0, **words)
    sweep.search("dense", 0.5, 10.0, 2048.0, **FLAT)
    evidence = Evidence(made.store)
    (found,) = findings.words(evidence)
    assert found.text.endswith(" At 80% engine recall: 3.00× the queries per second of lexlip.")
    (panel,) = answer.chart(evidence, "").panels
    names = ["lexlip, lexicon vectors", "clip, dense vectors", "lexlip_words, lexicon vectors"]
    assert [one.name for one in panel.series] == names
    speed = text_of(evidence, "speed")
    assert "lexlip answers 20.0× as many" in speed.text, "the sentence compares lexlip, not the faster variant of words"


def test_generated_vectors_stand_in_for_a_large_gallery(tmp_path):
    """Photographs: 1,000 were encoded, a million were generated after them, by another model than the reference."""
    made = Sweep(RecordStore(tmp_path / "home"))
    for images in (1_000, 100_000):
        made.impact_single(32, 0.4, 100.0, 64.0, images=images)
        made.search("dense", 0.5, 50.0, 2048.0, images=images, **FLAT)
        of = {"images": 1_000_000, "corpus": "synthetic:scenes"}
        made.impact_single(32, None, 900.0, 64.0, **of | {"variant": "lexlip_words"})
        made.search("dense", None, 10.0, 2048.0, **of, **FLAT)
        found = findings.field(made.evidence)
        assert found.images == (1_000_000 if images == 1_000 else 100_000), "an encoded gallery of 100,000 is enough"
        speed = text_of(made.evidence, "speed").text
        where = "1,000,000 generated vectors, lexlip_words" if images == 1_000 else "100,000 images, lexlip"
        assert f"engine recall over {where} answers" in speed
        assert answer.chart(made.evidence, "").panels[0].y.title == (
            "engine recall@10, %" if images == 1_000 else "R@10, %"
        )


def test_a_stretched_vocabulary_does_not_stand_in(tmp_path):
    made = Sweep(RecordStore(tmp_path / "home"))
    made.impact_single(32, None, 900.0, 64.0, images=1_000_000, corpus="synthetic:scenes:30522")
    made.search("dense", None, 10.0, 2048.0, images=1_000_000, corpus="synthetic:scenes:30522", **FLAT)
    assert findings.field(made.evidence) is None
