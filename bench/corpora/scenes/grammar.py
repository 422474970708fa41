"""Captions of scenes in the style of COCO: five per scene, each drawn from one 64-bit word.

Every caption names all groups. What else it states (number, size, colour, relation, place, time) is drawn per
caption; one of the five is terse and one states everything.
"""

from bench.corpora.scenes import wording
from bench.corpora.scenes.columns import (
    A_ABOVE,
    A_LEFT,
    B_ABOVE,
    B_LEFT,
    BESIDE,
    BY_ABOVE,
    BY_COLOUR,
    BY_COUNT,
    BY_LEFT,
    BY_SIZE,
    COLOUR,
    COLOURS,
    CONCEPT,
    COUNT,
    FOCUS,
    FOCUS_A,
    FOCUS_B,
    GROUP_WIDTH,
    GROUPS,
    MIDDLE,
    N_GROUPS,
    PAIRS,
    PHOTO,
    SIZE,
    TIME,
    TIMES,
)
from bench.corpora.scenes.pack import Pack

MAX_WORDS = 30
N_CAPTIONS = 5
TERSE, FULL, MIXED = 0, 1, 2
ROLES = (FULL, TERSE, MIXED, MIXED, MIXED)
# kinds of relation a caption can state
LEFT_OF, RIGHT_OF, ABOVE, BELOW, NEXT_TO = range(5)
BETWEEN = "between"
# forms of a sentence, out of eight; the other three are the plain form
PLACE_FIRST, TIME_FIRST, PICTURE_OF, THERE_IS, SEEN = range(5)
RELATION_WORDS = (wording.LEFT, wording.RIGHT, wording.ABOVE, wording.BELOW, wording.BESIDE)
VOWELS = "aeiou"
COLOUR_ARTICLES = tuple("an" if colour[0] in VOWELS else "a" for colour in COLOURS)


class Bits:
    """Small draws from one 64-bit word. A caption uses about 40 bits; when they run out, the word is reused."""

    __slots__ = ("left", "word")

    def __init__(self, word: int):
        self.word = self.left = word

    def below(self, n: int) -> int:
        """An integer in 0..n-1."""
        if self.left < n:
            self.left = self.word ^ 0x9E3779B97F4A7C15
        self.left, r = divmod(self.left, n)
        return r

    def pick(self, options):
        """One of the options."""
        return options[self.below(len(options))]


class Grammar:
    """Captions for the concepts and places of one pack."""

    def __init__(self, pack: Pack):
        self.names = [concept.names for concept in pack.concepts]
        self.places = [wording.PLACES[photo.of] for photo in pack.photos]
        self.times = [wording.TIME_PHRASES[time] for time in TIMES]

    def captions(self, scene: list[int], words: list[int]) -> list[str]:
        """Five different captions of a scene row; words: the random word of each."""
        first_role = (words[0] >> 40) % N_CAPTIONS
        texts: list[str] = []
        for k in range(N_CAPTIONS):
            role = ROLES[(first_role + k) % N_CAPTIONS]
            word = words[k]
            text = self.caption(scene, word, role)
            while text in texts:
                word = (word * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
                text = self.caption(scene, word >> 8, MIXED if role == TERSE else role)
            texts.append(text)
        return texts

    def caption(self, scene: list[int], word: int, role: int) -> str:
        """One caption. In a compositional scene it mentions the held-out combination, whatever its role."""
        must = scene[FOCUS], scene[FOCUS_A], scene[FOCUS_B]
        bits = Bits(word)
        n = scene[N_GROUPS]
        form = bits.below(8)
        relation = self.relation(scene, bits, role, must)
        say_place = (
            role == FULL or (role == MIXED and bits.below(5) < 3) or (role == TERSE and n == 1 and bits.below(2) == 0)
        )
        say_time = role == FULL or (role == MIXED and bits.below(5) < 3)
        if say_time and scene[TIME] == 0:  # daytime is usually not mentioned
            say_time = bits.below(4) == 0
        things, nouns = zip(*[self.thing(scene, g, bits, role, must) for g in range(n)], strict=True)
        verb = ("are" if scene[GROUPS + COUNT] > 1 else "is") if n == 1 else ""
        if relation == BETWEEN:
            text = self.between(scene, things)
        elif relation is not None:
            text = self.related(scene, things, nouns, relation, bits, with_verb=form == SEEN, say_third=role == FULL)
        else:
            text = listed(things, bits)
        sentence = self.sentence(text, scene, bits, form, say_place, say_time, verb)
        if sentence.count(" ") >= MAX_WORDS:  # drop place and time, then the statement about a third group
            sentence = text if text.count(" ") < MAX_WORDS else self.related(scene, things, nouns, relation, bits)
        return sentence

    def statement(self, scene: list[int], word: int, must: tuple[int, int, int]) -> str:
        """A caption that states everything of each group, `must` (kind, group, other group) and the place.

        Changing one number of `scene` changes only the words for it.
        """
        things, nouns = zip(
            *[self.thing(scene, g, Bits(word >> 8 * g), FULL, must) for g in range(scene[N_GROUPS])], strict=True
        )
        relation = self.relation(scene, Bits(word >> 24), TERSE, must)
        bits = Bits(word >> 32)
        text = self.related(scene, things, nouns, relation, bits) if relation else listed(things, bits)
        with_place = f"{text} {bits.pick(self.places[scene[PHOTO]][0])}"
        return text if with_place.count(" ") >= MAX_WORDS else with_place

    def thing(self, scene: list[int], g: int, bits: Bits, role: int, must: tuple[int, int, int]) -> tuple[str, str]:
        """Noun phrase of a group ("a small red car", "three big dogs", "some apples") and its bare noun."""
        at = GROUPS + g * GROUP_WIDTH
        count, size, colour = scene[at + COUNT], scene[at + SIZE], scene[at + COLOUR]
        names = self.names[scene[at + CONCEPT]]
        article, singular, plural = names[bits.below(len(names))] if len(names) > 1 and bits.below(2) else names[0]
        if role == TERSE:
            chance = 4 if scene[N_GROUPS] == 1 else 0
        else:
            chance = 8 if role == FULL else 5
        size_word = ""
        if size != 1 and (bits.below(8) < chance or must[:2] == (BY_SIZE, g)):
            size_word = bits.pick(wording.SIZE_WORDS[size]) + " "
            article = "a"
        bare = singular if count == 1 else plural
        noun = bare
        if colour >= 0 and (bits.below(8) < chance or must[:2] == (BY_COLOUR, g)):
            if " of " in noun:  # a pair of red gloves, not a red pair of gloves
                noun = noun.replace(" of ", f" of {COLOURS[colour]} ", 1)
            else:
                noun = f"{COLOURS[colour]} {noun}"
                if not size_word:
                    article = COLOUR_ARTICLES[colour]
        if count == 1:
            return f"{article} {size_word}{noun}", bare
        if role == FULL or must[:2] == (BY_COUNT, g) or bits.below(8) < 6:
            return f"{wording.NUMBERS[count]} {size_word}{noun}", bare
        return f"{bits.pick(wording.SOME[count])} {size_word}{noun}", bare

    def relation(self, scene: list[int], bits: Bits, role: int, must: tuple[int, int, int]):
        """The relation to state: (kind, group, other group), BETWEEN, or None."""
        kind, a, b = must
        if kind in (BY_LEFT, BY_ABOVE):
            forward, back = (LEFT_OF, RIGHT_OF) if kind == BY_LEFT else (ABOVE, BELOW)
            return (back, b, a) if bits.below(2) else (forward, a, b)
        n = scene[N_GROUPS]
        if n == 1 or role == TERSE or (role == MIXED and bits.below(2)):
            return None
        if scene[MIDDLE] >= 0 and bits.below(3):
            return BETWEEN
        a, b = ((0, 1), (0, 2), (1, 2))[bits.below(3) if n == 3 else 0]
        return self.relation_of(scene, a, b, bits)

    def relation_of(self, scene: list[int], a: int, b: int, bits: Bits) -> tuple[int, int, int]:
        """One of the relations that hold between groups a < b."""
        kind, turned = bits.pick(PAIR_OPTIONS[scene[PAIRS + a + b - 1]])
        return (kind, b, a) if turned else (kind, a, b)

    def related(
        self, scene, things, nouns, relation, bits: Bits, with_verb: bool = False, say_third: bool = False
    ) -> str:
        """The things joined by a relation. say_third: relates a third group too, if the relation can start with it."""
        kind, a, b = relation
        verb = (" are" if scene[GROUPS + a * GROUP_WIDTH + COUNT] > 1 else " is") if with_verb else ""
        text = f"{things[a]}{verb} {bits.pick(RELATION_WORDS[kind])} {things[b]}"
        if len(things) == 2:
            return text
        c = 3 - a - b
        if say_third:
            other = (a, b)[bits.below(2)]
            kind, first, _ = self.relation_of(scene, min(c, other), max(c, other), bits)
            if first == c:
                return f"{text}, and {things[c]} {bits.pick(RELATION_WORDS[kind])} the {nouns[other]}"
        return f"{text}, {bits.pick(wording.JOINERS)} {things[c]}"

    def between(self, scene: list[int], things) -> str:
        """The middle thing between the two others."""
        middle = scene[MIDDLE]
        return f"{things[middle]} between {things[(middle + 1) % 3]} and {things[(middle + 2) % 3]}"

    def sentence(
        self, text: str, scene: list[int], bits: Bits, form: int, say_place: bool, say_time: bool, verb: str
    ) -> str:
        """The things with place and time, in one of several forms. verb: "is" or "are" for a single group, else ""."""
        phrases, nouns = self.places[scene[PHOTO]]
        time = bits.pick(self.times[scene[TIME]]) if say_time else ""
        if say_place and form == PLACE_FIRST:
            return f"{bits.pick(nouns)} {time + ' ' if time else ''}with {text}"
        tail = f" {bits.pick(phrases)}" if say_place else ""
        if form == TIME_FIRST and time:
            return f"{time}, {text}{tail}"
        if time:
            tail += f" {time}"
        if form == PICTURE_OF:
            return f"{bits.pick(wording.OPENINGS)} {text}{tail}"
        if form == THERE_IS and verb:
            return f"there {verb} {text}{tail}"
        if form == SEEN and verb and tail:
            return f"{text} {verb} seen{tail}"
        return text + tail


def listed(things, bits: Bits) -> str:
    """The things as "a, b and c", starting with a random one."""
    if len(things) == 1:
        return things[0]
    first = bits.below(len(things))
    things = things[first:] + things[:first]
    return ", ".join(things[:-1]) + " and " + things[-1]


def pair_options(bits: int) -> tuple[tuple[int, bool], ...]:
    """(kind, whether to swap the pair) of all relations that a caption may state for a pair with these bits."""
    options = []
    if bits & A_LEFT:
        options += [(LEFT_OF, False), (RIGHT_OF, True)]
    if bits & B_LEFT:
        options += [(RIGHT_OF, False), (LEFT_OF, True)]
    if bits & A_ABOVE:
        options += [(ABOVE, False), (BELOW, True)]
    if bits & B_ABOVE:
        options += [(BELOW, False), (ABOVE, True)]
    if bits & BESIDE:
        options += [(NEXT_TO, False), (NEXT_TO, True)]
    return tuple(options)


PAIR_OPTIONS = tuple(pair_options(bits) for bits in range(32))
