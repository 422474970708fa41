"""Two measured homes shared by all tasks: tiny untrained models on scenes, models of words on the corpus of words."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from bench.corpora import open_corpus
from bench.store.records import RecordStore
from bench.tasks.recall import measure_recall
from bench.tasks.retrieval.settings import RecallOptions
from bench.tasks.subject import Measurement, Slice, Subject
from bench.tasks.timing import Timing
from models import checkpoint
from models.config import ClipConfig, HeadConfig, ImageConfig, LexLIPConfig, ModelConfig, TextConfig
from models.tokenizer import LexiconTokenizer

SPEC = {"name": "scenes", "concepts": 12, "pixels": 64}
IMAGES, TOP_K = 8, 32
WORDS = RecallOptions(top_k=(2, 4, 32, None), timing=Timing(queries=8, repeats=1, seconds=0.1))
KINDS = {"lexicon": "lexlip", "dense": "clip"}


@pytest.fixture(scope="session")
def scenes():
    return open_corpus(SPEC)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory, scenes):
    """A function that saves a tiny untrained model of a kind ("lexlip", "clip") and returns its folder."""
    captions = [text for _, text, _ in scenes.captions("train", 0, 40)]
    tokenizer = LexiconTokenizer.train(captions, vocabulary_size=90, max_tokens=24)

    def make(kind: str, **head):
        torch.manual_seed(3)
        config = ModelConfig(
            kind=kind,
            image=ImageConfig(layers=1, width=16, heads=2, pixels=64, patch=16, stem="patch"),
            text=TextConfig(layers=1, width=16, heads=2, max_tokens=24, vocabulary=len(tokenizer), embedding_std=0.5),
            lexlip=LexLIPConfig(head=HeadConfig(**{"image_bias": -0.5} | head)),
            clip=ClipConfig(embedding=8),
        )
        folder = tmp_path_factory.mktemp("models") / kind
        checkpoint.save(checkpoint.create(config, tokenizer), folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_models(make_model):
    """Kind of vectors -> checkpoint folder."""
    return {kind: make_model(name) for kind, name in KINDS.items()}


@pytest.fixture(scope="session")
def measured(tmp_path_factory, tiny_models, scenes):
    """A home with encoded vectors and recall of both models: home, subjects (lexicon, dense), slice, top_k."""
    home, slice_ = tmp_path_factory.mktemp("measured"), Slice(scenes, "test", IMAGES)
    named = {"seed": 0, "profile": "tiny", "command": "again"}
    subjects = [Subject(folder, KINDS[kind], **named) for kind, folder in tiny_models.items()]
    options = RecallOptions(top_k=(TOP_K,), timing=None, examples=6, hard_negatives=False)
    for subject in subjects:
        measure_recall(Measurement(home, subject, slice_), options)
    return SimpleNamespace(home=home, subjects=subjects, slice=slice_, top_k=(TOP_K,))


@pytest.fixture
def copied(measured, tmp_path):
    """The same with a home of its own."""
    home = shutil.copytree(measured.home, tmp_path / "home")
    return SimpleNamespace(**vars(measured) | {"home": home})


@pytest.fixture(scope="session")
def measure_words():
    """Recall of the model of words of a kind, on the corpus of words; needs `words`."""

    def measure(home, kind, options=WORDS, images=60, force=False):
        subject, slice_ = Subject(home / kind, kind, 0), Slice.open("words", "test", images)
        return measure_recall(Measurement(home, subject, slice_, force), options)

    return measure


@pytest.fixture(scope="session")
def words_measured(tmp_path_factory, words_installed, measure_words):
    """Recall of both models of words over 60 images: the store, and its rows."""
    home = tmp_path_factory.mktemp("words")
    with words_installed():
        for kind in KINDS:
            measure_words(home, kind)
    return RecordStore(home), RecordStore(home).read()


@pytest.fixture
def copied_words(words_measured, tmp_path, words):
    """The home of `words_measured`, copied."""
    return shutil.copytree(words_measured[0].folder.parent, tmp_path / "home")
