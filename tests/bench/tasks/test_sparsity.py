"""Sparsity of lexicon vectors: each metric against values computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks import evaluation, sparsity
from bench.tasks.sparsity import active, mean_of_owners, measure_sparsity, postings
from bench.tasks.subject import Measurement, Slice, Subject
from bench.tasks.words import agreement, caption_tokens
from models.errors import InputError
from models.tokenizer import NO_WORD, LexiconTokenizer

IMAGES = 40


def csr(rows):
    return sp.csr_array(np.array(rows, np.float32))


# --- by hand ---


def test_active_lexicons_by_hand():
    values = active(np.arange(101), "active")
    assert values == {"active_mean": 50.0, "active_p5": 5.0, "active_p50": 50.0, "active_p95": 95.0}


def test_posting_lists_by_hand():
    # lists of 4, 3 and 1 in 4 documents: Gini 2 (1x1 + 2x3 + 3x4) / (3 x 8) - 4/3
    assert postings(np.array([4, 0, 3, 1, 0]), 4) == pytest.approx(
        {
            "lexicons_used": 3,
            "dead_lexicons": 2,
            "always_on_lexicons": 2,
            "lexicons_in_all": 1,
            "postings_gini": 2 * 19 / 24 - 4 / 3,
            "postings_top_share": 4 / 8,
        }
    )


def test_a_list_of_half_the_documents_is_not_always_on():
    assert postings(np.array([2, 3]), 4)["always_on_lexicons"] == 1


def test_the_longest_hundredth_of_many_lists():
    frequency = np.concatenate([[50, 40], np.ones(198, int)])  # 200 lists: the longest 2
    assert postings(frequency, 100)["postings_top_share"] == pytest.approx(90 / 288)
    assert postings(frequency[:101], 100)["postings_top_share"] == pytest.approx(90 / 189), (
        "101 lists: the longest 2, not 1"
    )


def test_gini_of_equal_and_of_single_lists():
    assert evaluation.gini(np.array([5, 5, 5])) == pytest.approx(0)
    assert evaluation.gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)
    assert evaluation.gini(np.zeros(3)) == evaluation.gini(np.zeros(0)) == 0


def test_agreement_by_hand():
    images = csr([[2, 1, 1, 0], [0, 0, 0, 0], [0, 3, 0, 0]])
    tokens = csr([[1, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    texts = csr([[0.5, 0.5, 0, 0.5], [1, 0, 0, 0], [0, 0, 1, 0]])
    # precision: 2 of 3 and none of 1 (the second has no lexicon); recall: 2 of 3 and none of 1 (the third has no token)
    assert agreement(images, tokens, texts) == pytest.approx(
        {
            "caption_precision": (2 / 3 + 0) / 2,
            "caption_precision_weighted": (3 / 4 + 0) / 2,
            "caption_recall": (2 / 3 + 0) / 2,
            "caption_recall_weighted": (0.5 / 1 + 0) / 2,
            "strongest_is_word": 1 / 2,
        }
    )


def test_zero_vectors_have_no_precision():
    nothing, tokens = csr(np.zeros((2, 3))), csr([[1, 0, 0], [0, 1, 1]])
    assert agreement(nothing, tokens, nothing) == {"caption_recall": 0.0}
    assert postings(np.zeros(3, int), 2) == {
        "lexicons_used": 0,
        "dead_lexicons": 3,
        "always_on_lexicons": 0,
        "lexicons_in_all": 0,
        "postings_gini": 0.0,
        "postings_top_share": 0.0,
    }


def test_word_tokens_exclude_special_tokens():
    tokenizer = LexiconTokenizer.train(
        ["red cat", "red dog", "red cat", "blue dog"] * 3, vocabulary_size=80, max_tokens=5
    )
    captions = [
        (0, "red cat"),
        (0, "red dog"),
        (-1, "blue dog"),
        (2, "red ☃ dog blue"),
    ]  # the last is cut before "blue"
    found = caption_tokens(tokenizer, captions, 3).toarray()
    spoken = [{tokenizer.vocabulary[v] for v in np.flatnonzero(row)} for row in found]
    assert spoken == [{"red", "cat", "dog"}, set(), {"red", "dog"}]
    assert found[0, tokenizer.vocabulary.index("red")] == 2 and found.sum() == 6, "the number of occurrences"
    assert caption_tokens(tokenizer, [], 2).nnz == 0


def test_mean_of_the_captions_of_an_image():
    found = mean_of_owners(csr([[1, 0], [0, 1], [4, 4], [9, 9]]), np.array([0, 0, 2, -1]), 3)
    assert found.toarray().tolist() == [[0.5, 0.5], [0, 0], [4, 4]]


# --- measured ---


class Tokens:
    """Word i is lexicon i; [CLS] and [SEP] have no word."""

    unknown_id = -1

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self.lexicon_V = self.lexicon_of_T = np.arange(len(vocabulary))

    def __len__(self):
        return len(self.vocabulary)

    def encode(self, captions):
        tokens = np.array([[0, *(self.vocabulary.index(word) for word in caption.split()), 0] for caption in captions])
        words = np.array([[NO_WORD, 0, 1, NO_WORD]] * len(captions))
        return tokens, words


@pytest.fixture
def measurement(words, word_corpus, tmp_path):
    subject = Subject(tmp_path / "lexicon", "v", 2)
    subject.encoder.model.tokenizer = Tokens(subject.encoder.vocabulary)
    return Measurement(tmp_path, subject, Slice(word_corpus, "test", IMAGES))


@pytest.mark.parametrize("top_k", [None, 4])
def test_a_point_agrees_with_the_vectors(measurement, word_corpus, word_model, tmp_path, monkeypatch, top_k):
    point_id = measure_sparsity(measurement, top_k)
    rows = measurement.store.read()
    assert set(rows.point_id) == {point_id} and set(rows.task) == {"sparsity"} and set(rows.variant) == {"v"}
    assert rows.top_k[0] == top_k if top_k else rows.top_k.isna().all()
    value = rows.set_index("metric").value

    images = word_model.encode_image(np.stack([picture for _, picture in word_corpus.images("test", 0, IMAGES)]))
    if top_k:
        images = np.stack([np.where(row >= np.sort(row)[-top_k], row, 0) for row in images])
    has = images > 0
    said = np.zeros_like(has)
    for i in range(IMAGES):
        said[i, word_corpus.words(i)] = True
    assert value["active_mean"] == pytest.approx(has.sum(axis=1).mean())
    assert value["query_active_p50"] >= 2 and value["items"] == IMAGES and value["empty_items"] == 0
    assert value["dead_lexicons"] == (~has.any(axis=0)).sum() and value["dimension"] == has.shape[1]
    assert value["always_on_lexicons"] == (has.mean(axis=0) > 0.5).sum()
    assert value["caption_precision"] == pytest.approx(((has & said).sum(axis=1) / has.sum(axis=1)).mean())
    assert value["caption_precision_weighted"] == pytest.approx(
        ((images * said).sum(axis=1) / images.sum(axis=1)).mean()
    )
    assert value["caption_recall"] == pytest.approx(((has & said).sum(axis=1) / 3).mean())
    assert value["piece_weight"] == 0 and "dead_frequent" not in value.index, "no word occurs 50 times"
    texts = [text for _, text, _ in word_corpus.captions("test", 0, IMAGES)]
    searched = word_model.encode_text(texts) > 0
    assert value["touched_postings"] == pytest.approx((searched @ has.sum(axis=0)).mean())
    scores = word_model.encode_words(texts) @ images.T
    own = scores[np.arange(2 * IMAGES), np.repeat(np.arange(IMAGES), 2)]
    for k in (1, 5, 10):
        assert value[f"typed_recall@{k}"] == pytest.approx(((scores > own[:, None] + 1e-6).sum(axis=1) < k).mean())
    assert measurement.store.examples(point_id) is None

    monkeypatch.setattr(RecordStore, "write", lambda *_: pytest.fail("measured again"))
    assert measure_sparsity(measurement, top_k) == point_id


def test_a_model_without_active_lexicons(measurement, tmp_path):
    encoder = measurement.subject.encoder
    encoder.model.encode_image = encoder.model.encode_text = lambda items: np.zeros(
        (len(items), len(encoder.vocabulary)), np.float32
    )
    point_id = measure_sparsity(measurement, examples=2)
    examples = RecordStore(tmp_path).examples(point_id)
    assert examples["rank"].isna().all() and examples.words.tolist() == ["[]", "[]"], "no typed query finds its image"
    value = RecordStore(tmp_path).read().set_index("metric").value
    assert value["empty_items"] == IMAGES and value["active_p95"] == value["caption_recall"] == 0
    assert value["typed_recall@10"] == value["touched_postings"] == 0
    assert "caption_precision" not in value.index and value["dead_lexicons"] == value["dimension"]


def test_dense_vectors_and_bad_numbers_are_refused(measurement, tmp_path, capsys):
    with pytest.raises(InputError, match="dense vectors; expected a model of lexicon vectors"):
        measure_sparsity(replace(measurement, subject=Subject(tmp_path / "dense")))
    with pytest.raises(InputError, match="top_k 0"):
        measure_sparsity(measurement, top_k=0)
    with pytest.raises(InputError, match="images 0"):
        Slice.open("words", "test", 0)
    flags = [
        "--checkpoint",
        str(tmp_path / "dense"),
        "--corpus",
        "{name: scenes, concepts: 12}",
        "--home",
        str(tmp_path),
    ]
    assert cli.run(sparsity.main, sparsity.parser(), flags) == 2
    assert "dense" in (err := capsys.readouterr().err) and err.count("\n") == 1
