"""Where the time of a sweep went, from records written by hand."""

from reports.pages.scale import steps as scale_steps


def step(made, images, kind, seconds, started=1, code="new", left=3, **fields) -> None:
    point = made.point(kind, task="steps", images=images, knobs={"indexes": left}, index_id="", code_id=code, **fields)
    values = dict(zip(("sweep_build_seconds", "sweep_accuracy_seconds", "sweep_rounds_seconds"), seconds, strict=True))
    made.write(
        point,
        values,
        note="the rest" if left == 2 and started == 3 else "",
        started=f"2026-01-0{started}T00:00:00+00:00",
    )


def test_without_records_there_is_no_section(made):
    made.impact(32, 0.4, 100.0, 200.0, 64.0)
    assert scale_steps.section(made.evidence) is None


def test_galleries_are_listed_largest_first_and_added_up(made):
    made.impact(32, 0.4, 100.0, 200.0, 64.0)
    step(made, 1000, "lexicon", (1, 2, 3))
    step(made, 10_000, "dense", (10, 20, 30), left=2)
    step(made, 10_000, "lexicon", (100, 200, 300))
    (table,) = scale_steps.section(made.evidence).tables
    assert table.texts() == [
        ["scenes", "lexicon", "10,000", "3", "100", "200", "300", "600", "–"],
        ["scenes", "dense", "10,000", "2", "10", "20", "30", "60", "–"],
        ["scenes", "lexicon", "1,000", "3", "1", "2", "3", "6", "–"],
        ["all", "–", "–", "8", "111", "222", "333", "666", "–"],
    ]


def test_runs_of_the_same_sweep_are_added_up_and_those_of_older_code_left_out(made):
    made.impact(32, 0.4, 100.0, 200.0, 64.0)
    step(made, 1000, "lexicon", (900, 900, 900), started=1, code="old", left=9)
    step(made, 1000, "lexicon", (1, 2, 3), started=2, left=5)
    step(made, 1000, "lexicon", (1, 1, 1), started=3, left=2)
    (table,) = scale_steps.section(made.evidence).tables
    assert table.texts()[0] == ["scenes", "lexicon", "1,000", "7", "2", "3", "4", "9", "the rest"]
