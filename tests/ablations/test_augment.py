"""Augmentation depends on seed, step and row alone: not on other random numbers, nor on the number of processes."""

import dataclasses

import numpy as np
import pytest
import torch

from ablations.augment import augmented, batch_of_step, drawn_pixels, with_some_patches, with_some_words
from ablations.config import PhaseConfig, TrainConfig
from ablations.data import prepare
from models.batch import Batch
from models.errors import InputError
from models.tokenizer import NO_WORD

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


def test_without_augmentation_images_are_unchanged(batch):
    assert torch.equal(augmented(batch, PLAIN, ONE_SIZE, seed=0, step=3).images_BHWC, batch.images_BHWC)


def test_randaugment_depends_on_seed_and_step_alone(batch):
    first = augmented(batch, RANDOM, ONE_SIZE, seed=0, step=3)
    assert first.images_BHWC.dtype == torch.uint8 and first.images_BHWC.shape == batch.images_BHWC.shape
    assert first.tokens_BL is batch.tokens_BL
    torch.manual_seed(9), np.random.seed(9)
    assert torch.equal(augmented(batch, RANDOM, ONE_SIZE, seed=0, step=3).images_BHWC, first.images_BHWC)
    changed_B = (first.images_BHWC != batch.images_BHWC).flatten(1).any(dim=1)
    assert changed_B.sum() > 8, "nearly every image differs"
    for seed, step in ((0, 4), (1, 3)):
        assert not torch.equal(augmented(batch, RANDOM, ONE_SIZE, seed=seed, step=step).images_BHWC, first.images_BHWC)


def test_each_image_is_augmented_differently(batch):
    alike = dataclasses.replace(batch, images_BHWC=batch.images_BHWC[:1].expand(16, -1, -1, -1).contiguous())
    images_BHWC = augmented(alike, RANDOM, ONE_SIZE, seed=0, step=0).images_BHWC
    assert len({image.numpy().tobytes() for image in images_BHWC}) > 10


def test_the_global_generator_is_restored(batch):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    augmented(batch, RANDOM, TWO_SIZES, seed=0, step=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_torchvisions_randaugment_2_9(batch, monkeypatch):
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


def test_slices_of_a_batch_are_augmented_as_the_whole(data):
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
        images_BHWC = augmented(batch, PLAIN, TWO_SIZES, seed=0, step=step).images_BHWC
        assert images_BHWC.shape == (16, drawn[step], drawn[step], 3)
    same = augmented(batch, PLAIN, TWO_SIZES, seed=0, step=drawn.index(64)).images_BHWC
    assert torch.equal(same, batch.images_BHWC), "images that have the drawn size are unchanged"


def test_downsampling_antialiases():
    """Stripes of one pixel: without antialiasing only every second one would be left."""
    stripes_BHWC = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    stripes_BHWC[:, :, ::2] = 200
    batch = Batch(stripes_BHWC, torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1), 1)
    small_BHWC = augmented(batch, PLAIN, PhaseConfig("contrastive", pixels=(32,)), seed=0, step=0).images_BHWC
    assert small_BHWC.shape == (1, 32, 32, 3)
    assert (small_BHWC[:, 1:-1, 1:-1].float() - 100).abs().max() < 30


def test_epochs_continue_across_phases_with_other_batch_sizes(data):
    """Two epochs of 64 images: 4 steps of 16 pairs, then 8 of 8."""
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


def test_without_augmentation_batches_are_those_of_the_data(data):
    train = TrainConfig(steps=10, batch=8)
    for phase, start, end in train.schedule():
        for step in range(start, end):
            for name in ("images_BHWC", "tokens_BL", "words_BL"):
                ours, theirs = batch_of_step(data, train, phase, 3, step), data.batch(step, 8, 3)
                assert torch.equal(getattr(ours, name), getattr(theirs, name))


def of_states() -> Batch:
    """Two images of [CLS] and 4 patches; captions [CLS] a b b' c [SEP] and [CLS] d [SEP], of which b b' is a word."""
    tokens_BL = torch.tensor([[2, 11, 12, 13, 14, 3], [2, 15, 3, 0, 0, 0]])
    words_BL = torch.tensor([[NO_WORD, 0, 1, 1, 2, NO_WORD], [NO_WORD, 0, *[NO_WORD] * 4]], dtype=torch.uint8)
    images_BLX = torch.arange(10.0).view(2, 5, 1).expand(2, 5, 3)
    texts_BLX = (tokens_BL[..., None] * torch.ones(3)).half()
    more = {"image_states_BLX": images_BLX, "text_states_BLX": texts_BLX}
    return Batch(None, tokens_BL, words_BL, tokens_BL, 2, **more)


def test_patches_of_the_lowest_draws_stay_in_order_after_the_first_token():
    draws_BP = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.1, 0.9, 0.2, 0.3]])
    kept = with_some_patches(of_states(), draws_BP, 2).image_states_BLX[..., 0]
    assert kept.tolist() == [[0, 2, 4], [5, 6, 8]]


def test_whole_words_are_left_out_with_their_states_and_a_caption_keeps_one():
    draws_BW = torch.full((2, NO_WORD), 0.9)
    draws_BW[0, 1] = draws_BW[0, 2] = 0.3
    kept = with_some_words(of_states(), draws_BW, 0.5, pad_id=0)
    assert kept.tokens_BL.tolist() == [[2, 12, 13, 14, 3, 0], [2, 15, 3, 0, 0, 0]]
    assert kept.words_BL.tolist() == [[NO_WORD, 1, 1, 2, NO_WORD, NO_WORD], [NO_WORD, 0, *[NO_WORD] * 4]]
    assert torch.equal(kept.text_states_BLX[..., 0].long(), kept.tokens_BL)
    assert kept.words_BL.dtype == torch.uint8 and kept.captions_BM.shape == (2, 6)


def test_words_left_out_depend_on_seed_and_step_and_not_on_the_number_of_processes(data):
    train = dataclasses.replace(PLAIN, batch=8, keep_words=0.5)
    whole, full = batch_of_step(data, train, ONE_SIZE, 5, 2), data.batch(2, 8, 5)
    tokens = (whole.tokens_BL != data.tokenizer.pad_id).sum(), (full.tokens_BL != data.tokenizer.pad_id).sum()
    assert 0.4 < tokens[0] / tokens[1] < 0.9
    assert not torch.equal(batch_of_step(data, train, ONE_SIZE, 6, 2).tokens_BL, whole.tokens_BL)


@pytest.mark.parametrize("step", range(4))
def test_slices_with_words_left_out_are_as_wide_as_the_batch(data, step):
    """Phase 1 gathers the tokens of all processes, which needs one width."""
    train = dataclasses.replace(PLAIN, batch=8, keep_words=0.5)
    whole = batch_of_step(data, train, ONE_SIZE, 5, step)
    parts = [batch_of_step(data, train, ONE_SIZE, 5, step, part, 2) for part in range(2)]
    for name in ("tokens_BL", "words_BL"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_patches_need_cached_states(resolve):
    with pytest.raises(InputError, match=r"train.keep_patches: 0.5: expected train.cache"):
        resolve("lexlip", "train.keep_patches=0.5")
