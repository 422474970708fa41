"""A dual encoder that is known: a vector is the sum of the vectors of its words, images in another cone than texts."""

import csv
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main

WORDS = [
    *("apple", "bicycle", "camera", "dolphin", "elephant", "flamingo", "guitar", "helicopter", "island", "jacket"),
    *("kettle", "lemon", "mountain", "notebook", "orange", "piano", "queen", "river", "spoon", "tiger"),
    *("umbrella", "violin", "window", "yacht", "zebra", "bread", "candle", "door", "engine", "forest"),
]
SHORT = ("steps=60", "batch=32", "image_top_k=6", "text_top_k=6", "lr=5e-3")
"""Overrides of a training that takes a second."""
DIMENSION, IMAGES, CAPTIONS = 24, 160, 2


def write(folder: Path, images: int = IMAGES, seed: int = 0, texts_alone: int = 0) -> dict[str, Path]:
    """Files `images.npy`, `texts.npy` and `captions.csv`; a fifth of the images is held out."""
    random = np.random.default_rng(seed)
    word_VD = random.standard_normal((len(WORDS), DIMENSION)).astype(np.float32)
    cone_2D = 2 * random.standard_normal((2, DIMENSION)).astype(np.float32)
    image_ND, text_MD, rows = [], [], []
    for image in range(images + texts_alone):
        chosen = random.choice(len(WORDS), 4, replace=False)
        alone = image >= images
        if not alone:
            image_ND.append(word_VD[chosen].sum(axis=0) + cone_2D[0] + 0.3 * random.standard_normal(DIMENSION))
        for caption in range(1 if alone else CAPTIONS):
            said = chosen[caption : caption + 3]
            text_MD.append(word_VD[said].sum(axis=0) + cone_2D[1] + 0.3 * random.standard_normal(DIMENSION))
            split = "test" if image % 5 == 0 and not alone else "train"
            name = "" if alone else f"photos/{image}.jpg"
            rows.append((name, "a " + " and a ".join(WORDS[word] for word in said), split))
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / name for name in ("images.npy", "texts.npy", "captions.csv")}
    np.save(files["images.npy"], np.array(image_ND, np.float32))
    np.save(files["texts.npy"], np.array(text_MD, np.float16))
    with files["captions.csv"].open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("path", "caption", "split"), *rows])
    return files


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> dict[str, Path]:
    """The files of the known dual encoder."""
    return write(tmp_path_factory.mktemp("dense"))


def flags(files: dict[str, Path], out: Path, *more: str) -> list[str]:
    """The flags of a short run."""
    dense = ["--dense-images", str(files["images.npy"]), "--dense-texts", str(files["texts.npy"])]
    return [*dense, "--captions", str(files["captions.csv"]), "--out", str(out), *more]


@pytest.fixture(scope="session")
def finished(made, tmp_path_factory) -> Path:
    """The folder of a finished run; tests only read it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(["sparsify", *flags(made, out, *SHORT)]) == 0
    return out
