"""The first page: which searches are compared, the verdicts, and the caveats."""

import pytest

from bench.store.records import Point, RecordStore
from reports.findings import answer as findings
from reports.findings import convergence
from reports.findings.verdict import LOSES, OPEN, ORDER, WINS
from reports.pages import answer, limits
from reports.records.evidence import Evidence
from reports.render.tables import points


def at_scale(sweep) -> dict[str, findings.Finding]:
    return {one.what: one for one in findings.at_scale(sweep.evidence)}


def test_the_pair_is_the_fastest_and_the_smallest_at_the_highest_recall_that_both_reach(sweep):
    """The level is 50 %: of the lexicon side top-64 is fastest and smallest, of the dense side only flat is as good."""
    found = at_scale(sweep)
    speed, size, best = found[findings.SPEED], found[findings.SIZE], found[findings.BEST]
    assert (speed.verdict, speed.difference.value) == (WINS, pytest.approx(20.0))
    assert (speed.reference.value, speed.baseline.value) == (200.0, 10.0)
    assert (size.verdict, size.difference.value) == (WINS, pytest.approx(2048 / 120))
    assert (best.verdict, best.difference.value) == (OPEN, pytest.approx(0.10)), "without an interval nothing is won"
    assert speed.how.startswith("impact, top-64, 8 bits; faiss-flat blas_from=4; one query at a time")
    assert len(speed.points) == 4 and set(speed.points) <= set(sweep.store.read().point_id)


def test_the_level_is_that_of_the_weaker_side(sweep):
    """With a dense engine of 70 %, the best lexicon R@1 is the level, and only top-256 reaches it."""
    sweep.search("dense", 0.70, 1000.0, 100.0, engine="usearch")
    found = at_scale(sweep)
    speed, size = found[findings.SPEED], found[findings.SIZE]
    assert (speed.verdict, speed.difference.value) == (LOSES, pytest.approx(0.1))
    assert (size.verdict, size.difference.value) == (LOSES, pytest.approx(0.25))


def test_about_equal_is_open(sweep):
    sweep.search("dense", 0.60, 98.0, 405.0, engine="usearch")
    found = at_scale(sweep)
    for what, ratio in ((findings.SPEED, 100 / 98), (findings.SIZE, 405 / 400)):
        assert (found[what].verdict, found[what].difference.value) == (OPEN, pytest.approx(ratio))


def test_one_side_only_has_no_pair(tmp_path, sweep_of):
    made = sweep_of(RecordStore(tmp_path / "home"))
    made.impact_single(32, 0.4, 100.0, 64.0)
    assert findings.at_scale(made.evidence) == []


def test_losses_come_first(home, sweep):
    for evidence in (Evidence(RecordStore(home)), sweep.evidence):
        verdicts = [one.verdict for one in findings.findings(evidence)]
        assert verdicts and verdicts == sorted(verdicts, key=ORDER.index)
        table = answer.section(evidence).tables[0]
        assert [row["verdict"].value for row in table.rows] == [answer.WORDS[verdict] for verdict in verdicts]


def test_the_first_page_shows_tiles_then_the_table(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    assert html.index('class="tiles"') < html.index("<table>") < html.index("Which parts matter")


def test_hard_negatives_that_are_lost_stand_first(tmp_path):
    store = RecordStore(tmp_path / "home")
    for variant, right in (("lexlip", 40), ("clip", 80)):
        point = Point(
            task="hard_negatives",
            corpus="scenes",
            split="test",
            images=100,
            queries=100,
            variant=variant,
            seed=0,
            checkpoint_id=variant,
        )
        rows = [
            {"query_id": f"{i}-count", "group": f"{i:04}", "kind": "count", "correct": i < right} for i in range(100)
        ]
        store.write(point, {"hard_negative_accuracy": right / 100}, rows)
    first = findings.findings(Evidence(store))[0]
    assert (first.verdict, first.what) == (LOSES, findings.HARD_NEGATIVES)
    assert (first.reference.value, first.baseline.value) == (0.4, 0.8)
    assert first.difference.value == pytest.approx(-0.4) and first.difference.high < 0
    assert set(first.points) == set(store.read().point_id)


def test_a_training_that_ended_early_is_a_caveat(home):
    evidence = Evidence(RecordStore(home))
    gains = convergence.still_learning(evidence)
    assert gains == pytest.approx(
        {"clip": 0.55 / 4, "lexlip": 0.45 / 4, "no_bottleneck": 0.44 / 4, "no_momentum": 0.15 / 4}
    )  # a straight line
    (caveat,) = [one for one in limits.caveats(evidence) if one.startswith("Not converged")]
    assert f"4 of 4 variants gained {points(gains['no_momentum'])} to {points(gains['clip'])} points" in caveat
