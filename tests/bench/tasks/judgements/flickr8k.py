"""A small Flickr8k in its authors' layout, made up: coloured images, captions and judgements of test."""

from PIL import Image

PARTS = {"train": range(8), "dev": range(8, 10), "test": range(10, 16)}
TEST = list(PARTS["test"])
COLOURS = ("red", "green", "blue", "white", "grey", "brown")


def name(number: int) -> str:
    return f"{number}_made{number}.jpg"


def caption(number: int, k: int) -> str:
    return f"A {COLOURS[number % 6]} thing seen {('far', 'near', 'left', 'right', 'alone')[k]} by number {number} ."


def write(root) -> dict:
    """Writes the data set to a folder and returns the specification of its corpus."""
    (root / "Flicker8k_Dataset").mkdir(parents=True)
    for part, numbers in PARTS.items():
        (root / f"Flickr_8k.{part}Images.txt").write_text("".join(f"{name(n)}\n" for n in numbers))
        for n in numbers:
            image = Image.effect_noise((40, 40), 20 + 9 * n).convert("RGB")
            image.paste((15 * n, 255 - 15 * n, 90), (n, 2 * (n % 8), 30, 36))
            image.save(root / "Flicker8k_Dataset" / name(n))
    lines = [f"{name(n)}#{k}\t{caption(n, k)}\n" for n in range(16) for k in range(5)]
    (root / "Flickr8k.token.txt").write_text("".join(lines))
    (root / "ExpertAnnotations.txt").write_text("".join(expert()))
    (root / "CrowdFlowerAnnotations.txt").write_text("".join(crowd()))
    return {"name": "flickr8k", "root": str(root), "check_counts": False}


def expert() -> list[str]:
    """Each test image with captions of all: 36 rows, of which 6 are its own."""
    return [
        f"{name(i)}\t{name(j)}#2\t{1 + (i == j)}\t{1 + (i + j) % 3}\t{1 + (i * j) % 4}\n" for i in TEST for j in TEST
    ]


def crowd() -> list[str]:
    return [
        f"{name(i)}\t{name(j)}#0\t{(i + j) % 4 / 3}\t{(i + j) % 4}\t{3 - (i + j) % 4}\n" for i in TEST for j in TEST
    ]
