"""The head's bench, through the real command at a tiny shape."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.store import cli
from bench.store.isolated import Outcome
from bench.store.records import RecordStore
from bench.tasks.parts import lexicon_head, parts

ROOT = Path(__file__).resolve().parents[3]
TINY = ["--items", "4", "--tokens", "6", "--lexicons", "500", "--width", "16", "--repeats", "1", "--threads", "1"]


def run(home, *flags):
    command = [sys.executable, "-m", "bench.tasks.parts.lexicon_head", "--home", str(home), *TINY, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def run_here(argv, part=lexicon_head.PART) -> int:
    return cli.run(part.main, part.parser("The head."), argv)


def test_each_way_is_a_record_and_is_not_measured_again(tmp_path):
    first = run(tmp_path, "--ways", "plain,tiled")
    assert first.returncode == 0, first.stderr
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["plain", "tiled"]
    rows = RecordStore(tmp_path).read()
    assert set(rows.task) == {"lexicon_head"} and set(rows.status) == {"ok"}
    for way in ("plain", "tiled"):
        values = rows[rows.engine == way].set_index("metric").value
        assert set(values.index) == {
            "head_forward_seconds",
            "head_backward_seconds",
            "head_peak_bytes",
            "head_active_share",
        }
        assert values.head_forward_seconds > 0 and values.head_backward_seconds > 0
        assert 0.002 < values.head_active_share < 0.03, "about as sparse as a trained head"
    assert run(tmp_path, "--ways", "tiled").stdout == first.stdout.splitlines(keepends=True)[1]
    assert len(RecordStore(tmp_path).read()) == len(rows)


def test_a_way_that_cannot_run_here_is_absent_with_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["--home", str(tmp_path), *TINY, "--ways", "triton,triton_compiled"]
    assert run_here(arguments) == 0
    rows = RecordStore(tmp_path).read()
    assert (
        set(rows.engine) == {"triton", "triton_compiled"} and set(rows.status) == {"absent"} and rows.value.isna().all()
    )
    assert rows.note.str.contains("need one|not installed").all() and capsys.readouterr().out.startswith(
        "triton           absent: "
    )
    monkeypatch.setattr(lexicon_head, "TRITON", False)
    assert lexicon_head.missing("triton") == "the package triton is not installed" and not lexicon_head.missing("tiled")


def test_what_was_absent_is_measured_once_it_can_be(tmp_path, monkeypatch):
    asked, ok = (
        [],
        Outcome("ok", {f"head_{name}": 1.0 for name in ("forward_seconds", "backward_seconds", "peak_bytes")}),
    )
    monkeypatch.setattr(parts, "run_job", lambda job, request, *_: asked.append(request["way"]) or ok)
    for reason in ("no GPU", "", ""):
        part = dataclasses.replace(lexicon_head.PART, missing=lambda way, reason=reason: reason)
        run_here(["--home", str(tmp_path), *TINY, "--ways", "triton"], part)
    assert asked == ["triton"] and set(RecordStore(tmp_path).read().status) == {"ok"}


def test_an_unknown_way_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        run_here(["--home", str(tmp_path), "--ways", "fast"])
    assert refused.value.code == 2 and "'fast': expected plain, plain_compiled, tiled" in capsys.readouterr().err
