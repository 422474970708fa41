"""Ranks and recall of the validation against naive loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.validate import ValidationSet, rank_of_target, validate


def naive_rank(scores, target) -> int:
    order = sorted(range(len(scores)), key=lambda column: (-scores[column], column))
    return order.index(target) + 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 1000))
def test_ranks_with_ties_follow_the_order_of_columns(queries, columns, seed):
    draw = np.random.default_rng(seed)
    scores_QN = draw.integers(0, 3, (queries, columns)).astype(np.float32)  # three values only: many ties
    target_Q = draw.integers(0, columns, queries)
    expected = [naive_rank(row, target) for row, target in zip(scores_QN.tolist(), target_Q.tolist(), strict=True)]
    assert rank_of_target(scores_QN, target_Q).tolist() == expected


def test_ranks_by_hand():
    scores_QN = np.array([[0.1, 0.9, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.9]])
    assert rank_of_target(scores_QN, np.array([2, 0, 1])).tolist() == [2, 1, 3]
    assert rank_of_target(scores_QN[1:2], np.array([2])).tolist() == [3], "a tie counts before it"


class Numbers:
    """Caption "n" has the one word n, which is lexicon n modulo the width."""

    unknown_id = -1

    def __init__(self, width: int):
        self.lexicon_V, self.lexicon_of_T = np.arange(width), np.arange(256) % width

    def encode(self, captions):
        tokens_N1 = np.array([[int(caption)] for caption in captions])
        return tokens_N1, np.zeros_like(tokens_N1)


class Model(torch.nn.Module):
    """Vectors of few values, so that scores tie; images are told apart by their first pixel."""

    kind = "lexicon"

    def __init__(self, width: int = 3, seed: int = 0):
        super().__init__()
        draw = np.random.default_rng(seed)
        self.images = torch.from_numpy(draw.integers(0, 2, (256, width)).astype(np.float32))
        self.texts = torch.from_numpy(draw.integers(0, 2, (256, width)).astype(np.float32))
        self.modes, self.tokenizer = [], Numbers(width)

    def encode_image(self, images):
        self.modes.append(self.training)
        return self.images[torch.as_tensor(images[:, 0, 0, 0].astype(np.int64))]

    def encode_text(self, captions):
        self.modes.append(self.training)
        return self.texts[torch.tensor([int(caption) for caption in captions])]

    def encode_words(self, captions):
        return torch.eye(len(self.tokenizer.lexicon_V))[[int(caption) % self.images.shape[1] for caption in captions]]


def held(images: int, per_image: int) -> ValidationSet:
    images_NHWC = np.zeros((images, 2, 2, 3), np.uint8)
    images_NHWC[:, 0, 0, 0] = np.arange(images)
    captions = [str(at) for at in range(images * per_image)]
    return ValidationSet(images_NHWC, captions, np.repeat(np.arange(images), per_image))


@pytest.mark.parametrize(("images", "per_image", "width", "seed"), [(12, 5, 3, 0), (40, 2, 4, 1), (30, 1, 2, 2)])
def test_recall_in_both_directions_against_naive_loops(images, per_image, width, seed, monkeypatch):
    monkeypatch.setattr("ablations.validate.ENCODE_BATCH", 7)  # batches that do not divide the set
    model, val = Model(width, seed), held(images, per_image)
    found = validate(model, val)
    image, text = model.images[:images], model.texts[: images * per_image]
    to_image = [naive_rank((image @ text[q]).tolist(), int(val.image_of_Q[q])) for q in range(len(text))]
    to_text = []
    for n in range(images):
        scores = (text @ image[n]).tolist()
        to_text.append(min(naive_rank(scores, q) for q in range(len(text)) if val.image_of_Q[q] == n))
    expected = {
        f"{direction}/recall@{k}": sum(rank <= k for rank in ranks) / len(ranks)
        for direction, ranks in (("text_to_image", to_image), ("image_to_text", to_text))
        for k in (1, 10)
    }
    expected["active_lexicons_image"] = image.sum(1).mean().item()
    expected["active_lexicons_text"] = text.sum(1).mean().item()
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert 0 < found["text_to_image/recall@10"] < 1


def test_words_of_pruned_images_against_naive_loops(monkeypatch):
    monkeypatch.setattr("ablations.validate.TOP_K", 2)
    model, val = Model(5), held(6, 1)
    model.images = torch.rand(256, 5, generator=torch.Generator().manual_seed(1))
    found = validate(model, val)
    image = model.images[:6]
    pruned = torch.where(image >= image.topk(2, dim=1).values[:, 1:], image, 0.0)
    said = torch.arange(6) % 5  # one word each
    weight = pruned[torch.arange(6), said] / pruned.sum(dim=1)
    assert found["caption_precision_weighted"] == pytest.approx(weight.mean().item())
    assert found["strongest_is_word"] == pytest.approx((image.argmax(dim=1) == said).float().mean().item())
    for name, queries, k in (("pruned", model.texts[:6], 1), ("typed", torch.eye(5)[said], 10)):
        ranks = [naive_rank((pruned @ query).tolist(), row) for row, query in enumerate(queries)]
        assert found[f"text_to_image/{name}_recall@{k}"] == sum(rank <= k for rank in ranks) / 6


def test_validation_is_in_eval_mode_and_hands_back_train_mode():
    model = Model().train()
    validate(model, held(4, 2))
    assert model.training and set(model.modes) == {False}


def test_a_dense_model_has_no_active_lexicons():
    model = Model()
    model.kind = "dense"
    assert set(validate(model, held(4, 2))) == {
        f"{direction}/recall@{k}" for direction in ("text_to_image", "image_to_text") for k in (1, 10)
    }


def test_the_set_is_that_of_val(resolve):
    from bench.corpora import open_corpus

    val, corpus = ValidationSet.of(resolve().data), open_corpus(resolve().data.corpus)
    assert val.images_NHWC.shape == (16, 64, 64, 3)
    assert val.captions == [text for _, text, _ in corpus.captions("val", 0, 16)]
    assert val.image_of_Q.tolist() == [row for row in range(16) for _ in range(5)]
    assert np.array_equal(val.images_NHWC[3], next(corpus.images("val", 3, 4))[1])
