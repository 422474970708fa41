"""Presets beside each other: which beats which in no more time, by records written by hand."""

import pytest

from bench.store.records import Point, RecordStore
from reports.pages.ablations import presets
from reports.records.evidence import Evidence


@pytest.fixture
def store(tmp_path) -> RecordStore:
    return RecordStore(tmp_path)


def trained(store, profile, seconds, r1, variant="lexlip", seed=0, config="", day=1) -> None:
    """Writes what `ablations.train` does of a run whose chosen step is its second of three."""
    common = {
        "corpus": "scenes",
        "profile": profile,
        "variant": variant,
        "seed": seed,
        "config_id": config or f"{profile} {variant} {seed}",
    }
    started = f"2026-01-0{day}T00:00:00+00:00"
    for step, share in ((100, 0.5), (200, 1.0), (300, 0.9)):
        for direction in ("text_to_image", "image_to_text"):
            point = Point("training", **common, split="val", step=step, direction=direction, images=500)
            store.write(
                point,
                {"recall@1": share * r1 * (2 if direction == "image_to_text" else 1), "recall@10": 0.9},
                started=started,
            )
    cost = {"train_seconds": seconds, "train_cpu_seconds": 2 * seconds, "train_samples": 1000.0, "chosen_step": 200}
    store.write(Point("training", **common, split="train", images=60_000), cost, started=started)


def said(store) -> list[str]:
    return presets.section(Evidence(store)).data["sentences"]


def test_one_preset_alone_has_nothing_to_be_compared_with(store):
    trained(store, "quick", 600, 0.5)
    trained(store, "quick", 300, 0.6, variant="clip")
    assert presets.section(Evidence(store)) is None


def test_a_preset_that_is_better_in_no_more_time_beats_the_other(store):
    trained(store, "quick", 600, 0.5)
    trained(store, "warm", 590, 0.7)
    assert said(store) == [
        "lexlip: warm (70.0 % after 590 s) beats quick (50.0 % after 600 s) in no more training time."
    ]


def test_a_preset_that_is_better_but_took_longer_has_not_won(store):
    trained(store, "quick", 600, 0.5)
    trained(store, "warm", 700, 0.7)
    assert said(store) == [
        "lexlip: warm (70.0 % after 700 s) is ahead of quick (50.0 % after 600 s), but took longer: at equal time nothing is decided."
    ]


def test_a_preset_that_is_worse_in_more_time_is_beaten(store):
    trained(store, "quick", 600, 0.5)
    trained(store, "warm", 700, 0.3)
    assert said(store) == [
        "lexlip: quick (50.0 % after 600 s) beats warm (30.0 % after 700 s) in no more training time."
    ]


def test_less_than_a_point_decides_nothing(store):
    trained(store, "quick", 600, 0.5)
    trained(store, "warm", 590, 0.505)
    assert said(store) == [
        "lexlip: warm (50.5 % after 590 s) and quick (50.0 % after 600 s) are within 1.0 point of R@1: neither beats the other."
    ]


def test_seeds_are_averaged_and_of_two_configurations_the_newer_stands(store):
    trained(store, "quick", 100, 0.1, config="old", day=1)
    trained(store, "quick", 600, 0.4, config="new", day=2)
    trained(store, "quick", 800, 0.6, seed=1, day=2)
    trained(store, "warm", 590, 0.7)
    trained(store, "warm", 300, 0.2, variant="clip")
    (table,) = presets.section(Evidence(store)).tables
    assert table.texts() == [
        ["lexlip", "warm", "1", "590", "1,180", "1,000", "500", "70.0", "90.0"],
        ["lexlip", "quick", "2", "700", "1,400", "1,000", "500", "50.0", "90.0"],
    ]


def test_a_training_that_ended_badly_is_left_out(store):
    trained(store, "quick", 600, 0.5)
    store.write(
        Point("training", corpus="scenes", profile="warm", variant="lexlip", seed=0, split="train", config_id="x"),
        {},
        status="failed",
    )
    assert presets.section(Evidence(store)) is None
