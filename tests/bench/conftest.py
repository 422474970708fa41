"""A corpus of words and models that hash them: small, deterministic, and accurate enough to test retrieval."""

import contextlib
import hashlib
from types import SimpleNamespace
from typing import NamedTuple

import hypothesis
import numpy as np
import pytest

# no deadline: the first example compiles kernels, and the disk may be busy
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

WORDS = [f"word{i}" for i in range(96)]
PIXELS = 8


class HardNegative(NamedTuple):
    image_id: str
    caption: str
    negative: str
    kind: str


class WordCorpus:
    """Image i encodes three words in its first pixels; each of its two captions names two of them."""

    name, splits = "words", ("train", "test")

    def __init__(self, seed: int = 0):
        self.seed, self.fingerprint = seed, f"words-{seed}"

    def words(self, i: int) -> list[int]:
        return np.random.default_rng([self.seed, i]).permutation(len(WORDS))[:3].tolist()

    def images(self, split, start, stop):
        for i in range(start, stop):
            image = np.zeros((PIXELS, PIXELS, 3), np.uint8)
            image[0, :3, 0] = self.words(i)
            yield f"{split}-{i}", image

    def captions(self, split, start, stop):
        for i in range(start, stop):
            a, b, c = (WORDS[word] for word in self.words(i))
            yield f"{split}-{i}#0", f"{a} {b}", f"{split}-{i}"
            yield f"{split}-{i}#1", f"{b} {c}", f"{split}-{i}"

    def hard_negatives(self, split, start, stop):
        for i in range(start, stop):
            a, b, _ = self.words(i)
            other = next(word for word in range(len(WORDS)) if word not in self.words(i))
            kind = ("attribute", "count", "relation")[i % 3]
            # every fourth negative equals its caption: a tie, which counts as wrong
            yield HardNegative(
                f"{split}-{i}", f"{WORDS[a]} {WORDS[b]}", f"{WORDS[a]} {WORDS[b if i % 4 == 0 else other]}", kind
            )


class WordModel:
    """Encodes a bag of words with some noise; kind "dense" projects it to 16 dimensions."""

    pixels = PIXELS

    def __init__(self, kind: str):
        self.kind = kind
        self.vocabulary = WORDS if kind == "lexicon" else None
        self.dimension = len(WORDS) if kind == "lexicon" else 16
        self.projection = np.random.default_rng(7).normal(size=(len(WORDS), 16))

    def encode_image(self, images):
        return np.stack([self._encode([int(word) for word in image[0, :3, 0]], salt=1) for image in images])

    def encode_text(self, texts):
        return np.stack([self._encode([WORDS.index(word) for word in text.split()], salt=2) for text in texts])

    def encode_words(self, texts):
        bags = np.array([[word in text.split() for word in WORDS] for text in texts], np.float32)
        return bags / np.linalg.norm(bags, axis=1, keepdims=True)

    def _encode(self, words, salt):
        bag = np.zeros(len(WORDS))
        bag[words] = 1.0
        noise = np.random.default_rng([salt, *sorted(words)])
        bag[noise.integers(0, len(WORDS), 20)] += noise.uniform(0, 0.3, 20)
        vector = bag if self.kind == "lexicon" else bag @ self.projection
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def fingerprint(folder) -> str:
    """Id of a checkpoint named `folder`."""
    return hashlib.sha256(folder.name.encode()).hexdigest()[:16]


def install_words(monkeypatch) -> SimpleNamespace:
    """Makes `open_corpus` return the corpus of words; checkpoints "lexicon" and "dense" become models of words.

    Returns a namespace whose `loads` counts the models loaded.
    """
    import bench.corpora
    from bench.vectors import encoder

    counter = SimpleNamespace(loads=0)

    def load(folder):
        counter.loads += 1
        return WordModel(folder.name)

    def kind(folder):
        return WordModel(folder.name).kind

    monkeypatch.setattr(bench.corpora, "open_corpus", lambda spec: WordCorpus())
    monkeypatch.setattr(
        encoder, "loader", lambda source: SimpleNamespace(load=load, fingerprint=fingerprint, kind=kind)
    )
    return counter


@pytest.fixture
def words(monkeypatch):
    return install_words(monkeypatch)


@pytest.fixture(scope="session")
def words_installed():
    """A context in which the corpus and the models of words replace the actual ones."""

    @contextlib.contextmanager
    def installed():
        with pytest.MonkeyPatch.context() as monkeypatch:
            yield install_words(monkeypatch)

    return installed


@pytest.fixture
def word_corpus():
    return WordCorpus()


@pytest.fixture
def word_model():
    return WordModel("lexicon")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config, machine_info):
    """A saved benchmark states the processor, but not the name of the machine."""
    machine_info.pop("node", None)
