"""Zero-shot classification: similarities and classes by hand, scenes against their own facts, a user's folders."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from PIL import Image

from bench.corpora.scenes.facts import Group, Scene
from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks.classification import zero_shot
from bench.tasks.classification.labelled import FactsOf, ImageFolder
from bench.tasks.classification.zero_shot import (
    Prompts,
    ZeroShotOptions,
    accuracy,
    class_vectors,
    measure_zero_shot,
    own_ranks,
)
from bench.tasks.subject import Subject
from bench.vectors.encode import encode
from bench.vectors.encoder import Encoder
from models.errors import InputError

KINDS = ("lexicon", "dense")
ALL = ZeroShotOptions(images=None, prompts=Prompts(folder=("{}",)))
IMAGES = 6


def as_given(kind, values):
    values = np.array(values, np.float32)
    return sp.csr_array(values) if kind == "lexicon" else values


# --- by hand ---


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_by_hand_with_ties_against_the_own_class(kind):
    classes = as_given(kind, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]])
    pictures = as_given(kind, [[3, 2, 1], [3, 2, 1], [3, 2, 1], [0, 0, 0]])
    # scores 3, 2, 1, 2: class 0 is first, class 1 ties with class 3, class 2 is last; a zero vector never wins
    assert own_ranks(pictures, classes, np.array([0, 1, 2, 0])).tolist() == [1, 3, 4, 4]


def test_accuracy_by_hand():
    ranks, labels = np.array([1, 2, 1, 7]), np.array([0, 0, 1, 2])
    assert accuracy(ranks, labels, 7) == pytest.approx(
        {
            "zero_shot_top1": 2 / 4,
            "zero_shot_top5": 3 / 4,
            "zero_shot_per_class": (1 / 2 + 1 + 0) / 3,
            "zero_shot_classes": 7,
            "zero_shot_images": 4,
            "zero_shot_chance": 1 / 7,
            "zero_shot_most_frequent": 2 / 4,
        }
    )
    assert "zero_shot_top5" not in accuracy(np.array([1, 5]), np.array([0, 4]), 5), (
        "of five classes all are in the top 5"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_is_the_normalised_mean_of_its_prompts(kind):
    vectors = {
        "a cat": [1, 0, 0],
        "cat": [0, 1, 0],
        "a {0}": [0, 0.6, 0.8],
        "{0}": [0, 0.6, 0.8],
        "a dog": [0, 0, 0],
        "dog": [0, 0, 0],
    }
    encoder = SimpleNamespace(
        kind=kind, source="model", texts=lambda texts: np.array([vectors[text] for text in texts], np.float32)
    )
    made = class_vectors(encoder, ["cat", "{0}", "dog"], ("a {}", "{}"))
    assert sp.issparse(made) == (kind == "lexicon")
    made = made.toarray() if sp.issparse(made) else made
    assert made == pytest.approx(np.array([[0.5**0.5, 0.5**0.5, 0], [0, 0.6, 0.8], [0, 0, 0]]), abs=1e-6)


def test_vectors_that_are_not_finite_are_refused():
    encoder = SimpleNamespace(
        kind="dense", source="some/model", texts=lambda texts: np.full((len(texts), 3), np.nan, np.float32)
    )
    with pytest.raises(InputError, match="some/model.*not finite"):
        class_vectors(encoder, ["cat"], ("{}",))


# --- prompts ---


def test_user_prompts_override_the_defaults(tmp_path):
    (tmp_path / "own.yaml").write_text("place: ['over {}']\n")
    read = Prompts.read(tmp_path / "own.yaml")
    assert read.place == ("over {}",) and read.concept == Prompts.read().concept != ("{}",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("place: ['a lake']", r"place: .*'a lake'.*one \{\}"),
        ("place: []", "place"),
        ("plaice: ['{}']", "plaice.*nearest: place"),
        ("place: 3", "place"),
    ],
)
def test_unusable_prompts_are_refused(tmp_path, text, says):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=f"own.yaml.*{says}"):
        Prompts.read(tmp_path / "own.yaml")


# --- scenes ---


def test_labels_of_scenes_are_their_facts(scenes):
    tasks = {task.kind: task for task in FactsOf(scenes).labelled("test", 20)}
    assert set(tasks) == {"concept", "place", "time", "colour"}
    facts = [scenes.facts("test", i) for i in range(1 + max(task.numbers[-1] for task in tasks.values()))]
    alone = [i for i, scene in enumerate(facts) if len(scene.groups) == 1]
    expected = {
        "concept": [(i, facts[i].groups[0].concept) for i in alone],
        "colour": [(i, facts[i].groups[0].colour) for i in alone if facts[i].groups[0].colour],
        "place": [(i, scene.place) for i, scene in enumerate(facts)],
        "time": [(i, scene.time) for i, scene in enumerate(facts)],
    }
    for kind, task in tasks.items():
        assert [(i, task.classes[label]) for i, label in zip(task.numbers, task.labels, strict=True)] == expected[kind][
            :20
        ], kind
        assert task.ids == [scenes.image_id("test", i) for i in task.numbers]
        assert len(set(task.classes)) == len(task.classes)


def test_a_kind_without_scenes_is_left_out_with_a_warning(caplog):
    plain = Scene((Group("apple", 1, None, None, "noto", ()),), (), None, "lake", "night")
    corpus = SimpleNamespace(
        name="plain",
        fingerprint="",
        concepts=["apple"],
        pack=SimpleNamespace(places=("lake",)),
        facts=lambda split, i: plain,
        image_id=lambda s, i: f"{i}",
    )
    with caplog.at_level(logging.WARNING):
        assert [task.kind for task in FactsOf(corpus).labelled("test", 3)] == ["concept", "place", "time"]
    assert "colour" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_points_agree_with_numpy_over_the_models_vectors(kind, tiny_models, scenes, tmp_path, monkeypatch):
    store, subject = RecordStore(tmp_path), Subject(tiny_models[kind], "v", 1, "p")
    encoder, options = subject.encoder, ZeroShotOptions(IMAGES)
    ids = measure_zero_shot(tmp_path, subject, scenes, options=options)
    rows = store.read()
    assert rows.point_id.nunique() == len(ids) == 4
    assert set(rows.task) == {"zero_shot"} and set(rows.kind) == {kind} and set(rows.checkpoint_id) == {encoder.id}
    assert set(zip(rows.variant, rows.seed, rows.profile, rows.images, strict=True)) == {("v", 1, "p", IMAGES)}
    for task, point_id in zip(FactsOf(scenes).labelled("test", IMAGES), ids, strict=True):
        mine = rows[rows.point_id == point_id].set_index("metric")
        assert mine.knobs.iloc[0] == f'{{"classes":"{task.kind}"}}'
        pictures = np.concatenate([scenes.render("test", i, i + 1) for i in task.numbers])
        templates = getattr(Prompts.read(), task.kind)
        classes = []
        for name in task.classes:
            vectors = encoder.model.encode_text([template.replace("{}", name) for template in templates]).numpy()
            classes.append(vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0)))
        scores = encoder.model.encode_image(pictures).numpy() @ np.stack(classes).T
        best = scores.argmax(axis=1) == task.labels
        assert mine.value["zero_shot_top1"] == pytest.approx(best.mean())
        assert ("zero_shot_top5" in mine.index) == (len(task.classes) > 5)
        assert mine.value["zero_shot_chance"] == 1 / len(task.classes) and mine.value["zero_shot_broken"] == 0
        queries = store.queries(point_id)
        assert [ranks[0] == 1 for ranks in queries.ranks] == best.tolist()
        assert (
            queries.group.tolist() == task.ids
            and queries.query_id[0] == f"{task.ids[0]}/{task.classes[task.labels[0]]}"
        )

    monkeypatch.setattr(Encoder, "images", lambda *_: pytest.fail("measured again"))
    assert measure_zero_shot(tmp_path, subject, scenes, options=options) == ids


@pytest.mark.parametrize("kind", KINDS)
def test_known_vectors_are_not_encoded_again(kind, tiny_models, scenes, tmp_path, monkeypatch):
    subject, homes = Subject(tiny_models[kind]), [tmp_path / name for name in ("without", "with")]
    known = encode(tmp_path, subject.encoder, scenes, "test", IMAGES).images
    made, images = [], Encoder.images
    monkeypatch.setattr(Encoder, "images", lambda self, batch: made.append(len(batch)) or images(self, batch))
    counts = []
    for home, vectors in zip(homes, (None, known), strict=True):
        made.clear()
        measure_zero_shot(home, subject, scenes, options=ZeroShotOptions(IMAGES, known=vectors))
        counts.append(sum(made))
    wanted = np.unique(np.concatenate([task.numbers for task in FactsOf(scenes).labelled("test", IMAGES)]))
    assert counts == [len(wanted), (wanted >= IMAGES).sum()] and counts[0] > counts[1] > 0
    without, known_ones = (RecordStore(home).read()[["point_id", "metric", "value"]] for home in homes)
    assert without.equals(known_ones)


# --- folders ---


@pytest.fixture
def image_folder(tmp_path):
    """Two classes of images that spell a word; one has a sub-folder, a broken file, and a file that is not an image."""
    folder = tmp_path / "pets"
    for place, word in (("word7/one.png", 7), ("word7/more/two.PNG", 7), ("word_9/three.png", 9)):
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = np.zeros((8, 8, 3), np.uint8)
        picture[0, :3, 0] = word
        Image.fromarray(picture).save(file, "PNG")
    (folder / "word7" / "torn.png").write_bytes((folder / "word7" / "one.png").read_bytes()[:50])
    (folder / "word7" / "notes.txt").write_text("not a picture")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_classified_and_its_broken_image_named(kind, image_folder, words, tmp_path, caplog):
    (image_folder / "word_9").rename(image_folder / "word9")
    store = RecordStore(tmp_path)
    with caplog.at_level(logging.WARNING):
        (point_id,) = measure_zero_shot(tmp_path, Subject(tmp_path / kind), ImageFolder(image_folder), "", ALL)
    rows = store.read().set_index("metric")
    assert rows.value["zero_shot_top1"] == rows.value["zero_shot_per_class"] == 1.0, "these vectors are easy"
    assert (rows.value["zero_shot_images"], rows.value["zero_shot_broken"], rows.queries.iloc[0]) == (3, 1, 4)
    assert set(rows.corpus) == {"folder:pets"} and "word7/torn.png" in rows.note.iloc[0] and "torn.png" in caplog.text
    assert store.queries(point_id).query_id.tolist() == [
        "word7/more/two.PNG/word7",
        "word7/one.png/word7",
        "word9/three.png/word9",
    ]


def test_class_names_and_fingerprint_of_a_folder(image_folder):
    before = ImageFolder(image_folder).fingerprint
    assert ImageFolder(image_folder).classes == ["word7", "word 9"] and ImageFolder(image_folder).fingerprint == before
    (image_folder / "word7" / "torn.png").unlink()
    assert ImageFolder(image_folder).fingerprint != before
    (task,) = ImageFolder(image_folder).labelled("", 2)
    assert task.ids == ["word7/more/two.PNG", "word_9/three.png"], "evenly spaced, so of both classes"


def test_gif_and_avif_count_as_images_and_other_files_are_named(image_folder, caplog):
    for name in ("two.GIF", "three.avif"):
        Image.new("RGB", (8, 8)).save(image_folder / "word_9" / name)
    (image_folder / "word_9" / ".DS_Store").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        folder = ImageFolder(image_folder)
    (task,) = folder.labelled("", None)
    assert {"word_9/two.GIF", "word_9/three.avif"} <= set(task.ids) and len(list(folder.images("", [4, 5], 8))) == 2
    assert f"1 files, such as {image_folder / 'word7' / 'notes.txt'}" in caplog.text


def test_a_folder_without_classes_is_refused(tmp_path, image_folder):
    with pytest.raises(InputError, match="none: no such folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(InputError, match="word9: no images"):
        (image_folder / "word9").mkdir()
        ImageFolder(image_folder)
    (image_folder / "word 9").mkdir()
    with pytest.raises(InputError, match="different names"):
        ImageFolder(image_folder)
    with pytest.raises(InputError, match="1 sub-folders"):
        ImageFolder(image_folder / "word7")


def test_unsuitable_sources_are_refused(words, word_corpus, tmp_path, image_folder):
    subject = Subject(tmp_path / "dense")
    with pytest.raises(InputError, match="corpus words: .*--folder"):
        measure_zero_shot(tmp_path, subject, word_corpus)
    with pytest.raises(InputError, match="images 0"):
        measure_zero_shot(tmp_path, subject, ImageFolder(image_folder), "", ZeroShotOptions(0))
    for file in image_folder.rglob("*.[pP]*"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="none of the 4 images"):
        measure_zero_shot(tmp_path, subject, ImageFolder(image_folder), "", ALL)


def test_the_command_prints_what_it_measured(words, image_folder, tmp_path, capsys):
    (image_folder / "word_9").rename(image_folder / "word9")
    (tmp_path / "own.yaml").write_text("folder: ['{}']\n")
    flags = [
        "--checkpoint",
        tmp_path / "lexicon",
        "--folder",
        image_folder,
        "--prompts",
        tmp_path / "own.yaml",
        "--home",
        tmp_path / "home",
    ]
    assert cli.run(zero_shot.main, zero_shot.parser(), [str(flag) for flag in flags]) == 0
    header, line, used = capsys.readouterr().out.strip().splitlines()
    assert used.endswith(": 3 images classified, all kinds of class together")
    assert line.split() == ["folder", "3", "2", "0.500", "0.667", "1.000", "-", "1.000"]
    assert RecordStore(tmp_path / "home").read().variant[0] == "lexicon"
    assert cli.run(zero_shot.main, zero_shot.parser(), [str(flag) for flag in [*flags, "--images", "-1"]]) == 2
    assert capsys.readouterr().err.count("\n") == 1
