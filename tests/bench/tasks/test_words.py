"""Measures of words by hand: vocabulary, truth and typed-word search, and their points and examples on scenes."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from bench.corpora.scenes import wording
from bench.tasks.measure import Plan, measure_variant
from bench.tasks.retrieval import typed
from bench.tasks.retrieval.settings import RecallOptions
from bench.tasks.subject import Subject
from bench.tasks.words import FREQUENT, truth_agreement, truth_things, truth_tokens, vocabulary_use
from models.tokenizer import LexiconTokenizer

SPEC = {"name": "scenes", "concepts": 12, "pixels": 64}
IMAGES, TOP_K = 12, 8


def csr(rows):
    return sp.csr_array(np.array(rows, np.float32))


def test_frequent_words_that_are_dead_and_weight_on_pieces_by_hand():
    images = csr([[3, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 2, 0, 2]])
    tokens = csr([[FREQUENT, FREQUENT - 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 2, FREQUENT - 1, 0]])
    found = vocabulary_use(images, tokens, ["cat", "dog", "##s", "night", "red"])
    # frequent: lexicons 0 and 3, of which no image has 3; pieces: 1 of 4 and 2 of 4, the second image has no weight
    assert found == pytest.approx({"dead_frequent": 1 / 2, "piece_weight": (1 / 4 + 1 / 2) / 2})
    assert vocabulary_use(images[[1]], tokens[[1]], ["a"] * 5) == {}


def test_agreement_with_the_truth_by_hand():
    """Image 0 shows a cat (or kitten, of two pieces), red and night; image 1 shows a thing without any token."""
    images = csr([[9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    cat, kitten, red, night = frozenset({9}), frozenset({0, 8}), frozenset({1}), frozenset({10})
    found = truth_agreement(images, [[[cat, kitten], [red], [night]], [[]]])
    assert found == pytest.approx(
        {
            "truth_precision": (3 / 9 + 0) / 2,
            "truth_recall": (2 / 3 + 0) / 2,
            "truth_precision@8": (2 / 8 + 0) / 2,  # the second piece of "kitten" is not among the 8 strongest
            "truth_recall@8": (1 / 3 + 0) / 2,
        }
    )
    assert truth_tokens([[[cat, kitten], [red]], [[]]], 10).toarray().nonzero()[1].tolist() == [0, 1, 8, 9]
    nothing = csr(np.zeros((1, 3)))
    assert truth_agreement(nothing, [[[frozenset({1})]]]) == {"truth_recall": 0.0, "truth_recall@8": 0.0}


def test_the_truth_as_lexicons():
    tokenizer = LexiconTokenizer.train(["red ice cream", "night"] * 5, vocabulary_size=60, max_tokens=8)
    ((cream, red, none),) = truth_things(tokenizer, [[("ice cream", "red"), ("red",), ("☃",)]])
    spoken = [{tokenizer.vocabulary[v] for v in word} for word in (*cream, *red)]
    assert spoken == [{"ice", "cream"}, {"red"}, {"red"}] and none == []


def test_typed_search_orders_ties_by_id_and_leaves_out_zero_scores():
    images, queries = csr([[0, 1], [1, 0], [1, 0], [2, 0]]), csr([[1, 0], [0, 0]])
    ids, scores = typed.search(queries, images, 4)
    assert ids.tolist() == [[3, 1, 2, -1], [-1] * 4] and scores[0, :3].tolist() == [2, 1, 1]


def test_scenes_state_what_they_show(scenes):
    for i in range(20):
        scene, told = scenes.facts("test", i), scenes.truth_words("test", i)
        words = {word for alternatives in told for word in alternatives}
        assert {group.concept for group in scene.groups} <= words
        assert {group.colour for group in scene.groups} - {None} <= words
        assert told[-2:] == [wording.PLACE_WORDS[scene.place], wording.TIME_WORDS[scene.time]]
        colours = {group.colour for group in scene.groups} - {None}
        assert len(told) == len({group.concept for group in scene.groups}) + len(colours) + 2


def test_words_of_places_and_times_are_those_of_the_captions():
    said = {place: " ".join(phrases + nouns).split() for place, (phrases, nouns) in wording.PLACES.items()}
    said |= {time: " ".join(phrases).split() for time, phrases in wording.TIME_PHRASES.items()}
    told = wording.PLACE_WORDS | wording.TIME_WORDS
    assert set(told) == set(said)
    for name, words in told.items():
        assert set(words) <= set(said[name]), name


@pytest.fixture(scope="module")
def home_and_rows(tiny_models, tmp_path_factory):
    """A tiny lexicon model measured as a variant: the store, and the rows of the task by metric and top_k."""
    home = tmp_path_factory.mktemp("variant")
    plan = Plan(IMAGES, (), 0, RecallOptions(top_k=(4, TOP_K, None), timing=None, examples=3, hard_negatives=False))
    measurement = measure_variant(home, Subject(tiny_models["lexicon"], "lexlip", 0), SPEC, plan)
    rows = measurement.store.read()
    return measurement, rows[rows.task == "sparsity"]


def test_a_variant_is_measured_whole_and_at_the_main_top_k(home_and_rows):
    _, rows = home_and_rows
    assert set(rows.top_k.astype(object).where(rows.top_k.notna(), None)) == {None, TOP_K}
    for _, of_point in rows.groupby("point_id"):
        found = set(of_point.metric)
        assert {"typed_recall@1", "typed_recall@5", "typed_recall@10", "piece_weight", "touched_postings"} <= found
        assert {"truth_precision", "truth_recall", "truth_precision@8", "truth_recall@8"} <= found
    assert rows[(rows.metric == "active_mean") & rows.top_k.notna()].value.item() <= TOP_K


def test_examples_are_images_evenly_spaced_with_their_words(home_and_rows):
    measurement, rows = home_and_rows
    whole, pruned = (rows[rows.top_k.isna()].point_id.iloc[0], rows[rows.top_k.notna()].point_id.iloc[0])
    assert measurement.store.examples(whole) is None
    examples = measurement.store.examples(pruned)
    own = examples[examples.words.notna()]
    ids = measurement.encoded.images.ids
    assert own.image_id.tolist() == [ids[0], ids[6], ids[IMAGES - 1]] and own.relevant.all()
    assert examples.query_id.nunique() == 3 and set(examples[examples.words.isna()]["rank"]) <= {1, 2, 3, 4, 5}
    first = own.iloc[0]
    texts = [text for _, text, _ in measurement.slice.corpus.captions("test", 0, 1)]
    assert json.loads(first.captions) == texts and first["query"] == texts[0]
    tokenizer = measurement.subject.encoder.model.tokenizer
    said = {tokenizer.vocabulary[v] for v in tokenizer.lexicon_of_T[tokenizer.encode(texts)[0]].ravel()}
    image_V = measurement.encoded.images.rows(0, 1).toarray()[0]
    words = json.loads(first.words)
    kept = np.sort(image_V)[::-1][:TOP_K]
    expected = (kept / np.linalg.norm(kept))[: len(words)].tolist()  # pruned images are unit vectors again
    assert [weight for _, weight, *_ in words] == pytest.approx(expected)
    assert len(words) == min(TOP_K, 12) and all(is_word == (name in said) for name, _, is_word, _ in words)
    told = " ".join(word for of in measurement.slice.corpus.truth_words("test", 0) for word in of)
    true = {tokenizer.vocabulary[v] for v in tokenizer.lexicon_of_T[tokenizer.encode(told.split())[0]].ravel()}
    assert all(is_true == (name in true) for name, _, _, is_true in words if not name.startswith("["))
