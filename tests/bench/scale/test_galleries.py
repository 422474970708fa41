"""Galleries made from models: the latency of encoding a text, and generated vectors next to encoded ones."""

import pytest
import torch

from bench.scale import preparation
from bench.scale import run as scale
from bench.scale.galleries import encoded
from bench.scale.preparation import text_latency
from bench.store import cli, config, metrics
from bench.store.records import RecordStore
from bench.vectors.read import open_vectors
from bench.vectors.synthetic import moments
from models import checkpoint


class Watched:
    """An encoder that notes how many threads torch has while it encodes."""

    def __init__(self):
        self.threads = set()

    def texts(self, texts):
        self.threads.add(torch.get_num_threads())


def test_torch_has_the_stated_number_of_threads():
    """Torch used to keep two threads on the one core that it had, and a text took 300 ms in place of 1."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for threads in (1, 2):
            encoder = Watched()
            values, _ = text_latency(encoder, ["a text"] * 5, threads)
            assert encoder.threads == {threads} and torch.get_num_threads() == 2
            assert set(values) == {f"encode_text_latency_p{share}_us" for share in (50, 95, 99)}
    finally:
        torch.set_num_threads(before)


def test_generated_vectors_and_the_encoded_control_are_searched_in_the_same_rounds(
    checkpoints, tmp_path, monkeypatch, fast_grid, in_process, capsys
):
    """The real command: a drift of the machine affects both alike."""
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)
    monkeypatch.setattr(preparation, "TIMED_TEXTS", 5)
    flags = {
        "--source": "{name: scenes, concepts: 10}",
        "--corpus": "synthetic:60",
        "--encoded": "40",
        "--sizes": "40",
        "--kinds": "lexicon",
        "--engines": "impact",
        "--lexicon": checkpoints[0],
        "--home": tmp_path,
    }
    argv = [str(part) for flag in flags.items() for part in flag]
    assert cli.run(scale.main, scale.parser(), [*argv, *fast_grid, "rounds=2", "top_k=[32]", "vocabularies=[]"]) == 0
    assert f"{checkpoints[0]}: 96 captions cut at the model's maximum length" in capsys.readouterr().out
    rows = RecordStore(tmp_path).read()
    assert rows[rows.metric == "captions_cut"].task.tolist() == ["encoding"]
    measured = rows[(rows.metric == "qps")]
    found = sorted(zip(measured.task, measured.corpus, measured.images, strict=True))
    assert found == [("encoded_control", "scenes", 40), ("scale", "synthetic:scenes", 40)]
    timed = [request["queries"]["folder"] for job, request in in_process if job == "timing"]
    generated, encoded = timed[:2]
    assert timed == [generated, encoded] * 2 and generated != encoded
    assert "recall@1" not in set(rows[rows.task == "encoded_control"].metric), "a part of the gallery has no qrels"
    (steps,) = rows[(rows.task == "steps") & (rows.corpus == "scenes")].knobs.unique()
    assert steps == '{"beside":"generated","indexes":1}'


def test_a_gallery_without_all_relevant_images_measures_no_recall(
    checkpoints, tmp_path, monkeypatch, fast_grid, in_process, capsys
):
    """Queries of images outside of the gallery used to count as not found."""
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)
    monkeypatch.setattr(preparation, "TIMED_TEXTS", 5)
    flags = ["--corpus", "40", "--sizes", "20,40", "--engines", "impact", "--kinds", "lexicon", "--home", str(tmp_path)]
    flags += ["--lexicon", str(checkpoints[0]), "--source", "{name: scenes, concepts: 10}", *fast_grid]
    assert cli.run(scale.main, scale.parser(), [*flags, "top_k=[32]"]) == 0
    rows = RecordStore(tmp_path).read()
    assert set(rows[rows.metric == "recall@1"].images) == {40}
    assert set(rows[rows.metric == "engine_recall@10"].images) == {20, 40}
    out = capsys.readouterr().out
    assert "20 lexicon  no R@K: relevant documents lie in the first 40" in out
    assert "40 lexicon  no vocabulary of 30,522: generated vectors need at least 1,000 images" in out


def test_a_checkpoint_of_the_other_kind_is_refused(checkpoints, tmp_path, capsys):
    flags = ["--corpus", "40", "--lexicon", str(checkpoints[1]), "--home", str(tmp_path)]
    assert cli.run(scale.main, scale.parser(), flags) == cli.BAD_INPUT
    assert "expected a model of lexicon vectors, got one of dense vectors" in capsys.readouterr().err


def test_several_models_take_turns(checkpoints, tmp_path, monkeypatch, fast_grid, in_process, other):
    """Two lexicon models, one given and one trained, and a dense one: each has its records under its name."""
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)
    monkeypatch.setattr(preparation, "TIMED_TEXTS", 5)
    asked = []
    monkeypatch.setattr(encoded, "run_command", lambda *flags, failed: asked.append(flags) or other)
    flags = ["--corpus", "40", "--sizes", "40", "--engines", "impact,faiss-flat", "--home", str(tmp_path / "home")]
    flags += ["--lexicon", str(checkpoints[0]), "--lexicon", "no_queue", "--dense", str(checkpoints[1])]
    flags += ["--source", "{name: scenes, concepts: 10}", *fast_grid, "rounds=2", "top_k=[32]", "vocabularies=[]"]
    assert cli.run(scale.main, scale.parser(), flags) == 0
    assert [one[-1] for one in asked] == ["no_queue"]
    rows = RecordStore(tmp_path / "home").read()
    measured = rows[rows.metric == "qps"]
    first = config.run_of(checkpoints[0])["variant"]
    expected = {(first, "impact"), ("no_queue", "impact"), (config.run_of(checkpoints[1])["variant"], "faiss-flat")}
    assert set(zip(measured.variant, measured.engine, strict=True)) == expected
    assert rows[rows.metric == "recall@1"].variant.nunique() == 3
    timed = [request["queries"]["folder"] for job, request in in_process if job == "timing"]
    assert timed == timed[:3] * 2 and len(set(timed)) == 3, "each round has a turn of every model"


@pytest.fixture
def other(checkpoints, tmp_path):
    """A lexicon checkpoint with other weights."""
    model = checkpoint.load(checkpoints[0])
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    checkpoint.save(model, tmp_path / "other")
    return tmp_path / "other"


def test_two_models_of_one_variant_are_refused(checkpoints, tmp_path, capsys):
    flags = ["--corpus", "40", "--lexicon", "lexlip", "--lexicon", "lexlip", "--home", str(tmp_path)]
    assert cli.run(scale.main, scale.parser(), flags) == cli.BAD_INPUT
    assert "two models of the variant 'lexlip'; expected one of each variant" in capsys.readouterr().err


@pytest.fixture
def photographs(folders, tmp_path, monkeypatch):
    """Statistics of small vectors in place of those of photographs."""
    for kind in ("lexicon", "dense"):
        documents, queries = (open_vectors(folders[kind, part]) for part in ("documents", "queries"))
        moments.measure(documents, queries).save(tmp_path / f"{kind}.npz")
    monkeypatch.setattr(moments, "PHOTOGRAPHS", tmp_path)
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)


def test_vectors_generated_from_statistics_are_searched_beside_the_measured_ones(
    photographs, folders, tmp_path, fast_grid, in_process
):
    """The real command, without any model."""
    given = [("--documents", "documents"), ("--queries", "queries")]
    own = [text for kind in ("lexicon", "dense") for flag, part in given for text in (flag, str(folders[kind, part]))]
    flags = ["--corpus", "synthetic:flickr8k:300", "--sizes", "300", "--engines", "impact,faiss-flat", *own]
    assert (
        cli.run(scale.main, scale.parser(), [*flags, "--home", str(tmp_path / "home"), *fast_grid, "vocabularies=[]"])
        == 0
    )
    rows = RecordStore(tmp_path / "home").read()
    found = rows[rows.metric == "qps"][["task", "corpus", "kind"]].drop_duplicates().sort_values(["task", "kind"])
    assert found.values.tolist() == [
        ["encoded_control", "flickr8k", "dense"],
        ["encoded_control", "flickr8k", "lexicon"],
        ["scale", "synthetic:flickr8k", "dense"],
        ["scale", "synthetic:flickr8k", "lexicon"],
    ]
    measured = rows[(rows.task == "vectors") & (rows.metric == "vectors_active_mean")].set_index("corpus").value
    assert measured["synthetic:flickr8k"] == pytest.approx(measured["flickr8k"].iloc[0], rel=0.1)
    assert "recall@1" not in set(rows.metric)
    of_photographs = rows[
        rows.corpus.str.contains("flickr8k") & rows.task.isin(["scale", "vectors", "encoded_control"])
    ]
    assert set(of_photographs.data_id) == {""}, "else a report took them for another data set of that name"


def test_a_larger_vocabulary_is_that_of_photographs(photographs, tmp_path, fast_grid, in_process):
    flags = ["--corpus", "synthetic:400", "--vocabulary", "500", "--sizes", "400"]
    flags += ["--engines", "impact", "--kinds", "lexicon"]
    assert cli.run(scale.main, scale.parser(), [*flags, "--home", str(tmp_path / "home"), *fast_grid]) == 0
    rows = RecordStore(tmp_path / "home").read()
    assert set(rows[rows.metric == "qps"].corpus) == {"synthetic:flickr8k:500"}
    values = rows[(rows.task == "vectors") & (rows.corpus == "synthetic:flickr8k:500")].set_index("metric").value
    assert values["vectors_dimension"] == 500 and values["vectors_items"] == 400


def test_the_measured_vocabulary_is_needed_beside_measured_vectors(photographs, folders, tmp_path, capsys):
    own = ["--documents", str(folders["lexicon", "documents"]), "--queries", str(folders["lexicon", "queries"])]
    flags = ["--corpus", "synthetic:flickr8k:300", "--kinds", "lexicon", "--vocabulary", "500", *own]
    assert cli.run(scale.main, scale.parser(), [*flags, "--home", str(tmp_path / "home")]) == cli.BAD_INPUT
    assert "--vocabulary 500: expected it without --documents" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["lexicon", "dense"])
def test_statistics_of_photographs_come_with_the_package(kind):
    known = moments.of_photographs(kind)
    assert known.kind == kind and known.dimension == known.measured["dimension"]
    assert all(name in metrics.METRICS for name in known.measured)


@pytest.mark.parametrize("flags", [["--corpus", "1k"], ["--corpus", "synthetic:1k", "--vocabulary", "2000"]])
def test_encoded_control_needs_generated_vectors_of_the_same_vocabulary(flags, tmp_path, capsys):
    assert cli.run(scale.main, scale.parser(), [*flags, "--encoded", "1k", "--home", str(tmp_path)]) == cli.BAD_INPUT
    expected = "--encoded 1k: expected --corpus synthetic:N, without --vocabulary and --ray"
    assert expected in capsys.readouterr().err
