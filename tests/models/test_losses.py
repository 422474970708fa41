"""Every loss against its textbook formula in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from models.losses import df_flops, flops, info_nce, l1, masked_token_loss, symmetric_info_nce

sizes = st.integers(1, 6)
seeds = st.integers(0, 10_000)
temperatures = st.floats(0.02, 2.0)


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_info_nce(queries, keys, temperature) -> float:
    total = 0.0
    for i, query in enumerate(queries.tolist()):
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) / temperature for key in keys.tolist()]
        highest = max(scores)
        total -= scores[i] - highest - math.log(sum(math.exp(score - highest) for score in scores))
    return total / len(queries)


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(0, 5), sizes, seeds, temperatures)
def test_info_nce_takes_further_keys_as_negatives(batch, extra, width, seed, temperature):
    queries, keys = normalize(rows(batch, width, seed), dim=-1), normalize(rows(batch + extra, width, seed + 1), dim=-1)
    expected = naive_info_nce(queries, keys, temperature)
    assert float(info_nce(queries, keys, temperature)) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert float(info_nce(queries.float(), keys.float(), temperature)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(sizes, sizes, seeds, temperatures)
def test_symmetric_info_nce_is_the_mean_of_both_directions(batch, width, seed, temperature):
    left, right = normalize(rows(batch, width, seed), dim=-1), normalize(rows(batch, width, seed + 1), dim=-1)
    expected = (naive_info_nce(left, right, temperature) + naive_info_nce(right, left, temperature)) / 2
    assert float(symmetric_info_nce(left, right, temperature)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_info_nce_by_hand():
    """Two orthogonal pairs at temperature 1: -log(e / (e + 1)); one more orthogonal key: -log(e / (e + 2))."""
    pairs = torch.eye(3, dtype=torch.float64)
    assert float(info_nce(pairs[:2], pairs[:2], 1.0)) == pytest.approx(math.log((math.e + 1) / math.e))
    assert float(info_nce(pairs[:2], pairs, 1.0)) == pytest.approx(math.log((math.e + 2) / math.e))


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds)
def test_flops_is_the_sum_of_squared_means_of_absolute_weights(batch, width, seed):
    weights = rows(batch, width, seed)
    expected = sum((sum(abs(row[v]) for row in weights.tolist()) / batch) ** 2 for v in range(width))
    assert float(flops(weights)) == pytest.approx(expected, rel=1e-9)


def test_flops_by_hand():
    assert float(flops(torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, -4.0]]))) == 2.0**2 + 3.0**2


def test_l1_by_hand():
    assert float(l1(torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, -4.0]]))) == 2.0 + 3.0


def test_df_flops_by_hand():
    """Lexicons of all, a tenth, a hundredth and none of the items: factors 1, 1/2, 1 / (1 + 3^10) and 0."""
    frequency = torch.zeros(100, 4, dtype=torch.float64)
    frequency[:, 0], frequency[:10, 1], frequency[:1, 2] = 2.0, 5.0, 30.0
    expected = 2.0**2 + (0.5 * 0.5) ** 2 + (0.3 / (1 + 3**10)) ** 2
    assert float(df_flops(frequency)) == pytest.approx(expected, rel=1e-9)


def test_df_flops_charges_a_lexicon_of_many_items_more_than_its_mean_says():
    """Two batches of equal FLOPS: a lexicon that all items have, and one that a twentieth have."""
    of_all, of_few = torch.zeros(100, 1), torch.zeros(100, 1)
    of_all[:], of_few[:5] = 1.0, 20.0
    assert float(flops(of_all)) == float(flops(of_few))
    assert float(df_flops(of_all)) > 100 * float(df_flops(of_few))


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(2, 8), seeds)
def test_masked_token_loss_is_the_mean_negative_log_likelihood(masked, vocabulary, seed):
    logits = rows(masked, vocabulary, seed)
    targets = torch.randint(vocabulary, (masked,), generator=torch.Generator().manual_seed(seed))
    expected = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        expected += math.log(sum(math.exp(value) for value in row)) - row[target]
    assert float(masked_token_loss(logits, targets)) == pytest.approx(expected / masked, rel=1e-9)


def test_without_masked_tokens_the_loss_is_0_with_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = masked_token_loss(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.shape == (0, 5)
