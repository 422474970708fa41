"""Rules across the fields of a configuration."""

import dataclasses

import pytest

from models.config import ImageConfig, ModelConfig, TextConfig
from models.errors import InputError


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ImageConfig(width=30, heads=4), "heads .4. must divide width .30."),
        (ImageConfig(pixels=60), "patch .16. must divide pixels .60."),
        (ImageConfig(patch=32), "patches of 16 pixels, not 32"),
        (TextConfig(width=30, heads=4), "model.text: heads"),
        (ModelConfig(image=ImageConfig(width=64)), "image.width .64. and text.width .128. must be equal"),
        (ModelConfig(kind="clip", image=ImageConfig(width=30)), "model.image: heads"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        config.validate()


def test_values_that_fit_together_are_accepted():
    ModelConfig().validate()
    ModelConfig(kind="clip", image=ImageConfig(width=64)).validate()
    ImageConfig(patch=32, stem="patch").validate()
    ImageConfig(patch=32, stem_widths=(8, 16, 32)).validate()


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().kind = "clip"
