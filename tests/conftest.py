"""Settings of all tests: hypothesis without deadlines, and with fixed examples in CI."""

import os
import signal
import threading

import pytest
from hypothesis import settings

pytest_plugins = ["tests.reliability"]
settings.register_profile("here", deadline=None)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "here")

if threading.current_thread() is threading.main_thread():
    # A job that a script starts with `&` inherits an ignored SIGINT; the commands that tests interrupt must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "test_smoke.py",
    "test_sweep.py",
    "test_train.py",
    "test_resume.py",
    "test_distributed.py",
    "test_max_linear_triton.py",
)


def pytest_collection_modifyitems(items):
    """Starts the slowest files first, so that none is left for the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def without_fsync():
    """Files of tests need not survive a power cut, and made-up records are thousands of files."""
    with pytest.MonkeyPatch.context() as session:
        session.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Checkpoint folders of an untrained LexLIP and CLIP."""
    import torch  # takes seconds; most tests do not need it

    from bench.corpora import open_corpus
    from models import checkpoint
    from models.config import ClipConfig, ImageConfig, ModelConfig, TextConfig
    from models.tokenizer import LexiconTokenizer

    folder = tmp_path_factory.mktemp("checkpoints")
    captions = [text for _, text, _ in open_corpus({"name": "scenes", "concepts": 10}).captions("train", 0, 40)]
    tokenizer = LexiconTokenizer.train(captions, vocabulary_size=128, max_tokens=24)
    for kind in ("lexlip", "clip"):
        torch.manual_seed(0)
        config = ModelConfig(
            kind=kind,
            image=ImageConfig(layers=1, width=16, heads=2, patch=32, stem="patch"),
            text=TextConfig(layers=1, width=16, heads=2, max_tokens=24, vocabulary=len(tokenizer)),
            clip=ClipConfig(embedding=16),
        )
        checkpoint.save(checkpoint.create(config, tokenizer), folder / kind)
    return [folder / "lexlip", folder / "clip"]
