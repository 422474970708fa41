"""The sides that are made from models: how the latency of encoding one text is measured, and generated vectors beside encoded ones."""

import pytest
import torch

from bench.scale import run as scale
from bench.scale import sweep
from bench.scale.sides import text_latency
from bench.store import cli
from bench.store.records import RecordStore


class Watched:
    """An encoder that notes how many threads torch has while it works."""

    def __init__(self):
        self.threads = set()

    def texts(self, texts):
        self.threads.add(torch.get_num_threads())


def test_torch_has_the_threads_that_are_stated():
    """It kept two on the one core that was left to it, and a text took 300 ms in place of 1."""
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


def test_generated_vectors_and_the_encoded_ones_are_searched_in_the_same_rounds(checkpoints, tmp_path, monkeypatch):
    """The real command: whatever slows the machine down for a while slows both."""
    timed, real = [], sweep.run_job

    def watched(job, request, folder, limits):
        if job == "timing":
            timed.append(request["queries"]["folder"])
        return real(job, request, folder, limits)

    monkeypatch.setattr(sweep, "run_job", watched)
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)
    sizes = ["--corpus", "synthetic:60", "--encoded", "40", "--sizes", "40"]
    flags = [
        "--source",
        "{name: scenes, concepts: 10}",
        *sizes,
        "--kinds",
        "lexicon",
        "--engines",
        "impact",
        "--lexicon",
        str(checkpoints[0]),
        "--home",
        str(tmp_path),
    ]
    grid = [
        "rounds=2",
        "seconds=0.02",
        "queries=8",
        "checked=6",
        "top_k=[32]",
        "bits=[8]",
        "query_top_k=[null]",
        "modes=[[single,1]]",
    ]
    assert cli.run(scale.main, scale.parser(), [*flags, *grid]) == 0
    rows = RecordStore(tmp_path).read()
    measured = rows[(rows.metric == "qps")]
    found = sorted(zip(measured.task, measured.corpus, measured.images, strict=True))
    assert found == [("scale", "synthetic:scenes", 40), ("encoded_control", "scenes", 40)]
    generated, encoded = timed[:2]
    assert timed == [generated, encoded] * 2 and generated != encoded
    assert "recall@1" not in set(rows[rows.task == "encoded_control"].metric), "a task of a part of the gallery is none"
    (steps,) = rows[(rows.task == "steps") & (rows.corpus == "scenes")].knobs.unique()
    assert steps == '{"beside":"generated","indexes":1}'


@pytest.mark.parametrize("flags", [["--corpus", "1k"], ["--corpus", "synthetic:1k", "--vocabulary", "2000"]])
def test_encoded_ones_stand_beside_generated_ones_of_the_same_vocabulary_alone(flags, tmp_path, capsys):
    assert cli.run(scale.main, scale.parser(), [*flags, "--encoded", "1k", "--home", str(tmp_path)]) == cli.BAD_INPUT
    assert (
        "--encoded 1k: expected --corpus synthetic:N beside it, and neither --vocabulary nor --ray"
        in capsys.readouterr().err
    )
