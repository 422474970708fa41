"""Models trained for longer stand beside those of the report, and the first page says which side they favour."""

import numpy as np
import pytest

from reports.findings import answer, convergence
from reports.pages import ablations
from reports.pages.ablations import longer
from reports.records.evidence import Evidence, Reading
from tests.reports.made import Made

ALL, NONE = 2.0, -1.0  # skills: every image is found first, or none


@pytest.fixture
def trained(made) -> Made:
    """lexlip finds every image after 400 steps and clip none."""
    made.variant("lexlip", ALL)
    made.variant("clip", NONE)
    return made


def train_on(trained: Made, lexlip: float, clip: float, steps: int = 4000) -> Evidence:
    trained.profile, trained.steps = "long", steps
    trained.variant("lexlip", lexlip)
    trained.variant("clip", clip)
    return Evidence(trained.store, Reading(profile="quick"))


def said(evidence: Evidence) -> str:
    """What follows the sentence on the report's own profile."""
    return answer.quality(evidence).text.partition("(95% interval 100.0 to 100.0, 1 seed).")[2]


def test_without_a_longer_profile_there_is_nothing_to_show(trained):
    evidence = Evidence(trained.store)
    assert evidence.longer == [] and longer.sections(evidence) == []
    assert answer.quality(evidence).text.endswith(
        "100.0 points of R@1 over 60 images (95% interval 100.0 to 100.0, 1 seed)."
    )


def test_a_shorter_profile_is_not_longer(trained):
    evidence = train_on(trained, ALL, NONE, steps=100)
    assert [one.profile for one in evidence.profiles] == ["long"] and evidence.longer == []
    assert evidence.by_corpus()[0].others == [("long", "scenes")], "and the Method page says that it is not shown"


def test_without_the_length_of_the_own_training_nothing_is_longer(made):
    """Of a checkpoint from elsewhere only the search was measured; a ratio of steps divided by none."""
    for name, skill in (("lexlip", ALL), ("clip", NONE)):
        made.retrieval(made.point(name), skill)
    evidence = train_on(made, ALL, NONE)
    assert [one.profile for one in evidence.profiles] == ["long"] and evidence.longer == [] and said(evidence) == ""


def test_the_reference_decides_how_long_a_profile_trained(trained):
    """Another variant may have been given more steps."""
    trained.steps = 8000
    trained.variant("no_queue", 0.5)
    evidence = train_on(trained, ALL, NONE)
    assert evidence.steps == 400 and [one.steps for one in evidence.longer] == [4000]


@pytest.mark.parametrize(
    ("lexlip", "clip", "who"),
    [
        (ALL, NONE, "lexlip by 100.0 points (100.0 to 100.0, 1 seed)."),
        (NONE, ALL, "clip by 100.0 points (100.0 to 100.0, 1 seed)."),
        (ALL, ALL, "no clear difference, 0.0 points (0.0 to 0.0, 1 seed)."),
    ],
)
def test_the_first_page_says_what_longer_training_does(trained, lexlip, clip, who):
    evidence = train_on(trained, lexlip, clip)
    quality = answer.quality(evidence)
    assert quality.winner == "lexlip" and said(evidence) == f" Trained 10.0× as long: {who}"
    assert len(set(quality.points) & set(evidence.longer[0].rows.point_id)) == 2, "the records of both sides"
    assert evidence.by_corpus()[0].others == []


def test_the_table_puts_a_model_beside_itself(trained):
    trained.variant("clip", 0.3)
    shown = longer.table(train_on(trained, ALL, 0.8))
    keys = ("variant", "profile", "steps", "recall@1 text_to_image")
    rows = [tuple(row[key].value for key in keys) for row in shown.rows]
    assert [row[:3] for row in rows] == [
        ("lexlip", "quick", 400), ("lexlip", "long", 4000), ("clip", "quick", 400), ("clip", "long", 4000),
    ]  # fmt: skip
    assert rows[0][3] == rows[1][3] == 1 and 0.2 < rows[2][3] < 0.4 and 0.7 < rows[3][3] < 0.95
    gaps = [row["difference recall@1"].value for row in shown.rows[2:]]
    assert gaps == pytest.approx([rows[2][3] - 1, rows[3][3] - 1]), "each minus lexlip of its own profile"
    assert shown.rows[0]["last"].value == pytest.approx(0.1 * ALL), "a straight line: a tenth in the last tenth"


def test_the_chart_has_both_trainings(trained):
    evidence = train_on(trained, 0.6, 0.3)
    (section,) = longer.sections(evidence)
    assert section.name in [one.name for one in ablations.sections(evidence)]
    (drawn,) = section.charts
    assert drawn.title == "After 4,000 steps: lexlip 60.0 %, clip 30.0 %"
    assert {one.name: (one.hollow, [mark.x for mark in one.marks]) for one in drawn.panels[0].series} == {
        "lexlip, quick": (True, [100, 200, 400]), "lexlip, long": (False, [1000, 2000, 4000]),
        "clip, quick": (True, [100, 200, 400]), "clip, long": (False, [1000, 2000, 4000]),
    }  # fmt: skip


@pytest.mark.parametrize(("share", "gain"), [(0.25, 1.0), (0.1, 0.4), (0.5, 2.0)])
def test_late_gain_of_a_line(share, gain):
    assert convergence.late_gain(np.array([2.0, 4.0]), np.array([0.0, 2.0]), share) == pytest.approx(gain)
