"""Lexicon views: weights and shares by hand, winning tokens by brute force, and pages that hold hostile text."""

import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from bench.store import cli
from bench.tasks.subject import Subject
from bench.tasks.views import lexicons
from bench.tasks.views.heat import WINNER, heat_map
from bench.tasks.views.lexicons import matched, token_logits, top_lexicons, view
from bench.tasks.views.page import heat_png, page
from models.errors import InputError

HOSTILE = "<script>alert('x')</script> \"quoted\" & red"


@pytest.fixture(scope="module")
def subject(tiny_models):
    return Subject(tiny_models["lexicon"])


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)


def run(*flags) -> int:
    return cli.run(lexicons.main, lexicons.parser(), [str(flag) for flag in flags])


# --- by hand ---


def test_top_lexicons_by_hand():
    weights = np.array([0, 0.5, 0.25, 0.5], np.float32)
    assert top_lexicons(weights, list("abcd")) == [("b", 0.5), ("d", 0.5), ("c", 0.25)]
    assert top_lexicons(weights, list("abcd"), 1) == [("b", 0.5)] and top_lexicons(weights * 0, list("abcd")) == []


def test_a_match_by_hand():
    pairs = matched(np.array([0.5, 0, 0.25, 0.5]), np.array([0.5, 0.5, 0.5, 0]), list("abcd"))
    assert pairs == [("a", 0.5, 0.5, 0.25, 0.25 / 0.375), ("c", 0.25, 0.5, 0.125, 0.125 / 0.375)]
    assert matched(np.array([1.0, 0]), np.array([0, 1.0]), list("ab")) == []


WEIGHTS = arrays(np.float32, 6, elements=st.sampled_from([0.0, 1e-6, 0.125, 0.3, 1.0]))


@given(WEIGHTS, WEIGHTS)
def test_products_add_up_to_the_score(image, text):
    pairs, score = matched(image, text, list("abcdef")), float(image.astype(np.float64) @ text)
    assert sum(product for *_, product, _ in pairs) == pytest.approx(score)
    assert sum(share for *_, share in pairs) == pytest.approx(1 if pairs else 0)
    assert {name for name, *_ in pairs} == {
        name for name, a, b in zip("abcdef", image, text, strict=True) if a > 0 and b > 0
    }


def test_a_heat_map_by_hand():
    heat = heat_map(np.array([9.0, 1, 2, 5, 5]))  # [CLS] and 2 x 2 patches
    assert (
        (heat.token, heat.patch) == (0, None)
        and heat.before.tolist() == [9]
        and heat.patches_HW.tolist() == [[1, 2], [5, 5]]
    )
    heat = heat_map(np.array([9.0, 1, 2, 5, 5]), first_pooled=1)
    assert (heat.token, heat.patch) == (3, (1, 0)), "the first of equal ones"
    assert heat_map(np.arange(4.0)).patch == (1, 1), "no token before the patches"


# --- against the model ---


@pytest.mark.parametrize("head", [{}, {"tokens": "content"}, {"pooling": "sum"}, {"shared": True}], ids=str)
def test_the_winning_token_by_brute_force(make_model, image, head):
    """Against the head run on one token state at a time, and the pooled logit that determines the weight."""
    model = Subject(make_model("lexlip", **head)).encoder.model
    weights_V, logits_LV = token_logits(model, image)
    assert weights_V == pytest.approx(model.encode_image(image[None])[0].numpy(), abs=1e-6)
    with torch.inference_mode():
        hidden_BLD, pooled = model.image_states(torch.from_numpy(image[None]))
        by_token = [model.image.head(state_D).numpy() for state_D in hidden_BLD[0]]
    tokens = range(1 if head.get("tokens") == "content" else 0, len(by_token))
    for v in range(model.dimension):
        heat = heat_map(logits_LV[:, v], int(model.content_only))
        best = max(by_token[token][v] for token in tokens)
        assert heat.token in tokens and by_token[heat.token][v] == pytest.approx(best, abs=1e-5)
        assert best == pytest.approx(float(pooled.logits_BV[0, v]), abs=1e-5)
        assert heat.patch == (None if heat.token == 0 else divmod(heat.token - 1, 4))
        assert heat.patches_HW.shape == (4, 4)


def test_a_view_agrees_with_the_model(subject, image):
    text = "two red balloons over a lake"
    seen = view(subject, image, text, 5)
    image_V, text_V = subject.encoder.images(image[None])[0], subject.encoder.texts([text])[0]
    assert seen["match"]["score"] == pytest.approx(float(image_V @ text_V), abs=1e-6)
    assert sum(row["share"] for row in seen["match"]["lexicons"]) == pytest.approx(1)
    assert seen["image"]["active"] == (image_V > 0).sum() and len(seen["text"]["lexicons"]) == 5
    names = [heat["lexicon"] for heat in seen["heat_maps"]]
    assert names[:5] == [row["lexicon"] for row in seen["match"]["lexicons"][:5]] and len(set(names)) == len(names)
    assert set(names) >= {row["lexicon"] for row in seen["image"]["lexicons"]}
    for heat in seen["heat_maps"]:
        assert max(max(row) for row in heat["patches"]) >= 0 or heat["token"] == 0


def test_dense_vectors_have_no_views(tiny_models, image, tmp_path, capsys):
    dense = Subject(tiny_models["dense"])
    with pytest.raises(InputError, match="dense vectors; expected a model of lexicon vectors"):
        view(dense, image, "red", 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    flags = ["--image", tmp_path / "a.png", "--text", "red", "--out", tmp_path / "x.json"]
    assert run("--checkpoint", dense.model, *flags) == 2
    assert "dense" in (err := capsys.readouterr().err) and err.count("\n") == 1 and not (tmp_path / "x.json").exists()


# --- the page ---


def test_a_heat_map_is_red_at_high_logits_and_frames_the_winner():
    image = np.full((16, 16, 3), 128, np.uint8)
    shown = np.asarray(Image.open(io.BytesIO(heat_png(image, np.array([[-3.0, 0.0], [0.0, 4.0]]), (1, 1)))))
    assert tuple(shown[96, 96]) == WINNER == tuple(shown[191, 191]) and shown[140, 140, 0] > shown[140, 140, 1] + 50
    assert shown[40, 40].tolist() == [128] * 3 == shown[40, 140].tolist(), "a negative logit is no heat"
    plain = np.asarray(Image.open(io.BytesIO(heat_png(image, np.full((2, 2), -1.0), None))))
    assert (plain == 128).all()


def test_hostile_lexicons_and_texts_are_escaped(subject, image):
    seen = view(subject, image, HOSTILE, 4)
    for row in [*seen["image"]["lexicons"], *seen["text"]["lexicons"], *seen["match"]["lexicons"], *seen["heat_maps"]]:
        row["lexicon"] = HOSTILE
    about = {"image": HOSTILE, "corpus": HOSTILE, "split": HOSTILE, "text": HOSTILE, "checkpoint": HOSTILE}
    html = page(about, seen, image)
    assert "<script" not in html and html.count("&lt;script&gt;") >= 4 + 4 + 5
    assert not re.search(r"\bon\w+\s*=\s*[\"']", html), "no attribute of an event"


def test_a_page_is_self_contained_and_has_no_script(subject, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "a.png")
    flags = ["--checkpoint", subject.model, "--image", tmp_path / "a.png", "--text", HOSTILE, "--count", 3]
    assert run(*flags, "--out", tmp_path / "x.html") == run(*flags, "--out", tmp_path / "x.json") == 0
    html, data = (tmp_path / "x.html").read_text(), json.loads((tmp_path / "x.json").read_text())
    assert "<script" not in html and "http://" not in html and "https://" not in html
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{hashed}'" in html
    sources = re.findall(r'<img src="data:image/png;base64,([^"]+)"', html)
    assert len(sources) == html.count("<img") == 1 + len(data["heat_maps"])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(sources[0])))), image)
    assert data["about"]["text"] == HOSTILE and data["about"]["checkpoint"] == subject.encoder.id
    assert data["match"]["lexicons"] == view(subject, image, HOSTILE, 3)["match"]["lexicons"]


def test_an_image_of_a_corpus_by_its_number(subject, tmp_path):
    flags = [
        "--corpus",
        "{name: scenes, concepts: 12}",
        "--image",
        3,
        "--text",
        "a red apple",
        "--out",
        tmp_path / "x.json",
    ]
    assert run("--checkpoint", subject.model, *flags) == 0
    about = json.loads((tmp_path / "x.json").read_text())["about"]
    assert (about["image"], about["corpus"], about["split"]) == ("test-000003", "scenes", "test")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--image", "3", "--out", "x.pdf"], "x.pdf: expected a name that ends in .html or .json"),
        (["--image", "3", "--out", "x.json", "--count", "0"], "--count 0"),
        (["--image", "no.png", "--out", "x.json"], "no.png"),
        (["--image", "torn.png", "--out", "x.json"], "torn.png"),
    ],
)
def test_bad_flags_are_one_line(subject, tmp_path, monkeypatch, capsys, flags, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("--checkpoint", subject.model, "--text", "red", *flags) == 2
    assert says in (err := capsys.readouterr().err) and err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["torn.png"]
