"""A batch computed in groups of similar length is the batch computed whole."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.grouping import GROUPS, by_length


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(9, 11))
def test_rows_keep_their_order_and_padding_is_zero(lengths, longest):
    lengths_B = torch.tensor(lengths)
    tokens_BL = (
        torch.arange(len(lengths) * longest)
        .view(-1, longest)
        .masked_fill(torch.arange(longest) >= lengths_B[:, None], -1)
    )
    item_B = torch.arange(len(lengths)) * 100
    seen = []

    def function(tokens_bL, item_b):
        seen.append(tokens_bL.shape)
        return (
            (tokens_bL + item_b[:, None]).unsqueeze(-1).float(),
            tokens_bL.clamp(min=0).sum(dim=1, keepdim=True),
            item_b,
        )

    states_BL1, sums_B1, items_B = by_length(function, lengths_B, [tokens_BL], [item_B])
    real_BL = tokens_BL >= 0
    assert states_BL1.shape == (len(lengths), longest, 1)
    assert torch.equal(states_BL1[real_BL][:, 0], (tokens_BL + item_B[:, None])[real_BL].float())
    assert torch.equal(sums_B1, tokens_BL.clamp(min=0).sum(dim=1, keepdim=True))
    assert torch.equal(items_B, item_B)
    assert sum(rows for rows, _ in seen) == len(lengths) and len(seen) <= GROUPS
    assert max(length for _, length in seen) == max(*lengths, 1), "a group is cut at its longest"


def test_gradients_reach_every_row():
    tokens_BL = torch.rand(7, 5, requires_grad=True)
    (states_BL1,) = by_length(
        lambda tokens_bL: [tokens_bL.unsqueeze(-1)], torch.tensor([5, 1, 3, 5, 2, 4, 1]), [tokens_BL]
    )
    states_BL1.sum().backward()
    assert tokens_BL.grad.sum(dim=1).tolist()[0] == 5 and (tokens_BL.grad[:, 0] == 1).all()
