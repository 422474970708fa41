"""Columns, codes and units of a scene row, which `layout` draws and everything else reads.

A scene is one row of `WIDTH` int32. Lengths and positions are in 1/64 of the image's side, so a scene is the same at
every resolution.

Trap: numba's cache of the kernels in `layout`, `render` and `claims` does not notice a change in this file. Touch
those files too.
"""

SPLITS = ("train", "val", "test", "compositional", "distractors")
TIMES = ("day", "sunset", "night", "haze")
SIZES = ("small", "normal", "big")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
SIDE = 64  # units of the image's side
SIZE_UNITS = (16, 22, 30)  # side of a sprite of each size
MAX_GROUPS, MAX_COPIES = 3, 4

# columns of a scene
N_GROUPS, PHOTO, TIME, ZOOM, CROP_X, CROP_Y, FLIP = range(7)
FOCUS, FOCUS_A, FOCUS_B, MIDDLE, MIDDLE_AXIS, PAIRS = range(7, 13)
GROUPS = PAIRS + 3  # PAIRS holds one column for each pair of groups

# columns of a group, from GROUPS + g * GROUP_WIDTH; BOX is x0, y0, x1, y1; ITEMS is x, y of each copy
CONCEPT, SPRITE, COUNT, SIZE, COLOUR, BOX, ITEMS = 0, 1, 2, 3, 4, 5, 9
GROUP_WIDTH = ITEMS + 2 * MAX_COPIES
WIDTH = GROUPS + MAX_GROUPS * GROUP_WIDTH
WORDS = 6  # random words per scene: one for each of five captions, and one for the hard negative

# bits of a pair of groups (a, b), a < b, at PAIRS + a + b - 1
A_LEFT, B_LEFT, A_ABOVE, B_ABOVE, BESIDE = 1, 2, 4, 8, 16

# FOCUS: the held-out combination that the captions of a compositional scene must mention
NO_FOCUS, BY_COLOUR, BY_SIZE, BY_COUNT, BY_LEFT, BY_ABOVE = range(6)
