"""Decodes an image file to uint8 RGB of one size, prepared as in CLIP evaluation. Errors name the file.

Notable choices
- The shortest side is resized to `pixels` (bicubic, antialiased) and the centre cropped, in one step: an image of 8 x
  50,000 pixels costs no more than another.
- EXIF orientation is applied; unreadable EXIF is ignored. Colour profiles are not applied. Transparent images are
  composited onto white. Of an animation the first frame is used. 16-bit grey keeps its high byte.
- A truncated file is broken. Pillow could fill the rest with grey, but that would be a different image.
- Only the formats listed are tried, because Pillow hands some others to external programs. AVIF and HEIC are added for
  files that begin like one. Without the package that decodes them, reading ends with an error: the images of a
  corpus must not depend on what is installed.
"""

import functools
import importlib
import io
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.corpora import check_integer
from models.errors import AbsentError, InputError, require

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
AVIF = (b"avif", b"avis")  # brands: the codes at the start of a file that name its coding
HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
MAX_BYTES = 256 << 20  # of a file
MAX_AREA = 89_478_485  # width x height; Pillow's own limit against decompression bombs: 0.25 GB of RGB
MIN_PIXELS, MAX_PIXELS = 8, 1024  # of a decoded image
BACKGROUND = (255, 255, 255, 255)


class BrokenImage(InputError):
    """An image that cannot be decoded; the message names it and gives the reason."""


def check_pixels(pixels) -> int:
    """The side of a corpus's images, checked. Raises InputError."""
    check_integer("pixels", pixels)
    if not MIN_PIXELS <= pixels <= MAX_PIXELS:
        raise InputError(f"pixels: {pixels} is not between {MIN_PIXELS} and {MAX_PIXELS}")
    return pixels


def decode(data: bytes, name: str, pixels: int) -> np.ndarray:
    """The bytes of an image file as uint8 (pixels, pixels, 3).

    Raises BrokenImage, and AbsentError for AVIF and HEIC without the package that decodes them. The message starts
    with `name`.
    """
    if not data:
        raise BrokenImage(f"{name}: the file is empty; expected an image")
    added = _added(data, name)
    try:
        with Image.open(io.BytesIO(data), formats=added or FORMATS) as image:
            if image.width * image.height > MAX_AREA:
                raise ValueError(f"{image.width} x {image.height} pixels, expected at most {MAX_AREA:,}")
            image.load()
            return fit(rgb(_upright(image)), pixels)
    except MemoryError:  # the machine's fault, not the image's
        raise
    except UnidentifiedImageError:
        if added:
            raise BrokenImage(f"{name}: cannot be decoded (damaged {added[0]})") from None
        raise BrokenImage(f"{name}: not an image; expected one of {', '.join(FORMATS)}, AVIF, HEIC") from None
    except Exception as error:  # on damaged bytes, Pillow's decoders raise nearly every kind of error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BrokenImage(f"{name}: cannot be decoded ({reason})") from None


def _added(data: bytes, name: str) -> tuple[str, ...]:
    """Pillow's name of AVIF or HEIC if the bytes begin like one, else (). Raises AbsentError."""
    if data[4:8] != b"ftyp":
        return ()
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
    if not brands.isdisjoint(AVIF):
        if not _has_avif():
            raise AbsentError(f"{name}: AVIF is not supported by this Pillow: pip install --upgrade 'pillow>=11.3'")
        return ("AVIF",)
    if brands.isdisjoint(HEIC):
        return ()
    try:
        _register_heif()
    except AbsentError:
        raise AbsentError(f"{name}: HEIC is not supported: pip install 'lexlip-bench[heif]'") from None
    return ("HEIF",)


@functools.cache
def _has_avif() -> bool:
    try:
        return importlib.import_module("PIL.AvifImagePlugin").SUPPORTED
    except ImportError:  # Pillow before 11.3
        return False


@functools.cache
def _register_heif() -> None:
    """Makes Pillow open HEIC, as format "HEIF". Raises AbsentError."""
    require("pillow_heif", "heif", "pillow-heif").register_heif_opener()


def _upright(image: Image.Image) -> Image.Image:
    """A loaded image with its EXIF orientation applied."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, LookupError, struct.error):  # what Pillow raises on damaged EXIF
        return image


def rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB. Raises ValueError for modes whose values have no defined range."""
    if image.mode.startswith("I"):  # one channel of 16 bits, or of 32 where the format has no 16
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
    """torchvision's Resize(pixels) and CenterCrop(pixels) of an RGB image, in one step: uint8 (pixels, pixels, 3)."""
    width, height = image.size
    shortest = min(width, height)
    wide, high = pixels * width // shortest, pixels * height // shortest
    left, top = round((wide - pixels) / 2), round((high - pixels) / 2)
    box = (left * width / wide, top * height / high, (left + pixels) * width / wide, (top + pixels) * height / high)
    return np.asarray(image.resize((pixels, pixels), Image.Resampling.BICUBIC, box=box))
