"""What a step does to its pictures: the same for all who ask, whatever was drawn before, on however many processes."""

import dataclasses

import numpy as np
import pytest
import torch

from ablations.augment import augmented, batch_of_step, drawn_pixels
from ablations.config import PhaseConfig, TrainConfig
from ablations.data import prepare
from models.objective import Batch

from torchvision.transforms import v2  # isort: skip  # after ablations.augment, which makes it importable

PLAIN, RANDOM = TrainConfig(), TrainConfig(augment="randaugment")
ONE_SIZE = PhaseConfig("contrastive")
TWO_SIZES = PhaseConfig("contrastive", pixels=(64, 32))


@pytest.fixture(scope="module")
def data(made_home, resolve):
    run = resolve()
    return prepare(made_home, run.data, run.model.text)


@pytest.fixture(scope="module")
def batch(data):
    return data.batch(0, 16, seed=0)


def test_nothing_asked_nothing_changed(batch):
    assert torch.equal(augmented(batch, PLAIN, ONE_SIZE, seed=0, step=3).images_BHWC, batch.images_BHWC)


def test_randaugment_depends_on_seed_and_step_alone(batch):
    first = augmented(batch, RANDOM, ONE_SIZE, seed=0, step=3)
    assert first.images_BHWC.dtype == torch.uint8 and first.images_BHWC.shape == batch.images_BHWC.shape
    assert first.tokens_BL is batch.tokens_BL
    torch.manual_seed(9), np.random.seed(9)
    assert torch.equal(augmented(batch, RANDOM, ONE_SIZE, seed=0, step=3).images_BHWC, first.images_BHWC)
    changed_B = (first.images_BHWC != batch.images_BHWC).flatten(1).any(dim=1)
    assert changed_B.sum() > 8, "nearly every picture is another"
    for seed, step in ((0, 4), (1, 3)):
        assert not torch.equal(augmented(batch, RANDOM, ONE_SIZE, seed=seed, step=step).images_BHWC, first.images_BHWC)


def test_each_picture_is_changed_in_its_own_way(batch):
    alike = dataclasses.replace(batch, images_BHWC=batch.images_BHWC[:1].expand(16, -1, -1, -1).contiguous())
    images_BHWC = augmented(alike, RANDOM, ONE_SIZE, seed=0, step=0).images_BHWC
    assert len({image.numpy().tobytes() for image in images_BHWC}) > 10


def test_torchs_own_random_numbers_stay_as_they_were(batch):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    augmented(batch, RANDOM, TWO_SIZES, seed=0, step=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_torchvisions_with_two_operations_of_magnitude_nine(batch, monkeypatch):
    asked = []
    real = v2.RandAugment
    monkeypatch.setattr(v2, "RandAugment", lambda *arguments: asked.append(arguments) or real(*arguments))
    augmented(batch, RANDOM, ONE_SIZE, seed=0, step=0)
    assert asked == [(2, 9)]


@pytest.mark.parametrize("operation", sorted(v2.RandAugment._AUGMENTATION_SPACE))
def test_every_operation_works_without_torchvisions_compiled_library(batch, operation, monkeypatch):
    monkeypatch.setattr(
        v2.RandAugment, "_AUGMENTATION_SPACE", {operation: v2.RandAugment._AUGMENTATION_SPACE[operation]}
    )
    images_BHWC = augmented(batch, RANDOM, ONE_SIZE, seed=0, step=0).images_BHWC
    assert images_BHWC.dtype == torch.uint8
    assert torch.equal(images_BHWC, batch.images_BHWC) == (operation == "Identity")


def test_slices_of_a_batch_are_changed_as_the_whole(data):
    whole = batch_of_step(data, dataclasses.replace(RANDOM, batch=8), TWO_SIZES, 5, 2)
    slices = [batch_of_step(data, dataclasses.replace(RANDOM, batch=8), TWO_SIZES, 5, 2, part, 4) for part in range(4)]
    for name in ("images_BHWC", "tokens_BL", "words_BL"):
        assert torch.equal(torch.cat([getattr(part, name) for part in slices]), getattr(whole, name))


def test_each_step_draws_one_of_the_sizes(batch):
    drawn = [drawn_pixels(TWO_SIZES, seed=0, step=step) for step in range(200)]
    assert set(drawn) == {64, 32} and 70 < drawn.count(32) < 130, "with equal chance"
    assert drawn == [drawn_pixels(TWO_SIZES, seed=0, step=step) for step in range(200)]
    assert drawn != [drawn_pixels(TWO_SIZES, seed=1, step=step) for step in range(200)]
    for step in (drawn.index(64), drawn.index(32)):
        assert augmented(batch, PLAIN, TWO_SIZES, seed=0, step=step).images_BHWC.shape == (
            16,
            drawn[step],
            drawn[step],
            3,
        )
    same = augmented(batch, PLAIN, TWO_SIZES, seed=0, step=drawn.index(64)).images_BHWC
    assert torch.equal(same, batch.images_BHWC), "at their own size pictures stay as they are"


def test_shrinking_averages_what_it_leaves_out():
    """Stripes of one pixel: without antialiasing every second one would be all that is seen."""
    stripes_BHWC = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    stripes_BHWC[:, :, ::2] = 200
    batch = Batch(stripes_BHWC, torch.zeros(1, 1), torch.zeros(1, 1))
    small_BHWC = augmented(batch, PLAIN, PhaseConfig("contrastive", pixels=(32,)), seed=0, step=0).images_BHWC
    assert small_BHWC.shape == (1, 32, 32, 3)
    assert (small_BHWC[:, 1:-1, 1:-1].float() - 100).abs().max() < 30


def test_pairs_go_on_where_a_phase_with_another_batch_left_off(data):
    """Two epochs of 64 pictures: 4 steps of 16 pairs, then 8 of 8."""
    train = TrainConfig(steps=16, batch=8, phase1=PhaseConfig("bottleneck", batch=16), phase2=PhaseConfig("momentum"))
    assert [(start, end) for _, start, end in train.schedule()] == [(0, 4), (4, 12)]
    assert [train.pairs_before(step) for step in (0, 1, 4, 5, 12)] == [0, 16, 64, 72, 128]
    seen = [
        image.numpy().tobytes()
        for phase, start, end in train.schedule()
        for step in range(start, end)
        for image in batch_of_step(data, train, phase, 0, step).images_BHWC
    ]
    everything = sorted(image.tobytes() for image in data.images_NHWC)
    assert sorted(seen[:64]) == sorted(seen[64:]) == everything


def test_without_phases_of_their_own_batches_are_as_ever(data):
    train = TrainConfig(steps=10, batch=8)
    for phase, start, end in train.schedule():
        for step in range(start, end):
            for name in ("images_BHWC", "tokens_BL", "words_BL"):
                ours, theirs = batch_of_step(data, train, phase, 3, step), data.batch(step, 8, 3)
                assert torch.equal(getattr(ours, name), getattr(theirs, name))
