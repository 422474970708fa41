"""Renders scenes: a crop of a photograph, coloured by the time of day, with sprites blended onto it.

Integer arithmetic only, so the bytes are the same on every machine.
"""

import numpy as np
from numba import njit

from bench.corpora.scenes.columns import (
    COLOUR,
    COLOURS,
    COUNT,
    CROP_X,
    CROP_Y,
    FLIP,
    GROUP_WIDTH,
    GROUPS,
    ITEMS,
    N_GROUPS,
    PHOTO,
    SIDE,
    SIZE,
    SIZE_UNITS,
    SPRITE,
    TIME,
    TIMES,
    ZOOM,
)

PAINTS = {
    "red": (214, 30, 36),
    "orange": (245, 130, 15),
    "yellow": (250, 220, 40),
    "green": (40, 160, 55),
    "blue": (35, 85, 220),
    "purple": (125, 50, 180),
    "pink": (250, 135, 190),
    "white": (236, 236, 238),
}
# time of day -> (gain of red, green, blue in 1/256; colour to fade to; amount of the fade in 1/256); milder for sprites
PHOTO_LIGHT = {
    "day": ((256, 256, 256), (0, 0, 0), 0),
    "sunset": ((262, 220, 186), (255, 120, 60), 30),
    "night": ((146, 162, 206), (12, 20, 60), 36),
    "haze": ((256, 256, 256), (206, 210, 214), 118),
}
SPRITE_LIGHT = {
    "day": ((256, 256, 256), (0, 0, 0), 0),
    "sunset": ((256, 242, 226), (255, 120, 60), 12),
    "night": ((222, 226, 242), (12, 20, 60), 10),
    "haze": ((256, 256, 256), (206, 210, 214), 42),
}
ZOOMS = (8, 11)  # height of the photograph in eighths of the image's side


def light_table(lights: dict) -> np.ndarray:
    """The light of each time of day as lookup tables: uint8 (times, 3, 256)."""
    table = np.empty((len(TIMES), 3, 256), np.uint8)
    value = np.arange(256)
    for t, time in enumerate(TIMES):
        gains, fade_to, fade = lights[time]
        for c in range(3):
            lit = np.minimum(value * gains[c] >> 8, 255)
            table[t, c] = lit + ((fade_to[c] - lit) * fade >> 8)
    return table


def paint_table() -> np.ndarray:
    """Each colour at each luminance, itself at 128, darker below, towards white above: uint8 (colours, 3, 256)."""
    table = np.empty((len(COLOURS), 3, 256), np.uint8)
    value = np.arange(256)
    for k, colour in enumerate(COLOURS):
        for c, paint in enumerate(PAINTS[colour]):
            dark = paint * (52 + np.minimum(value, 128) * 76 // 128) // 128
            table[k, c] = dark + (255 - paint) * np.maximum(value - 128, 0) * 5 // (8 * 127)
    return table


@njit(cache=True)
def resize(image, height, width):
    """Resizes uint8 (h, w, C) to (height, width, C): exact area average if smaller, bilinear if larger.

    A fourth channel is alpha and weighs the others.
    """
    h, w, channels = image.shape
    out = np.zeros((height, width, channels), np.uint8)
    first_y, weights_y = taps(h, height)
    first_x, weights_x = taps(w, width)
    total = np.zeros(channels, np.int64)
    for y in range(height):
        for x in range(width):
            total[:] = 0
            weight_sum = np.int64(0)
            for j in range(weights_y.shape[1]):
                sy = min(first_y[y] + j, h - 1)
                for i in range(weights_x.shape[1]):
                    weight = weights_y[y, j] * weights_x[x, i]
                    if weight == 0:
                        continue
                    sx = min(first_x[x] + i, w - 1)
                    weight_sum += weight
                    alpha = np.int64(image[sy, sx, 3]) if channels == 4 else np.int64(1)
                    for c in range(min(channels, 3)):
                        total[c] += weight * alpha * image[sy, sx, c]
                    if channels == 4:
                        total[3] += weight * alpha
            opaque = total[3] if channels == 4 else weight_sum
            if opaque > 0:
                for c in range(min(channels, 3)):
                    out[y, x, c] = (total[c] + opaque // 2) // opaque
                if channels == 4:
                    out[y, x, 3] = (total[3] + weight_sum // 2) // weight_sum
    return out


@njit(cache=True)
def taps(old, new):
    """First source index (new,) and integer weights (new, taps) of a resampling from `old` to `new` samples."""
    first = np.zeros(new, np.int64)
    if new <= old:
        n = old // new + 2
        weights = np.zeros((new, n), np.int64)
        for k in range(new):  # sample k covers [k * old, (k + 1) * old) in units of 1 / new
            first[k] = k * old // new
            for j in range(n):
                start = max((first[k] + j) * new, k * old)
                stop = min((first[k] + j + 1) * new, (k + 1) * old)
                weights[k, j] = max(stop - start, 0)
        return first, weights
    weights = np.zeros((new, 2), np.int64)
    for k in range(new):
        position = min(max((2 * k + 1) * old - new, 0), 2 * new * (old - 1))  # source position in units of 1 / (2 new)
        first[k] = position // (2 * new)
        weights[k, 1] = position - first[k] * 2 * new
        weights[k, 0] = 2 * new - weights[k, 1]
    return first, weights


def sprite_at(pixels: np.ndarray, side: int) -> np.ndarray:
    """The sprite centred in a square, uint8 (side, side, 5): RGBA, and the luminance around 120 for recolouring."""
    h, w, _ = pixels.shape
    longest = max(h, w)
    square = np.zeros((longest, longest, 4), np.uint8)
    square[(longest - h) // 2 : (longest - h) // 2 + h, (longest - w) // 2 : (longest - w) // 2 + w] = pixels
    small = resize(square, side, side).astype(np.int64)
    luminance = (77 * small[..., 0] + 150 * small[..., 1] + 29 * small[..., 2]) >> 8
    mean = int((luminance * small[..., 3]).sum() // max(int(small[..., 3].sum()), 1))
    grey = np.clip(120 + (luminance - mean) * 3 // 4, 0, 255)
    return np.concatenate([small, grey[..., None]], axis=-1).astype(np.uint8)


@njit(cache=True)
def blend(under, over, alpha):
    """Alpha blending of two bytes, rounded as division by 255 would be."""
    x = under * (255 - alpha) + over * alpha + 128
    return (x + (x >> 8)) >> 8


@njit(cache=True)
def paste(image, sprite, x0, y0, paint, painted, light):
    """Blends a sprite onto the image at (x0, y0), recoloured by `paint` if `painted`."""
    for y in range(sprite.shape[0]):
        for x in range(sprite.shape[1]):
            alpha = np.int64(sprite[y, x, 3])
            if alpha == 0:
                continue
            for c in range(3):
                value = paint[c, sprite[y, x, 4]] if painted else sprite[y, x, c]
                image[y0 + y, x0 + x, c] = blend(np.int64(image[y0 + y, x0 + x, c]), np.int64(light[c, value]), alpha)


@njit(cache=True)
def background(image, photo, scene, light):
    """Fills the image with the crop of the photograph."""
    side = image.shape[0]
    x0 = scene[CROP_X] * (photo.shape[1] - side + 1) >> 16
    slack = photo.shape[0] - side
    lower = slack - slack // 2  # only the lower half of the possible crops: the upper half is mostly sky
    y0 = lower + (scene[CROP_Y] * (slack // 2 + 1) >> 16)
    for y in range(side):
        for x in range(side):
            source = x0 + (side - 1 - x if scene[FLIP] else x)
            for c in range(3):
                image[y, x, c] = light[c, photo[y0 + y, source, c]]


@njit(cache=True, nogil=True)
def render(scenes, near, far, own_light, small, normal, big, photo_light, sprite_light, paints, images):
    """Renders `scenes` (n, WIDTH) into `images`, uint8 (n, side, side, 3).

    near, far: photographs at the two zooms. own_light: whether each photograph already shows its time of day. small,
    normal, big: sprites (n, s, s, 5) of each size; the fifth channel is the grey to recolour.
    """
    side = images.shape[1]
    for s in range(len(scenes)):
        scene = scenes[s]
        time = scene[TIME]
        light = photo_light[0] if own_light[scene[PHOTO]] else photo_light[time]
        if scene[ZOOM] == 0:
            background(images[s], near[scene[PHOTO]], scene, light)
        else:
            background(images[s], far[scene[PHOTO]], scene, light)
        for g in range(scene[N_GROUPS]):
            group = scene[GROUPS + g * GROUP_WIDTH : GROUPS + (g + 1) * GROUP_WIDTH]
            paint = paints[max(group[COLOUR], 0)]
            for k in range(group[COUNT]):
                x, y = group[ITEMS + 2 * k] * side // SIDE, group[ITEMS + 2 * k + 1] * side // SIDE
                if group[SIZE] == 0:
                    paste(images[s], small[group[SPRITE]], x, y, paint, group[COLOUR] >= 0, sprite_light[time])
                elif group[SIZE] == 1:
                    paste(images[s], normal[group[SPRITE]], x, y, paint, group[COLOUR] >= 0, sprite_light[time])
                else:
                    paste(images[s], big[group[SPRITE]], x, y, paint, group[COLOUR] >= 0, sprite_light[time])


class Atlas:
    """The sprites and photographs of a pack, at the sizes that images of `pixels` x `pixels` need."""

    def __init__(self, sprites: list[np.ndarray], photos: list[np.ndarray], own_light: list[bool], pixels: int):
        sides = [units * pixels // SIDE for units in SIZE_UNITS]
        self.sprites = [np.stack([sprite_at(sprite, side) for sprite in sprites]) for side in sides]
        heights = [zoom * pixels // ZOOMS[0] for zoom in ZOOMS]
        self.photos = [np.stack([resize(photo, height, 2 * height) for photo in photos]) for height in heights]
        self.own_light = np.array(own_light)
        self.pixels = pixels
        self.tables = light_table(PHOTO_LIGHT), light_table(SPRITE_LIGHT), paint_table()

    def render(self, scenes: np.ndarray) -> np.ndarray:
        """Rows of `layout.draw` as images, uint8 (n, pixels, pixels, 3)."""
        images = np.empty((len(scenes), self.pixels, self.pixels, 3), np.uint8)
        render(scenes, *self.photos, self.own_light, *self.sprites, *self.tables, images)
        return images
