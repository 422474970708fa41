"""The tokenizer: captions as padded token ids with word numbers, and which of its tokens are lexicons.

Its WordPiece vocabulary is the lexicon, whole or only the tokens that occur in captions: entry v of a lexicon vector
is the weight of lexicon v.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer

from models.errors import InputError
from models.files import read_json, sha256_text

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NO_WORD = 255
"""Word number of special tokens and padding."""
LEXICON = "lexicon.json"
"""File of the lexicons beside a tokenizer whose lexicon is a part of its vocabulary: a list of tokens."""
VOCABULARIES = ("tokenizer.json", "vocab.txt")
"""Vocabulary files of a BERT's folder, the preferred one first."""


class LexiconTokenizer:
    """A BERT WordPiece tokenizer with a length limit.

    Args:
        tokenizer: has BERT's special tokens and the template `[CLS] $A [SEP]`.
        max_tokens: length limit of a caption, including [CLS] and [SEP]; longer captions are cut.
        lexicon: the tokens that are lexicons, in any order; None: all.

    Attributes:
        lexicon_V: token id of each lexicon, int64, ascending.
        lexicon_of_T: lexicon of each token id, int64; -1 for a token that is none.

    Raises InputError if a special token is missing, or a lexicon is no token.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, lexicon: Iterable[str] | None = None):
        missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
        if missing:
            raise InputError(f"the tokenizer has no {', '.join(missing)}; expected a BERT WordPiece vocabulary")
        self._tokenizer = tokenizer
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        self.max_tokens = max_tokens
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = (
            tokenizer.token_to_id(token) for token in SPECIAL_TOKENS
        )
        ids = range(len(self)) if lexicon is None else [tokenizer.token_to_id(token) for token in lexicon]
        if None in ids:
            raise InputError("the lexicon has a token that the tokenizer lacks; expected a part of its vocabulary")
        self.lexicon_V = np.unique(np.array(ids, np.int64))
        self.lexicon_of_T = np.full(len(self), -1, np.int64)
        self.lexicon_of_T[self.lexicon_V] = np.arange(len(self.lexicon_V))

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary_size: int, max_tokens: int) -> "LexiconTokenizer":
        """Learns a lower-casing WordPiece vocabulary of at most `vocabulary_size` entries; deterministic."""
        trainer, captions = BertWordPieceTokenizer(lowercase=True), list(captions)
        # The trainer numbers "##x" pieces in the order of a randomly seeded hash map, and breaks ties of equally
        # frequent merges by these numbers. So list the pieces first in a fixed order, and sort the result,
        # whose ids follow the merges.
        inner = sorted(
            {f"##{letter}" for caption in captions for word in _words(trainer, caption) for letter in word[1:]}
        )
        trainer.train_from_iterator(
            captions,
            vocab_size=vocabulary_size,
            min_frequency=2,
            special_tokens=[*SPECIAL_TOKENS, *inner],
            show_progress=False,
        )
        pieces = sorted(set(trainer.get_vocab()) - set(SPECIAL_TOKENS))
        vocabulary = {piece: index for index, piece in enumerate([*SPECIAL_TOKENS, *pieces])}
        return cls(BertWordPieceTokenizer(vocabulary, lowercase=True)._tokenizer, max_tokens)

    @classmethod
    def load(cls, file: Path, max_tokens: int) -> "LexiconTokenizer":
        """Reads a `tokenizer.json` and, if there is one, the `lexicon.json` beside it.

        Raises InputError, which names the file, if one is missing or broken.
        """
        if not Path(file).is_file():
            raise InputError(f"{file}: no such file; expected a tokenizer.json")
        try:
            return cls(Tokenizer.from_file(str(file)), max_tokens, _lexicon_beside(Path(file)))
        except InputError:
            raise
        except Exception as error:  # the Rust reader raises plain Exception
            raise InputError(f"{file}: not a readable tokenizer: {error}") from None

    @classmethod
    def pretrained(cls, folder: Path, max_tokens: int) -> "LexiconTokenizer":
        """The tokenizer of a pre-trained BERT's folder: its `tokenizer.json`, else its `vocab.txt`.

        A `vocab.txt` is lower-casing unless `tokenizer_config.json` sets `do_lower_case` to false.

        Raises InputError, which names the file, if neither exists, one is broken or no BERT vocabulary, or [PAD] is not
        0.
        """
        folder = Path(folder)
        file = next((file for name in VOCABULARIES if (file := folder / name).is_file()), None)
        if file is None:
            raise InputError(f"{folder}: no vocabulary; expected {' or '.join(VOCABULARIES)}")
        if file.name == "vocab.txt":
            tokenizer = cls(_of_vocabulary_list(file), max_tokens)
        else:
            tokenizer = cls.load(file, max_tokens)
        if tokenizer.pad_id != 0 or None in tokenizer.vocabulary:
            raise InputError(f"{file}: expected token ids without gaps, and [PAD] as token 0, not {tokenizer.pad_id}")
        return tokenizer

    def of_captions(self, tokens_CL: np.ndarray, least: int) -> "LexiconTokenizer":
        """The tokenizer whose lexicons are the tokens, special ones excepted, that occur at least `least` times.

        tokens_CL: token ids of the captions. Raises InputError if no token does.
        """
        count_T = np.bincount(tokens_CL.ravel(), minlength=len(self))
        count_T[[self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id]] = 0
        lexicon = [self._tokenizer.id_to_token(int(index)) for index in np.flatnonzero(count_T >= least)]
        if not lexicon:
            raise InputError(f"model.text.lexicon_min_count: {least}: no token occurs as often in the captions")
        return LexiconTokenizer(self._tokenizer, self.max_tokens, lexicon)

    @property
    def is_part(self) -> bool:
        """Whether some tokens are no lexicons."""
        return len(self.lexicon_V) < len(self)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary, the lexicon and all settings of the tokenizer."""
        return sha256_text(self._tokenizer.to_str() + (json.dumps(self.vocabulary) if self.is_part else ""))

    def save(self, file: Path) -> list[Path]:
        """Writes a `tokenizer.json`, and a `lexicon.json` beside it if some tokens are no lexicons.

        Returns the files. Raises OSError if the disk is full (the library raises plain Exception).
        """
        file = Path(file)
        file.write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")
        if not self.is_part:
            return [file]
        (file.with_name(LEXICON)).write_text(json.dumps(self.vocabulary, ensure_ascii=False), encoding="utf-8")
        return [file, file.with_name(LEXICON)]

    def __len__(self) -> int:
        """Number of tokens, T."""
        return self._tokenizer.get_vocab_size()

    @property
    def vocabulary(self) -> list[str]:
        """The text of each lexicon, (V,)."""
        return [self._tokenizer.id_to_token(int(index)) for index in self.lexicon_V]

    def encode(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenises captions.

        Returns:
            Token ids, int32 (N, max_tokens), padded with `pad_id`; and word numbers, uint8 (N, max_tokens). The pieces
            of a word share its number, so whole-word masking masks them together; special tokens and padding have
            `NO_WORD`.

        Raises InputError for a single string, whose letters would be taken as captions.
        """
        if isinstance(captions, str):
            raise InputError(f"captions: expected a list of texts, got one text, {captions[:40]!r}")
        tokens_NL = np.full((len(captions), self.max_tokens), self.pad_id, np.int32)
        words_NL = np.full((len(captions), self.max_tokens), NO_WORD, np.uint8)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(captions))):
            length = len(encoding.ids)
            tokens_NL[row, :length] = encoding.ids
            words_NL[row, :length] = [NO_WORD if word is None else word for word in encoding.word_ids]
        return tokens_NL, words_NL


def _lexicon_beside(file: Path) -> list[str] | None:
    """The list of `lexicon.json` beside a tokenizer; None without one. Raises InputError for a broken file."""
    beside = file.with_name(LEXICON)
    if not beside.is_file():
        return None
    expected = "expected a list of tokens, without gaps or doubles"
    lexicon = read_json(beside, expected)
    if not (isinstance(lexicon, list) and lexicon and all(isinstance(token, str) for token in lexicon)):
        raise InputError(f"{beside}: not a lexicon; {expected}")
    return lexicon


def _of_vocabulary_list(file: Path) -> Tokenizer:
    """The tokenizer of a `vocab.txt`, which has one piece per line."""
    settings = file.with_name("tokenizer_config.json")
    try:
        pieces = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # not splitlines: U+2028 is a piece
        about = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        lower = about.get("do_lower_case", True)
    except ValueError as error:
        raise InputError(f"{file}: not a readable vocabulary: {error}") from None
    if missing := next((token for token in SPECIAL_TOKENS if token not in pieces), None):
        raise InputError(f"{file}: has no {missing}; expected a BERT WordPiece vocabulary")
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return BertWordPieceTokenizer(vocabulary, lowercase=lower)._tokenizer


def _words(tokenizer: BertWordPieceTokenizer, caption: str) -> list[str]:
    normalised = tokenizer.normalizer.normalize_str(caption)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalised)]
