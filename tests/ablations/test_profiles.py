"""The profiles: `base` and `finetune` are as published; every variant resolves and trains under them."""

import dataclasses
import math
import shutil

import pytest
import torch

import ablations.train as trainer
from ablations import config as configs
from ablations import start
from ablations.augment import augmented
from ablations.data import prepare
from ablations.step import optimiser
from bench.corpora import open_corpus
from models import checkpoint
from models.batch import Batch
from models.errors import InputError
from models.tokenizer import LexiconTokenizer
from tests.ablations.variants import VARIANTS

from transformers import BertConfig, BertForMaskedLM  # isort: skip  # after models, which make torchvision importable

PROFILES = configs.names("profiles")


def test_the_profiles_exist():
    assert {"smoke", "quick", "small", "base", "warm", "finetune"} <= set(PROFILES)


def test_base_is_what_was_published():
    run = configs.resolve("base", "lexlip")
    image, text, lexlip, train = run.model.image, run.model.text, run.model.lexlip, run.train
    assert (image.encoder, image.layers, image.width, image.heads, image.patch, image.pixels) == (
        "beit",
        12,
        768,
        12,
        16,
        224,
    )
    assert (text.layers, text.width, text.heads, text.vocabulary, text.max_tokens) == (12, 768, 12, 30_522, 40)
    assert (lexlip.temperature, lexlip.flops.weight, lexlip.flops.acts_on) == (0.05, 0.002, "normalised")
    assert (lexlip.momentum.decay, lexlip.momentum.queue, lexlip.momentum.queue_top_k) == (0.99, 11_520, None)
    assert (lexlip.bottleneck.encoder_mask, lexlip.bottleneck.decoder_mask, lexlip.bottleneck.decoder_layers) == (
        0.3,
        0.5,
        2,
    )
    assert (
        lexlip.bottleneck.self_mlm,
        lexlip.bottleneck.text_mlm,
        lexlip.bottleneck.image_mlm,
        lexlip.bottleneck.contrastive,
    ) == (1,) * 4
    assert (lexlip.head.text_bias, lexlip.head.image_bias, lexlip.head.shared, lexlip.head.tokens) == (
        0.0,
        0.0,
        False,
        "all",
    )
    assert (train.betas, train.weight_decay, train.warmup, train.clip, train.augment) == (
        (0.9, 0.999),
        0.01,
        0.1,
        1.0,
        "randaugment",
    )
    (one, first, turn), (two, _, end) = train.schedule()
    assert (one.objective, one.lr, train.batch_of(one), one.pixels) == ("bottleneck", 5e-5, 800, ())
    assert (turn - first) * 800 == 20 * run.data.train_images, "20 epochs"
    assert (two.objective, two.lr, train.batch_of(two), two.pixels, end - turn) == (
        "momentum",
        5e-5,
        2880,
        (224, 112),
        40_000,
    )


def test_finetune_is_what_was_published():
    run = configs.resolve("finetune", "lexlip")
    ((phase, _, steps),) = run.train.schedule()
    assert (phase.objective, phase.lr, run.train.batch_of(phase), phase.pixels) == ("momentum", 5e-5, 1536, ())
    assert steps * 1536 == 10 * run.data.train_images, "10 epochs"
    assert (run.model.image.pixels, run.model.image.table) == (384, 224)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.phase2.pixels=[224, 100]"],
            r"momentum at 100 pixels: expected multiples of model.image.patch \(16\), at most",
        ),
        (["train.phase2.pixels=[448]"], r"momentum at 448 pixels: .*at most model.image.pixels \(224\)"),
        (
            ["train.phase1.batch=700"],
            "14400000 pairs of the bottleneck phase are not a multiple of its batch size, 700",
        ),
        (["train.start=FOLDER"], r"train.start and model.\*.pretrained exclude each other"),
        (["train.augment=autoaugment"], "train.augment: .*'randaugment'"),
        (["model.image.architecture.use_relative_position_bios=true"], "no key use_relative_position_bios"),
    ],
)
def test_contradicting_settings_are_refused(overrides, message):
    with pytest.raises(InputError, match=message) as refused:
        configs.resolve("base", "lexlip", overrides)
    assert "\n" not in str(refused.value)


# A real step of every variant under `base`, at the full vocabulary


@pytest.fixture(scope="module")
def lexicon(made_home, resolve, tmp_path_factory) -> LexiconTokenizer:
    """A WordPiece vocabulary of 30,522, most of it unused."""
    run = resolve()
    pieces = prepare(made_home, run.data, run.model.text).tokenizer.vocabulary
    folder = tmp_path_factory.mktemp("vocabulary")
    unused = [f"[unused{number}]" for number in range(30_522 - len(pieces))]
    (folder / "vocab.txt").write_text("\n".join([*pieces, *unused]) + "\n", encoding="utf-8")
    return LexiconTokenizer.pretrained(folder, max_tokens=40)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory) -> str:
    """`base` with random weights, one narrow layer a side, and few keys."""
    file = tmp_path_factory.mktemp("profile") / "narrow.yaml"
    file.write_text(f"""
extends: [{configs.HERE}/profiles/base.yaml]
model:
  image: {{layers: 1, width: 16, heads: 2, pretrained: null}}
  text: {{layers: 1, width: 16, heads: 2, pretrained: null}}
  lexlip: {{momentum: {{queue: 6}}}}
  clip: {{embedding: 8}}
""")
    return str(file)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_every_phase_of_every_variant_under_base(variant, narrow, lexicon):
    run = configs.resolve(narrow, variant)
    torch.manual_seed(0)
    objective = checkpoint.objective(checkpoint.create(run.model, lexicon)).train()
    images_BHWC = torch.randint(256, (2, 224, 224, 3), dtype=torch.uint8)
    tokens_BL, words_BL = map(
        torch.from_numpy, lexicon.encode(["a red apple on the grass", "two small flowers near a tree"])
    )
    batch = Batch(images_BHWC, tokens_BL.long(), words_BL, tokens_BL.long(), 2)
    for phase, first, _ in run.train.schedule():
        objective.begin(phase.objective)
        adam = optimiser(objective, run.train)
        for group in adam.param_groups:
            group["lr"] = 1e-3
        before = {name: parameter.detach().clone() for name, parameter in objective.model.named_parameters()}
        seen = augmented(batch, run.train, phase, seed=0, step=first)
        losses, extra = objective.losses(seen, torch.Generator().manual_seed(0))
        assert all(math.isfinite(value.item()) for value in [*losses.values(), *extra.values()])
        torch.stack(list(losses.values())).sum().backward()
        adam.step()
        objective.after_step()
        stuck = [name for name, parameter in objective.model.named_parameters() if torch.equal(before[name], parameter)]
        assert stuck == []


# Starting from a checkpoint


@pytest.fixture(scope="module")
def trained(short_run, tmp_path_factory):
    """A copy of the home of the short run, and the run."""
    return shutil.copytree(short_run.home, tmp_path_factory.mktemp("trained") / "home"), short_run.trained


def test_a_run_starts_from_a_checkpoint_at_another_image_size(trained, resolve, tiny):
    home, first = trained
    sizes = ("model.image.pixels=96", "model.image.table_pixels=64", "data.corpus.pixels=96", "data.train_images=16")
    run = resolve(
        "lexlip",
        *sizes,
        "train.steps=1",
        "train.phase1_share=0",
        f"train.start={first.checkpoint}",
        "train.phase2.lr=1e-12",
    )
    second = trainer.train(home, tiny, "lexlip", 0, run)
    before, after = checkpoint.load(first.checkpoint), checkpoint.load(second.checkpoint)
    assert (before.pixels, after.pixels) == (64, 96)
    assert after.vocabulary == before.vocabulary
    for (name, one), other in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        if name != "idf_V":  # of the captions of the second run
            torch.testing.assert_close(other, one, rtol=0, atol=1e-6, msg=name)
    moved = shutil.copytree(first.checkpoint, home / "moved")
    elsewhere = resolve(
        "lexlip", *sizes, "train.steps=1", "train.phase1_share=0", f"train.start={moved}", "train.phase2.lr=1e-12"
    )
    assert start.identified(run) == start.identified(elsewhere), "the path is no part of the run's id"
    assert trainer.train(home, tiny, "lexlip", 0, elsewhere).run_id == second.run_id


@pytest.mark.parametrize(
    ("variant", "overrides", "message"),
    [
        ("lexlip", ["train.start=nowhere"], "train.start: nowhere: no such folder; expected a checkpoint"),
        ("clip", ["train.start={checkpoint}"], "a checkpoint of a lexlip, but model.kind is clip"),
        (
            "lexlip",
            ["train.start={checkpoint}", "model.text.layers=2"],
            "does not fit the configuration of model.*Missing key.*text.encoder",
        ),
    ],
)
def test_a_bad_start_is_refused(trained, resolve, tiny, variant, overrides, message):
    home, first = trained
    run = resolve(variant, *(override.format(checkpoint=first.checkpoint) for override in overrides), "train.steps=1")
    with pytest.raises(InputError, match=message) as refused:
        trainer.train(home, tiny, variant, 0, run)
    assert "\n" not in str(refused.value)


def test_a_run_starts_from_pretrained_text_and_its_vocabulary(made_home, resolve, tiny, lexicon, tmp_path):
    config = BertConfig(
        **dict.fromkeys(("hidden_size", "intermediate_size"), 16), num_hidden_layers=1, num_attention_heads=2
    )
    folders = [tmp_path / name / "bert" for name in ("first", "moved", "other")]
    torch.manual_seed(0)
    for folder in folders[::2]:
        BertForMaskedLM(config).save_pretrained(folder)
        lexicon.save(folder / "tokenizer.json")
    shutil.copytree(folders[0], folders[1])
    home = shutil.copytree(made_home, tmp_path / "home")
    settings = (
        "model.text.mlp_ratio=1",
        "model.text.max_tokens=40",
        "train.steps=1",
        "train.phase1_share=0",
        "train.phase2.lr=1e-12",
    )
    first, moved, other = (
        trainer.train(home, tiny, "lexlip", 0, resolve("lexlip", *settings, f"model.text.pretrained={folder}"))
        for folder in folders
    )
    assert first.run_id == moved.run_id != other.run_id, "the weights, not their path, are part of the id"
    assert len(list((home / "data").iterdir())) == 2, "their vocabulary needs other data, made once for the three"
    shutil.rmtree(tmp_path / "first")
    model = checkpoint.load(first.checkpoint)
    assert model.vocabulary == lexicon.vocabulary
    own = BertForMaskedLM.from_pretrained(folders[1])
    torch.testing.assert_close(model.text.head.weight_VD, own.bert.embeddings.word_embeddings.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        model.image.head.transform.dense.weight, own.cls.predictions.transform.dense.weight, rtol=0, atol=1e-6
    )


def test_finetune_requires_a_checkpoint(tmp_path):
    with pytest.raises(InputError, match="train.start: CHECKPOINT: no such folder"):
        trainer.train(tmp_path, "finetune", "lexlip", 0, configs.resolve("finetune", "lexlip"))


# Photographs on frozen towers

PHOTOS = ["data.corpus={name: folder, annotations: captions.csv}"]


@pytest.mark.parametrize("variant", [*configs.CORE, "lexlip_words"])
def test_every_variant_of_photos_trains_on_the_states_of_frozen_encoders(variant):
    run = configs.resolve("photos", variant, PHOTOS)
    assert run.data.corpus == {"name": "folder", "annotations": "captions.csv", "pixels": 224}
    assert run.train.cache == "both" and run.model.image.top and run.model.text.top
    assert (run.model.lexlip.words.weight > 0) == (variant == "lexlip_words")
    assert (run.train.keep_patches, run.train.keep_words) == (0.5, 0.8), "every variant sees the same tokens"
    assert sum((end - first) * 128 for _, first, end in run.train.schedule()) == run.train.steps * 128


def test_the_text_encoder_of_photos_can_be_trained():
    run = configs.resolve("photos", "lexlip", [*PHOTOS, "model.text.top=null", "train.cache=image"])
    assert run.model.text.top is None and run.model.image.top


@pytest.mark.parametrize("variant", ["clip", "lexlip_words"])
def test_the_text_encoder_of_photos_scratch_starts_from_nothing(variant):
    """Only what makes the text encoder differs from `photos`."""
    ours, theirs = (configs.resolve(profile, variant, PHOTOS) for profile in ("photos_scratch", "photos"))
    assert ours.model.text.pretrained is None and ours.model.text.top is None and ours.train.cache == "image"
    model = dataclasses.replace(ours.model, text=theirs.model.text)
    same = dataclasses.replace(ours, model=model, train=dataclasses.replace(ours.train, cache="both"))
    assert same == theirs


def test_photos_requires_a_folder():
    with pytest.raises(InputError, match="FOLDER: expected Flickr_8k.trainImages.txt"):
        open_corpus(configs.resolve("photos", "lexlip").data.corpus)
