"""Every format decodes to what torchvision would crop from it, or is refused by name."""

import io
import struct
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

from bench.corpora.readers import decode as decoding
from bench.corpora.readers.decode import MAX_AREA, BrokenImage, check_pixels, decode
from models.errors import AbsentError, InputError
from models.towers import torchvision_ops

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
# EXIF orientation -> how an upright image is stored
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def file(image, kind="PNG", **options):
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **options)
    return stream.getvalue()


def png_header(width, height):
    """A PNG with a size and no data."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(37, 53), (200, 64), (16, 16), (5, 9), (33, 300), (97, 98), (640, 427)])
def test_equals_resize_and_crop_of_torchvision(size):
    torchvision_ops.make_importable()
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    expected = Compose([Resize(16, InterpolationMode.BICUBIC), CenterCrop(16)])(Image.fromarray(noise(*size)))
    difference = np.abs(decode(file(noise(*size)), "x", 16).astype(int) - np.asarray(expected).astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_an_image_of_the_right_size_is_unchanged():
    np.testing.assert_array_equal(decode(file(noise(24, 24)), "x", 24), noise(24, 24))


def test_a_thin_image_is_cropped_to_its_centre():
    strip = np.zeros((8, 50_000, 3), np.uint8)
    strip[:, 25_000:] = 200
    image = decode(file(strip), "x", 64)
    assert image.shape == (64, 64, 3) and image[:, :16].max() == 0 and image[:, -16:].min() == 200


@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](noise(16, 16))))
    np.testing.assert_array_equal(decode(file(stored, exif=exif), "x", 16), noise(16, 16))


def test_orientation_turns_before_the_crop():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.zeros((48, 16, 3), np.uint8)
    upright[16:32] = BLUE
    image = decode(file(np.ascontiguousarray(np.rot90(upright)), "JPEG", exif=exif, quality=95), "x", 16)
    assert np.abs(image[4:12].astype(int) - BLUE).max() < 16


def test_unreadable_exif_is_ignored():
    np.testing.assert_array_equal(decode(file(noise(16, 16), exif=b"Exif\0\0rubbish"), "x", 16), noise(16, 16))


def test_cmyk():
    image = decode(file(Image.new("CMYK", (20, 20), (255, 0, 0, 0)), "JPEG"), "x", 16)
    assert np.abs(image.astype(int) - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_keeps_its_high_byte(kind):
    values = np.random.default_rng(0).integers(0, 1 << 16, (16, 16), dtype=np.uint16)
    np.testing.assert_array_equal(decode(file(values, kind), "x", 16), np.repeat(values[..., None] >> 8, 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16"])
def test_black_is_black_in_every_mode(mode):
    black = (
        Image.new("CMYK", (9, 9), (0, 0, 0, 255))
        if mode == "CMYK"
        else Image.new("RGB", (9, 9)).convert(mode.partition(";")[0])
    )
    assert decode(file(black.convert("I;16") if mode == "I;16" else black, "TIFF"), "x", 8).max() == 0


def test_transparent_images_are_composited_onto_white():
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([*BLUE, *RED])
    palette.paste(0, (0, 0, 16, 8))
    halves = decode(file(palette, transparency=0), "x", 16)
    assert (halves[:8] == WHITE).all() and (halves[8:] == RED).all(), "the transparent blue does not show"
    assert (decode(file(Image.new("RGBA", (8, 8), (255, 0, 0, 0))), "x", 8) == WHITE).all()
    assert (decode(file(Image.new("LA", (8, 8), (0, 0))), "x", 8) == WHITE).all()
    assert (decode(file(Image.new("RGB", (8, 8), BLUE), transparency=BLUE), "x", 8) == WHITE).all()
    np.testing.assert_allclose(decode(file(Image.new("RGBA", (8, 8), (0, 0, 0, 128))), "x", 8), 127, atol=1)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    image = decode(
        file(
            frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
        ),
        "x",
        16,
    )
    assert (image == RED).all()


BROKEN = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>404</html>", "not an image"),
    "a cut JPEG": (file(noise(64, 64), "JPEG")[:-700], "cannot be decoded"),
    "a cut PNG": (file(noise(64, 64))[:-700], "cannot be decoded"),
    "a program for another interpreter": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "not an image"),
    "a bomb": (png_header(MAX_AREA, 2), "pixels"),
    "a large bomb": (png_header(300_000, 300_000), "pixels"),
    "float": (file(np.ones((9, 9), np.float32), "TIFF"), "floating-point"),
    "32 bits": (file(np.full((9, 9), 1 << 20, np.int32), "TIFF"), "32-bit"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_by_name(case):
    data, why = BROKEN[case]
    with pytest.raises(BrokenImage, match=f"^some/where.jpg: .*{why}") as error:
        decode(data, "some/where.jpg", 16)
    assert "\n" not in str(error.value) and "0x" not in str(error.value)


# --- AVIF and HEIC ---

HEADER = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")
def test_avif_is_decoded_by_pillow():
    image = decode(file(Image.new("RGB", (40, 30), RED), "AVIF", quality=100), "x.avif", 16)
    assert np.abs(image.astype(int) - RED).max() <= 4
    with pytest.raises(BrokenImage, match="^x.avif: cannot be decoded"):
        decode(file(noise(64, 64), "AVIF")[:200], "x.avif", 16)


def test_avif_without_its_decoder_says_what_to_install(monkeypatch):
    monkeypatch.setattr(decoding, "_has_avif", lambda: False)
    with pytest.raises(AbsentError, match=r"^x.avif: AVIF is not supported by this Pillow: .*pillow>=11.3"):
        decode(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "x.avif", 16)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevc"])
def test_heic_without_its_package_says_what_to_install(brand, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    decoding._register_heif.cache_clear()
    with pytest.raises(AbsentError, match=r"^x.heic: HEIC is not supported: pip install 'lexlip-bench\[heif\]'$"):
        decode(HEADER.replace(b"ftypheic", b"ftyp" + brand), "x.heic", 16)


def test_heic_is_decoded_by_the_opener_that_the_package_registers(monkeypatch):
    class Opened(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode = (24, 24), "RGB"
            self.tile = []
            self.im = Image.new("RGB", (24, 24), BLUE).im

    def register():
        calls.append(1)
        Image.register_open("HEIF", Opened, lambda prefix: prefix[4:12] == b"ftypheic")

    calls = []
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    decoding._register_heif.cache_clear()
    for _ in range(2):
        assert (decode(HEADER, "x.heic", 16) == BLUE).all()
    decoding._register_heif.cache_clear()
    assert calls == [1], "registered once, and not before the first HEIC"


def test_heic_is_decoded_by_pillow_heif():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    image = decode(file(Image.new("RGB", (64, 64), RED), "HEIF", quality=100), "x.heic", 16)
    assert np.abs(image.astype(int) - RED).max() <= 8


@settings(max_examples=80)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_an_image_or_a_named_error(kind, damage):
    data = bytearray(file(noise(12, 20), kind))
    for where, value in damage:
        data[int(where * (len(data) - 1))] = value
    try:
        assert decode(bytes(data), "x", 8).shape == (8, 8, 3)
    except BrokenImage as error:
        assert str(error).startswith("x: ")


@pytest.mark.parametrize("pixels", [0, -5, 7, 1025, "64", 64.0, True, None])
def test_pixels_out_of_range_are_refused(pixels):
    with pytest.raises(InputError, match="pixels"):
        check_pixels(pixels)
