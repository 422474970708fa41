"""Presets by training cost and validation recall."""

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


def test_one_preset_alone_has_nothing_to_be_compared_with(store):
    trained(store, "quick", 600, 0.5)
    trained(store, "quick", 300, 0.6, variant="clip")
    assert presets.section(Evidence(store)) is None


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
