"""Whole-word masks, and a batch computed in groups of similar length against the whole batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import LENGTH_GROUPS, by_length, mask_words
from models.tokenizer import NO_WORD

MASK = 99


@st.composite
def captions(draw):
    """Token ids 10.. and word numbers of a batch: [CLS], words of one to three pieces, [SEP], padding."""
    lengths = draw(st.lists(st.lists(st.integers(1, 3), max_size=5), min_size=1, max_size=4))
    longest = max(sum(pieces) for pieces in lengths) + 2
    tokens, words = [], []
    for pieces in lengths:
        numbers = [number for number, count in enumerate(pieces) for _ in range(count)]
        row = [NO_WORD, *numbers, NO_WORD]
        words.append(row + [NO_WORD] * (longest - len(row)))
        tokens.append(list(range(10, 10 + len(row))) + [0] * (longest - len(row)))
    return torch.tensor(tokens), torch.tensor(words, dtype=torch.uint8)


def masked(batch, share, seed=0):
    return mask_words(*batch, share, MASK, torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=60)
@given(captions(), st.floats(0, 1), st.integers(0, 1000))
def test_whole_words_are_masked_and_special_tokens_are_not(batch, share, seed):
    tokens_BL, words_BL = batch
    out_BL, masked_BL = masked(batch, share, seed)
    assert not masked_BL[words_BL == NO_WORD].any()
    assert (out_BL[masked_BL] == MASK).all()
    assert torch.equal(out_BL[~masked_BL], tokens_BL[~masked_BL])
    for words, hidden in zip(words_BL.tolist(), masked_BL.tolist(), strict=True):
        for number in set(words) - {NO_WORD}:
            assert len({hidden[at] for at, word in enumerate(words) if word == number}) == 1


@given(captions())
@settings(deadline=None, max_examples=20)
def test_shares_0_and_1(batch):
    is_word_BL = batch[1] != NO_WORD
    assert not masked(batch, 0.0)[1].any()
    assert torch.equal(masked(batch, 1.0)[1], is_word_BL)


def long_batch() -> tuple[torch.Tensor, torch.Tensor]:
    words_BL = torch.arange(40, dtype=torch.uint8).repeat(200, 1)
    return torch.full((200, 40), 10), words_BL


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_the_share_of_masked_words(share):
    hidden_BL = masked(long_batch(), share)[1].float()
    assert hidden_BL.mean().item() == pytest.approx(share, abs=0.03)
    assert hidden_BL.mean(dim=0).max() < share + 0.15, "all positions are equally likely"
    assert len(set(hidden_BL.sum(dim=1).tolist())) > 1, "captions are masked independently"


def test_words_numbered_beyond_the_length_are_masked_independently():
    """Words left out of a caption leave gaps in the numbers (`ablations.augment`)."""
    words_BL = torch.tensor([0, 9, 200, 254], dtype=torch.uint8).repeat(400, 1)
    hidden_BL = masked((torch.full((400, 4), 10), words_BL), 0.5)[1]
    for one in range(4):
        for other in range(one):
            assert (hidden_BL[:, one] == hidden_BL[:, other]).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_masks_depend_on_the_generator_only():
    assert torch.equal(masked(long_batch(), 0.3, seed=1)[1], masked(long_batch(), 0.3, seed=1)[1])
    assert not torch.equal(masked(long_batch(), 0.3, seed=1)[1], masked(long_batch(), 0.3, seed=2)[1])
    torch.manual_seed(0)
    first = masked(long_batch(), 0.3)[1]
    torch.manual_seed(1)
    assert torch.equal(first, masked(long_batch(), 0.3)[1]), "the global generator is not used"


def test_two_draws_of_one_generator_are_independent():
    generator = torch.Generator().manual_seed(0)
    one, other = (mask_words(*long_batch(), 0.5, MASK, generator)[1] for _ in range(2))
    assert (one == other).float().mean().item() == pytest.approx(0.5, abs=0.03)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(9, 11))
def test_grouped_rows_keep_their_order_and_padding_is_zero(lengths, longest):
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
    assert sum(rows for rows, _ in seen) == len(lengths) and len(seen) <= LENGTH_GROUPS
    assert max(length for _, length in seen) == max(*lengths, 1), "a group is cut at its longest row"


def test_gradients_reach_every_row():
    tokens_BL = torch.rand(7, 5, requires_grad=True)
    (states_BL1,) = by_length(
        lambda tokens_bL: [tokens_bL.unsqueeze(-1)], torch.tensor([5, 1, 3, 5, 2, 4, 1]), [tokens_BL]
    )
    states_BL1.sum().backward()
    assert tokens_BL.grad.sum(dim=1).tolist()[0] == 5 and (tokens_BL.grad[:, 0] == 1).all()
