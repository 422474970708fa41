import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.masking import mask_words
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
def test_pieces_of_a_word_are_masked_together_and_specials_never(batch, share, seed):
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
def test_shares_of_none_and_all(batch):
    is_word_BL = batch[1] != NO_WORD
    assert not masked(batch, 0.0)[1].any()
    assert torch.equal(masked(batch, 1.0)[1], is_word_BL)


def long_batch() -> tuple[torch.Tensor, torch.Tensor]:
    words_BL = torch.arange(40, dtype=torch.uint8).repeat(200, 1)
    return torch.full((200, 40), 10), words_BL


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_the_share_of_words_masked(share):
    hidden_BL = masked(long_batch(), share)[1].float()
    assert hidden_BL.mean().item() == pytest.approx(share, abs=0.03)
    assert hidden_BL.mean(dim=0).max() < share + 0.15, "no position is favoured"
    assert len(set(hidden_BL.sum(dim=1).tolist())) > 1, "captions are drawn one by one"


def test_the_generator_decides_the_masks():
    assert torch.equal(masked(long_batch(), 0.3, seed=1)[1], masked(long_batch(), 0.3, seed=1)[1])
    assert not torch.equal(masked(long_batch(), 0.3, seed=1)[1], masked(long_batch(), 0.3, seed=2)[1])
    torch.manual_seed(0)
    first = masked(long_batch(), 0.3)[1]
    torch.manual_seed(1)
    assert torch.equal(first, masked(long_batch(), 0.3)[1]), "the global generator plays no part"


def test_two_draws_of_one_generator_differ():
    generator = torch.Generator().manual_seed(0)
    one, other = (mask_words(*long_batch(), 0.5, MASK, generator)[1] for _ in range(2))
    assert (one == other).float().mean().item() == pytest.approx(0.5, abs=0.03)
