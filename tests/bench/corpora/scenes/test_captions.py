"""Captions are correct English, true of their scenes, and five different ones per scene; negatives are false."""

import re
from collections import Counter

import pytest

from bench.corpora import open_corpus
from bench.corpora.scenes import columns, wording
from bench.corpora.scenes.pack import open_pack

MANY = 1000
NUMBER = {
    1: ("a", "an"),
    2: ("two", "a couple of", "some"),
    3: ("three", "some", "several", "a few"),
    4: ("four", "some", "several", "a group of"),
}
IRREGULAR = {
    "wolf": "wolves",
    "scarf": "scarves",
    "mouse": "mice",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "goose": "geese",
    "ox": "oxen",
    "die": "dice",
    "tooth": "teeth",
    "foot": "feet",
    "man": "men",
    "woman": "women",
    "loaf of bread": "loaves of bread",
    "kitchen knife": "kitchen knives",
    "tomato": "tomatoes",
    "cherry blossom": "cherry blossoms",
    "jellyfish": "jellyfish",
    "moose": "moose",
    "snowman": "snowmen",
    "couch": "couches",
    "bus": "buses",
    "fox": "foxes",
    "butterfly": "butterflies",
    "maple leaf": "maple leaves",
    "elf": "elves",
    "person doing a cartwheel": "people doing cartwheels",
}


@pytest.fixture(scope="module")
def pack():
    return open_pack()


@pytest.fixture(scope="module")
def corpora():
    return [open_corpus({"name": "scenes", "concepts": concepts}) for concepts in (200, None)]


def test_articles_of_all_concepts_are_correct(pack):
    an = re.compile(r"[aeio]|u(?!ni|fo)|x-|hour|suv$")
    for concept in pack.concepts:
        for article, singular, _ in concept.names:
            assert article == ("an" if an.match(singular) else "a"), singular


def test_plurals_of_all_concepts_are_correct(pack):
    names = {singular: plural for concept in pack.concepts for _, singular, plural in concept.names}
    assert {name: names[name] for name in IRREGULAR if name in names} == {
        name: plural for name, plural in IRREGULAR.items() if name in names
    }
    same = {"sheep", "deer", "fish", "moose", "bison", "shrimp", "squid"}
    for singular, plural in names.items():
        head = re.split(
            r" (?:of|with|in|on|wearing|holding|getting|doing|and|behind|feeding|taking|raising|making) ", singular
        )[0].split()[-1]
        if head in same or head.endswith("fish") or singular in ("water buffalo", "fried shrimp"):
            assert plural == singular
        else:
            assert plural != singular, singular
            assert not re.search(r"[^aeiou]ys\b|(?:ch|sh|x|ss)s\b|sss", plural), plural


def test_names_are_plain_noun_phrases(pack):
    names = [name for concept in pack.concepts for name in concept.names]
    assert len({singular for _, singular, _ in names}) == len(names), "no name belongs to two concepts"
    for _, singular, plural in names:
        assert re.fullmatch(r"[a-z][a-z' -]*[a-z]", singular) and re.fullmatch(r"[a-z][a-z' -]*[a-z]", plural)
        assert not re.match(r"(?:a|an|the|small|little|tiny|big|large|huge|two|three|four|some) ", singular)


def test_recoloured_concepts_have_no_colour_in_their_names(pack):
    colour = re.compile(
        r"\b(?:" + "|".join((*columns.COLOURS, "black", "brown", "gold", "golden", "silver", "blond")) + r")\b"
    )
    fixed = {
        "tomato",
        "banana",
        "frog",
        "strawberry",
        "carrot",
        "lemon",
        "green apple",
        "fire truck",
        "taxi",
        "snowman",
        "panda",
        "zebra",
        "rainbow",
        "police car",
    }
    for concept in pack.concepts:
        if concept.tintable:
            assert not any(colour.search(singular) for _, singular, _ in concept.names)
            assert concept.name not in fixed


def test_every_place_has_words(pack):
    assert {photo.of for photo in pack.photos} == set(wording.PLACES)
    assert set(wording.TIME_PHRASES) == set(columns.TIMES)


def forms_of(group, names):
    """Possible forms of the noun of a group in a caption, longest first."""
    forms = [name[1 if group.count == 1 else 2] for name in names]
    if group.colour:
        forms += [form.replace(" of ", f" of {group.colour} ", 1) for form in forms]
    return sorted(forms, key=len, reverse=True)


def mentions(text, words):
    return [word for word in words if re.search(rf"(?<![a-z-]){re.escape(word)}(?![a-z-])", text)]


@pytest.mark.parametrize("split", ["train", "compositional"])
def test_captions_are_true_and_name_every_group(corpora, split):
    for corpus in corpora:
        names = {concept.name: concept.names for concept in corpus.pack.concepts}
        for i, captions in enumerate(corpus.describe(split, 0, MANY // 2)):
            scene = corpus.facts(split, i)
            assert len(set(captions)) == 5
            for text in captions:
                assert text == text.lower() and not text.endswith(".") and "  " not in text and len(text.split()) <= 30
                rest = text
                for group in sorted(scene.groups, key=lambda g: -max(len(n[1]) for n in names[g.concept])):
                    forms = forms_of(group, names[group.concept])
                    size = "|".join(wording.SIZE_WORDS[columns.SIZES.index(group.size)]) if group.size else "$^"
                    number, noun = "|".join(NUMBER[group.count]), "|".join(map(re.escape, forms))
                    attributes = rf"(?:(?:{size}) )?(?:{group.colour or '$^'} )?"
                    phrase = rf"(?:{number}) {attributes}(?:{noun})(?![a-z-])"
                    assert re.search(phrase, rest), (text, group)
                    rest = re.sub(phrase, " # ", rest, count=1)
                    rest = re.sub(rf"\bthe (?:{noun})(?![a-z-])", " @ ", rest)
                assert not mentions(rest, columns.COLOURS[:1]) or "red cliffs" in rest, (text, rest)
                wrong_times = [
                    phrase for time, phrases in wording.TIME_PHRASES.items() if time != scene.time for phrase in phrases
                ]
                assert not mentions(rest, wrong_times), text
                wrong_places = {
                    phrase for place, words in wording.PLACES.items() if place != scene.place for phrase in words[0]
                } - set(wording.PLACES[scene.place][0])
                assert not [phrase for phrase in wrong_places if rest.endswith(" " + phrase)], text


RELATION = {"left": wording.LEFT, "right": wording.RIGHT, "above": wording.ABOVE, "below": wording.BELOW}


def test_stated_relations_hold(corpora):
    """In captions of two groups, `first RELATION second` is one of the facts."""
    corpus = corpora[0]
    names = {concept.name: concept.names for concept in corpus.pack.concepts}
    checked = 0
    for i, captions in enumerate(corpus.describe("train", 0, MANY)):
        scene = corpus.facts("train", i)
        if len(scene.groups) != 2:
            continue
        where = {g: forms_of(group, names[group.concept]) for g, group in enumerate(scene.groups)}
        for text in captions:
            start = {
                g: min(
                    found.start()
                    for form in forms
                    if (found := re.search(rf"(?<![a-z-]){re.escape(form)}(?![a-z-])", text))
                )
                for g, forms in where.items()
            }
            first, second = sorted(start, key=start.get)
            between_them = text[start[first] : start[second]]
            stated = [kind for kind, words in RELATION.items() if any(f" {word} " in between_them for word in words)]
            for kind in stated:
                fact = {
                    "left": (first, "left of", second),
                    "right": (second, "left of", first),
                    "above": (first, "above", second),
                    "below": (second, "above", first),
                }[kind]
                assert fact in scene.relations, text
                checked += 1
    assert checked > 150


def test_compositional_captions_mention_a_held_out_combination(corpora):
    corpus = corpora[0]
    rows, _ = corpus._draw("compositional", 0, MANY)
    seen = set()
    for i, captions in enumerate(corpus.describe("compositional", 0, MANY)):
        scene, kind, a, b = corpus.facts("compositional", i), *rows[i, columns.FOCUS : columns.FOCUS_B + 1].tolist()
        seen.add(kind)
        group = scene.groups[a]
        if kind == columns.BY_COLOUR:
            words = [group.colour]
        elif kind == columns.BY_SIZE:
            words = wording.SIZE_WORDS[columns.SIZES.index(group.size)]
        elif kind == columns.BY_COUNT:
            words = [wording.NUMBERS[group.count]]
        else:
            words = wording.LEFT + wording.RIGHT if kind == columns.BY_LEFT else wording.ABOVE + wording.BELOW
            assert (a, "left of" if kind == columns.BY_LEFT else "above", b) in scene.relations
        assert all(mentions(text, words) for text in captions), captions
    assert seen == {columns.BY_COLOUR, columns.BY_SIZE, columns.BY_COUNT, columns.BY_LEFT, columns.BY_ABOVE}


def test_one_of_five_captions_is_terse_and_one_states_everything(corpora):
    corpus = corpora[0]
    for i, captions in enumerate(corpus.describe("test", 0, 500)):
        scene = corpus.facts("test", i)
        phrases, nouns = wording.PLACES[scene.place]
        assert any(mentions(text, phrases + nouns) for text in captions) or any(
            len(text.split()) > 20 for text in captions
        )
        if len(scene.groups) > 1:
            relations = [word for words in (*RELATION.values(), wording.BESIDE, ("between",)) for word in words]
            assert any(not mentions(text, relations + list(phrases)) for text in captions)


def words_of(text):
    return re.findall(r"[a-z'-]+", text)


def test_hard_negatives_differ_in_one_thing_and_are_false(corpora):
    kinds = set()
    for corpus in corpora:
        for i, negative in enumerate(corpus.hard_negatives("test", 0, MANY // 2)):
            kinds.add(negative.kind)
            assert negative.image_id == corpus.image_id("test", i) and negative.caption != negative.negative
            scene = corpus.facts("test", i)
            true, false = Counter(words_of(negative.caption)), Counter(words_of(negative.negative))
            if negative.kind == "relation":
                assert true == false, negative
            elif negative.kind == "attribute":
                gone, came = (
                    [word for word in true - false if word not in ("a", "an")],
                    [word for word in false - true if word not in ("a", "an")],
                )
                assert len(gone) == len(came) == 1, negative
                kinds_of_word = (columns.COLOURS, *wording.SIZE_WORDS)
                was, became = (
                    [k for k, words in enumerate(kinds_of_word) if word in words] for (word,) in (gone, came)
                )
                assert was and became and (was != became or was == [0]), negative
            else:
                assert negative.kind == "count"
                numbers = {"two": 2, "three": 3, "four": 4}
                stated = sorted(numbers[word] for word in words_of(negative.negative) if word in numbers)
                true = sorted(group.count for group in scene.groups if group.count > 1)
                assert stated != true, negative
    assert kinds == {"attribute", "count", "relation"}
