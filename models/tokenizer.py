"""The lexicon: a WordPiece vocabulary, and captions as padded token ids with their word numbers.

The vocabulary of the tokenizer *is* the lexicon: entry v of a lexicon vector is the weight of token v.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer

from models.errors import InputError

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NO_WORD = 255
"""Word number of a special or padding token."""


class LexiconTokenizer:
    """A lower-casing BERT WordPiece tokenizer with a fixed greatest length.

    Args:
        tokenizer: with BERT's special tokens and `[CLS] $A [SEP]` as template.
        max_tokens: tokens kept per caption, `[CLS]` and `[SEP]` included.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int):
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

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary_size: int, max_tokens: int) -> "LexiconTokenizer":
        """Learn a WordPiece vocabulary of at most `vocabulary_size` entries from captions; the same captions give the same one."""
        trainer, captions = BertWordPieceTokenizer(lowercase=True), list(captions)
        # The trainer numbers "##x" pieces in the order of a randomly seeded hash map, and equally frequent merges go by those
        # numbers: name the pieces first, in a fixed order. Then sort what it found, since ids of the rest follow the merges.
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
        """Read a `tokenizer.json`. Raises InputError naming the file when it is missing or broken."""
        if not Path(file).is_file():
            raise InputError(f"{file}: no such file; expected a tokenizer.json")
        try:
            return cls(Tokenizer.from_file(str(file)), max_tokens)
        except InputError:
            raise
        except Exception as error:  # the Rust reader raises plain Exception
            raise InputError(f"{file}: not a readable tokenizer: {error}") from None

    @classmethod
    def pretrained(cls, folder: Path, max_tokens: int) -> "LexiconTokenizer":
        """The vocabulary of a pre-trained BERT's folder: its `tokenizer.json`, else its `vocab.txt`, lower-casing unless
        `tokenizer_config.json` says no.

        Raises InputError naming the file: neither is there, broken, no BERT vocabulary, or padding that is not token 0.
        """
        folder = Path(folder)
        if (folder / "tokenizer.json").is_file():
            file = folder / "tokenizer.json"
            made = cls.load(file, max_tokens)
        elif (folder / "vocab.txt").is_file():
            file = folder / "vocab.txt"
            try:
                pieces = (
                    file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
                )  # not splitlines: U+2028 is a piece
                settings = folder / "tokenizer_config.json"
                lower = (
                    json.loads(settings.read_text(encoding="utf-8")).get("do_lower_case", True)
                    if settings.is_file()
                    else True
                )
            except ValueError as error:
                raise InputError(f"{file}: not a readable vocabulary: {error}") from None
            if missing := next((token for token in SPECIAL_TOKENS if token not in pieces), None):
                raise InputError(f"{file}: has no {missing}; expected a BERT WordPiece vocabulary")
            made = cls(
                BertWordPieceTokenizer({piece: at for at, piece in enumerate(pieces)}, lowercase=lower)._tokenizer,
                max_tokens,
            )
        else:
            raise InputError(f"{folder}: no vocabulary; expected tokenizer.json or vocab.txt")
        if made.pad_id != 0 or None in made.vocabulary:
            raise InputError(f"{file}: expected token ids without gaps, and [PAD] as token 0, not {made.pad_id}")
        return made

    @property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary and of how text becomes tokens."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def save(self, file: Path) -> None:
        """Raises OSError when the disk is full, which the library's own `save` says in an error of no kind."""
        Path(file).write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    @property
    def vocabulary(self) -> list[str]:
        """The lexicon: token text by id."""
        return [self._tokenizer.id_to_token(index) for index in range(len(self))]

    def encode(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids int32 (N, max_tokens), padded with `pad_id`, and word numbers uint8 of the same shape.

        The pieces of one word share a word number (whole-word masking masks them together); special tokens and padding
        have `NO_WORD`. Raises InputError for a single string, whose letters would be the captions.
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


def _words(tokenizer: BertWordPieceTokenizer, caption: str) -> list[str]:
    normalised = tokenizer.normalizer.normalize_str(caption)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalised)]
