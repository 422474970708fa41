"""Draws the content of scenes: integers only, from a counter-based generator.

Scene i depends neither on other scenes nor on the machine.

A scene is a row of `columns.WIDTH` int32, and `WORDS` uint64 for its captions. Held-out combinations (`held_out`)
depend on the names of the concepts alone, never on the seed.
"""

import hashlib

import numpy as np
from numba import njit

from bench.corpora.scenes.columns import (
    A_ABOVE,
    A_LEFT,
    B_ABOVE,
    B_LEFT,
    BESIDE,
    BOX,
    BY_ABOVE,
    BY_COLOUR,
    BY_COUNT,
    BY_LEFT,
    BY_SIZE,
    COLOUR,
    COLOURS,
    CONCEPT,
    COUNT,
    CROP_X,
    CROP_Y,
    FLIP,
    FOCUS,
    FOCUS_A,
    FOCUS_B,
    GROUP_WIDTH,
    GROUPS,
    ITEMS,
    MAX_GROUPS,
    MIDDLE,
    MIDDLE_AXIS,
    N_GROUPS,
    NO_FOCUS,
    PAIRS,
    PHOTO,
    SIDE,
    SIZE,
    SIZE_UNITS,
    SPRITE,
    TIME,
    WORDS,
    ZOOM,
)
from bench.corpora.scenes.splitmix import GOLDEN, below, mix, weighted

GENERATOR = 1  # increase it when the same seed no longer gives the same scenes
GAP = 1  # between the copies of a group
MARGIN = 2  # between the bounding boxes of groups: relations hold by at least this much
NEAR = 14  # largest gap of "next to"
HELD_PER_MILLE = 100
GROUPS_WEIGHTS = (20, 45, 35)  # one, two, three groups
COUNT_WEIGHTS = ((50, 22, 16, 12), (62, 20, 12, 6), (76, 17, 5, 2))  # by number of groups; 1 to 4 copies
SIZE_WEIGHTS = ((20, 56, 24), (20, 58, 22), (24, 60, 16))  # by number of groups
TIME_WEIGHTS = (46, 20, 16, 18)
PLACEMENTS = 60  # tries to place the groups of one draw
ATTEMPTS = 4000  # draws per scene; the second half has three groups, which fit in some draw


def name_hash(name: str) -> int:
    """64-bit hash of a concept's name or of a stream's name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def stream_key(seed: int, split: str) -> int:
    """Key of the generator for one split of one seed."""
    return name_hash(f"scenes {GENERATOR} {seed} {split}")


@njit(cache=True)
def held_out(hash_a, kind, value):
    """Whether (concept, attribute) or (concept, relation, concept) is held out.

    value: index of the attribute, or hash of the other concept.
    """
    x = mix(hash_a + np.uint64(kind) * GOLDEN)
    return mix(x ^ mix(np.uint64(value) + GOLDEN)) % np.uint64(1000) < np.uint64(HELD_PER_MILLE)


@njit(cache=True)
def arrange(state, group):
    """Arranges the copies of a group in a box at (0, 0): sets ITEMS and BOX."""
    size = SIZE_UNITS[group[SIZE]]
    step = size + GAP
    count = group[COUNT]
    stagger = below(state, 5)
    for k in range(count):
        group[ITEMS + 2 * k] = 0
        group[ITEMS + 2 * k + 1] = 0
    width, height = size, size
    if count == 2:
        upright = below(state, 2)
        first = below(state, 2)  # which of the two is staggered
        group[ITEMS + 2 + upright] = step
        group[ITEMS + 2 * first + 1 - upright] = stagger
        width, height = step + size, size + stagger
        if upright == 1:
            width, height = height, width
    elif count == 3 and group[SIZE] == 0 and below(state, 2) == 0:
        upright = below(state, 2)
        for k in range(3):
            group[ITEMS + 2 * k + upright] = k * step
        group[ITEMS + 2 + 1 - upright] = stagger
        width, height = 2 * step + size, size + stagger
        if upright == 1:
            width, height = height, width
    elif count >= 3:
        missing = below(state, 4) if count == 3 else 4
        k = 0
        for corner in range(4):
            if corner != missing:
                group[ITEMS + 2 * k] = corner % 2 * step
                group[ITEMS + 2 * k + 1] = corner // 2 * step
                k += 1
        width, height = step + size, step + size
    group[BOX], group[BOX + 1], group[BOX + 2], group[BOX + 3] = 0, 0, width, height


@njit(cache=True)
def move(group, x, y):
    """Moves a group so that its box starts at (x, y)."""
    dx, dy = x - group[BOX], y - group[BOX + 1]
    for k in range(0, 4, 2):
        group[BOX + k] += dx
        group[BOX + k + 1] += dy
    for k in range(group[COUNT]):
        group[ITEMS + 2 * k] += dx
        group[ITEMS + 2 * k + 1] += dy


@njit(cache=True)
def relation_bits(a, b):
    """The relations between the boxes of two groups, as bits; 0 if the boxes are less than `MARGIN` apart."""
    bits = 0
    if a[BOX + 2] + MARGIN <= b[BOX]:
        bits |= A_LEFT
    if b[BOX + 2] + MARGIN <= a[BOX]:
        bits |= B_LEFT
    if a[BOX + 3] + MARGIN <= b[BOX + 1]:
        bits |= A_ABOVE
    if b[BOX + 3] + MARGIN <= a[BOX + 1]:
        bits |= B_ABOVE
    gap = max(b[BOX] - a[BOX + 2], a[BOX] - b[BOX + 2])
    overlap = min(a[BOX + 3], b[BOX + 3]) - max(a[BOX + 1], b[BOX + 1])
    if (
        bits & (A_LEFT | B_LEFT)
        and gap <= NEAR
        and 2 * overlap >= min(a[BOX + 3] - a[BOX + 1], b[BOX + 3] - b[BOX + 1])
    ):
        bits |= BESIDE
    return bits


@njit(cache=True)
def place(state, scene, n_groups):
    """Moves the groups to random places where each pair is apart; returns False if no placement was found."""
    for _ in range(PLACEMENTS):
        apart = True
        for g in range(n_groups):
            group = scene[GROUPS + g * GROUP_WIDTH : GROUPS + (g + 1) * GROUP_WIDTH]
            arrange(state, group)
            if group[BOX + 2] > SIDE or group[BOX + 3] > SIDE:
                apart = False
                break
            move(group, below(state, SIDE - group[BOX + 2] + 1), below(state, SIDE - group[BOX + 3] + 1))
            for other in range(g):
                bits = relation_bits(scene[GROUPS + other * GROUP_WIDTH : GROUPS + (other + 1) * GROUP_WIDTH], group)
                scene[PAIRS + g + other - 1] = bits
                apart = apart and bits != 0
            if not apart:
                break
        if apart:
            return True
    return False


@njit(cache=True)
def find_middle(scene):
    """Sets MIDDLE to the group between the two others on one axis and level with them on the other, or to -1."""
    scene[MIDDLE], scene[MIDDLE_AXIS] = -1, 0
    for axis in range(2):
        for m in range(3):
            a, b = (m + 1) % 3, (m + 2) % 3
            low = GROUPS + m * GROUP_WIDTH + BOX
            for swap in range(2):
                first = GROUPS + (a if swap == 0 else b) * GROUP_WIDTH + BOX
                last = GROUPS + (b if swap == 0 else a) * GROUP_WIDTH + BOX
                between = (
                    scene[first + 2 + axis] + MARGIN <= scene[low + axis]
                    and scene[low + 2 + axis] + MARGIN <= scene[last + axis]
                )
                for other in (first, last):  # level: the extents overlap by half of the smaller
                    extent = min(scene[low + 3 - axis], scene[other + 3 - axis]) - max(
                        scene[low + 1 - axis], scene[other + 1 - axis]
                    )
                    smaller = min(
                        scene[low + 3 - axis] - scene[low + 1 - axis], scene[other + 3 - axis] - scene[other + 1 - axis]
                    )
                    between = between and 2 * extent >= smaller
                if between:
                    scene[MIDDLE], scene[MIDDLE_AXIS] = m, axis


@njit(cache=True)
def count_held(state, scene, found, kind, a, b):
    """Counts a held-out combination; each one counted is equally likely to become the focus (reservoir sampling)."""
    if below(state, found + 1) == 0:
        scene[FOCUS], scene[FOCUS_A], scene[FOCUS_B] = kind, a, b
    return found + 1


@njit(cache=True)
def find_held_out(state, scene, hashes):
    """Returns the number of held-out combinations in the scene, and sets FOCUS to one of them."""
    found = 0
    scene[FOCUS], scene[FOCUS_A], scene[FOCUS_B] = NO_FOCUS, -1, -1
    for g in range(scene[N_GROUPS]):
        group = scene[GROUPS + g * GROUP_WIDTH : GROUPS + (g + 1) * GROUP_WIDTH]
        concept = hashes[group[CONCEPT]]
        if group[COLOUR] >= 0 and held_out(concept, BY_COLOUR, group[COLOUR]):
            found = count_held(state, scene, found, BY_COLOUR, g, -1)
        if group[SIZE] != 1 and held_out(concept, BY_SIZE, group[SIZE]):
            found = count_held(state, scene, found, BY_SIZE, g, -1)
        if group[COUNT] > 1 and held_out(concept, BY_COUNT, group[COUNT]):
            found = count_held(state, scene, found, BY_COUNT, g, -1)
        for other in range(g):
            bits = scene[PAIRS + g + other - 1]
            before = hashes[scene[GROUPS + other * GROUP_WIDTH + CONCEPT]]
            if bits & A_LEFT and held_out(before, BY_LEFT, concept):
                found = count_held(state, scene, found, BY_LEFT, other, g)
            if bits & B_LEFT and held_out(concept, BY_LEFT, before):
                found = count_held(state, scene, found, BY_LEFT, g, other)
            if bits & A_ABOVE and held_out(before, BY_ABOVE, concept):
                found = count_held(state, scene, found, BY_ABOVE, other, g)
            if bits & B_ABOVE and held_out(concept, BY_ABOVE, before):
                found = count_held(state, scene, found, BY_ABOVE, g, other)
    return found


@njit(cache=True)
def draw_background(state, scene, place_start, photo_times):
    """Draws the photograph, its crop and the time of day."""
    where = below(state, len(place_start) - 1)
    photo = place_start[where] + below(state, place_start[where + 1] - place_start[where])
    scene[PHOTO] = photo
    time = weighted(state, TIME_WEIGHTS)
    while photo_times[photo] >> time & 1 == 0:
        time = weighted(state, TIME_WEIGHTS)
    scene[TIME] = time
    scene[ZOOM] = below(state, 2)
    scene[CROP_X], scene[CROP_Y], scene[FLIP] = below(state, 65536), below(state, 65536), below(state, 2)


@njit(cache=True)
def draw_groups(state, scene, n_groups, sprite_start, tintable):
    """Draws concept, sprite, count, size and colour of each group; the concepts are distinct."""
    for g in range(n_groups):
        group = scene[GROUPS + g * GROUP_WIDTH : GROUPS + (g + 1) * GROUP_WIDTH]
        distinct = False
        while not distinct:
            group[CONCEPT] = below(state, len(tintable))
            distinct = True
            for other in range(g):
                distinct = distinct and scene[GROUPS + other * GROUP_WIDTH + CONCEPT] != group[CONCEPT]
        first = sprite_start[group[CONCEPT]]
        group[SPRITE] = first + below(state, sprite_start[group[CONCEPT] + 1] - first)
        group[COUNT] = 1 + weighted(state, COUNT_WEIGHTS[n_groups - 1])
        group[SIZE] = weighted(state, SIZE_WEIGHTS[n_groups - 1])
        group[COLOUR] = below(state, len(COLOURS)) if tintable[group[CONCEPT]] else -1


@njit(cache=True, nogil=True)
def draw(key, start, compositional, hashes, sprite_start, tintable, place_start, photo_times, scenes, words):
    """Fills `scenes` (n, WIDTH) and `words` (n, WORDS) with scenes start..start+n-1 of the stream `key`.

    hashes: uint64 per concept. sprite_start, place_start: first sprite of each concept and first photo of each place,
    and the end. photo_times: bits of the times of day of each photo. N_GROUPS is 0 for a scene that no draw fits.
    """
    state = np.zeros(1, np.uint64)
    for s in range(len(scenes)):
        state[0] = mix(key ^ mix(np.uint64(start + s) + GOLDEN))
        scene = scenes[s]
        wanted = 1 + weighted(state, GROUPS_WEIGHTS)
        for attempt in range(ATTEMPTS):
            n_groups = wanted if 2 * attempt < ATTEMPTS else MAX_GROUPS
            scene[:] = 0
            scene[N_GROUPS] = n_groups
            draw_groups(state, scene, n_groups, sprite_start, tintable)
            if place(state, scene, n_groups) and (find_held_out(state, scene, hashes) > 0) == compositional:
                break
            scene[N_GROUPS] = 0
        scene[MIDDLE] = -1
        if scene[N_GROUPS] == 3:
            find_middle(scene)
        draw_background(state, scene, place_start, photo_times)
        for w in range(WORDS):
            state[0] += GOLDEN
            words[s, w] = mix(state[0])
