"""Models trained for longer stand beside those of the report, and the first page says which side they favour."""

import dataclasses

import numpy as np
import pytest

from reports.findings import answer, convergence
from reports.pages import ablations
from reports.pages.ablations import longer
from reports.records.evidence import Evidence, Reading
from tests.reports.made import STARTED, Made


class Trained(Made):
    """Writes models of a profile that trained for `steps`."""

    profile, steps = "quick", 400

    def point(self, variant, **fields):
        point = super().point(variant, **fields)
        if point.step is not None:
            point = dataclasses.replace(point, step=point.step * self.steps // 400)
        of_profile = {"profile": self.profile, "config_id": f"{point.config_id} {self.profile}"}
        checkpoint = {"checkpoint_id": f"{point.checkpoint_id} {self.profile}"} if point.checkpoint_id else {}
        return dataclasses.replace(point, **of_profile, **checkpoint)

    def model(self, variant, hits: np.ndarray, seed=0) -> None:
        """A model that finds the images of `hits` first."""
        self.variant(variant, 0.5, seed)
        ranks = np.where(np.repeat(hits, 5), 1, 2)
        rows = [
            {"query_id": f"{i // 5:04}-{i % 5}", "group": f"{i // 5:04}", "ranks": [int(rank)], "relevant": 1,
             "latency_us": None} for i, rank in enumerate(ranks)
        ]  # fmt: skip
        values = {f"recall@{k}": float((ranks <= k).mean()) for k in (1, 5, 10)}
        self.store.write(self.point(variant, seed=seed), values, rows, started=STARTED)
        end = {"task": "training", "engine": "", "top_k": None, "bits": None, "images": None, "queries": None}
        end |= {"direction": "", "depth": None, "checkpoint_id": "", "config_id": f"run of {variant} {seed}"}
        point = self.point(variant, seed=seed, split="train", **end)
        self.store.write(dataclasses.replace(point, checkpoint_id=""), {"steps": self.steps}, started=STARTED)


HITS = np.arange(60)


@pytest.fixture
def trained(made) -> Trained:
    """lexlip finds 40 of 60 images after 400 steps and clip 20; nothing longer."""
    trained = Trained(made.store)
    trained.model("lexlip", HITS < 40)
    trained.model("clip", HITS < 20)
    return trained


def train_on(trained, lexlip: int, clip: int, steps=4000) -> Evidence:
    trained.profile, trained.steps = "long", steps
    trained.model("lexlip", lexlip > HITS)
    trained.model("clip", clip > HITS)
    return Evidence(trained.store, Reading(profile="quick"))


def said(evidence) -> str:
    return answer.quality(evidence).text.partition(".")[2].partition("seed). ")[2]


def test_without_a_longer_profile_there_is_nothing_to_show(trained):
    evidence = Evidence(trained.store)
    assert evidence.longer == [] and longer.sections(evidence) == [] and said(evidence) == ""


def test_a_shorter_profile_is_not_longer(trained):
    evidence = train_on(trained, 40, 20, steps=100)
    assert [one.profile for one in evidence.profiles] == ["long"] and evidence.longer == []
    assert evidence.by_corpus()[0].others == [("long", "scenes")], "and the Method page says that it is not shown"


def test_the_first_page_says_what_longer_training_does(trained):
    evidence = train_on(trained, 50, 20)
    quality = answer.quality(evidence)
    assert quality.winner == "lexlip" and said(evidence).startswith("Trained 10.0× as long: lexlip by 50.0 points (")
    assert "1 seed)." in said(evidence)
    behind = [point for point in quality.points if point in set(evidence.longer[0].rows.point_id)]
    assert len(behind) == 2, "the records of both sides"
    assert evidence.by_corpus()[0].others == []


def test_a_winner_of_the_longer_training_is_named(trained):
    assert said(train_on(trained, 20, 50)).startswith("Trained 10.0× as long: clip by 50.0 points (")


def test_a_gap_that_closes_is_no_clear_difference(trained):
    evidence = train_on(trained, 30, 30)
    assert said(evidence) == "Trained 10.0× as long: no clear difference, 0.0 points (0.0 to 0.0, 1 seed)."


def test_the_table_puts_a_model_beside_itself(trained):
    evidence = train_on(trained, 50, 20)
    shown = longer.table(evidence)
    cells = [(row["variant"].value, row["profile"].value, row["steps"].value, row["recall@1"].value)
             for row in shown.rows]  # fmt: skip
    assert cells == [
        ("lexlip", "quick", 400, pytest.approx(40 / 60)),
        ("lexlip", "long", 4000, pytest.approx(50 / 60)),
        ("clip", "quick", 400, pytest.approx(20 / 60)),
        ("clip", "long", 4000, pytest.approx(20 / 60)),
    ]
    gaps = [row["difference"].value for row in shown.rows]
    assert gaps[2:] == [pytest.approx(-20 / 60), pytest.approx(-30 / 60)], "each minus lexlip of its own profile"
    assert shown.rows[0]["gain"].value == pytest.approx(0.05), "from 45% at step 360 to 50% at step 400"


def test_the_chart_has_both_trainings_and_the_section_both_parts(trained):
    evidence = train_on(trained, 50, 20)
    (section,) = longer.sections(evidence)
    assert section.name in [one.name for one in ablations.sections(evidence)]
    (drawn,) = section.charts
    series = {one.name: (one.hollow, [mark.x for mark in one.marks]) for one in drawn.panels[0].series}
    assert series == {
        "lexlip, quick": (True, [100, 200, 400]), "lexlip, long": (False, [1000, 2000, 4000]),
        "clip, quick": (True, [100, 200, 400]), "clip, long": (False, [1000, 2000, 4000]),
    }  # fmt: skip


@pytest.mark.parametrize(("share", "gain"), [(0.25, 1.0), (0.1, 0.4), (0.5, 2.0)])
def test_late_gain_of_a_line(share, gain):
    assert convergence.late_gain(np.array([2.0, 4.0]), np.array([0.0, 2.0]), share) == pytest.approx(gain)
