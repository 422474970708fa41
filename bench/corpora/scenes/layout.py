"""Draw what is in each scene: integers only, from a counter-based generator, so that scene i never depends on another scene or on the machine.

A scene is one row of `WIDTH` int32 (columns below) and `WORDS` uint64 for the captions. Lengths and positions are in units of 1/64 of the picture's side, so a
scene is the same at every resolution. Held-out combinations (`held_*`) depend on the names of the concepts alone, never on the seed.
"""

import hashlib

import numpy as np
from numba import njit

GENERATOR = 1  # raise it when the same seed no longer gives the same scenes
SPLITS = ("train", "val", "test", "compositional", "distractors")
TIMES = ("day", "sunset", "night", "haze")
SIZES = ("small", "normal", "big")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
SIDE = 64  # units of the picture's side
SIZE_UNITS = (16, 22, 30)
GAP = 1  # between the copies of a group
MARGIN = 2  # between the bounding boxes of groups: relations hold by at least this much
NEAR = 14  # "next to" is at most this far
HELD_PER_MILLE = 100
MOST_GROUPS, MOST_COPIES = 3, 4

# columns of a scene. Trap: numba's cache of render.py does not see a change here; touch render.py too
N_GROUPS, PHOTO, TIME, ZOOM, CROP_X, CROP_Y, FLIP, FOCUS, FOCUS_A, FOCUS_B, MIDDLE, MIDDLE_AXIS, PAIRS, GROUPS = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    15,
)
# columns of a group, from GROUPS + g * GROUP_WIDTH; BOX is x0, y0, x1, y1; ITEMS is x, y of each copy
CONCEPT, SPRITE, COUNT, SIZE, COLOUR, BOX, ITEMS = 0, 1, 2, 3, 4, 5, 9
GROUP_WIDTH = ITEMS + 2 * MOST_COPIES
WIDTH = GROUPS + MOST_GROUPS * GROUP_WIDTH
WORDS = 6  # five captions and the hard negative
# bits of a pair (a, b), a < b, at PAIRS + a + b - 1
A_LEFT, B_LEFT, A_ABOVE, B_ABOVE, BESIDE = 1, 2, 4, 8, 16
# focus: the held-out combination that the captions of a compositional scene must mention
NO_FOCUS, BY_COLOUR, BY_SIZE, BY_COUNT, BY_LEFT, BY_ABOVE = 0, 1, 2, 3, 4, 5

GROUPS_WEIGHTS = (20, 45, 35)  # one, two, three groups
COUNT_WEIGHTS = ((50, 22, 16, 12), (62, 20, 12, 6), (76, 17, 5, 2))  # by number of groups; copies 1 to 4
SIZE_WEIGHTS = ((20, 56, 24), (20, 58, 22), (24, 60, 16))
TIME_WEIGHTS = (46, 20, 16, 18)
PLACEMENTS = 60  # tries to place the groups of one draw
ATTEMPTS = 4000  # draws of one scene; from the half on three groups, of which some draw always fits

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def name_hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def stream_key(seed: int, split: str) -> int:
    """The generator's key of one split of one seed."""
    return name_hash(f"scenes {GENERATOR} {seed} {split}")


@njit(cache=True)
def mix(x):
    """splitmix64's output function."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def below(state, n):
    """Next integer in 0..n-1 of the stream `state` (uint64, one element)."""
    state[0] += _GOLDEN
    return np.int64(((mix(state[0]) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True)
def weighted(state, weights):
    total = 0
    for w in weights:
        total += w
    r = below(state, total)
    for i in range(len(weights)):
        r -= weights[i]
        if r < 0:
            return i
    return len(weights) - 1


@njit(cache=True)
def held(hash_a, kind, value):
    """Is (concept, attribute) or (concept, relation, concept) held out? `value` is the attribute's index or the other concept's hash."""
    x = mix(hash_a + np.uint64(kind) * _GOLDEN)
    return mix(x ^ mix(np.uint64(value) + _GOLDEN)) % np.uint64(1000) < np.uint64(HELD_PER_MILLE)


@njit(cache=True)
def arrange(state, group):
    """Offsets of the copies of a group, inside a box at (0, 0); sets ITEMS and BOX."""
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
    dx, dy = x - group[BOX], y - group[BOX + 1]
    for k in range(0, 4, 2):
        group[BOX + k] += dx
        group[BOX + k + 1] += dy
    for k in range(group[COUNT]):
        group[ITEMS + 2 * k] += dx
        group[ITEMS + 2 * k + 1] += dy


@njit(cache=True)
def relation_bits(a, b):
    """What holds between the boxes of two groups; 0 when they are not clearly apart."""
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
    """Move the groups to random places where each pair is clearly apart; False when none was found."""
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
    """Of three groups, the one that stands between the others on one axis and level with both on the other; -1 when none does."""
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
                for other in (first, last):  # level: at least half of the middle one's extent lies within the other's
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
def note(state, scene, found, kind, a, b):
    """One more held-out combination: keep each found so far with the same chance as the scene's focus."""
    if below(state, found + 1) == 0:
        scene[FOCUS], scene[FOCUS_A], scene[FOCUS_B] = kind, a, b
    return found + 1


@njit(cache=True)
def find_held(state, scene, hashes):
    """Number of held-out combinations that are true of the scene; FOCUS is set to one of them."""
    found = 0
    scene[FOCUS], scene[FOCUS_A], scene[FOCUS_B] = NO_FOCUS, -1, -1
    for g in range(scene[N_GROUPS]):
        group = scene[GROUPS + g * GROUP_WIDTH : GROUPS + (g + 1) * GROUP_WIDTH]
        concept = hashes[group[CONCEPT]]
        if group[COLOUR] >= 0 and held(concept, BY_COLOUR, group[COLOUR]):
            found = note(state, scene, found, BY_COLOUR, g, -1)
        if group[SIZE] != 1 and held(concept, BY_SIZE, group[SIZE]):
            found = note(state, scene, found, BY_SIZE, g, -1)
        if group[COUNT] > 1 and held(concept, BY_COUNT, group[COUNT]):
            found = note(state, scene, found, BY_COUNT, g, -1)
        for other in range(g):
            bits = scene[PAIRS + g + other - 1]
            before = hashes[scene[GROUPS + other * GROUP_WIDTH + CONCEPT]]
            if bits & A_LEFT and held(before, BY_LEFT, concept):
                found = note(state, scene, found, BY_LEFT, other, g)
            if bits & B_LEFT and held(concept, BY_LEFT, before):
                found = note(state, scene, found, BY_LEFT, g, other)
            if bits & A_ABOVE and held(before, BY_ABOVE, concept):
                found = note(state, scene, found, BY_ABOVE, other, g)
            if bits & B_ABOVE and held(concept, BY_ABOVE, before):
                found = note(state, scene, found, BY_ABOVE, g, other)
    return found


@njit(cache=True)
def draw_background(state, scene, place_start, photo_times):
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
    for g in range(n_groups):
        group = scene[GROUPS + g * GROUP_WIDTH : GROUPS + (g + 1) * GROUP_WIDTH]
        fresh = False
        while not fresh:
            group[CONCEPT] = below(state, len(tintable))
            fresh = True
            for other in range(g):
                fresh = fresh and scene[GROUPS + other * GROUP_WIDTH + CONCEPT] != group[CONCEPT]
        first = sprite_start[group[CONCEPT]]
        group[SPRITE] = first + below(state, sprite_start[group[CONCEPT] + 1] - first)
        group[COUNT] = 1 + weighted(state, COUNT_WEIGHTS[n_groups - 1])
        group[SIZE] = weighted(state, SIZE_WEIGHTS[n_groups - 1])
        group[COLOUR] = below(state, len(COLOURS)) if tintable[group[CONCEPT]] else -1


@njit(cache=True, nogil=True)
def draw(key, start, compositional, hashes, sprite_start, tintable, place_start, photo_times, scenes, words):
    """Fill `scenes` (n, WIDTH) and `words` (n, WORDS) with scenes start..start+n-1 of the stream `key`; N_GROUPS is 0 where no draw fits."""
    state = np.zeros(1, np.uint64)
    for s in range(len(scenes)):
        state[0] = mix(key ^ mix(np.uint64(start + s) + _GOLDEN))
        scene = scenes[s]
        wanted = 1 + weighted(state, GROUPS_WEIGHTS)
        for attempt in range(ATTEMPTS):
            n_groups = wanted if 2 * attempt < ATTEMPTS else MOST_GROUPS
            scene[:] = 0
            scene[N_GROUPS] = n_groups
            draw_groups(state, scene, n_groups, sprite_start, tintable)
            if place(state, scene, n_groups) and (find_held(state, scene, hashes) > 0) == compositional:
                break
            scene[N_GROUPS] = 0
        scene[MIDDLE] = -1
        if scene[N_GROUPS] == 3:
            find_middle(scene)
        draw_background(state, scene, place_start, photo_times)
        for w in range(WORDS):
            state[0] += _GOLDEN
            words[s, w] = mix(state[0])
