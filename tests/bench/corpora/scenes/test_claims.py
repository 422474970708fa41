"""Claims of captions, and the scenes that make them true, against an independent check of the facts."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.corpora import open_corpus
from bench.corpora.scenes import columns, wording
from bench.corpora.scenes.claims import Claims, Reader
from models.errors import InputError

FEW = {"name": "scenes", "concepts": 10, "seed": 3}  # few concepts, so that many scenes make a caption true
COUNT_WORDS = {
    1: ("a", "an"),
    2: ("two", "some", "a couple of"),
    3: ("three", "some", "several", "a few"),
    4: ("four", "some", "several", "a group of"),
}
KINDS = {
    "left of": (wording.LEFT, wording.RIGHT),
    "above": (wording.ABOVE, wording.BELOW),
    "next to": (wording.BESIDE, wording.BESIDE),
}


@pytest.fixture(scope="module")
def few():
    return open_corpus(FEW)


@pytest.fixture(scope="module")
def all_concepts():
    return open_corpus("scenes")


def one_of(words):
    return "(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")"


def nouns(group, names):
    """The group's noun in the right number, bare and in its colour."""
    bare = [name[1 if group.count == 1 else 2] for name in names]
    tinted = [
        noun.replace(" of ", f" of {group.colour} ", 1) if " of " in noun else f"{group.colour} {noun}" for noun in bare
    ]
    return bare, bare + (tinted if group.colour else [])


def true_captions(scene, names):
    """A regular expression that matches every caption that is true of a scene."""
    things, bare = [], []
    for group in scene.groups:
        plain, spoken = nouns(group, names[group.concept])
        size = f"(?:{one_of(wording.SIZE_WORDS[columns.SIZES.index(group.size)])} )?" if group.size else ""
        things.append(f"{one_of(COUNT_WORDS[group.count])} {size}{one_of(spoken)}")
        bare.append(one_of(plain))

    def related(a, b, second=None):
        """Patterns of the relations that hold between groups a and b."""
        words = [one_of(KINDS[kind][x == b]) for x, kind, y in scene.relations if {x, y} == {a, b}]
        return [f"{word} {second or things[b]}" for word in words]

    indices = range(len(scene.groups))
    bodies = [things[g] for g in indices]
    joiner = one_of(f", {word}" for word in wording.JOINERS)
    for a in indices:
        for b in set(indices) - {a}:
            pairs = [f"{things[a]} and {things[b]}"] + [f"{things[a]} (?:(?:is|are) )?{said}" for said in related(a, b)]
            bodies += pairs
            for c in set(indices) - {a, b}:
                bodies.append(f"{things[a]}, {things[b]} and {things[c]}")
                bodies += [f"{pair}{joiner} {things[c]}" for pair in pairs[1:]]
                bodies += [
                    f"{pair}, and {things[c]} {said}"
                    for pair in pairs[1:]
                    for x in (a, b)
                    for said in related(c, x, second=f"the {bare[x]}")
                ]
                if scene.between == a:
                    bodies.append(f"{things[a]} between {things[b]} and {things[c]}")
    text = "(?:" + "|".join(bodies) + ")"
    phrases, scenes = map(one_of, wording.PLACES[scene.place])
    time = one_of(wording.TIME_PHRASES[scene.time])
    start = f"(?:{scenes} (?:{time} )?with |{time}, |{one_of(wording.OPENINGS)} |there (?:is|are) )?"
    return re.compile(f"{start}{text}(?: (?:is|are) seen)?(?: {phrases})?(?: {time})?")


def slow_counts(corpus, split, images, distractors, edges):
    names = {concept.name: concept.names for concept in corpus.pack.concepts}
    gallery = [corpus.facts(split, i) for i in range(images)] + [
        corpus.facts("distractors", i) for i in range(distractors)
    ]
    truths = [true_captions(scene, names) for scene in gallery]
    captions = [(text, i) for i, texts in enumerate(corpus.describe(split, 0, images)) for text in texts]
    satisfied = np.array(
        [[bool(truth.fullmatch(text)) and i != own for i, truth in enumerate(truths)] for text, own in captions]
    )
    return np.stack([satisfied[:, :edge].sum(axis=1) for edge in edges], axis=1)


def test_counts_equal_a_direct_check_against_the_facts(few):
    edges = [1, 7, 12, 16, 110]
    counts = few.satisfying_counts("test", 12, 98, edges)
    assert counts.dtype == np.int64 and counts.shape == (60, len(edges))
    assert (counts[:, -1] > 0).mean() > 0.1 and (counts[:, -1] > 5).any()
    np.testing.assert_array_equal(counts, slow_counts(few, "test", 12, 98, edges))


@settings(max_examples=40)
@given(split=st.sampled_from(columns.SPLITS), i=st.integers(0, 10**6))
def test_every_caption_is_true_of_its_own_scene(all_concepts, split, i):
    texts = all_concepts.describe(split, i, i + 1)[0]
    scene = all_concepts._draw(split, i, i + 1)[0]
    counts = np.zeros((5, 1), np.int64)
    Claims(texts, [-1] * 5, all_concepts.pack).tally(scene, 0, np.array([1]), counts)
    assert (counts == 1).all(), texts


def test_hard_negatives_are_false_of_their_scene(all_concepts, few):
    for corpus in (all_concepts, few):
        negatives = list(corpus.hard_negatives("test", 0, 200))
        for text, expected in (("caption", 1), ("negative", 0)):
            claims = Claims([getattr(each, text) for each in negatives], [-1] * len(negatives), corpus.pack)
            for i, negative in enumerate(negatives):
                counts = np.zeros((len(negatives), 1), np.int64)
                claims.tally(corpus._draw("test", i, i + 1)[0], 0, np.array([1]), counts)
                assert counts[i, 0] == expected, negative


def test_every_caption_can_be_parsed(all_concepts):
    reader = Reader(all_concepts.pack)
    for split in ("train", "compositional"):
        for texts in all_concepts.describe(split, 0, 400):
            assert all(len(claims) >= 1 for claims in map(reader.read, texts))


@pytest.mark.parametrize(
    "text", ["", "a unicorn's dream", "a dog and", "a dog dreams of a cat", "a dog, a cat, a car and a banana"]
)
def test_other_texts_are_refused(all_concepts, text):
    with pytest.raises(ValueError, match="not a caption"):
        Reader(all_concepts.pack).read(text)


def test_a_caption_with_two_meanings_counts_a_scene_once(all_concepts):
    """A red envelope is a concept, or an envelope in red: either, or both at once, makes the caption true."""
    pack = all_concepts.pack
    things = {concept.name: index for index, concept in enumerate(pack.concepts)}
    scene = all_concepts._draw("test", 0, 1)[0].repeat(4, axis=0)
    scene[:, columns.N_GROUPS] = 2
    for group in range(2):
        at = columns.GROUPS + group * columns.GROUP_WIDTH
        scene[:, at + columns.COUNT] = 1
        scene[:, at + columns.COLOUR] = -1
    first, second = (columns.GROUPS + group * columns.GROUP_WIDTH for group in range(2))
    scene[:, first + columns.CONCEPT] = [
        things["red envelope"],
        things["envelope"],
        things["red envelope"],
        things["envelope"],
    ]
    scene[:, second + columns.CONCEPT] = [things["dog"], things["dog"], things["envelope"], things["dog"]]
    scene[[1, 3], first + columns.COLOUR] = [columns.COLOURS.index("red"), columns.COLOURS.index("blue")]
    scene[2, second + columns.COLOUR] = columns.COLOURS.index("red")
    counts = np.zeros((1, 4), np.int64)
    Claims(["a red envelope"], [-1], pack).tally(scene, 0, np.arange(1, 5), counts)
    assert counts[0].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("edges", [[], [0], [5, 5], [9, 3], [31]])
def test_edges_must_be_ascending_gallery_sizes(few, edges):
    with pytest.raises(InputError, match="edges"):
        few.satisfying_counts("test", 10, 20, edges)


def test_pairs_agree_with_the_counts(few):
    """`is_true` of each caption and image, against the number of other images that satisfy the caption."""
    captions = list(few.captions("test", 0, 12))
    gallery = [few.image_id("test", i) for i in range(12)] + [few.image_id("distractors", i) for i in range(40)]
    true = np.array([[few.is_true(caption, image) for image in gallery] for caption, _, _ in captions])
    own = np.array([[image == of for image in gallery] for _, _, of in captions])
    assert true[own].all()
    np.testing.assert_array_equal((true & ~own).sum(1), few.satisfying_counts("test", 12, 40, [52])[:, 0])
