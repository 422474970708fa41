"""Settings of a profile for one variant apply to that variant alone; flags override them."""

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


def test_settings_for_a_variant_apply_to_it_alone(profile):
    assert configs.resolve(str(profile), "clip").train.phase2 == configs.PhaseConfig("contrastive", 0.25)
    assert configs.resolve(str(profile), "lexlip").train.phase2 == configs.PhaseConfig("momentum", 0.5)


def test_flags_override_settings_for_a_variant(profile):
    assert configs.resolve(str(profile), "clip", ["train.phase2.lr=0.125"]).train.phase2.lr == 0.125


def test_settings_for_an_unknown_variant_are_refused(profile):
    profile.write_text(PROFILE.replace("clip:", "clop:"))
    with pytest.raises(InputError, match=r"own.yaml: variants: unknown variant 'clop' \(nearest: clip;"):
        configs.resolve(str(profile), "lexlip")


def test_a_profile_starts_from_its_base_with_the_settings_of_variants(profile, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(f"base: {profile}\ntrain: {{batch: 12}}\nvariants: {{clip: {{train: {{clip: 2.0}}}}}}")
    run = configs.resolve(str(other), "clip").train
    assert (run.steps, run.batch, run.phase2.lr, run.clip) == (7, 12, 0.25, 2.0)
    assert configs.resolve(str(other), "lexlip").train.clip == 1.0


def test_a_base_of_a_base_and_an_unknown_one_are_refused(profile, tmp_path):
    second, third = tmp_path / "second.yaml", tmp_path / "third.yaml"
    second.write_text(f"base: {profile}")
    third.write_text(f"base: {second}")
    with pytest.raises(InputError, match="third.yaml: base: .*second.yaml has a base itself"):
        configs.resolve(str(third), "clip")
    second.write_text("base: quik")
    with pytest.raises(InputError, match=r"unknown profile 'quik' \(nearest: quick"):
        configs.resolve(str(second), "clip")
