"""`lexlip-bench sparsify` from the command line: files, resuming, encoding, errors."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from bench.__main__ import main
from bench.sparsify import data
from bench.sparsify.data import read_captions
from bench.vectors.read import open_vectors
from models import sparsify
from models.files import read_json
from models.sparsify.config import OBJECTIVES
from tests.bench.sparsify.conftest import CAPTIONS, DIMENSION, IMAGES, SHORT, WORDS, flags, write

ROOT = Path(__file__).resolve().parents[3]


def sparsified(*arguments) -> int:
    return main(["sparsify", *map(str, arguments)])


def test_words_are_learned_and_the_page_says_it(finished):
    out = finished
    about = read_json(out / "report.json")
    found = about["measured"]
    assert found["images"] == IMAGES / 5 and found["texts"] == CAPTIONS * IMAGES / 5
    assert found["given"] == {"images": IMAGES, "texts": CAPTIONS * IMAGES}
    chance = 1 / found["images"]
    for kept in ("16", "all"):
        assert found["recall"][kept]["text_to_image"]["R@1"] > 10 * chance
        assert found["recall"][kept]["image_to_text"]["R@1"] > 10 * chance
    assert found["words"]["image"]["16"] > 0.4 and found["typed"]["R@1"] > 10 * chance
    assert found["index"]["impact"]["bytes"] > 0 and found["index"]["faiss-flat"]["qps"]["single"] > 0
    assert [name.split(",")[0] for name in found["recall"] if "bytes" in name] == ["PQ", "RaBitQ"]
    page = (out / "report.md").read_text()
    assert page.count("> **") + page.count("> ") >= 10
    words = {name for shown in found["shown"] for name, _, _ in shown["lexicons"]}
    assert words <= {*WORDS, "a", "and"}


def test_written_vectors_are_those_of_the_checkpoint(made, finished, tmp_path):
    out = finished
    model, images = sparsify.load(out / "checkpoint"), open_vectors(out / "images")
    assert images.ids[:2] == ["photos/0.jpg", "photos/1.jpg"] and images.vocabulary == model.vocabulary
    expected_NV = model.encode_image(np.load(made["images.npy"])).numpy()
    np.testing.assert_allclose(images.to_scipy().toarray(), expected_NV, atol=1e-6)
    texts = open_vectors(out / "texts")
    assert texts.ids[:3] == ["photos/0.jpg#0", "photos/0.jpg#1", "photos/1.jpg#0"]
    assert texts.groups[:3] == ["photos/0.jpg", "photos/0.jpg", "photos/1.jpg"]

    assert sparsified("--encode", out / "checkpoint", "--dense", made["images.npy"], "--out", tmp_path / "new") == 0
    np.testing.assert_allclose(open_vectors(tmp_path / "new").to_scipy().toarray(), expected_NV, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_finds_most_of_what_the_dense_vectors_find(made, tmp_path, objective):
    steps = "steps=150" if objective == "csr" else "steps=60"
    assert sparsified(*flags(made, tmp_path / "out", "--objective", objective, *SHORT, steps)) == 0
    recall = read_json(tmp_path / "out" / "report.json")["measured"]["recall"]
    assert recall["all"]["text_to_image"]["R@5"] > 0.5 * recall["dense"]["text_to_image"]["R@5"]
    vocabulary = sparsify.load(tmp_path / "out" / "checkpoint").vocabulary
    assert len(vocabulary) == 4 * DIMENSION if objective == "csr" else set(vocabulary) == {*WORDS, "a", "and"}


def test_a_killed_run_resumes_and_ends_with_the_same_weights(made, finished, tmp_path):
    code = "import sys; from bench import __main__; from bench.sparsify import train; train.EVERY = 10; "
    command = [sys.executable, "-c", code + "sys.exit(__main__.main(['sparsify', *sys.argv[1:]]))"]
    state = tmp_path / "cut" / "training.pt"
    process = subprocess.Popen([*command, *flags(made, tmp_path / "cut", *SHORT)], cwd=ROOT, env=os.environ)
    while not state.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cut = not (tmp_path / "cut" / "checkpoint").exists()
    assert state.exists() == cut
    assert sparsified(*flags(made, tmp_path / "cut", *SHORT)) == 0
    both = [read_json(out / "checkpoint" / "model.json")["sha256"] for out in (finished, tmp_path / "cut")]
    assert both[0] == both[1]
    before = (tmp_path / "cut" / "report.md").stat().st_mtime_ns
    assert sparsified(*flags(made, tmp_path / "cut", *SHORT)) == 0
    assert (tmp_path / "cut" / "report.md").stat().st_mtime_ns == before


def test_texts_without_an_image_are_trained_on_and_never_searched(tmp_path):
    files = write(tmp_path / "more", texts_alone=40)
    assert sparsified(*flags(files, tmp_path / "out", *SHORT)) == 0
    found = read_json(tmp_path / "out" / "report.json")["measured"]
    assert found["given"]["texts"] == CAPTIONS * IMAGES + 40 and found["texts"] == CAPTIONS * IMAGES / 5
    assert open_vectors(tmp_path / "out" / "texts").ids[-1] == f"text#{CAPTIONS * IMAGES + 39}"


def test_without_splits_the_hash_of_the_path_decides(made, tmp_path):
    rows = [row[:2] for row in csv.reader(made["captions.csv"].open())]
    with (tmp_path / "captions.csv").open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    files = made | {"captions.csv": tmp_path / "captions.csv"}
    assert sparsified(*flags(files, tmp_path / "out", *SHORT)) == 0
    assert 2 <= read_json(tmp_path / "out" / "report.json")["measured"]["images"] < 20


def edited(made: dict, tmp_path: Path, edit) -> dict:
    rows = list(csv.reader(made["captions.csv"].open()))
    with (tmp_path / "edited.csv").open("w", newline="") as out:
        csv.writer(out).writerows(edit(rows))
    return made | {"captions.csv": tmp_path / "edited.csv"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows[:-1], "319 rows; expected 320, one for each vector of"),
        (lambda rows: [["picture", *rows[0][1:]], *rows[1:]], "expected one for a path"),
        (lambda rows: [rows[0], ["photos/1.jpg", *rows[1][1:]], *rows[2:]], "is in the splits train and test"),
        (lambda rows: [rows[0], *(["photos/1.jpg", row[1], "train"] for row in rows[1:])], "1 distinct paths"),
        (
            lambda rows: [rows[0], *([*row[:2], "train"] for row in rows[1:])],
            "images held out: 0; expected at least 2: give a column split",
        ),
    ],
)
def test_captions_that_do_not_fit_are_one_line(made, tmp_path, capsys, edit, message):
    assert sparsified(*flags(edited(made, tmp_path, edit), tmp_path / "out", *SHORT)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_rows_of_other_splits_are_counted_and_texts_in_another_order_are_noticed(made, tmp_path, caplog):
    def with_val(rows):
        return [rows[0], *([*row[:2], "val"] if row[0] == "photos/1.jpg" else row for row in rows[1:])]

    assert sparsified(*flags(edited(made, tmp_path, with_val), tmp_path / "val", *SHORT)) == 0
    assert "edited.csv: 2 rows are neither of split train nor images of test: not used" in caplog.text
    assert "find their own text first" not in caplog.text
    texts = np.random.default_rng(0).permutation(np.load(made["texts.npy"]))
    np.save(tmp_path / "mixed.npy", texts)
    assert sparsified(*flags(made | {"texts.npy": tmp_path / "mixed.npy"}, tmp_path / "mixed", *SHORT)) == 0
    assert "of 128 images trained on find their own text first, as by chance" in caplog.text


@pytest.mark.parametrize("name", ["captions.parquet", "captions.jsonl"])
def test_a_null_path_is_a_text_without_an_image(tmp_path, name):
    rows = pyarrow.table({"path": ["a.jpg", None], "caption": ["a dog", "a cat"], "split": ["test", "train"]})
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(rows, tmp_path / name)
    else:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))
    assert read_captions(tmp_path / name) == [("a.jpg", "a dog", "test"), ("", "a cat", "train")]


def test_vectors_that_do_not_fit_are_one_line(made, tmp_path, capsys):
    values = np.load(made["images.npy"])
    values[3, 1] = np.nan
    np.save(tmp_path / "broken.npy", values)
    np.save(tmp_path / "short.npy", values[:, :5])
    for name, message in (("broken", "row 3: value 1 is nan"), ("short", "expected 5 as in"), ("none", "no such file")):
        files = made | {"images.npy": tmp_path / f"{name}.npy"}
        assert sparsified(*flags(files, tmp_path / "out", *SHORT)) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("stepz=4",), "nearest: steps"),
        (("steps=0",), "sparsify: configuration: steps: Input should be greater than 0"),
        (("--export", "csv"), "--export csv: expected jsonl, ciff, npz, onnx"),
        (("--model", "open_clip:ViT-B-32/none"), "expected no --dense-images"),
        (("--tokenizer", "/nowhere"), "--tokenizer: /nowhere: no such folder"),
        (("--min-count", "10000"), "--min-count 10000: no token occurs as often"),
        (("--captions", "/"), "--captions /: a folder; expected a table"),
        (("--dense", "x.npy"), "with --encode CHECKPOINT only"),
    ],
)
def test_wrong_flags_are_one_line(made, tmp_path, capsys, more, message):
    assert sparsified(*flags(made, tmp_path / "out", *SHORT, *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_folder_of_other_inputs_or_files_is_refused(made, tmp_path, capsys):
    out = tmp_path / "out"
    assert sparsified(*flags(made, out, *SHORT)) == 0
    assert sparsified(*flags(made, out, *SHORT, "steps=61")) == 2
    assert "made with other inputs (config)" in capsys.readouterr().err
    assert sparsified(*flags(made, out, *SHORT, "steps=61", "--force")) == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert sparsified(*flags(made, tmp_path / "mine", *SHORT)) == 2
    assert "holds other files (thesis.txt)" in capsys.readouterr().err


def test_a_broken_state_of_training_is_refused(made, finished, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "settings.json").write_bytes((finished / "settings.json").read_bytes())
    (other / "training.pt").write_bytes(b"no state")
    assert sparsified(*flags(made, other, *SHORT)) == 2
    assert "training.pt: not a readable state of training" in capsys.readouterr().err


def test_a_run_that_failed_before_its_training_does_not_block_its_folder(made, tmp_path, capsys):
    out = tmp_path / "out"
    assert sparsified(*flags(made, out, *SHORT), "--min-count", "10000") == 2
    capsys.readouterr()
    assert sparsified(*flags(made, out, *SHORT)) == 0


def test_without_splits_what_is_not_held_out_is_trained_on(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("path,caption\n" + "".join(f"{number}.jpg,a caption\n" for number in range(400)))
    splits = [row.split for row in data.read_captions(table)]
    assert set(splits) == {"train", "test"} and 5 < splits.count("test") < 40
