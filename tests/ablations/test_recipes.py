"""What a profile tuned for one variant holds for that variant alone, and flags go over it."""

import pytest

from ablations import config as configs
from models.errors import InputError

PROFILE = """
train: {steps: 7, phase2: {lr: 0.5}}
variants:
  clip: {train: {phase2: {lr: 0.25}}}
"""


@pytest.fixture
def profile(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(PROFILE)
    return file


def test_a_recipe_holds_for_its_variant_alone(profile):
    assert configs.resolve(str(profile), "clip").train.phase2 == configs.PhaseConfig("contrastive", 0.25)
    assert configs.resolve(str(profile), "lexlip").train.phase2 == configs.PhaseConfig("momentum", 0.5)


def test_flags_go_over_recipes(profile):
    assert configs.resolve(str(profile), "clip", ["train.phase2.lr=0.125"]).train.phase2.lr == 0.125


def test_a_recipe_for_an_unknown_variant_is_refused(profile):
    profile.write_text(PROFILE.replace("clip:", "clop:"))
    with pytest.raises(InputError, match=r"own.yaml: variants: unknown variant 'clop' \(nearest: clip;"):
        configs.resolve(str(profile), "lexlip")


def test_steps_batch_and_data_are_the_same_for_all_variants_of_a_profile():
    for profile in configs.names("profiles"):
        runs = [configs.resolve(profile, variant) for variant in configs.names("variants")]
        assert (
            len(
                {
                    (run.train.steps, run.train.batch, str(run.data), str(run.measure), run.model.image, run.model.text)
                    for run in runs
                }
            )
            == 1
        )
