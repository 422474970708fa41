"""The benchmarks of parts of training at a small size: values, and the records that they leave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.store.records import RecordStore
from tests.bench.benchmarks import bench_key_queue, bench_lexicon_head

FOLDER = Path(__file__).parent
QUEUE = {"batch": 8, "queue": 20, "lexicons": 2000, "active": 0.01, "top_k": 64}
HEAD = {"items": 4, "tokens": 6, "lexicons": 500, "width": 16}


@pytest.mark.parametrize(("top_k", "same"), [(64, True), (4, False)])
def test_a_sparse_queue_has_the_loss_of_a_dense_one_if_it_keeps_all_lexicons_of_a_key(top_k, same):
    values = {}
    for backend in bench_key_queue.BACKENDS:
        queue = bench_key_queue.Queue(bench_key_queue.Shape(**QUEUE | {"top_k": top_k}), backend, threads=1)
        queue.fill()
        queue.score()
        values[backend] = queue.values(queue.score())
    dense, sparse = values["dense"], values["sparse"]
    assert dense["queue_active"] == sparse["queue_active"] == pytest.approx(20, rel=0.5)
    assert dense["queue_loss"] > 0.1, "keys overlap, so that a wrong score shows"
    assert (abs(dense["queue_loss"] - sparse["queue_loss"]) < 1e-3) == same
    assert (dense["queue_bytes"], sparse["queue_bytes"]) == (20 * 2000 * 4 + 8, 20 * top_k * 4 + 8)


@pytest.mark.parametrize("backend", ["plain", "tiled"])
def test_a_head_is_as_sparse_as_a_trained_one(backend):
    head = bench_lexicon_head.Head(bench_lexicon_head.Shape(**HEAD), backend, threads=1)
    head.step()
    assert 0.002 < head.active < 0.03 and len(head.forward) == len(head.backward) == 1


def test_a_backend_that_cannot_run_has_a_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bench_lexicon_head, "TRITON", True)
    assert bench_lexicon_head.missing("triton_compiled") == "no GPU that torch sees: the Triton kernels need one"
    monkeypatch.setattr(bench_lexicon_head, "TRITON", False)
    assert bench_lexicon_head.missing("triton") == "the package triton is not installed"
    assert bench_lexicon_head.missing("tiled") == ""


@pytest.mark.nightly
def test_results_become_records_once(tmp_path):
    """Both suites as commands: one point per backend with its values; a second run measures nothing."""

    def run(suite: str, shape: dict, *flags) -> str:
        sizes = [flag for name, value in shape.items() for flag in ("--shape", f"{name}={value}")]
        options = [
            "--record-home",
            tmp_path,
            "--threads",
            "1",
            "--repeats",
            "1",
            "-p",
            "no:cacheprovider",
            "-rs",
            *flags,
        ]
        command = [sys.executable, "-m", "pytest", FOLDER / suite, "--benchmark-only", *options, *sizes]
        outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # xdist's
        environment = outer | {"CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("bench_lexicon_head.py", HEAD, "-k", "not compiled")
    run("bench_key_queue.py", QUEUE)
    rows = RecordStore(tmp_path).read()
    heads = rows[rows.task == "lexicon_head"].groupby("engine").status.first()
    assert heads.to_dict() == {"plain": "ok", "tiled": "ok", "triton": "absent"}
    assert set(rows.metric) == {
        *("head_forward_seconds", "head_backward_seconds", "head_peak_bytes", "head_active_share", ""),
        *("queue_push_seconds", "queue_score_seconds", "queue_bytes", "queue_active", "queue_loss"),
    }
    assert (rows[rows.metric.str.endswith("_seconds")].value > 0).all()
    assert "2 skipped" in run("bench_key_queue.py", QUEUE) and len(RecordStore(tmp_path).read()) == len(rows)
