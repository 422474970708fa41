"""Hard negatives: captions with one colour, size, number or relation changed, which makes them false of the scene."""

from bench.corpora.scenes.columns import (
    A_ABOVE,
    A_LEFT,
    B_LEFT,
    BY_ABOVE,
    BY_COLOUR,
    BY_COUNT,
    BY_LEFT,
    BY_SIZE,
    COLOUR,
    COLOURS,
    COUNT,
    GROUP_WIDTH,
    GROUPS,
    MAX_COPIES,
    N_GROUPS,
    PAIRS,
    SIZE,
)
from bench.corpora.scenes.grammar import Bits, Grammar


def hard_negative(grammar: Grammar, scene: list[int], word: int) -> tuple[str, str, str]:
    """(caption, negative, kind) of a scene row, from one 64-bit word. The captions differ only in what was changed."""
    bits = Bits(word)
    kinds = {
        "count": changes_of_count(scene),
        "attribute": changes_of_attribute(scene),
        "relation": changes_of_relation(scene),
    }
    kind = bits.pick([name for name, changes in kinds.items() if changes])
    must, change = bits.pick(kinds[kind])
    negative_scene = scene.copy()
    negative_must = must
    if kind == "relation":
        negative_must = (must[0], must[2], must[1])
    else:
        column, values = change
        negative_scene[column] = bits.pick([value for value in values if value != scene[column]])
    return grammar.statement(scene, word, must), grammar.statement(negative_scene, word, negative_must), kind


def changes_of_count(scene):
    """Possible changes of a count: ((kind, group, -1), (column, values)) of each."""
    groups = range(scene[N_GROUPS])
    return [((BY_COUNT, g, -1), (GROUPS + g * GROUP_WIDTH + COUNT, range(1, MAX_COPIES + 1))) for g in groups]


def changes_of_attribute(scene):
    """Possible changes of a colour or a size that the scene has, as in `changes_of_count`."""
    changes = []
    for g in range(scene[N_GROUPS]):
        at = GROUPS + g * GROUP_WIDTH
        if scene[at + COLOUR] >= 0:
            changes.append(((BY_COLOUR, g, -1), (at + COLOUR, range(len(COLOURS)))))
        if scene[at + SIZE] != 1:
            changes.append(((BY_SIZE, g, -1), (at + SIZE, (0, 2))))
    return changes


def changes_of_relation(scene):
    """Possible swaps of a left or above relation that holds: ((kind, group, other group), None) of each."""
    changes = []
    for g in range(1, scene[N_GROUPS]):
        for other in range(g):
            bits = scene[PAIRS + g + other - 1]
            if bits & (A_LEFT | B_LEFT):
                changes.append(((BY_LEFT, other, g) if bits & A_LEFT else (BY_LEFT, g, other), None))
            if bits & ~(A_LEFT | B_LEFT) & 15:
                changes.append(((BY_ABOVE, other, g) if bits & A_ABOVE else (BY_ABOVE, g, other), None))
    return changes
