"""Images of every format, decoded."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from bench.corpora.readers.decode import decode
from tests.fuzz.targets.target import PIXELS, Target


def image(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(values, "RGBA").convert(mode)


def encoded(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


class DecodedImage(Target):
    about = "pictures, decoded"
    samples: Callable[[], list[bytes]]

    def build(self, folder):
        return type(self).samples()

    def read(self, folder):
        found = decode((folder / self.file).read_bytes(), self.file, PIXELS)
        if found.shape != (PIXELS, PIXELS, 3) or found.dtype != np.uint8:
            raise AssertionError(f"{found.dtype} {found.shape}")
        return found.tobytes()


def _exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def _frames(mode: str) -> dict:
    return {"save_all": True, "append_images": [image(5, mode), image(6, mode)]}


def _deep() -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 1 << 16, (7, 9), np.uint16))


def _pngs() -> list[bytes]:
    return [
        *(encoded(image(mode=mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "1")),
        encoded(_deep(), "PNG"),
        encoded(image(2).quantize(8), "PNG", transparency=3),
        encoded(image(), "PNG", exif=_exif(6), dpi=(72, 72)),
        encoded(image(), "PNG", **_frames("RGB")),
    ]


def _jpegs() -> list[bytes]:
    made = [encoded(image(mode=mode), "JPEG") for mode in ("RGB", "L", "CMYK", "YCbCr")]
    made += [encoded(image(), "JPEG", exif=_exif(orientation)) for orientation in (3, 6, 8)]
    return [
        *made,
        encoded(image(), "JPEG", progressive=True, subsampling=0),
        encoded(image(), "JPEG", restart_marker_blocks=1),
    ]


def _tiffs() -> list[bytes]:
    packed = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
    made = [encoded(image(), "TIFF", compression=name) for name in packed]
    made += [encoded(image(mode=mode), "TIFF") for mode in ("1", "L", "P", "RGBA", "CMYK", "LAB")]
    made += [
        encoded(_deep(), "TIFF"),
        encoded(image(), "TIFF", compression="jpeg"),
        encoded(image(), "TIFF", exif=_exif(5)),
    ]
    return [*made, encoded(image(), "TIFF", **_frames("RGB"))]


def _webps() -> list[bytes]:
    return [
        *(encoded(image(), "WEBP", lossless=lossless) for lossless in (False, True)),
        encoded(image(mode="RGBA"), "WEBP", exif=_exif(6)),
        encoded(image(), "WEBP", **_frames("RGB")),
    ]


def _gifs() -> list[bytes]:
    palette = image(2).quantize(8)
    plain, animated = encoded(image(), "GIF"), encoded(image(), "GIF", **_frames("RGB"))
    return [plain, animated, encoded(palette, "GIF", transparency=1)]


def _bmps() -> list[bytes]:
    return [encoded(image(mode=mode), "BMP") for mode in ("RGB", "RGBA", "P", "1", "L")]


def _ppms() -> list[bytes]:
    plain_text = b"P3 # plain\n2 2 255\n1 2 3 4 5 6 7 8 9 10 11 12\n"
    return [*(encoded(image(mode=mode), "PPM") for mode in ("RGB", "L", "1")), encoded(_deep(), "PPM"), plain_text]


FORMATS = {
    "png": _pngs,
    "jpeg": _jpegs,
    "tiff": _tiffs,
    "webp": _webps,
    "gif": _gifs,
    "bmp": _bmps,
    "ppm": _ppms,
}


def _of(form: str, samples: Callable[[], list[bytes]]) -> type[Target]:
    fields = {"name": f"picture-{form}", "file": f"picture.{form}", "about": f"pictures, {form.upper()}"}
    return type(f"Of{form}", (DecodedImage,), fields | {"samples": staticmethod(samples)})


CLASSES = [_of(form, samples) for form, samples in FORMATS.items()]
