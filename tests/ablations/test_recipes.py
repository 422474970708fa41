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
