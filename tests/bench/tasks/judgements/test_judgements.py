"""`lexlip-bench judgements`: its files, scores, records and output; a real copy where there is one."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kendalltau

from bench.__main__ import main
from bench.corpora import open_corpus
from bench.store.records import RecordStore
from bench.tasks.judgements.read import CROWD, EXPERT, find, read
from bench.tasks.measure import Plan, measure_variant
from bench.tasks.retrieval.settings import RecallOptions
from bench.tasks.subject import Subject
from bench.vectors.encoder import Encoder
from models.errors import InputError
from models.pretrained.open_clip_model import open_clip
from tests.bench.tasks.judgements import flickr8k
from tests.bench.tasks.judgements.flickr8k import name

KINDS = {"lexicon": 0, "dense": 1}  # position of the checkpoint
METRICS = {"expert": "judgements_tau_c", "crowd": "judgements_tau_b"}


@pytest.fixture
def spec(tmp_path):
    return flickr8k.write(tmp_path / "flickr8k")


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command; returns exit code, output and errors."""

    def of(checkpoint, spec, *flags):
        named = ["--home", str(tmp_path / "home"), "--checkpoint", str(checkpoint), "--corpus", json.dumps(spec)]
        code = main(["judgements", *named, *flags])
        return code, *capsys.readouterr()

    return of


def values(home):
    """(kind, top_k, bits) -> metric -> value."""
    found = {}
    for _, rows in RecordStore(home).read().groupby("point_id"):
        if rows.task.iloc[0] == "judgements":
            key = [None if pd.isna(value) else value for value in rows[["top_k", "bits"]].iloc[0]]
            found[json.loads(rows.knobs.iloc[0])["judgements"], *key] = rows.set_index("metric").value
    return found


# --- the command ---


@pytest.mark.parametrize("kind", KINDS)
def test_tau_is_that_of_the_models_own_scores(kind, spec, run, checkpoints, tmp_path):
    code, out, _ = run(checkpoints[KINDS[kind]], spec, "--top-k", "4,all")
    assert code == 0
    found = values(tmp_path / "home")
    settings = [(None, None)] + ([(4, 8), (None, 8)] if kind == "lexicon" else [])
    assert set(found) == {(name, *setting) for name in METRICS for setting in settings}

    encoder = Encoder(checkpoints[KINDS[kind]])
    corpus = open_corpus(spec | {"pixels": encoder.model.pixels})
    images = {image_id: encoder.images(image[None])[0] for image_id, image in corpus.images("test")}
    texts = {caption_id: encoder.texts([text])[0] for caption_id, text, _ in corpus.captions("test")}
    for of, variant, own in ((EXPERT, "c", False), (CROWD, "b", True)):
        judged = read(of, find(corpus)[of])
        rows = [
            (images[image] @ texts[caption], grade)
            for image, caption, grades in zip(judged.images, judged.captions, judged.grades_NS, strict=True)
            for grade in grades
            if own or not caption.startswith(image)
        ]
        expected = kendalltau(*np.array(rows, np.float64).round(6).T, variant=variant).statistic
        assert found[of.name, None, None][METRICS[of.name]] == pytest.approx(expected, abs=0.01)
    assert found["expert", None, None].judgements_rows == 30 and found["expert", None, None].judgements_own == 6
    assert "expert: used 30 of 36 rows; left out: 6 with a caption of the image itself\n" in out
    assert "crowd: used 36 of 36 rows; none left out\n" in out
    assert "used flickr8k, test: 6 images, 30 queries" in out.splitlines()[-1]
    assert len(out.splitlines()) == 1 + 2 * len(settings) + 3


def test_an_open_clip_model_is_measured_the_same_way(spec, tmp_path, capsys):
    """A tiny one from a file of weights."""
    towers = {"layers": 1, "width": 16}
    vision = {"image_size": 16, "patch_size": 8, "head_width": 8, **towers}
    text = {"context_length": 16, "vocab_size": 49408, "heads": 2, **towers}
    config = tmp_path / "tiny-judged-clip.json"
    config.write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    torch.save(open_clip.create_model(config.stem).state_dict(), tmp_path / "weights.pt")
    model = ["--model", f"open_clip:{config.stem}/{tmp_path / 'weights.pt'}", "--home", str(tmp_path / "home")]
    assert main(["judgements", *model, "--corpus", json.dumps(spec)]) == 0
    assert "expert: used 30 of 36 rows" in capsys.readouterr().out
    assert set(values(tmp_path / "home")) == {("expert", None, None), ("crowd", None, None)}


def test_quantised_scores_by_hand(spec, run, checkpoints, tmp_path):
    """The image's 4 strongest lexicons as a unit vector, times the whole caption, both rounded to hundredths."""
    run(checkpoints[0], spec, "--top-k", "4")
    encoder = Encoder(checkpoints[0])
    corpus = open_corpus(spec | {"pixels": encoder.model.pixels})
    texts = {caption_id: np.rint(100 * encoder.texts([t])[0]) for caption_id, t, _ in corpus.captions("test")}
    images = {}
    for image_id, image in corpus.images("test"):
        weights = encoder.images(image[None])[0]
        weights[np.argsort(-weights, kind="stable")[4:]] = 0
        images[image_id] = np.rint(100 * weights / np.linalg.norm(weights))
    judged = read(CROWD, find(corpus)[CROWD])
    scores = [images[i] @ texts[c] for i, c in zip(judged.images, judged.captions, strict=True)]
    expected = kendalltau(scores, judged.grades_NS[:, 0], variant="b").statistic
    assert values(tmp_path / "home")["crowd", 4, 8].judgements_tau_b == pytest.approx(expected, abs=0.02)


def test_records_hold_one_outcome_per_image_and_no_name(spec, run, checkpoints, tmp_path):
    run(checkpoints[1], spec)
    store = RecordStore(tmp_path / "home")
    rows = store.read()
    for point_id, of_point in rows[rows.task == "judgements"].groupby("point_id"):
        of_images = store.queries(point_id)
        assert of_images["group"].tolist() == of_images.query_id.tolist() == [str(i) for i in range(6)]
        (value,) = of_point[of_point.metric.isin(METRICS.values())].value
        assert of_images.outcome.mean() == pytest.approx(value)
    written = rows.note.tolist() + rows.knobs.tolist()
    assert not any("made" in text for text in written)
    assert rows[rows.task == "judgements"].data_id.str.contains("-").all()


def test_a_second_run_measures_nothing_again(spec, run, checkpoints, monkeypatch):
    first = run(checkpoints[1], spec)[1]
    monkeypatch.setattr(RecordStore, "write", lambda *_, **__: pytest.fail("measured again"))
    assert run(checkpoints[1], spec)[1] == first


def test_rows_without_image_or_caption_are_counted_and_the_first_three_named(spec, run, checkpoints, tmp_path, caplog):
    root = Path(spec["root"])
    (root / "Flicker8k_Dataset" / name(10)).unlink()
    (root / "ExpertAnnotations.txt").write_text("".join([*flickr8k.expert(), f"{name(11)}\tnowhere.jpg#0\t1\t2\t3\n"]))
    code, out, _ = run(checkpoints[1], spec | {"allow_missing": True})
    assert code == 0
    # of 37 rows, 6 show the lacking image, 5 others have its caption, 5 have their own caption, 1 an unknown caption
    assert "expert: used 20 of 37 rows; left out: 5 with a caption of the image itself; " in out
    assert "6 whose image is missing; 6 whose caption is missing" in out
    lacking = f"{name(10)}, {name(10)}#2, nowhere.jpg#0"
    assert (
        f"{root / 'ExpertAnnotations.txt'}: 12 of 37 rows left out; images and captions that the split lacks: {lacking}"
        in caplog.text
    )
    found = values(tmp_path / "home")["expert", None, None]
    assert (found.judgements_rows, found.judgements_own, found.judgements_missing) == (20, 5, 12)


def test_a_caption_with_the_text_of_an_own_one_is_left_out_of_the_experts(spec, run, checkpoints):
    """As in CLIPScore's code, which compares texts."""
    tokens = Path(spec["root"]) / "Flickr8k.token.txt"
    same = tokens.read_text().replace(flickr8k.caption(11, 2), flickr8k.caption(10, 0))
    tokens.write_text(same)
    assert "expert: used 29 of 36 rows; left out: 7 with a caption" in run(checkpoints[1], spec)[1]


def test_one_file_is_enough(spec, run, checkpoints, tmp_path):
    (Path(spec["root"]) / "ExpertAnnotations.txt").unlink()
    assert run(checkpoints[1], spec)[0] == 0
    assert set(values(tmp_path / "home")) == {("crowd", None, None)}


# --- wrong input ---


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("ExpertAnnotations.txt", "a.jpg\tb.jpg#0\t1\t2", "image, caption id and three grades from 1 to 4"),
        ("ExpertAnnotations.txt", "a.jpg\tb.jpg#0\t1\t2\t5", "image, caption id and three grades from 1 to 4"),
        ("ExpertAnnotations.txt", "a.jpg\tb.jpg#0\t1\t2\tgood", "image, caption id and three grades from 1 to 4"),
        ("ExpertAnnotations.txt", "a.jpg b.jpg#0 1 2 3", "image, caption id and three grades from 1 to 4"),
        ("ExpertAnnotations.txt", "\tb.jpg#0\t1\t2\t3", "image, caption id and three grades from 1 to 4"),
        ("CrowdFlowerAnnotations.txt", "a.jpg\tb.jpg#0\t0.5\t1", "image, caption id, share of yes, and the numbers"),
        ("CrowdFlowerAnnotations.txt", "a.jpg\tb.jpg#0\t0.5\t1\t2", "image, caption id, share of yes, and the numbers"),
        ("CrowdFlowerAnnotations.txt", "a.jpg\tb.jpg#0\tnan\t1\t2", "image, caption id, share of yes, and the numbers"),
        ("CrowdFlowerAnnotations.txt", "a.jpg\tb.jpg#0\t0\t0\t0", "image, caption id, share of yes, and the numbers"),
        ("CrowdFlowerAnnotations.txt", "a.jpg\tb.jpg#0\t2\t2\t-1", "image, caption id, share of yes, and the numbers"),
    ],
)
def test_a_broken_line_ends_the_command_with_its_number(spec, run, checkpoints, file, line, expected):
    path = Path(spec["root"]) / file
    path.write_text(f"\n{path.read_text()}{line}\n")
    code, out, err = run(checkpoints[1], spec)
    assert (code, out, err.count(expected)) == (2, "", 1)
    assert f"judgements: {path}: line 38: expected {expected}" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9\n", "not UTF-8"),
        (b"\n \n", "no rows; expected image, caption id and three grades"),
        (2 * flickr8k.expert()[0].encode(), "line 2: the same image and caption as in line 1"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    file = tmp_path / "ExpertAnnotations.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read(EXPERT, file)
    assert str(file) in str(error.value)


def test_line_ends_of_windows_and_a_mark_are_read(tmp_path):
    file = tmp_path / "CrowdFlowerAnnotations.txt"
    file.write_bytes(b"\xef\xbb\xbf" + "".join(flickr8k.crowd()).replace("\n", "\r\n").encode())
    judged = read(CROWD, file)
    assert (judged.images[0], judged.captions[0], judged.grades_NS.shape) == (name(10), f"{name(10)}#0", (36, 1))
    assert judged.grades_NS[0] == pytest.approx(0)


def test_a_corpus_without_judgements_is_refused(spec, run, checkpoints):
    for kind in (EXPERT, CROWD):
        (Path(spec["root"]) / kind.file).unlink()
    code, _, err = run(checkpoints[1], spec)
    assert code == 2 and "corpus flickr8k: no graded judgements; expected flickr8k with ExpertAnnotations.txt or" in err
    code, _, err = run(checkpoints[1], {"name": "scenes", "concepts": 10})
    assert code == 2 and "corpus scenes: no graded judgements" in err


def test_judgements_of_another_split_are_refused(spec, run, checkpoints):
    code, _, err = run(checkpoints[1], spec, "--split", "val")
    assert code == 2 and "corpus flickr8k: no judged pair has its image and caption in split val" in err


# --- with all tasks of a variant ---


@pytest.mark.parametrize("images", [6, 4])
def test_a_variant_is_measured_on_all_of_test(images, spec, checkpoints, tmp_path):
    plan = Plan(images, recall=RecallOptions(top_k=(8,), timing=None, examples=0))
    measure_variant(tmp_path, Subject(checkpoints[0], "lexlip", 0, "tiny"), spec | {"pixels": 64}, plan)
    rows = RecordStore(tmp_path).read()
    judged = rows[rows.task == "judgements"]
    assert judged.point_id.nunique() == 4 and set(judged.variant) == {"lexlip"}
    assert set(judged[judged.metric == "judgements_rows"].value) == {30, 36}
    assert set(rows[rows.task == "retrieval"].images) == {images}


# --- a real copy ---


def real_copy():
    beside = Path(__file__).resolve().parents[5] / "shared" / "data" / "flickr8k"
    given = os.environ.get("LEXLIP_BENCH_FLICKR8K")
    return Path(given) if given else beside


@pytest.mark.skipif(
    not (real_copy() / EXPERT.file).is_file(),
    reason="no copy of Flickr8k with judgements; LEXLIP_BENCH_FLICKR8K names its folder",
)
def test_a_real_copy_has_the_published_counts(run, checkpoints, tmp_path):
    """16,992 grades of 5,664 pairs by experts, as CLIPScore's code has them."""
    spec = {"name": "flickr8k", "root": str(real_copy()), "pixels": 64, "check_counts": False}
    code, out, _ = run(checkpoints[1], spec)
    assert code == 0
    assert "expert: used 5,664 of 5,822 rows; left out: 158 with a caption of the image itself\n" in out
    assert "crowd: used 47,830 of 47,830 rows; none left out\n" in out
    judged = read(EXPERT, real_copy() / EXPERT.file)
    assert judged.grades_NS.shape == (5_822, 3) and len(set(judged.images)) == 1_000
    store, found = RecordStore(tmp_path / "home"), RecordStore(tmp_path / "home").read()
    for point_id in set(found[found.metric.isin(METRICS.values())].point_id):
        value = found[(found.point_id == point_id) & found.metric.isin(METRICS.values())].value.iloc[0]
        assert store.queries(point_id).outcome.mean() == pytest.approx(value) and abs(value) < 0.2
