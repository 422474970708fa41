"""The queue against a bounded list, the moving average against its formula."""

import collections

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import info_nce
from models.momentum import KeyQueue, Momentum


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 7), st.lists(st.integers(0, 16), max_size=8))
def test_the_queue_equals_a_bounded_list(length, batches):
    queue, expected, pushed = KeyQueue(length, width=2), collections.deque(maxlen=length), 0
    assert queue.filled().shape == (0, 2), "starts empty"
    for size in batches:
        keys_BX = torch.arange(pushed, pushed + size, dtype=torch.float32)[:, None].expand(size, 2)
        queue.push(keys_BX)
        expected.extend(range(pushed, pushed + size))
        pushed += size
        assert sorted(queue.filled()[:, 0].tolist()) == sorted(expected)
        assert torch.equal(queue.filled()[:, 0], queue.filled()[:, 1])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 7), st.integers(1, 6), st.lists(st.integers(0, 9), max_size=5))
def test_a_sparse_queue_equals_a_dense_queue_of_pruned_keys(length, top_k, batches):
    generator = torch.Generator().manual_seed(length)
    dense, sparse = KeyQueue(length, 6), KeyQueue(length, 6, top_k)
    for size in batches:
        keys_BX = torch.randint(1, 9, (size, 6), generator=generator) / 8  # exact in float16
        keys_BX += torch.arange(6) / 64  # no ties
        lowest = keys_BX.sort(dim=1, descending=True).values[:, min(top_k, 6) - 1 : min(top_k, 6)]
        dense.push(torch.where(keys_BX >= lowest, keys_BX, 0))
        sparse.push(keys_BX)
    queries_BX = torch.randn(3, 6, generator=generator)
    assert torch.equal(sparse.filled(), dense.filled())
    torch.testing.assert_close(sparse.scores(queries_BX), dense.scores(queries_BX))
    assert sparse.scores(queries_BX).shape == (3, dense.count)


def test_a_sparse_queue_gives_the_gradient_of_a_dense_one():
    keys_BX = torch.rand(5, 8).half().float()
    dense, sparse = KeyQueue(5, 8), KeyQueue(5, 8, top_k=8)
    gradients = []
    for queue in (dense, sparse):
        queue.push(keys_BX)
        queries_BX = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        queue.scores(queries_BX).softmax(dim=1)[:, 0].sum().backward()
        gradients.append(queries_BX.grad)
    torch.testing.assert_close(*gradients)


def test_memory_of_a_sparse_queue_of_the_published_size():
    queue = KeyQueue(11_520, 30_522, top_k=512)
    assert sum(buffer.nbytes for buffer in queue.buffers()) <= 11_520 * 30_522 * 4 / 20


def test_the_loss_with_sparse_keys_equals_that_with_dense_keys():
    """The published size of the vocabulary, keys as sparse as LexLIP's: within 1e-3, the rounding of float16."""
    generator = torch.Generator().manual_seed(0)

    def vectors(count):
        weights = torch.rand(count, 30_522, generator=generator) * (
            torch.rand(count, 30_522, generator=generator) < 0.01
        )
        return torch.nn.functional.normalize(weights, dim=1)

    queries, keys, queued = vectors(8), vectors(8), vectors(64)
    dense, sparse = KeyQueue(64, 30_522), KeyQueue(64, 30_522, top_k=512)
    losses = []
    for queue in (dense, sparse):
        queue.push(queued)
        losses.append(info_nce(queries, keys, 0.05, queue.scores(queries)).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_a_queue_of_noise_starts_full_of_signed_unit_keys():
    queue = KeyQueue(6, 9, noise=True)
    assert queue.filled().shape == (6, 9)
    assert (queue.filled() < 0).any()
    torch.testing.assert_close(queue.filled().norm(dim=1), torch.ones(6))
    queue.push(torch.ones(6, 9))
    assert torch.equal(queue.filled(), torch.ones(6, 9)), "the oldest are replaced"


def test_keys_carry_no_gradient():
    queue = KeyQueue(4, 2)
    queue.push(torch.ones(3, 2, requires_grad=True) * 2)
    assert not queue.filled().requires_grad
    assert list(queue.parameters()) == []


def test_a_queue_resumes_from_its_state():
    one, other = KeyQueue(5, 1), KeyQueue(5, 1)
    one.push(torch.arange(7.0)[:, None])
    other.load_state_dict(one.state_dict())
    for queue in (one, other):
        queue.push(torch.tensor([[7.0], [8.0]]))
    assert torch.equal(one.filled(), other.filled())
    assert sorted(other.filled()[:, 0].tolist()) == [4.0, 5.0, 6.0, 7.0, 8.0]


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 0.999), st.integers(1, 5))
def test_the_average_by_its_formula(decay, updates):
    torch.manual_seed(0)
    source = torch.nn.Linear(3, 2).double()
    expected = [parameter.detach().clone() for parameter in source.parameters()]
    momentum = Momentum(source, decay)
    for _ in range(updates):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter += torch.randn_like(parameter)
        momentum.update(source)
        expected = [
            decay * old + (1 - decay) * new.detach() for old, new in zip(expected, source.parameters(), strict=True)
        ]
    for average, value in zip(momentum.module.parameters(), expected, strict=True):
        torch.testing.assert_close(average, value)


def test_updates_per_step():
    source = torch.nn.Linear(2, 2)
    once, thrice = Momentum(source, 0.9), Momentum(source, 0.9, updates=3)
    torch.nn.init.ones_(source.weight)
    for _ in range(3):
        once.update(source)
    thrice.update(source)
    torch.testing.assert_close(thrice.module.weight, once.module.weight)


def test_the_average_has_no_gradient_and_is_in_eval_mode():
    source = torch.nn.BatchNorm1d(3)
    momentum = Momentum(source, 0.9)
    assert not any(parameter.requires_grad for parameter in momentum.parameters())
    assert not momentum.module.training
    source(torch.randn(8, 3))
    assert not torch.equal(momentum.module.running_mean, source.running_mean)
    momentum.update(source)
    assert torch.equal(momentum.module.running_mean, source.running_mean), "buffers are copied"


def test_a_tied_weight_is_averaged_once():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Linear(2, 2, bias=False)
            self.other = torch.nn.Linear(2, 2, bias=False)
            self.other.weight = self.one.weight

    source = Tied()
    torch.nn.init.zeros_(source.one.weight)
    momentum = Momentum(source, 0.75)
    torch.nn.init.ones_(source.one.weight)
    momentum.update(source)
    assert momentum.module.other.weight is momentum.module.one.weight
    assert momentum.module.one.weight.flatten().tolist() == pytest.approx([0.25] * 4)
