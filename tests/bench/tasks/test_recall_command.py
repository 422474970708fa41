"""`lexlip-bench recall`: flags, output, errors."""

import contextlib
import errno
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytrec_eval
import torch
from PIL import Image

import bench.__main__ as entry
from bench.corpora.resolution import at_pixels
from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks import recall, sparsity
from bench.vectors import encode, gallery
from models.pretrained.open_clip_model import PretrainedClip, open_clip

ROOT = Path(__file__).resolve().parents[3]


def run(*argv, command=recall):
    return cli.run(command.main, command.parser(), [str(argument) for argument in argv])


def test_command(tmp_path, words, capsys):
    flags = ["--images", 20, "--top-k", "8,all", "--no-timing", "--corpus", "{name: words, seed: 0}"]
    arguments = ["--checkpoint", tmp_path / "lexicon", "--home", tmp_path, *flags]
    assert run(*arguments) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:4] == ["direction", "engine", "top_k", "bits"] and len(out) == 1 + 2 * 4 + 1
    assert out[-1] == "used words, test: 20 images, 40 queries"
    rows = RecordStore(tmp_path).read()
    assert set(rows.variant) == {"lexicon"}


def test_rankings_are_exported_as_runs_with_the_same_recall(tmp_path, words, capsys):
    """Impacts tie often, and trec_eval orders ties by document: scores of the run must not tie."""
    flags = ["--checkpoint", tmp_path / "lexicon", "--home", tmp_path, "--images", 20, "--top-k", "8"]
    flags += ["--no-timing", "--corpus", "{name: words, seed: 0}"]
    assert run(*flags) == 0 and not list(tmp_path.glob("results/*.rankings.parquet"))
    assert entry.main(["records", "export", "--trec-run", str(tmp_path / "out"), "--home", str(tmp_path)]) == 2
    assert "no record has rankings; measure again with --rankings" in capsys.readouterr().err
    assert run(*flags, "--rankings") == 0  # recorded already, without rankings
    assert entry.main(["records", "export", "--trec-run", str(tmp_path / "out"), "--home", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if ".run: " in line]
    files = {path.stem.rpartition("-")[2]: path for path in (tmp_path / "out").iterdir()}
    store = RecordStore(tmp_path)
    values = store.read().set_index(["point_id", "metric"]).value
    assert len(files) == len(lines) == 2 * 3 and "queries of words, 20 images" in lines[0]
    for point_id, path in files.items():
        queries = store.queries(point_id).set_index("query_id")
        groups = queries["group"].to_dict()
        ranked = pd.read_csv(path, sep=" ", names=["query", "q0", "item", "rank", "score", "tag"], dtype={"item": str})
        assert set(ranked.tag) == {point_id} and set(ranked.q0) == {"Q0"}
        by_query = ranked.groupby("query")
        found = {query: dict(zip(rows.item, rows.score, strict=True)) for query, rows in by_query}
        of_item = {item: item.partition("#")[0] for item in ranked.item}  # a caption's id starts with its image's
        qrels = {query: {item: int(of_item[item] == groups[query]) for item in of_item} for query in groups}
        measured = pytrec_eval.RelevanceEvaluator(qrels, {"success.1,5,10"}).evaluate(found)
        for k in (1, 5, 10):
            success = sum(of_query[f"success_{k}"] for of_query in measured.values()) / len(groups)
            assert success == pytest.approx(values[point_id, f"recall@{k}"], abs=1e-9)


def test_a_pre_trained_model_is_measured_the_same_way(tmp_path, word_corpus, monkeypatch, capsys):
    """A tiny open_clip model from a file: encoded, indexed, recorded under its name; --model excludes --checkpoint."""
    monkeypatch.setattr("bench.corpora.open_corpus", lambda spec: word_corpus)
    config = tmp_path / "tiny-recall-clip.json"
    towers = {"layers": 1, "width": 16}
    config.write_text(
        json.dumps(
            {
                "embed_dim": 8,
                "vision_cfg": {"image_size": 16, "patch_size": 8, "head_width": 8, **towers},
                "text_cfg": {"context_length": 8, "vocab_size": 49408, "heads": 2, **towers},
            }
        )
    )
    open_clip.add_model_config(config)
    torch.save(open_clip.create_model(config.stem).state_dict(), tmp_path / "weights.pt")
    model = ("--model", f"open_clip:{config.stem}/{tmp_path / 'weights.pt'}")
    flags = ("--home", tmp_path, "--images", 20, "--no-timing")
    assert run(*model, *flags) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1 + 2 + 1
    assert out[-1] == "used words, test: 20 images, 40 queries; 0 captions cut at the model's maximum length"
    rows = RecordStore(tmp_path).read()
    assert set(rows.variant) == {"clip_zeroshot:tiny-recall-clip/weights.pt"} and set(rows.kind) == {"dense"}
    assert set(rows[rows.task == "retrieval"].engine) == {"faiss-flat"} and rows[
        rows.metric == "flops_per_pair"
    ].value.tolist() == [8.0, 8.0]
    assert rows.checkpoint_id.nunique() == 1
    assert run(*model, *flags, "--precision", "bfloat16") == 0
    assert RecordStore(tmp_path).read().vectors_id.nunique() == 2 * rows.vectors_id.nunique()
    assert at_pixels("scenes", 224) == {"name": "scenes", "pixels": 224} and at_pixels("none", 224) == "none"
    assert at_pixels({"name": "scenes", "pixels": 64}, 224) == {"name": "scenes", "pixels": 64}, "stated pixels stay"
    with pytest.raises(SystemExit, match="2"):
        run(*model, *flags, "--checkpoint", tmp_path / "dense")


@pytest.fixture
def long_captions(tmp_path) -> str:
    """A table of four captions, of which a model of 24 tokens with [CLS] and [SEP] cuts two."""
    table = tmp_path / "long.csv"
    lines = ["path,caption,split", *(f"{n}.png,{' '.join(['a'] * n)},test" for n in (22, 23, 60, 1))]
    table.write_text("\n".join(lines) + "\n")
    for n in (22, 23, 60, 1):
        Image.new("RGB", (64, 64), (n, n, n)).save(tmp_path / f"{n}.png")
    return json.dumps({"name": "folder", "annotations": str(table), "pixels": 64})


CUT = "2 captions cut at the model's maximum length"


@pytest.mark.parametrize("command", [recall, sparsity, encode, gallery])
def test_captions_that_a_model_cuts_are_counted(copied, long_captions, capsys, command):
    """The count is that of an untruncated tokenizer, is printed by each command, and stays in one record of a model."""
    subjects = [subject for subject in copied.subjects if command != sparsity or subject.encoder.kind == "lexicon"]
    more = {recall: ("--no-timing",), gallery: ("--distractors", 0)}.get(command, ())
    for subject in subjects:
        flags = ("--home", copied.home, "--corpus", long_captions, "--images", 4, *more)
        for _ in ("measured", "recorded"):
            assert run("--checkpoint", subject.model, *flags, command=command) == 0
            assert sum(line.endswith(CUT) for line in capsys.readouterr().out.splitlines()) == 1
    rows = RecordStore(copied.home).read()
    counted = rows[(rows.metric == "captions_cut") & (rows.corpus == "long")]
    assert counted.value.tolist() == [2.0] * len(subjects) and set(counted.task) == {"encoding"}


def test_the_record_of_encode_is_that_of_recall(copied, long_captions, capsys):
    subject, flags = copied.subjects[0], ("--corpus", long_captions, "--images", 4)
    runs = ((encode, ()), (recall, ("--no-timing",)), (sparsity, ()))
    for command, more in runs:
        assert run("--checkpoint", subject.model, "--home", copied.home, *flags, *more, command=command) == 0
    rows = RecordStore(copied.home).read()
    rows = rows[(rows.task == "encoding") & (rows.corpus == "long")]
    assert rows.point_id.nunique() == 1 and "encode_images_per_second" in set(rows.metric)


def test_an_open_clip_model_counts_the_captions_that_it_cuts():
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=8)
    model = types.SimpleNamespace(_tokenizer=tokenizer, _tokenizer_lock=contextlib.nullcontext())
    assert [PretrainedClip.cut(model, [" ".join(["a"] * n)]) for n in (1, 5, 6, 7, 8, 30)] == [0, 0, 0, 1, 1, 1]


def test_a_row_that_failed_prints_its_reason(words_measured):
    rows = words_measured[1]
    failed = (rows.engine == "impact") & (rows.top_k == 2).fillna(False) & (rows.batch_mode == "")
    rows = rows.assign(status=rows.status.mask(failed, "absent"), note=rows.note.mask(failed, "pip install impact"))
    rows = rows.assign(value=rows.value.mask(failed))
    lines = [line for line in recall.table(rows).splitlines() if "absent" in line]
    assert len(lines) == 2 and all(line.endswith("absent: pip install impact") for line in lines)


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--top-k", "8,some"], "--top-k 8,some"), (["--top-k", "0"], "at least 1"), (["--images", "0"], "images 0")],
)
def test_bad_flags_are_one_line_and_exit_code_2(tmp_path, words, capsys, flags, message):
    assert run("--checkpoint", tmp_path / "lexicon", "--home", tmp_path, *flags) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_home_that_cannot_be_written_is_one_line(tmp_path, words, capsys):
    (tmp_path / "home").write_text("a file")
    assert run("--checkpoint", tmp_path / "lexicon", "--home", tmp_path / "home", "--images", 5) == 2
    assert "home" in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_a_full_disk_is_one_line_and_records_stay(copied_words, words, monkeypatch, capsys):
    before = len(RecordStore(copied_words).read())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert run("--checkpoint", copied_words / "lexicon", "--home", copied_words, "--images", 10) == 2
    assert "No space left" in (err := capsys.readouterr().err) and err.count("\n") == 1
    assert len(RecordStore(copied_words).read()) == before
    assert not list(copied_words.rglob("*.partial"))


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    assert run("--checkpoint", tmp_path / "none", "--home", tmp_path) == 2
    assert "none" in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_a_rerun_imports_no_torch(copied):
    """Recall of checkpoints whose points all exist: ids come from files; vectors and records are opened, no model."""
    script = """
import sys
from pathlib import Path
from bench.store.records import RecordStore
from bench.tasks.recall import measure_recall
from bench.tasks.retrieval.settings import RecallOptions
from bench.tasks.subject import Measurement, Slice, Subject
home, model, variant = map(Path, sys.argv[1:])
RecordStore.write = None
slice_ = Slice.open({"name": "scenes", "concepts": 12, "pixels": 64}, "test", 8)
options = RecallOptions(top_k=(32,), timing=None, examples=6, hard_negatives=False)
measure_recall(Measurement(home, Subject(model, str(variant), 0, "tiny", command="again"), slice_), options)
print([name for name in ("torch", "transformers", "open_clip", "timm") if name in sys.modules])
"""
    for subject in copied.subjects:
        command = [sys.executable, "-c", script, copied.home, subject.model, subject.variant]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("command", [recall, sparsity, encode, gallery])
def test_split_all_in_the_corpus_needs_no_flag(copied, long_captions, capsys, command):
    """The table names its images "test"; the whole of it is the split `all`, and --split all reads the same vectors."""
    subject = copied.subjects[0]
    more = {recall: ("--no-timing",), gallery: ("--distractors", 0)}.get(command, ())
    flags = ("--checkpoint", subject.model, "--home", copied.home, "--images", 4, *more)
    whole = json.dumps(json.loads(long_captions) | {"split": "all"})
    for given in ((), ("--split", "all")):
        assert run(*flags, "--corpus", whole, *given, command=command) == 0
        capsys.readouterr()
    rows = RecordStore(copied.home).read()
    rows = rows[(rows.task == "encoding") & (rows.corpus == "long")]
    assert set(rows.split) == {"all"} and rows.point_id.nunique() == 1
    assert run(*flags, "--corpus", whole, "--split", "test", command=command) == 2
    assert "unknown split 'test' (nearest: all; known: all); images listed: all 4" in capsys.readouterr().err
    assert run(*flags[:5], 9, *flags[6:], "--corpus", whole, command=command) == 2
    assert "give split: all" not in (error := capsys.readouterr().err) and "split all has 4 images, expected" in error
    assert run(*flags, "--corpus", long_captions, "--split", "all", command=command) == 2
    error = capsys.readouterr().err
    assert "unknown split 'all'" in error and "images listed: test 4; for every image give split: all in the" in error
