"""Bytes of a picture file to uint8 RGB of one size, as CLIP evaluation prepares it; what cannot be decoded is refused by name.

Notable choices
- Shortest side to `pixels` (bicubic, antialiased), then the centre: in one step, so that a picture of 8 x 50,000 costs no more than another.
- EXIF orientation is applied, and EXIF that cannot be read turns nothing; colour profiles are not applied. Transparency is laid over white.
  Of an animation the first frame counts. 16-bit grey keeps its high byte.
- A truncated file is broken: Pillow could fill the rest with grey, and that would be another picture.
- Only the formats listed are tried: Pillow gives some others to programs outside of this process.
"""

import io
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from models.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MOST_BYTES = 256 << 20  # of a file
MOST_AREA = 89_478_485  # width x height; Pillow's own limit of what is no decompression bomb: 0.25 GB of RGB
LEAST_PIXELS, MOST_PIXELS = 8, 1024  # of what is given out
BACKGROUND = (255, 255, 255, 255)


class BrokenImage(InputError):
    """A picture that cannot be decoded; the message names it and says why."""


def checked_pixels(pixels) -> int:
    """The side of the pictures that a corpus gives out. Raises InputError."""
    if isinstance(pixels, bool) or not isinstance(pixels, int):
        raise InputError(f"pixels: {pixels!r} is not a whole number")
    if not LEAST_PIXELS <= pixels <= MOST_PIXELS:
        raise InputError(f"pixels: {pixels} is not between {LEAST_PIXELS} and {MOST_PIXELS}")
    return pixels


def decode(data: bytes, name: str, pixels: int) -> np.ndarray:
    """uint8 (pixels, pixels, 3) of the bytes of a picture file. Raises BrokenImage, which starts with `name`."""
    if not data:
        raise BrokenImage(f"{name}: an empty file, expected a picture")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_AREA:
                raise ValueError(f"{image.width} x {image.height} pixels, at most {MOST_AREA:,} are decoded")
            image.load()
            return fit(rgb(_upright(image)), pixels)
    except MemoryError:  # of this machine, not of this picture
        raise
    except UnidentifiedImageError:
        raise BrokenImage(f"{name}: not a picture; expected one of {', '.join(FORMATS)}") from None
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly every kind of error
        raise BrokenImage(
            f"{name}: cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"
        ) from None


def _upright(image: Image.Image) -> Image.Image:
    """A loaded image, turned as its EXIF says."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, LookupError, struct.error):  # what Pillow raises on damaged EXIF
        return image


def rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB. Raises ValueError for modes whose values have no agreed range."""
    if image.mode.startswith("I"):  # one channel of 16 bits, or of 32 where the format knows no 16
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("32-bit values beyond 16 bits, expected at most 65535")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point values, expected 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image).convert("RGB")


def fit(image: Image.Image, pixels: int) -> np.ndarray:
    """uint8 (pixels, pixels, 3): torchvision's Resize(pixels) and CenterCrop(pixels) of an RGB image, in one step."""
    width, height = image.size
    shortest = min(width, height)
    wide, high = pixels * width // shortest, pixels * height // shortest
    left, top = round((wide - pixels) / 2), round((high - pixels) / 2)
    box = (left * width / wide, top * height / high, (left + pixels) * width / wide, (top + pixels) * height / high)
    return np.asarray(image.resize((pixels, pixels), Image.Resampling.BICUBIC, box=box))
