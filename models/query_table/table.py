"""`QueryTable`: texts as lexicon vectors by one weight per token. Needs a tokenizer and V numbers, no torch.

The vector of a text has, at each lexicon that is one of its tokens, the weight of that token in the table, once however
often the token occurs; it is L2-normalised. With idf as weights this is `LexLIP.encode_words`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.errors import InputError
from models.files import BrokenFileError, atomic_folder, read_json, sha256, sha256_text, write_json
from models.query_table import METHODS, Method
from models.tokenizer import LEXICON, LexiconTokenizer

WEIGHTS, ABOUT, TOKENIZER = "table.safetensors", "table.json", "tokenizer.json"
TENSOR = "weights_V"
FORMAT = 1
_REMEDY = "make it again with lexlip-bench query-table --force"


@dataclasses.dataclass(frozen=True)
class QueryTable:
    """weights_V: float32 weight of each lexicon, not negative; a text gets no weight where it is 0.

    made_from: plain values that say what the table was made from; `checkpoint` is the id of the model whose images it
    searches. Raises ValueError for weights that do not fit the tokenizer, are negative or not finite.
    """

    weights_V: np.ndarray
    tokenizer: LexiconTokenizer
    method: Method
    made_from: dict
    kind = "lexicon"

    def __post_init__(self):
        if self.weights_V.shape != self.tokenizer.lexicon_V.shape:
            raise ValueError(f"weights {self.weights_V.shape}: expected {self.tokenizer.lexicon_V.shape}")
        if not (np.isfinite(self.weights_V).all() and (self.weights_V >= 0).all()):
            raise ValueError("weights of a table must be finite and not negative")

    @property
    def dimension(self) -> int:
        """V, the number of lexicons."""
        return len(self.weights_V)

    @property
    def vocabulary(self) -> list[str]:
        """The text of each lexicon, by id."""
        return self.tokenizer.vocabulary

    @functools.cached_property
    def _word_of_T(self) -> np.ndarray:
        return word_of_T(self.tokenizer)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """L2-normalised vectors of texts as CSR: indptr int64 (B + 1,), lexicons int32 and weights float32 (nnz,)."""
        rows, lexicons = distinct(self._word_of_T[self.tokenizer.encode(texts)[0]])
        weights = self.weights_V[lexicons]
        if not weights.all():
            rows, lexicons, weights = (part[weights > 0] for part in (rows, lexicons, weights))
        lengths_B = np.sqrt(np.bincount(rows, weights.astype(np.float64) ** 2, minlength=len(texts)))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(texts)))])
        return indptr, lexicons, (weights / lengths_B[rows]).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Writes the table and its tokenizer atomically, in place of an existing folder."""
        with atomic_folder(folder) as partial:
            save_file({TENSOR: np.ascontiguousarray(self.weights_V, np.float32)}, partial / WEIGHTS)
            files = [partial / WEIGHTS, *self.tokenizer.save(partial / TOKENIZER)]
            about = {"format": FORMAT, "method": self.method, "made_from": self.made_from}
            about |= {"max_tokens": self.tokenizer.max_tokens, "sha256": {file.name: sha256(file) for file in files}}
            write_json(partial / ABOUT, about, seal=True)

    @classmethod
    def load(cls, folder: Path) -> "QueryTable":
        """Reads a folder that `save` wrote. Raises InputError for a file that is missing, truncated or changed."""
        folder = Path(folder)
        about = _read_about(folder)
        for name, sum_ in about["sha256"].items():
            if not (folder / name).is_file() or sha256(folder / name) != sum_:
                raise BrokenFileError(f"{folder / name}: missing or changed since it was written; {_REMEDY}")
        tokenizer = LexiconTokenizer.load(folder / TOKENIZER, about["max_tokens"])
        try:
            return cls(load_file(folder / WEIGHTS)[TENSOR], tokenizer, about["method"], about["made_from"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise BrokenFileError(f"{folder / WEIGHTS}: not the weights of a table ({error}); {_REMEDY}") from None


def fingerprint(folder: Path) -> str:
    """A 16-digit hash of a table's weights, tokenizer and method, from `table.json` alone. Raises InputError.

    Two models with the same tokenizer and training captions have one idf table.
    """
    about = _read_about(Path(folder))
    return sha256_text(repr(sorted(about["sha256"].items())) + about["method"])[:16]


def _read_about(folder: Path) -> dict:
    about = read_json(folder / ABOUT, f"expected a folder of {WEIGHTS}, {ABOUT}, {TOKENIZER}")
    try:
        files = set(about["sha256"])
        fits = about["format"] == FORMAT and about["method"] in METHODS and isinstance(about["made_from"], dict)
        fits &= {WEIGHTS, TOKENIZER} <= files <= {WEIGHTS, TOKENIZER, LEXICON} and about["max_tokens"] > 2
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise InputError(f"{folder / ABOUT}: not the description of a query table (format {FORMAT}); {_REMEDY}")
    return about


def word_of_T(tokenizer: LexiconTokenizer) -> np.ndarray:
    """The lexicon of each token, int32 (T,); -1 for special tokens and those that are no lexicons."""
    lexicon_of_T = tokenizer.lexicon_of_T.astype(np.int32)
    lexicon_of_T[[tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id]] = -1
    return lexicon_of_T


def distinct(lexicons_BL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values of each row without -1, ascending: their rows int64 and the values, (nnz,)."""
    ordered_BL = np.sort(lexicons_BL, axis=1)
    is_new_BL = ordered_BL >= 0
    is_new_BL[:, 1:] &= ordered_BL[:, 1:] != ordered_BL[:, :-1]
    rows, places = np.nonzero(is_new_BL)
    return rows, ordered_BL[rows, places]
