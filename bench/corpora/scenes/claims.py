"""Counts the gallery images that make a caption true beside its own: the false negatives of a retrieval protocol.

`Reader` parses a caption into claims, with the words of `wording` and the names of the pack. A caption is true of a
scene if
- each thing it names is a group with the stated number, size and colour (an attribute not stated may be anything). As
  in the grammar and the hard negatives, "a dog" is one dog, "two dogs" are two, "several dogs" three or four;
- the stated relations hold between those groups, and place and time of day are those stated.
The scene may contain more: a dog beside a cat still makes "a dog" true. Scenes are drawn, not rendered.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from bench.corpora.scenes import wording
from bench.corpora.scenes.columns import (
    A_ABOVE,
    A_LEFT,
    BESIDE,
    COLOUR,
    COLOURS,
    CONCEPT,
    COUNT,
    GROUP_WIDTH,
    GROUPS,
    MAX_GROUPS,
    MIDDLE,
    N_GROUPS,
    PAIRS,
    PHOTO,
    SIZE,
    TIME,
    TIMES,
)
from bench.corpora.scenes.pack import Pack

ANY = -1
# columns of a claim. BETWEEN: the thing between the others. THING: concept, bits of the possible counts, size, colour.
# RELATION: the bit that must hold for (thing, other thing), 0 for none
CAPTION, N_THINGS, PLACE, WHEN, BETWEEN, THING, THING_WIDTH = 0, 1, 2, 3, 4, 5, 4
RELATION, RELATION_WIDTH = THING + MAX_GROUPS * THING_WIDTH, 3
CLAIM_WIDTH = RELATION + 2 * RELATION_WIDTH

RELATIONS = {  # words -> (bit, whether to swap the things)
    word: meaning
    for words, meaning in (
        (wording.LEFT, (A_LEFT, False)),
        (wording.RIGHT, (A_LEFT, True)),
        (wording.ABOVE, (A_ABOVE, False)),
        (wording.BELOW, (A_ABOVE, True)),
        (wording.BESIDE, (BESIDE, False)),
    )
    for word in words
}
SIZE_OF = {word: size for size, words in enumerate(wording.SIZE_WORDS) for word in words}
COUNTS = {word: 1 << count for count, word in enumerate(wording.NUMBERS) if word} | {
    word: sum(1 << count for count, words in wording.SOME.items() if word in words)
    for words in wording.SOME.values()
    for word in words
}
COUNTS |= {"a": 1 << 1, "an": 1 << 1}
LISTED = {", ", " and ", *(f", {joiner} " for joiner in wording.JOINERS)}
OPENINGS = {"", "there is ", "there are ", *(f"{opening} " for opening in wording.OPENINGS)}


def _one_of(words) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


REST = re.compile(rf" ({_one_of(RELATIONS)}) the (.+)$")  # statement about a third group: "left of the dog"


@dataclass(frozen=True)
class Thing:
    """A noun phrase of a caption: its span, possible counts as bits, size, and each (concept, colour) it can mean."""

    start: int
    stop: int
    counts: int
    size: int
    meanings: tuple[tuple[int, int], ...]


class Reader:
    """Parses captions made by the grammar of one pack."""

    def __init__(self, pack: Pack):
        # plural -> noun -> each (concept, colour) it can mean
        self.forms: dict[bool, dict[str, list[tuple[int, int]]]] = {False: {}, True: {}}
        for index, concept in enumerate(pack.concepts):
            for _, *nouns in concept.names:
                for plural, noun in enumerate(nouns):
                    self._add(bool(plural), noun, (index, ANY))
                    for colour, word in enumerate(COLOURS if concept.tintable else ()):
                        tinted = noun.replace(" of ", f" of {word} ", 1) if " of " in noun else f"{word} {noun}"
                        self._add(bool(plural), tinted, (index, colour))
        nouns = {noun for forms in self.forms.values() for noun in forms}
        self.longest = max(noun.count(" ") + 1 for noun in nouns)
        self.determiner = re.compile(rf"(?<![a-z-])({_one_of(COUNTS)}) (?:({_one_of(SIZE_OF)}) )?")
        self.places = {phrase: pack.places.index(place) for place in pack.places for phrase in wording.PLACES[place][0]}
        self.scenes = {noun: pack.places.index(place) for place in pack.places for noun in wording.PLACES[place][1]}
        self.times = {phrase: TIMES.index(time) for time, phrases in wording.TIME_PHRASES.items() for phrase in phrases}
        place, scene, time = map(_one_of, (self.places, self.scenes, self.times))
        self.before = re.compile(rf"(?:(?P<scene>{scene}) (?:(?P<time>{time}) )?with |(?P<first>{time}), )")
        self.after = re.compile(rf"(?: (?:is|are) seen)?(?: (?P<place>{place}))?(?: (?P<time>{time}))?$")

    def _add(self, plural: bool, noun: str, meaning: tuple[int, int]) -> None:
        self.forms[plural].setdefault(noun, []).append(meaning)

    def read(self, caption: str) -> list[np.ndarray]:
        """Parses a caption into claims, one per meaning ("a red envelope" is a concept, or an envelope in red).

        Returns rows of `CLAIM_WIDTH` int32. Raises ValueError for a text that the grammar cannot produce.
        """
        place = time = ANY
        body = caption
        if found := self.before.match(body):
            body = body[found.end() :]
            place = self.scenes[found["scene"]] if found["scene"] else ANY
            said = found["time"] or found["first"]
            time = self.times[said] if said else ANY
        found = self.after.search(body)
        body = body[: found.start()]
        place = self.places[found["place"]] if found["place"] else place
        time = self.times[found["time"]] if found["time"] else time
        things, stated, middle = self._statements(body)
        claims = []
        for meanings in itertools.product(*(thing.meanings for thing in things)):
            claim = np.full(CLAIM_WIDTH, ANY, np.int32)
            claim[[N_THINGS, PLACE, WHEN, BETWEEN]] = len(things), place, time, middle
            for t, (thing, (concept, colour)) in enumerate(zip(things, meanings, strict=True)):
                at = THING + t * THING_WIDTH
                claim[at : at + THING_WIDTH] = concept, thing.counts, thing.size, colour
            claim[RELATION:] = 0
            for r, relation in enumerate(stated):
                at = RELATION + r * RELATION_WIDTH
                claim[at : at + RELATION_WIDTH] = relation
            claims.append(claim)
        return claims

    def _statements(self, body: str) -> tuple[list[Thing], list[tuple[int, int, int]], int]:
        """The things, the stated (bit, thing, other thing), and the thing between the others or ANY."""
        rest = REST.search(body)
        things = self._things(body[: rest.start()] if rest else body)
        gaps = [body[a.stop : b.start] for a, b in itertools.pairwise(things)]
        if not things or len(things) > MAX_GROUPS or body[: things[0].start] not in OPENINGS:
            raise ValueError(f"not a caption of this grammar: {body!r}")
        stated, middle = [], ANY
        if gaps and gaps[0] == " between ":
            middle = 0
        elif gaps and gaps[0] not in LISTED:
            stated.append(_relation(re.sub(r"^ (is |are )?| $", "", gaps[0]), 0, 1))
        if any(gap not in LISTED for gap in gaps[1:]):
            raise ValueError(f"not a caption of this grammar: {body!r}")
        if things[-1].stop != (rest.start() if rest else len(body)):
            raise ValueError(f"not a caption of this grammar: {body!r}")
        if rest:
            concepts = {concept for plural in (False, True) for concept, _ in self.forms[plural].get(rest[2], ())}
            other = [t for t, thing in enumerate(things[:-1]) if concepts & {concept for concept, _ in thing.meanings}]
            stated.append(_relation(rest[1], len(things) - 1, other[0]))
        return things, stated, middle

    def _things(self, body: str) -> list[Thing]:
        things, at = [], 0
        while found := self.determiner.search(body, at):
            counts = COUNTS[found[1]]
            forms = self.forms[counts != COUNTS["a"]]
            words = body[found.end() :].replace(",", " ,").split(" ")
            nouns = [" ".join(words[:length]) for length in range(min(self.longest, len(words)), 0, -1)]
            noun = next((noun for noun in nouns if noun in forms), None)
            at = found.end()
            if noun:
                size = SIZE_OF.get(found[2], ANY)
                things.append(Thing(found.start(), at + len(noun), counts, size, tuple(forms[noun])))
                at += len(noun)
        return things


def _relation(words: str, a: int, b: int) -> tuple[int, int, int]:
    if words not in RELATIONS:
        raise ValueError(f"not a caption of this grammar: {words!r} is not a relation")
    bit, swapped = RELATIONS[words]
    return (bit, b, a) if swapped else (bit, a, b)


def is_true(claims: Sequence[np.ndarray], scene: np.ndarray, place_of: np.ndarray) -> bool:
    """Whether one of the meanings of a caption (`Reader.read`) is true of a scene.

    scene: a row of `layout.draw`. place_of: `places_of` the pack.
    """
    shown = {int(scene[GROUPS + group * GROUP_WIDTH + CONCEPT]) for group in range(scene[N_GROUPS])}
    for claim in claims:
        named = {int(claim[THING + thing * THING_WIDTH]) for thing in range(claim[N_THINGS])}
        if len(named) == claim[N_THINGS] and named <= shown and _holds(claim, scene, place_of):
            return True
    return False


def places_of(pack: Pack) -> np.ndarray:
    """(photographs,) int32: the place that each shows."""
    return np.array([pack.places.index(photo.of) for photo in pack.photos], np.int32)


class Claims:
    """Claims of captions, indexed by concepts: a scene is checked only against captions that name its concepts.

    own: for each caption the gallery position of the image it was written for. Raises ValueError as `Reader.read`.
    """

    def __init__(self, captions: Sequence[str], own: Sequence[int], pack: Pack):
        reader = Reader(pack)
        self.own = np.asarray(own, np.int64)
        rows = []
        for number, caption in enumerate(captions):
            for claim in reader.read(caption):
                claim[CAPTION] = number
                rows.append(claim)
        claims = np.array(rows, np.int32).reshape(-1, CLAIM_WIDTH)
        self.base = np.int64(len(pack.concepts) + 1)
        concepts = claims[:, THING : THING + MAX_GROUPS * THING_WIDTH : THING_WIDTH].astype(np.int64)
        keys = np.sort(concepts + 1, axis=1) @ self.base ** np.arange(MAX_GROUPS)  # an absent thing is 0
        order = np.argsort(keys, kind="stable")
        self.claims = claims[order]
        self.keys, starts = np.unique(keys[order], return_index=True)
        self.starts = np.append(starts, len(claims)).astype(np.int64)
        self.place_of = places_of(pack)

    def tally(self, scenes: np.ndarray, first: int, edges: np.ndarray, counts: np.ndarray) -> None:
        """Adds the scenes that make each caption true to `counts`, int64 (captions, len(edges)).

        scenes: rows of `layout.draw` at gallery positions first, first + 1, ... A scene is counted under the first
        gallery size in `edges` that contains it. A caption's own image does not count.
        """
        _tally(scenes, first, self.claims, self.keys, self.starts, self.base, self.own, self.place_of, edges, counts)


@njit(cache=True, nogil=True)
def _tally(scenes, first, claims, keys, starts, base, own, place_of, edges, counts):
    last = np.full(len(own), -1, np.int64)  # last scene counted for a caption: two meanings of it count once
    concepts = np.empty(MAX_GROUPS, np.int64)
    edge = 0
    for s in range(len(scenes)):
        at, n = first + s, scenes[s, N_GROUPS]
        while edge < len(edges) and edges[edge] <= at:
            edge += 1
        if edge == len(edges):
            return
        for subset in range(1, 1 << n):
            concepts[:] = 0
            for g in range(n):
                if subset >> g & 1:
                    concepts[g] = scenes[s, GROUPS + g * GROUP_WIDTH + CONCEPT] + 1
            concepts.sort()
            key = concepts[0] + base * (concepts[1] + base * concepts[2])
            found = np.searchsorted(keys, key)
            if found == len(keys) or keys[found] != key:
                continue
            for c in range(starts[found], starts[found + 1]):
                caption = claims[c, CAPTION]
                if own[caption] != at and last[caption] != s and _holds(claims[c], scenes[s], place_of):
                    last[caption] = s
                    counts[caption, edge] += 1


@njit(cache=True)
def _holds(claim, scene, place_of):
    """Whether the claim is true of the scene, which has all concepts of the claim."""
    if claim[PLACE] != ANY and claim[PLACE] != place_of[scene[PHOTO]]:
        return False
    if claim[WHEN] != ANY and claim[WHEN] != scene[TIME]:
        return False
    where = np.empty(MAX_GROUPS, np.int64)  # thing -> group
    for t in range(claim[N_THINGS]):
        concept, counts, size, colour = claim[THING + t * THING_WIDTH : THING + (t + 1) * THING_WIDTH]
        for g in range(scene[N_GROUPS]):
            if scene[GROUPS + g * GROUP_WIDTH + CONCEPT] == concept:
                where[t] = g
        group = scene[GROUPS + where[t] * GROUP_WIDTH : GROUPS + (where[t] + 1) * GROUP_WIDTH]
        if not counts >> group[COUNT] & 1:
            return False
        if size != ANY and size != group[SIZE]:
            return False
        if colour != ANY and colour != group[COLOUR]:
            return False
    if claim[BETWEEN] != ANY and scene[MIDDLE] != where[claim[BETWEEN]]:
        return False
    for r in range(RELATION, CLAIM_WIDTH, RELATION_WIDTH):
        bit = claim[r]
        if bit:
            a, b = where[claim[r + 1]], where[claim[r + 2]]
            if a > b and bit != BESIDE:  # the bit of the swapped pair: A_LEFT -> B_LEFT, A_ABOVE -> B_ABOVE
                bit <<= 1
            if not scene[PAIRS + a + b - 1] & bit:
                return False
    return True
