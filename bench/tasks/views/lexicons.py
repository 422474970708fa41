"""Lexicon view: the lexicons of an image and a text, why they match, and which patches activated each lexicon.

    lexlip-bench views --checkpoint FOLDER --corpus scenes --image 3 --text "two red balloons" --out views.html

writes a self-contained page without scripts; `--out views.json` writes the same as JSON. `bench.tasks.views.heat`
defines heat maps.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.store import cli
from bench.tasks.subject import Subject
from bench.tasks.views.heat import HeatMap, heat_map
from bench.vectors.batches import render
from models.errors import InputError
from models.files import atomic_file


def top_lexicons(weights_V: np.ndarray, vocabulary: Sequence[str], count: int | None = None) -> list[tuple[str, float]]:
    """The `count` lexicons (None: all) of the largest positive weights, with their weights; ties by lexicon id."""
    order = [v for v in np.argsort(-weights_V, kind="stable")[:count] if weights_V[v] > 0]
    return [(vocabulary[v], float(weights_V[v])) for v in order]


def matched(
    first_V: np.ndarray, second_V: np.ndarray, vocabulary: Sequence[str]
) -> list[tuple[str, float, float, float, float]]:
    """Every lexicon that both vectors (V,) have: (lexicon, first weight, second weight, product, share of the score).

    The largest product first, ties by lexicon id. The products add up to the score, the dot product; the shares to 1.
    """
    products_V = first_V.astype(np.float64) * second_V
    order, score = np.argsort(-products_V, kind="stable"), products_V.sum()
    shared = [v for v in order if products_V[v] > 0]
    columns = (
        [vocabulary[v] for v in shared],
        *(values[shared].tolist() for values in (first_V, second_V, products_V)),
    )
    return [
        (name, float(a), float(b), product, float(product / score))
        for name, a, b, product in zip(*columns, strict=True)
    ]


def token_logits(model, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L2-normalised weights (V,) of an image, uint8 (P, P, 3), and the head's logits at each token (L, V), float32.

    model: one that gives the states of its image tokens (`image_states`).
    """
    import torch

    from models.lexicon.head import strongest
    from models.towers.transformer import as_images

    with torch.inference_mode():
        images_BHWC = as_images(image[None].copy(), model.pixels, next(model.parameters()).device)
        hidden_BLD, pooled = model.image_states(images_BHWC)
        kept_BV = strongest(pooled.weights_BV, model.config.lexlip.head.image_top_k)
        weights_BV = torch.nn.functional.normalize(kept_BV, dim=-1)
        return weights_BV[0].float().cpu().numpy(), model.image.head(hidden_BLD)[0].float().cpu().numpy()


def view(subject: Subject, image: np.ndarray, text: str, count: int) -> dict:
    """An image and a text as plain values for JSON: their `count` strongest lexicons, the match, and heat maps.

    Heat maps are of the lexicons that matched most and of the image's strongest. Raises InputError for a dense model.
    """
    subject.require_lexicons()
    model, vocabulary = subject.encoder.model, subject.encoder.vocabulary
    image_V, logits_LV = token_logits(model, image)
    text_V = subject.encoder.texts([text])[0]
    sides = {
        name: {
            "active": int((weights_V > 0).sum()),
            "lexicons": _rows(("lexicon", "weight"), top_lexicons(weights_V, vocabulary, count)),
        }
        for name, weights_V in (("image", image_V), ("text", text_V))
    }
    pairs = matched(image_V, text_V, vocabulary)
    by_product = np.argsort(-image_V.astype(np.float64) * text_V, kind="stable")[: min(count, len(pairs))].tolist()
    by_weight = [v for v in np.argsort(-image_V, kind="stable")[:count].tolist() if image_V[v] > 0]
    return sides | {
        "match": {
            "score": float(image_V.astype(np.float64) @ text_V),
            "lexicons": _rows(("lexicon", "image", "text", "product", "share"), pairs),
        },
        "heat_maps": [
            {"lexicon": vocabulary[v], "weight": float(image_V[v])}
            | _plain(heat_map(logits_LV[:, v], int(model.content_only)))
            for v in dict.fromkeys([*by_product, *by_weight])
        ],
    }


def _rows(names: tuple[str, ...], rows: list[tuple]) -> list[dict]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def _plain(heat: HeatMap) -> dict:
    """Trap for readers of the JSON: `token` counts the tokens before the patches; `patch` is [row, column] or null."""
    return {
        "token": heat.token,
        "patch": None if heat.patch is None else list(heat.patch),
        "patches": heat.patches_HW.tolist(),
        "before": heat.before.tolist(),
    }


# --- lexlip-bench views ---


def main(arguments) -> None:
    """Writes the view of one image and one text."""
    if arguments.out.suffix not in (".html", ".json"):
        raise InputError(f"--out {arguments.out}: expected a name that ends in .html or .json")
    if arguments.count < 1:
        raise InputError(f"--count {arguments.count}: expected at least 1")
    subject = Subject(arguments.checkpoint)
    image, source = _image(arguments, subject.encoder.model.pixels)
    about = source | {"text": arguments.text, "checkpoint": subject.encoder.id}
    seen = view(subject, image, arguments.text, arguments.count)
    with atomic_file(arguments.out) as partial:
        if arguments.out.suffix == ".json":
            written = json.dumps({"about": about} | seen, ensure_ascii=False, allow_nan=False)
        else:
            from bench.tasks.views.page import page

            written = page(about, seen, image)
        partial.write_text(written, encoding="utf-8")
    print(arguments.out)


def _image(arguments, pixels: int) -> tuple[np.ndarray, dict]:
    """The image of `--image` at the model's resolution, and where it is from."""
    if arguments.image.isdecimal():
        from bench.corpora import chosen_split, read_spec
        from bench.corpora.resolution import open_at

        corpus, number = open_at(read_spec(arguments.corpus), [arguments.checkpoint]), int(arguments.image)
        split = chosen_split(corpus, arguments.split)
        rendered = render(corpus, [(split, number, number + 1)], {pixels})
        about = {"image": rendered.ids[0], "corpus": corpus.name, "split": split}
        return rendered.of_size[pixels][0], about
    from bench.corpora.readers.decode import decode

    if Path(arguments.image).is_dir():
        raise InputError(f"--image {arguments.image}: a folder; expected an image file, or the number of an image")
    image = decode(Path(arguments.image).read_bytes(), arguments.image, pixels)
    return image, {"image": arguments.image, "corpus": "", "split": ""}


def parser():
    """Flags of `lexlip-bench views`."""
    flags = cli.parser("Lexicons of an image and a text, why they match, and which patches activated each lexicon.")
    flags.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder of a lexicon model")
    cli.add_corpus(flags, images=None)
    flags.add_argument("--image", required=True, help="number of an image of the split, or an image file")
    flags.add_argument("--text", required=True, help="text to match with the image")
    flags.add_argument("--count", type=int, default=12, help="lexicons of the image, of the text and of their match")
    flags.add_argument("--out", type=Path, required=True, help="page (.html) or data (.json) to write")
    return flags
