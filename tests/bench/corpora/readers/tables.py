"""Small tables of images and captions for the tests of readers."""

import pyarrow
import pyarrow.parquet
from PIL import Image

PIXELS = 16
WORDS = ("red", "green", "blue", "round", "square", "small", "large", "bright", "dark", "old")


def colour(i: int) -> tuple[int, int, int]:
    return i % 256, i * 7 % 256, 255 - i % 256


def captions(i: int) -> list[str]:
    return [f"a {WORDS[i % 10]} thing", f"one {WORDS[i % 7]} and {WORDS[i % 3]} thing"][: 1 + i % 2]


def paint(folder, count, broken=()):
    for i in range(count):
        Image.new("RGB", (20, 24), colour(i)).save(folder / f"{i:03d}.png")
        if i in broken:
            (folder / f"{i:03d}.png").write_bytes((folder / f"{i:03d}.png").read_bytes()[:-30])


def write(file, rows, header="path,caption,split"):
    """A CSV, TSV or Parquet file of these rows."""
    names = header.split(",")
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(
            pyarrow.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}),
            file,
        )
    else:
        delimiter = {".csv": ",", ".tsv": "\t"}[file.suffix]
        quoted = (delimiter.join(f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row) for row in rows)
        file.write_text("\n".join([delimiter.join(names), *quoted]) + "\n", encoding="utf-8", newline="")
    return file


def rows(count, split="train"):
    return [(f"{i:03d}.png", text, split) for i in range(count) for text in captions(i)]


def shown(corpus, *slice):
    """What a slice yields: ids with the colour of the image, and captions."""
    images = {image_id: tuple(image[0, 0].tolist()) for image_id, image in corpus.images(*slice)}
    return images, list(corpus.captions(*slice))
