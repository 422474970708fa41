import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.corpora import open_corpus
from bench.store import cli
from bench.vectors import gallery
from bench.vectors.encode import encode
from bench.vectors.encoder import Encoder
from bench.vectors.gallery import encode_gallery
from bench.vectors.write import resume_vectors
from models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
SCENES = {"name": "scenes", "concepts": 10}
SMALL = dict(images=100, distractors=600, shard_rows=256)


@pytest.fixture
def corpus(word_corpus):
    """The corpus of words with distractors; it counts the images it renders."""
    word_corpus.splits = ("train", "test", "distractors")
    word_corpus.rendered, images = itertools.count(), word_corpus.images

    def counted(split, start, stop):
        for image in images(split, start, stop):
            next(word_corpus.rendered)
            yield image

    word_corpus.images = counted
    return word_corpus


def both():
    return {kind: Encoder(Path(kind)) for kind in ("lexicon", "dense")}


def content(folder):
    """Bytes of all files below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


def array(vectors):
    return vectors.to_numpy() if vectors.kind == "dense" else vectors.to_scipy().toarray()


# --- killed ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault("kill -9 while two models are encoded in one pass")
def test_a_killed_run_resumes_to_the_bytes_of_an_uninterrupted_run(tmp_path, checkpoints):
    """SIGKILL while the command writes shards: complete shards are kept, and the vectors have the same bytes."""
    sizes, killed, undisturbed = dict(images=300, distractors=5000), tmp_path / "killed", tmp_path / "undisturbed"
    command = [
        sys.executable,
        "-m",
        "bench",
        "gallery",
        "--home",
        killed,
        "--corpus",
        str(SCENES),
        "--shard-rows",
        256,
    ]
    command += [f"--{name}={value}" for name, value in sizes.items()]
    command += [f"--checkpoint={folder}" for folder in checkpoints]
    command = [str(word) for word in command]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    while len(list(killed.glob("vectors/*.parts/00001.json"))) < 2:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(killed.glob("vectors/*/meta.json")), "killed too late: the run had finished"
    whole = [described.with_suffix(".ids.npy") for described in killed.glob("vectors/*.parts/*.json")]
    stamps = {(path.parent.stem, path.name): path.stat().st_mtime_ns for path in whole}
    assert 4 <= len(stamps) < 2 * 21

    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    written_again = {
        key for key, stamp in stamps.items() if (killed / "vectors" / Path(*key)).stat().st_mtime_ns != stamp
    }
    assert not written_again

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encode_gallery(
        undisturbed,
        {folder.name: Encoder(folder) for folder in checkpoints},
        open_corpus(SCENES),
        shard_rows=256,
        **sizes,
    )
    torch.set_num_threads(threads)
    assert len(list(undisturbed.glob("vectors/*"))) == 4
    assert content(killed / "vectors") == content(undisturbed / "vectors")


def interrupted(home, corpus, at):
    """A run that fails at distractor `at`; the corpus works again afterwards."""
    images = corpus.images

    def broken(split, start, stop):
        for i, image in enumerate(images(split, start, stop), start):
            if split == "distractors" and i == at:
                raise RuntimeError("a broken image")
            yield image

    corpus.images = broken
    try:
        encode_gallery(home, both(), corpus, **SMALL)
    finally:
        corpus.images = images


def test_an_error_of_the_corpus_is_raised_and_complete_shards_are_kept(tmp_path, words, corpus):
    with pytest.raises(RuntimeError, match="a broken image"):
        interrupted(tmp_path / "broken", corpus, at=500)
    assert (
        sorted(path.name for path in tmp_path.glob("broken/vectors/*.parts/*.json"))
        == ["00000.json"] * 2 + ["00001.json"] * 2
    )
    assert not list(tmp_path.glob("broken/vectors/*/meta.json"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode_")]
    corpus.rendered = itertools.count()
    encode_gallery(tmp_path / "broken", both(), corpus, **SMALL)
    assert next(corpus.rendered) == 700 - 512
    encode_gallery(tmp_path / "undisturbed", both(), corpus, **SMALL)
    assert content(tmp_path / "broken") == content(tmp_path / "undisturbed")


def test_a_model_with_fewer_shards_catches_up_alone(tmp_path, words, corpus):
    with pytest.raises(RuntimeError):
        interrupted(tmp_path / "behind", corpus, at=500)
    last = next(tmp_path.glob("behind/vectors/*.parts/00001.values.npy"))
    last.with_name("00001.json").unlink()  # as if killed between the shards of the two models
    made = encode_gallery(tmp_path / "behind", both(), corpus, **SMALL)
    encode_gallery(tmp_path / "undisturbed", both(), corpus, **SMALL)
    assert content(tmp_path / "behind") == content(tmp_path / "undisturbed")
    assert made["dense"].images.count == made["lexicon"].images.count == 700


def flip(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "message"), [(flip, "changed since"), (shorten, r"\d+ bytes, expected"), (Path.unlink, "missing")]
)
def test_a_damaged_shard_of_a_killed_run_is_refused_unless_forced(tmp_path, words, corpus, damage, message):
    with pytest.raises(RuntimeError):
        interrupted(tmp_path, corpus, at=500)
    damage(next(tmp_path.glob("vectors/*.parts/00001.weights.npy")))
    with pytest.raises(InputError, match=rf"00001\.weights\.npy: .*{message}.*--force"):
        encode_gallery(tmp_path, both(), corpus, **SMALL)
    encoded = encode_gallery(tmp_path, both(), corpus, force=True, **SMALL)
    for vectors in encoded.values():
        vectors.images.verify()
    assert not list(tmp_path.glob("vectors/*.parts"))


def test_a_second_process_is_refused(tmp_path, words, corpus):
    made = encode_gallery(tmp_path, both(), corpus, **SMALL)["dense"]
    with resume_vectors(made.images.folder, "dense", 16), pytest.raises(InputError, match="another process"):
        encode_gallery(tmp_path, both(), corpus, force=True, **SMALL)
        pytest.fail("not reached")


# --- one pass -------------------------------------------------------------------------------------------------------


def test_two_models_in_one_pass_equal_each_alone_and_render_once(tmp_path, words, corpus):
    together = encode_gallery(tmp_path / "together", both(), corpus, **SMALL)
    assert next(corpus.rendered) == 700
    for kind, encoder in both().items():
        encode_gallery(tmp_path / "alone", {kind: encoder}, corpus, **SMALL)
    assert content(tmp_path / "together") == content(tmp_path / "alone")
    assert {kind: encoded.kind for kind, encoded in together.items()} == {"lexicon": "lexicon", "dense": "dense"}
    assert all(
        encoded.rates.keys() == {"encode_images_per_second", "encode_texts_per_second"} for encoded in together.values()
    )


@pytest.mark.parametrize("workers", [1, 5])
def test_test_images_come_first_then_distractors(tmp_path, words, corpus, word_model, workers):
    encoded = encode_gallery(tmp_path, both(), corpus, workers=workers, **SMALL)["lexicon"]
    assert encoded.images.ids == [f"test-{i}" for i in range(100)] + [f"distractors-{i}" for i in range(600)]
    images = [image for split, n in (("test", 100), ("distractors", 600)) for _, image in corpus.images(split, 0, n)]
    assert np.array_equal(array(encoded.images), word_model.encode_image(np.stack(images)))
    assert encoded.captions.ids == [f"test-{i}#{k}" for i in range(100) for k in range(2)]
    assert encoded.captions.groups == [f"test-{i}" for i in range(100) for _ in range(2)]


def test_a_smaller_gallery_is_a_prefix_of_a_larger_one(tmp_path, words, corpus):
    encode_gallery(tmp_path / "large", both(), corpus, **SMALL)
    folders, loads = set(tmp_path.glob("large/vectors/*")), words.loads
    for distractors in (0, 1, 155, 156, 599):
        found = encode_gallery(tmp_path / "large", both(), corpus, **SMALL | {"distractors": distractors})
        assert words.loads == loads and set(tmp_path.glob("large/vectors/*")) == folders
        made = encode_gallery(tmp_path / f"small-{distractors}", both(), corpus, **SMALL | {"distractors": distractors})
        loads = words.loads
        for kind in found:
            assert found[kind].images_id == made[kind].images_id and found[kind].images.ids == made[kind].images.ids
            assert np.array_equal(array(found[kind].images), array(made[kind].images))
    alone = encode(tmp_path / "large", both()["dense"], corpus, "test", 100)
    assert alone.images.count == 100 and words.loads == loads, "recall on the test images uses those of the gallery"


def test_other_slices_are_not_a_prefix(tmp_path, words, corpus):
    encode_gallery(tmp_path, both(), corpus, **SMALL)
    for other in ({"distractors": 601}, {"images": 99}, {"images": 101}, {"split": "train"}):
        corpus.rendered = itertools.count()
        settings = SMALL | other
        encoded = encode_gallery(tmp_path, {"dense": Encoder(Path("dense"))}, corpus, **settings)["dense"]
        assert next(corpus.rendered) == encoded.images.count == settings["images"] + settings["distractors"]
        assert encoded.images.ids[0] == f"{settings.get('split', 'test')}-0"


def test_bfloat16_has_another_id_and_nearly_equal_vectors(tmp_path, checkpoints):
    corpus = open_corpus(SCENES)
    for folder in checkpoints:
        full, half = (
            encode(tmp_path, Encoder(folder, precision), corpus, "test", 40) for precision in ("float32", "bfloat16")
        )
        assert full.images_id != half.images_id
        for part in ("images", "captions"):
            cosines = (array(getattr(full, part)) * array(getattr(half, part))).sum(axis=1)
            assert 0.999 < cosines.min() < 1 - 1e-7
    with pytest.raises(InputError, match="float32 or bfloat16"):
        Encoder(checkpoints[0], "float16")


# --- refused --------------------------------------------------------------------------------------------------------


def test_a_disk_without_room_is_refused_before_writing(tmp_path, words, corpus, monkeypatch):
    needed = {"dense": 700 * (16 * 4 + 24)}
    monkeypatch.setattr(
        "bench.vectors.encode_pass.shutil.disk_usage", lambda _: SimpleNamespace(free=needed["dense"] - 1)
    )
    with pytest.raises(InputError, match=r"vectors: the vectors need about 0\.00 GB, but 0\.00 GB are free"):
        encode_gallery(tmp_path, {"dense": Encoder(Path("dense"))}, corpus, **SMALL)
    assert not list(tmp_path.rglob("*.*"))
    monkeypatch.setattr("bench.vectors.encode_pass.shutil.disk_usage", lambda _: SimpleNamespace(free=needed["dense"]))
    assert encode_gallery(tmp_path, {"dense": Encoder(Path("dense"))}, corpus, **SMALL)["dense"].images.count == 700


def test_a_split_with_too_few_images_is_refused(tmp_path, words, corpus):
    images = corpus.images
    corpus.images = lambda split, start, stop: images(split, start, min(stop, 90))
    with pytest.raises(InputError, match="split test has 90 images, expected at least 100"):
        encode_gallery(tmp_path, both(), corpus, **SMALL)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shard-rows", "100", "--distractors", "0"], "multiple of 128"),
        (["--shard-rows", "256"], "at most 256 shards"),
        (["--images", "0"], "0 images"),
        (["--distractors", "-1"], "-1 distractors"),
        (["--split", "tset"], "nearest: test"),
        (["--corpus", "{name"], "--corpus {name"),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(tmp_path, checkpoints, capsys, flags, message):
    home = tmp_path / "home"
    argv = ["--home", home, "--checkpoint", checkpoints[0], *flags]
    assert cli.run(gallery.main, gallery.parser(), [str(argument) for argument in argv]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not home.exists()


def test_the_command_encodes_then_finds_the_vectors(tmp_path, checkpoints, capsys):
    argv = ["--home", tmp_path, "--checkpoint", checkpoints[0], "--corpus", SCENES, "--images", 20, "--distractors", 10]
    for rate in ("images/s", "existed already"):
        assert cli.run(gallery.main, gallery.parser(), [str(argument) for argument in argv]) == 0
        line = capsys.readouterr().out.splitlines()[0]
        assert line.startswith(f"{checkpoints[0]}: lexicon, 30 images") and rate in line and "100 captions" in line
