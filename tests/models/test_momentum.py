"""The queue against a list, the moving average against its formula."""

import collections

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.momentum import KeyQueue, Momentum


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 7), st.lists(st.integers(0, 16), max_size=8))
def test_the_queue_holds_what_a_bounded_list_holds(length, batches):
    queue, expected, pushed = KeyQueue(length, width=2), collections.deque(maxlen=length), 0
    assert queue.filled().shape == (0, 2), "starts empty: no invented keys"
    for size in batches:
        keys_BX = torch.arange(pushed, pushed + size, dtype=torch.float32)[:, None].expand(size, 2)
        queue.push(keys_BX)
        expected.extend(range(pushed, pushed + size))
        pushed += size
        assert sorted(queue.filled()[:, 0].tolist()) == sorted(expected)
        assert torch.equal(queue.filled()[:, 0], queue.filled()[:, 1])


def test_keys_carry_no_gradient():
    queue = KeyQueue(4, 2)
    queue.push(torch.ones(3, 2, requires_grad=True) * 2)
    assert not queue.filled().requires_grad
    assert list(queue.parameters()) == []


def test_a_queue_goes_on_from_its_state():
    one, other = KeyQueue(5, 1), KeyQueue(5, 1)
    one.push(torch.arange(7.0)[:, None])
    other.load_state_dict(one.state_dict())
    for queue in (one, other):
        queue.push(torch.tensor([[7.0], [8.0]]))
    assert torch.equal(one.filled(), other.filled())
    assert sorted(other.filled()[:, 0].tolist()) == [4.0, 5.0, 6.0, 7.0, 8.0]


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 0.999), st.integers(1, 5))
def test_the_average_follows_its_formula(decay, updates):
    torch.manual_seed(0)
    source = torch.nn.Linear(3, 2).double()
    expected = [parameter.detach().clone() for parameter in source.parameters()]
    momentum = Momentum(source, decay)
    for _ in range(updates):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter += torch.randn_like(parameter)
        momentum.update(source)
        expected = [decay * old + (1 - decay) * new.detach() for old, new in zip(expected, source.parameters(), strict=True)]
    for average, value in zip(momentum.module.parameters(), expected, strict=True):
        torch.testing.assert_close(average, value)


def test_the_copy_is_a_copy_without_gradient_in_eval_mode():
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
