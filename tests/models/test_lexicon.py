"""The two poolings by hand, and the head against the masked-language-model head of transformers."""

import math

import pytest
import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLMPredictionHead

from models.lexicon import head as lexicon
from models.lexicon.head import (
    LexiconHead,
    active_lexicons,
    bag_of_weights,
    bag_of_words,
    retrieval_weights,
    set_backend,
)

LOGITS_BLV = torch.tensor([[[1.0, -2.0, 0.5], [0.0, -1.0, 3.0]], [[-4.0, 0.0, -3.0], [-2.0, 0.0, -5.0]]])
POOLED_BV = torch.tensor([[1.0, -1.0, 3.0], [-2.0, 0.0, -3.0]])


@pytest.fixture
def head():
    """A head whose logits are the hidden states themselves."""
    config = BertConfig(vocab_size=3, hidden_size=3, num_attention_heads=1)
    head = LexiconHead(config, torch.nn.Parameter(torch.eye(3)), tie=True, bias=0.0, identity_start=False)
    head.transform = torch.nn.Identity()
    return head


def test_pooling_is_the_highest_logit_of_each_lexicon(head):
    assert head.pooled(LOGITS_BLV).logits_BV.tolist() == POOLED_BV.tolist()


def test_padding_is_not_pooled_and_special_tokens_are(head):
    mask_BL = torch.tensor([[True, False], [True, True]])
    assert head.pooled(LOGITS_BLV, mask_BL).logits_BV.tolist() == [[1.0, -2.0, 0.5], [-2.0, 0.0, -3.0]]
    assert head.pooled(LOGITS_BLV, torch.ones(2, 2, dtype=torch.bool)).logits_BV.tolist() == POOLED_BV.tolist()


def test_the_backend_is_set_for_all_heads_of_a_model(head, monkeypatch):
    asked, tiled = [], lexicon.max_linear
    monkeypatch.setattr(lexicon, "max_linear", lambda *of: asked.append(of[-1]) or tiled(*of[:-1]))
    head.pooled(LOGITS_BLV)
    set_backend(torch.nn.ModuleDict({"text": torch.nn.Sequential(head)}), "tiled")
    head.pooled(LOGITS_BLV)
    assert asked == ["auto", "tiled"]


def test_retrieval_pooling_by_hand():
    """log(1 + ReLU(max))."""
    expected = [[math.log(2), 0.0, math.log(4)], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(retrieval_weights(POOLED_BV), torch.tensor(expected))
    assert active_lexicons(retrieval_weights(POOLED_BV)).tolist() == [2, 0]


def test_retrieval_pooling_equals_the_published_order_of_operations():
    """The paper writes max(log(1 + ReLU(.))) over tokens; pooled logits give the same."""
    published_BV = torch.log1p(torch.relu(LOGITS_BLV)).max(dim=1).values
    torch.testing.assert_close(retrieval_weights(LOGITS_BLV.max(dim=1).values), published_BV)


def test_bottleneck_pooling_by_hand():
    """softmax of the raw max logits, times the embeddings; no ReLU: the second row, all <= 0, is not uniform."""
    embedding_VD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    expected = []
    for row in POOLED_BV.tolist():
        powers = [math.exp(value) for value in row]
        shares = [power / sum(powers) for power in powers]
        expected.append([shares[0] + 2 * shares[2], shares[1] + 2 * shares[2]])
    torch.testing.assert_close(bag_of_words(POOLED_BV, embedding_VD), torch.tensor(expected))


def test_bag_of_retrieval_weights_by_hand():
    """Shares of the sum of the weights, times the embeddings; zero without active lexicons."""
    weights_BV = torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    embedding_VD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]], requires_grad=True)
    bag_BD = bag_of_weights(weights_BV, embedding_VD)
    assert bag_BD.tolist() == [[0.25 + 1.5, 1.5], [0.0, 0.0]]
    bag_BD.sum().backward()
    assert embedding_VD.grad is None and torch.isfinite(weights_BV.grad).all()


def test_sum_pooling_by_hand(head):
    """The sum over tokens of log(1 + ReLU(logit)), padding left out; the bottleneck keeps the max."""
    head.pooling = "sum"
    pooled = head.pooled(LOGITS_BLV, torch.tensor([[True, True], [True, False]]))
    assert pooled.logits_BV.tolist() == [[1.0, -1.0, 3.0], [-4.0, 0.0, -3.0]]
    expected = [[math.log(2), 0.0, math.log(1.5) + math.log(4)], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(pooled.weights_BV, torch.tensor(expected))


def test_negative_logits_change_the_bottleneck_only():
    lower_BV = torch.where(POOLED_BV < 0, POOLED_BV - 1, POOLED_BV)
    embedding_VD = torch.eye(3)
    assert torch.equal(retrieval_weights(lower_BV), retrieval_weights(POOLED_BV))
    assert (bag_of_words(lower_BV, embedding_VD) - bag_of_words(POOLED_BV, embedding_VD)).abs().max() > 0.01


def test_the_bottleneck_gives_the_embeddings_no_gradient():
    pooled_BV = POOLED_BV.clone().requires_grad_()
    embedding_VD = torch.eye(3, requires_grad=True)
    bag_of_words(pooled_BV, embedding_VD)[:, 0].sum().backward()
    assert embedding_VD.grad is None
    assert (pooled_BV.grad != 0).any(dim=1).all(), "the gradient reaches the logits of every row"


@pytest.mark.parametrize("identity_start", [False, True])
def test_logits_equal_those_of_transformers(identity_start):
    config = BertConfig(vocab_size=50, hidden_size=16, num_attention_heads=2)
    torch.manual_seed(0)
    ours = LexiconHead(
        config, torch.nn.Parameter(torch.randn(50, 16)), tie=False, bias=-0.5, identity_start=identity_start
    )
    torch.nn.init.normal_(ours.bias_V)
    theirs = BertLMPredictionHead(config)
    theirs.transform.load_state_dict(ours.transform.state_dict())
    with torch.no_grad():
        theirs.decoder.weight.copy_(ours.weight_VD)
        theirs.decoder.bias.copy_(ours.bias_V)
        theirs.bias.copy_(ours.bias_V)
    hidden_BLD = torch.randn(3, 5, 16)
    torch.testing.assert_close(ours(hidden_BLD), theirs(hidden_BLD), rtol=1e-5, atol=1e-6)


def test_identity_start_scores_a_word_highest_on_itself():
    config = BertConfig(vocab_size=40, hidden_size=32, num_attention_heads=2)
    torch.manual_seed(0)
    embedding_VD = torch.nn.Parameter(torch.randn(40, 32))
    started = LexiconHead(config, embedding_VD, tie=True, bias=0.0, identity_start=True)
    random = LexiconHead(config, embedding_VD, tie=True, bias=0.0, identity_start=False)
    itself = torch.arange(40)
    assert (started(embedding_VD).argmax(dim=-1) == itself).float().mean() > 0.9
    assert (random(embedding_VD).argmax(dim=-1) == itself).float().mean() < 0.5


def test_bias_starts_sparse():
    config = BertConfig(vocab_size=40, hidden_size=16, num_attention_heads=2)
    torch.manual_seed(0)
    embedding_VD = torch.nn.Parameter(torch.randn(40, 16))
    hidden_BLD = torch.randn(4, 6, 16)
    dense, sparse = (
        LexiconHead(config, embedding_VD, tie=True, bias=bias, identity_start=True) for bias in (0.0, -10.0)
    )
    torch.testing.assert_close(dense(hidden_BLD) - 10, sparse(hidden_BLD))
    assert (
        active_lexicons(sparse.pooled(hidden_BLD).weights_BV).sum()
        < active_lexicons(dense.pooled(hidden_BLD).weights_BV).sum()
    )
