"""Tables of token weights: vectors by hand and against the model's own words; learning by hand and simulated."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from models.errors import InputError
from models.files import BrokenFileError
from models.lexlip import LexLIP
from models.query_table import METHODS
from models.query_table.learn import LearnConfig, PairBatch, TokenWeights, batch_loss, learn, table_of
from models.query_table.table import ABOUT, WEIGHTS, QueryTable, fingerprint


def table_with(tokenizer, weights: dict[str, float], rest: float = 0.0) -> QueryTable:
    values = [weights.get(token, rest) for token in tokenizer.vocabulary]
    return QueryTable(np.array(values, np.float32), tokenizer, "idf", {"checkpoint": "abc"})


def as_words(table: QueryTable, texts: list[str]) -> list[dict[str, float]]:
    indptr, lexicons, weights = table.encode(texts)
    assert (indptr.dtype, lexicons.dtype, weights.dtype) == (np.int64, np.int32, np.float32)
    cuts = zip(indptr, indptr[1:], strict=False)
    return [{table.vocabulary[v]: float(w) for v, w in zip(lexicons[a:b], weights[a:b], strict=True)} for a, b in cuts]


def test_the_vector_of_a_text_by_hand(tokenizer):
    """3 and 4 have length 5; a token counts once; tokens of weight 0, unknown and special ones have no entry."""
    table = table_with(tokenizer, {"red": 3, "grass": 4})
    found = as_words(table, ["a red red apple on the red grass", "§", "red", ""])
    assert found == [{"red": pytest.approx(0.6), "grass": pytest.approx(0.8)}, {}, {"red": 1.0}, {}]
    assert as_words(table, []) == []
    special = table_with(tokenizer, {}, rest=1)
    assert not {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} & set(as_words(special, ["red §"])[0])


@pytest.mark.parametrize("part", [False, True])
def test_idf_is_the_search_by_words_of_the_model(tokenizer, captions, make_lexlip, part):
    """Also where only some tokens are lexicons."""
    model: LexLIP = make_lexlip(part)
    model.idf_V.copy_(torch.rand(model.dimension))
    table = QueryTable(model.idf_V.numpy(), model.tokenizer, "idf", {})
    texts = [*captions[:20], "green guitar guitar, a red unheard-of thing", ""]
    indptr, lexicons, weights = table.encode(texts)
    found_BV = np.zeros((len(texts), model.dimension), np.float32)
    found_BV[np.repeat(np.arange(len(texts)), np.diff(indptr)), lexicons] = weights
    np.testing.assert_allclose(found_BV, model.encode_words(texts).numpy(), atol=1e-6)
    assert (np.diff(lexicons)[np.diff(np.repeat(np.arange(len(texts)), np.diff(indptr))) == 0] > 0).all()


@pytest.fixture
def make_lexlip(tokenizer, captions):
    def make(part: bool) -> LexLIP:
        from models.config import ImageConfig, ModelConfig, TextConfig

        chosen = tokenizer.of_captions(tokenizer.encode(captions)[0], 4) if part else tokenizer
        assert chosen.is_part == part
        return LexLIP(
            ModelConfig(
                image=ImageConfig(layers=1, width=16, heads=2, pixels=16, patch=8, stem="patch"),
                text=TextConfig(layers=1, width=16, heads=2, max_tokens=16, vocabulary=len(tokenizer)),
            ),
            chosen,
        )

    return make


def test_a_table_reads_back_alone(tokenizer, captions, tmp_path):
    for chosen in (tokenizer, tokenizer.of_captions(tokenizer.encode(captions)[0], 4)):
        table = table_with(chosen, {"red": 3, "grass": 4}, rest=0.5)
        table.save(tmp_path / "table")
        read = QueryTable.load(tmp_path / "table")
        assert (read.method, read.made_from, read.vocabulary) == ("idf", {"checkpoint": "abc"}, chosen.vocabulary)
        assert [part.tolist() for part in read.encode(captions)] == [part.tolist() for part in table.encode(captions)]


def test_a_table_needs_no_torch():
    code = "import sys, models.query_table.table; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_other_weights_have_another_fingerprint(tokenizer, tmp_path):
    ids = []
    for rest in (0.5, 0.6, 0.5):
        table_with(tokenizer, {}, rest).save(tmp_path / "table")
        ids.append(fingerprint(tmp_path / "table"))
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("name", [WEIGHTS, ABOUT, "tokenizer.json"])
def test_a_changed_or_missing_file_is_named(tokenizer, tmp_path, name):
    folder = tmp_path / "table"
    table_with(tokenizer, {}, 0.5).save(folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content.replace(b"e", b"f", 1) if name != WEIGHTS else content[:-1] + b"\x01")
    with pytest.raises(BrokenFileError, match=name):
        QueryTable.load(folder)
    (folder / name).unlink()
    with pytest.raises(BrokenFileError, match=name):
        QueryTable.load(folder)


def test_another_folder_is_no_table(tmp_path):
    (tmp_path / ABOUT).write_text("{}")
    with pytest.raises(InputError, match="not the description of a query table"):
        QueryTable.load(tmp_path)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -1.0])
def test_broken_weights_are_refused(tokenizer, broken):
    with pytest.raises(ValueError, match="finite and not negative"):
        table_with(tokenizer, {"red": broken})
    with pytest.raises(ValueError, match="expected"):
        QueryTable(np.ones(3, np.float32), tokenizer, "idf", {})


# --- learning ---


def test_all_weights_start_as_one():
    embedding_VD = torch.randn(6, 4)
    for method in ("learned", "free"):
        np.testing.assert_allclose(table_of(TokenWeights(method, embedding_VD)), np.ones(6), rtol=1e-6)


def test_the_loss_by_hand():
    """Two pairs over two lexicons: queries (1, 0) and (3, 4) / 5, images (0.5, 0.5) and (0, 1), temperature 0.5."""
    weights = TokenWeights("free", torch.zeros(3, 2))
    with torch.no_grad():
        weights.slope.copy_(torch.tensor([3.0, 9.0, 4.0]).expm1().log())
    batch = PairBatch(np.array([0, 2]), np.float32([[1, 0], [1, 1]]), np.float32([[0.5, 0.5], [0, 1]]))
    scores = [[1.0, 0.0], [1.4, 1.6]]  # (q . i) / 0.5

    def entropy(own, other):
        return -math.log(math.exp(own) / (math.exp(own) + math.exp(other)))

    to_images = (entropy(scores[0][0], scores[0][1]) + entropy(scores[1][1], scores[1][0])) / 2
    to_texts = (entropy(scores[0][0], scores[1][0]) + entropy(scores[1][1], scores[0][1])) / 2
    assert batch_loss(weights, batch, 0.5).item() == pytest.approx((to_images + to_texts) / 2, rel=1e-5)


def test_the_learned_weight_is_softplus_of_a_linear_map():
    weights = TokenWeights("learned", torch.tensor([[1.0, 2.0], [0.0, -3.0]]))
    with torch.no_grad():
        weights.slope.copy_(torch.tensor([0.5, 1.0]))
        weights.bias.fill_(0.25)
    np.testing.assert_allclose(table_of(weights), np.log1p(np.exp([2.75, -2.75])), rtol=1e-6)
    assert sum(parameter.numel() for parameter in weights.parameters()) == 3  # the embeddings are frozen


NAMES, FILLERS = 20, 4


def simulated(steps: int, pairs: int = 32):
    """An image has its name, and each filler with probability 1/2; its caption has the name and two random fillers."""
    random = np.random.default_rng(1)
    for _ in range(steps):
        lexicons = NAMES + FILLERS
        words_BV, images_BV = np.zeros((2, pairs, lexicons), np.float32)
        names = random.integers(NAMES, size=pairs)
        words_BV[np.arange(pairs), names] = images_BV[np.arange(pairs), names] = 1
        images_BV[:, NAMES:] = random.random((pairs, FILLERS)) < 0.5
        for row in words_BV:
            row[NAMES + random.choice(FILLERS, 2, replace=False)] = 1
        images_BV /= np.linalg.norm(images_BV, axis=1, keepdims=True)
        yield PairBatch(np.arange(lexicons), words_BV, images_BV)


@pytest.mark.parametrize("method", ["learned", "free"])
def test_names_outweigh_fillers_that_say_nothing(method):
    """Embeddings tell names from fillers in one direction, as word embeddings tell rare words from function words."""
    torch.manual_seed(0)
    embedding_VD = torch.randn(NAMES + FILLERS + 1, 4)
    embedding_VD[:NAMES, 0], embedding_VD[NAMES:, 0] = 1, -1
    weights = TokenWeights(method, embedding_VD)
    config = LearnConfig(steps=150, lr=0.05)
    held = list(simulated(5))
    before = np.mean([batch_loss(weights, batch, 0.1).item() for batch in held])
    found = learn(weights, simulated(config.steps), config, 0.1)
    assert found[:NAMES].min() > 2 * found[NAMES : NAMES + FILLERS].max()
    assert np.mean([batch_loss(weights, batch, 0.1).item() for batch in held]) < before - 0.1
    unseen = found[-1]  # in no caption
    assert unseen == pytest.approx(1.0) if method == "free" else unseen < 1
    assert METHODS == ("idf", "learned", "free")
