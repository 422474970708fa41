"""The tokenizer: vocabulary, token ids, word numbers, and files."""

import numpy as np
import pytest

from models.errors import InputError
from models.tokenizer import NO_WORD, SPECIAL_TOKENS, LexiconTokenizer


def test_the_same_captions_give_the_same_vocabulary(captions):
    one, other = (LexiconTokenizer.train(iter(captions), 100, 14) for _ in range(2))
    assert one.vocabulary == other.vocabulary
    assert one.vocabulary[:5] == SPECIAL_TOKENS
    assert len(one) == len(one.vocabulary) <= 100
    assert len(set(one.vocabulary)) == len(one)


def test_captions_have_special_tokens_padding_and_word_numbers(tokenizer):
    tokens_NL, words_NL = tokenizer.encode(["a red apple", ""])
    assert tokens_NL.shape == words_NL.shape == (2, 14)
    assert (tokens_NL.dtype, words_NL.dtype) == (np.int32, np.uint8)
    row, words = tokens_NL[0], words_NL[0]
    length = int((row != tokenizer.pad_id).sum())
    assert (row[0], row[length - 1]) == (tokenizer.cls_id, tokenizer.sep_id)
    assert words[0] == NO_WORD and (words[length - 1 :] == NO_WORD).all()
    assert sorted(set(words[1 : length - 1].tolist())) == [0, 1, 2], "three words, in order"
    assert tokens_NL[1, :3].tolist() == [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id]


def test_pieces_of_a_word_share_its_number(tokenizer):
    """No caption has "applered": it falls into pieces, all of word 1."""
    tokens_NL, words_NL = tokenizer.encode(["a applered on"])
    pieces = [tokenizer.vocabulary[token] for token, word in zip(tokens_NL[0], words_NL[0], strict=True) if word == 1]
    assert len(pieces) > 1
    assert "".join(piece.removeprefix("##") for piece in pieces) == "applered"


def test_captions_are_lower_cased(tokenizer):
    assert np.array_equal(tokenizer.encode(["A Red APPLE"])[0], tokenizer.encode(["a red apple"])[0])


def test_an_unknown_word_becomes_unk(tokenizer):
    tokens_NL, words_NL = tokenizer.encode(["red 東 apple"])
    at = tokens_NL[0].tolist().index(tokenizer.unknown_id)
    assert words_NL[0, at] == 1
    assert (tokens_NL[0] == tokenizer.unknown_id).sum() == 1


def test_long_captions_are_cut_to_max_tokens(captions):
    short = LexiconTokenizer.train(captions, 100, 5)
    tokens_NL, words_NL = short.encode(["a red apple on the grass near a mountain", "a red"])
    assert tokens_NL.shape == (2, 5)
    assert tokens_NL[0, 0] == short.cls_id and tokens_NL[0, -1] == short.sep_id
    assert (words_NL[0, 1:-1] != NO_WORD).all()


def test_a_loaded_tokenizer_equals_the_saved_one(tokenizer, tmp_path, captions):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = LexiconTokenizer.load(tmp_path / "tokenizer.json", 14)
    assert again.vocabulary == tokenizer.vocabulary
    for mine, theirs in zip(again.encode(captions), tokenizer.encode(captions), strict=True):
        assert np.array_equal(mine, theirs)


def test_missing_and_broken_files_are_refused_by_name(tmp_path):
    file = tmp_path / "tokenizer.json"
    with pytest.raises(InputError, match="tokenizer.json: no such file"):
        LexiconTokenizer.load(file, 14)
    file.write_text('{"model": ')
    with pytest.raises(InputError, match="tokenizer.json: not a readable tokenizer"):
        LexiconTokenizer.load(file, 14)


def test_a_tokenizer_without_special_tokens_is_refused():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    with pytest.raises(InputError, match=r"\[CLS\]"):
        LexiconTokenizer(Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]")), 14)


def test_a_single_string_is_refused(tokenizer):
    with pytest.raises(InputError, match="expected a list of texts, got one text, 'a red apple'"):
        tokenizer.encode("a red apple")
