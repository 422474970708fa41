"""Zero-shot classification: hand-made similarities, classes by hand, scenes against their own facts, folders of the user's."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from PIL import Image

from bench.corpora.scenes.corpus import Scenes
from bench.corpora.scenes.facts import Group, Scene
from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks import zero_shot
from bench.tasks.zero_shot import FactsOf, ImageFolder, Prompts, accuracy, class_vectors, measure_zero_shot, own_ranks
from bench.vectors.encode import Encoder, encode
from models import checkpoint
from models.config import ClipConfig, ImageConfig, ModelConfig, TextConfig
from models.errors import InputError
from models.tokenizer import LexiconTokenizer

KINDS = ("lexicon", "dense")
NAMES = Prompts(folder=("{}",))
IMAGES = 6


def as_given(kind, values):
    values = np.array(values, np.float32)
    return sp.csr_array(values) if kind == "lexicon" else values


# --- by hand ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_by_hand_with_ties_against_the_own_class(kind):
    classes = as_given(kind, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]])
    pictures = as_given(kind, [[3, 2, 1], [3, 2, 1], [3, 2, 1], [0, 0, 0]])
    # scores 3, 2, 1, 2: class 0 is first, class 1 ties with class 3 at 2, class 2 is last; a vector of zeros is right about nothing
    assert own_ranks(pictures, classes, np.array([0, 1, 2, 0])).tolist() == [1, 3, 4, 4]


def test_accuracies_by_hand():
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


# --- prompts ----------------------------------------------------------------------------------------------------------------------


def test_prompts_of_the_users_are_laid_over_ours(tmp_path):
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


# --- scenes -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes():
    return Scenes(concepts=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, scenes):
    """Checkpoints of tiny models of both kinds, not trained."""
    home = tmp_path_factory.mktemp("checkpoints")
    tokenizer = LexiconTokenizer.train(
        [text for _, text, _ in scenes.captions("train", 0, 40)], vocabulary_size=128, max_tokens=12
    )
    for name, kind in (("lexicon", "lexlip"), ("dense", "clip")):
        torch.manual_seed(3)
        config = ModelConfig(
            kind=kind,
            image=ImageConfig(layers=1, width=16, heads=2, pixels=64, patch=32, stem="patch"),
            text=TextConfig(layers=1, width=16, heads=2, max_tokens=12, vocabulary=len(tokenizer), embedding_std=0.5),
            clip=ClipConfig(embedding=8),
        )
        checkpoint.save(checkpoint.create(config, tokenizer), home / name)
    return home


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


def test_a_kind_that_no_scene_has_is_left_out_aloud(caplog):
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
def test_points_are_those_of_the_model_by_hand(kind, folders, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(
        zero_shot, "CODE", ("bench.tasks.zero_shot",)
    )  # so that editing a model meanwhile does not measure again
    store, encoder = RecordStore(tmp_path), Encoder(folders / kind)
    ids = measure_zero_shot(store, encoder, scenes, images=IMAGES, variant="v", seed=1, profile="p")
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
    assert measure_zero_shot(store, encoder, scenes, images=IMAGES, variant="v", seed=1, profile="p") == ids


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_that_are_known_are_not_made_again(kind, folders, scenes, tmp_path, monkeypatch):
    encoder, stores = Encoder(folders / kind), [RecordStore(tmp_path / name) for name in ("without", "with")]
    known = encode(tmp_path, encoder, scenes, "test", IMAGES).images
    made, images = [], Encoder.images
    monkeypatch.setattr(Encoder, "images", lambda self, pictures: made.append(len(pictures)) or images(self, pictures))
    counts = []
    for store, vectors in zip(stores, (None, known), strict=True):
        made.clear()
        measure_zero_shot(store, encoder, scenes, images=IMAGES, known=vectors)
        counts.append(sum(made))
    wanted = np.unique(np.concatenate([task.numbers for task in FactsOf(scenes).labelled("test", IMAGES)]))
    assert counts == [len(wanted), (wanted >= IMAGES).sum()] and counts[0] > counts[1] > 0
    without, known_ones = (store.read()[["point_id", "metric", "value"]] for store in stores)
    assert without.equals(known_ones)


# --- folders ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """Two classes of pictures that spell a word; one of them holds a sub-folder, a broken file, and one that is no picture by its name."""
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
def test_a_folder_is_classified_and_its_broken_picture_named(kind, pictures, words, tmp_path, caplog):
    (pictures / "word_9").rename(pictures / "word9")
    store = RecordStore(tmp_path)
    with caplog.at_level(logging.WARNING):
        (point_id,) = measure_zero_shot(store, Encoder(tmp_path / kind), ImageFolder(pictures), "", None, prompts=NAMES)
    rows = store.read().set_index("metric")
    assert rows.value["zero_shot_top1"] == rows.value["zero_shot_per_class"] == 1.0, "these vectors are easy"
    assert (rows.value["zero_shot_images"], rows.value["zero_shot_broken"], rows.queries.iloc[0]) == (3, 1, 4)
    assert set(rows.corpus) == {"folder:pets"} and "word7/torn.png" in rows.note.iloc[0] and "torn.png" in caplog.text
    assert store.queries(point_id).query_id.tolist() == [
        "word7/more/two.PNG/word7",
        "word7/one.png/word7",
        "word9/three.png/word9",
    ]


def test_names_of_classes_and_changed_pictures(pictures):
    before = ImageFolder(pictures).fingerprint
    assert ImageFolder(pictures).classes == ["word7", "word 9"] and ImageFolder(pictures).fingerprint == before
    (pictures / "word7" / "torn.png").unlink()
    assert ImageFolder(pictures).fingerprint != before
    (task,) = ImageFolder(pictures).labelled("", 2)
    assert task.ids == ["word7/more/two.PNG", "word_9/three.png"], "evenly spaced, so of both classes"


def test_what_is_no_folder_of_classes_is_refused(tmp_path, pictures):
    with pytest.raises(InputError, match="none: no such folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(InputError, match="word9: no pictures"):
        (pictures / "word9").mkdir()
        ImageFolder(pictures)
    (pictures / "word 9").mkdir()
    with pytest.raises(InputError, match="different names"):
        ImageFolder(pictures)
    with pytest.raises(InputError, match="1 sub-folders"):
        ImageFolder(pictures / "word7")


def test_other_input_that_is_refused(words, word_corpus, tmp_path, pictures):
    store, encoder = RecordStore(tmp_path), Encoder(tmp_path / "dense")
    with pytest.raises(InputError, match="corpus words: .*--folder"):
        measure_zero_shot(store, encoder, word_corpus)
    with pytest.raises(InputError, match="images 0"):
        measure_zero_shot(store, encoder, ImageFolder(pictures), "", 0)
    for file in pictures.rglob("*.[pP]*"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="none of the 4 pictures"):
        measure_zero_shot(store, encoder, ImageFolder(pictures), "", None, prompts=NAMES)


def test_the_command_prints_what_it_measured(words, pictures, tmp_path, capsys):
    (pictures / "word_9").rename(pictures / "word9")
    (tmp_path / "own.yaml").write_text("folder: ['{}']\n")
    flags = [
        "--checkpoint",
        tmp_path / "lexicon",
        "--folder",
        pictures,
        "--prompts",
        tmp_path / "own.yaml",
        "--home",
        tmp_path / "home",
    ]
    assert cli.run(zero_shot.main, zero_shot.parser(), [str(flag) for flag in flags]) == 0
    header, line = capsys.readouterr().out.strip().splitlines()
    assert line.split() == ["folder", "3", "2", "0.500", "0.667", "1.000", "-", "1.000"]
    assert RecordStore(tmp_path / "home").read().variant[0] == "lexicon"
    assert cli.run(zero_shot.main, zero_shot.parser(), [str(flag) for flag in [*flags, "--images", "-1"]]) == 2
    assert capsys.readouterr().err.count("\n") == 1
