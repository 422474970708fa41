"""Lexicons that are a part of the vocabulary, the caption-word target, and search by typed words."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from models import checkpoint
from models.config import FlopsConfig, HeadConfig, WordsConfig
from models.errors import InputError
from models.export import onnx as export_onnx
from models.export import sparse_encoder as export_sparse_encoder
from models.lexicon.head import bag_of_tokens
from models.losses import df_flops, flops, l1, word_loss
from models.tokenizer import SPECIAL_TOKENS, LexiconTokenizer
from tests.models.steps import begun, generator


@pytest.fixture(scope="module")
def part(tokenizer, captions):
    """The tokenizer with the tokens of the captions as lexicons."""
    return tokenizer.of_captions(tokenizer.encode(captions)[0], 1)


@pytest.fixture
def make_part(make_config, part):
    def make(seed=0, **sections):
        torch.manual_seed(seed)
        return checkpoint.create(make_config("lexlip", **sections), part)

    return make


# --- the tokenizer ---


def test_lexicons_are_the_tokens_that_occur_often_enough(tokenizer):
    tokens_CL, _ = tokenizer.encode(["a red apple", "a red zebra", "a"])
    names = {least: tokenizer.of_captions(tokens_CL, least).vocabulary for least in (1, 2, 3)}
    assert names[3] == ["a"] and set(names[2]) == {"a", "red"} < set(names[1])
    assert not set(names[1]) & set(SPECIAL_TOKENS)
    with pytest.raises(InputError, match="lexicon_min_count: 4: no token"):
        tokenizer.of_captions(tokens_CL, 4)


def test_tokens_and_lexicons_map_both_ways(part, tokenizer):
    assert part.is_part and not tokenizer.is_part and len(part) == len(tokenizer)
    assert (part.lexicon_of_T[part.lexicon_V] == np.arange(len(part.vocabulary))).all()
    assert (part.lexicon_of_T >= 0).sum() == len(part.vocabulary) < len(part)
    assert [tokenizer.vocabulary[token] for token in part.lexicon_V] == part.vocabulary
    assert part.fingerprint != tokenizer.fingerprint


def test_a_part_is_saved_and_broken_files_are_named(part, tmp_path):
    file = tmp_path / "tokenizer.json"
    assert [written.name for written in part.save(file)] == ["tokenizer.json", "lexicon.json"]
    again = LexiconTokenizer.load(file, part.max_tokens)
    assert again.vocabulary == part.vocabulary and again.fingerprint == part.fingerprint
    for broken in ("[", "{}", "[]", "[3]"):
        (tmp_path / "lexicon.json").write_text(broken)
        with pytest.raises(InputError, match=r"lexicon.json: not "):
            LexiconTokenizer.load(file, part.max_tokens)
    (tmp_path / "lexicon.json").write_text('["xyzzy"]')
    with pytest.raises(InputError, match="a token that the tokenizer lacks"):
        LexiconTokenizer.load(file, part.max_tokens)


# --- the model ---


def test_a_part_selects_rows_of_the_whole_model(make_model, make_part, part, images, captions):
    """With the same weights, the vectors are the columns of the lexicons."""
    whole, some = make_model(), make_part()
    some.text.encoder.load_state_dict(whole.text.encoder.state_dict())
    some.image.encoder.load_state_dict(whole.image.encoder.state_dict())
    for side in ("text", "image"):
        getattr(some, side).head.transform.load_state_dict(getattr(whole, side).head.transform.state_dict())
    some.copy_head()
    for encode, of in (("encode_text", captions[:4]), ("encode_image", images)):
        expected_BV = getattr(whole.eval(), encode)(of)[:, part.lexicon_V]
        torch.testing.assert_close(getattr(some.eval(), encode)(of), F.normalize(expected_BV, dim=-1))
    assert some.dimension == len(some.vocabulary) == len(part.vocabulary)


def test_the_tied_head_trains_the_word_embeddings_of_its_lexicons(make_part, part):
    model = make_part()
    model.text.head(torch.randn(2, 16)).sum().backward()
    gradient_T = model.text.encoder.embeddings.word_embeddings.weight.grad.abs().sum(dim=1) > 0
    assert gradient_T.nonzero().ravel().tolist() == part.lexicon_V.tolist()


def test_masked_words_that_are_no_lexicons_have_no_loss(make_config, tokenizer, make_batch):
    few = LexiconTokenizer(tokenizer._tokenizer, tokenizer.max_tokens, ["red"])
    objective = begun(checkpoint.create(make_config("lexlip"), few), "bottleneck")
    drawn = objective.draw(make_batch(), generator())
    assert drawn.hidden_from_decoder == drawn.hidden_from_decoder_BL.sum() > 0
    red = tokenizer.vocabulary.index("red")
    assert (drawn.tokens_BL[drawn.hidden_from_decoder_BL] == red).all()
    assert (drawn.for_decoder_BL == tokenizer.mask_id).sum() > drawn.hidden_from_decoder_BL.sum(), "still masked"
    assert all(torch.isfinite(loss) for loss in objective.losses(make_batch(), generator())[0].values())


def test_a_checkpoint_of_a_part(make_part, images, tmp_path):
    model = make_part(head=HeadConfig(own_words=True)).eval()
    model.idf_V.uniform_()
    checkpoint.save(model, tmp_path / "best")
    again = checkpoint.load(tmp_path / "best")
    assert again.vocabulary == model.vocabulary and torch.equal(again.idf_V, model.idf_V)
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    (tmp_path / "best" / "lexicon.json").write_text('["red"]')
    with pytest.raises(InputError, match=r"lexicon.json: truncated or changed"):
        checkpoint.load(tmp_path / "best")


def test_a_lexicon_beside_a_whole_vocabulary_is_refused(make_model, tmp_path):
    checkpoint.save(make_model(), tmp_path / "best")
    (tmp_path / "best" / "lexicon.json").write_text('["red"]')
    with pytest.raises(InputError, match=r"lexicon.json: not of this checkpoint"):
        checkpoint.load(tmp_path / "best")


def test_exports_of_a_part(make_part, tmp_path):
    model = make_part(head=HeadConfig(own_words=True, image_top_k=5, text_top_k=4)).eval()
    (tmp_path / "onnx").mkdir()
    export_onnx.write(model, tmp_path / "onnx")  # compares the graph with the model
    with pytest.raises(InputError, match="own_words: not supported by sentence-transformers"):
        export_sparse_encoder.write(model, tmp_path / "sparse")
    export_sparse_encoder.write(make_part().eval(), tmp_path / "sparse")


# --- words of captions ---


def test_bags_by_hand():
    lexicons_BM = torch.tensor([[2, 0, 2, -1], [-1, -1, -1, -1]])
    assert bag_of_tokens(lexicons_BM, 3, "sum").tolist() == [[1, 0, 2], [0, 0, 0]]
    assert bag_of_tokens(lexicons_BM, 3, "once").tolist() == [[1, 0, 1], [0, 0, 0]]


def test_the_word_loss_by_hand():
    """Of three lexicons the first two occur, with idf 1 and 3; the second image has no words."""
    logits_BV = torch.tensor([[0.0, math.log(3), math.log(4)], [5.0, 5.0, 5.0]])
    count_BV, idf_V = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([1.0, 3.0, 2.0])
    softmax = -(0.5 * math.log(1 / 8) + 0.5 * math.log(3 / 8))
    sigmoid = -(0.5 * math.log(1 / 2) + 0.5 * math.log(3 / 4))
    absent = -(2 / 6) * math.log(1 / 5)
    assert word_loss(logits_BV, count_BV, idf_V, "softmax", 0.1, 1).item() == pytest.approx(softmax)
    assert word_loss(logits_BV, count_BV, idf_V, "sigmoid", 0.0, 1).item() == pytest.approx(sigmoid)
    assert word_loss(logits_BV, count_BV, idf_V, "sigmoid", 0.1, 2).item() == pytest.approx(
        (sigmoid + 0.1 * absent) / 2
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 7))
def test_the_softmax_form_is_cross_entropy_with_soft_targets(seed, batch, lexicons):
    random = torch.Generator().manual_seed(seed)
    logits_BV = torch.randn(batch, lexicons, generator=random, dtype=torch.float64)
    count_BV = torch.randint(0, 4, (batch, lexicons), generator=random).double()
    count_BV[:, 0] += 1
    found = word_loss(logits_BV, count_BV, torch.ones(lexicons), "softmax", 0.0, batch)
    torch.testing.assert_close(found, F.cross_entropy(logits_BV, count_BV / count_BV.sum(dim=1, keepdim=True)))


@pytest.mark.parametrize("absent", [0.05, 0.5])
def test_the_best_logit_under_the_sigmoid_form_is_that_of_the_probability(absent):
    """A word in 30% of the captions of equal images: logit(0.3) - log(absent)."""
    count_BV = torch.ones(10, 2)
    count_BV[3:, 0] = 0  # the second word is in all of them, which keeps the divisor's gradient away from the first
    idf_V, logits_V = torch.tensor([1e-3, 1.0]), torch.zeros(2, requires_grad=True)
    adam = torch.optim.Adam([logits_V], lr=0.05)
    for _ in range(600):
        adam.zero_grad()
        word_loss(logits_V.expand(10, 2), count_BV, idf_V, "sigmoid", absent, 10).backward()
        adam.step()
    assert logits_V[0].item() == pytest.approx(math.log(0.3 / 0.7) - math.log(absent), abs=0.02)


@pytest.mark.parametrize("phase", ["bottleneck", "momentum", "contrastive"])
def test_the_target_is_a_loss_of_every_phase(phase, make_part, make_batch):
    batch = make_batch()
    losses = {}
    for weight in (0.0, 1.0, 2.0):
        objective = begun(make_part(words=WordsConfig(weight)), phase)
        losses[weight], _ = objective.losses(batch, generator())
    assert "words" not in losses[0.0] and torch.isclose(losses[2.0]["words"], 2 * losses[1.0]["words"])
    losses[1.0]["words"].backward()


def test_the_target_is_one_caption_or_all(make_part, make_batch, part):
    batch = make_batch()
    other = dataclasses.replace(batch, captions_BM=batch.captions_BM.roll(1, 0))
    found = {}
    for captions in ("one", "all"):
        objective = begun(make_part(words=WordsConfig(1.0, captions=captions)), "contrastive")
        found[captions] = [objective.losses(one, generator())[0]["words"].item() for one in (batch, other)]
    assert found["one"][0] == found["one"][1] == found["all"][0] != found["all"][1]


def test_typed_words_are_weighted_by_idf(make_part, part):
    model = make_part()
    model.idf_V.copy_(torch.linspace(0.5, 2, model.dimension))
    vector_V = model.encode_words(["a red red mountain"])[0]
    said = {part.vocabulary[v] for v in vector_V.nonzero().ravel().tolist()}
    assert said == {"a", "red", "mountain"}
    assert vector_V.norm() == pytest.approx(1)
    v, w = part.vocabulary.index("red"), part.vocabulary.index("mountain")
    assert vector_V[v] / vector_V[w] == pytest.approx((model.idf_V[v] / model.idf_V[w]).item())


def test_own_words_have_a_learned_minimum(make_part, part):
    model = make_part(head=HeadConfig(text_bias=-100.0, own_words=True))
    tokens_BL = torch.from_numpy(part.encode(["a red mountain", "a"])[0]).long()
    weights_BV = model.text_states(tokens_BL)[1].weights_BV
    assert [{part.vocabulary[v] for v in row.nonzero().ravel()} for row in weights_BV] == [
        {"a", "red", "mountain"},
        {"a"},
    ]
    torch.testing.assert_close(weights_BV[weights_BV > 0], torch.full((4,), math.log(2)))
    weights_BV.sum().backward()
    assert (model.own_V.grad > 0).sum() == 3
    loud = make_part(head=HeadConfig(text_bias=5.0, own_words=True))
    plain = make_part(head=HeadConfig(text_bias=5.0))
    torch.testing.assert_close(loud.text_states(tokens_BL)[1].weights_BV, plain.text_states(tokens_BL)[1].weights_BV)


def test_items_keep_their_highest_weights(make_part, images, captions):
    whole, cut = make_part().eval(), make_part(head=HeadConfig(image_top_k=3, text_top_k=2)).eval()
    for encode, of, top_k in (("encode_image", images, 3), ("encode_text", captions[:6], 2)):
        one_BV, other_BV = getattr(whole, encode)(of), getattr(cut, encode)(of)
        assert ((other_BV > 0).sum(dim=1) == top_k).all() and ((one_BV > 0).sum(dim=1) > top_k).all()
        kept_BV = one_BV * (other_BV > 0)
        torch.testing.assert_close(other_BV, F.normalize(kept_BV, dim=-1))
        assert (kept_BV.sum(dim=1) - one_BV.topk(top_k, dim=1).values.sum(dim=1)).abs().max() < 1e-6


def test_the_number_of_lexicons_shrinks_over_the_run(make_part, make_batch):
    head = HeadConfig(image_top_k=2, text_top_k=3, top_k_anneal=0.5)
    objective, batch = begun(make_part(head=head), "momentum"), make_batch()
    lexicons, active = objective.model.dimension, {}
    for progress in (0.0, 0.25, 0.5, 1.0):
        objective.progress = progress
        active[progress] = [int((side_BV > 0).sum(dim=1).max()) for side_BV in objective.vectors(batch)]
        keys = objective.keys(batch)
        assert [int((key_BV > 0).sum(dim=1).max()) for key_BV in keys] == active[progress]
    assert active[0.5] == active[1.0] == [2, 3]
    assert active[0.25] == [round((lexicons * top_k) ** 0.5) for top_k in (2, 3)], "halfway, the geometric mean"
    assert min(active[0.0]) > max(active[0.25])


# --- FLOPS ---


def test_flops_of_texts_have_a_factor_and_grow(make_part, make_batch):
    batch = make_batch()
    objective = begun(make_part(flops=FlopsConfig(2.0, text_factor=3.0, ramp=0.5)), "contrastive")
    image_BV, text_BV = (F.normalize(side_BV, dim=-1) for side_BV in objective.vectors(batch))
    expected = (2 * flops(image_BV) + 6 * flops(text_BV)).item()
    for progress, share in ((0.0, 0.0), (0.25, 0.25), (0.5, 1.0), (0.9, 1.0)):
        objective.progress = progress
        found = objective.losses(batch, generator())[0]["flops"].item()
        assert found == pytest.approx(share * expected, rel=1e-5)


@pytest.mark.parametrize(("form", "cost"), [("df_flops", df_flops), ("l1", l1)])
def test_the_regulariser_has_other_forms(make_part, make_batch, form, cost):
    batch = make_batch()
    objective = begun(make_part(flops=FlopsConfig(2.0, form=form)), "contrastive")
    image_BV, text_BV = (F.normalize(side_BV, dim=-1) for side_BV in objective.vectors(batch))
    found = objective.losses(batch, generator())[0]["flops"].item()
    assert found == pytest.approx(2 * (cost(image_BV) + cost(text_BV)).item(), rel=1e-5)
