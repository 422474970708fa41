"""The queue's bench, through the real command at a small shape."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.store.records import RecordStore
from bench.tasks.parts import key_queue

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"batch": 8, "queue": 20, "lexicons": 2000, "active": 0.01, "top_k": 64}


def test_the_command_records_both_ways(tmp_path):
    flags = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    command = [
        sys.executable,
        "-m",
        "bench.tasks.parts.key_queue",
        "--home",
        str(tmp_path),
        *flags,
        "--threads",
        "1",
        "--repeats",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["dense", "sparse"]
    rows = RecordStore(tmp_path).read()
    assert set(rows.task) == {"key_queue"} and set(rows.status) == {"ok"}
    values = rows.pivot(index="engine", columns="metric", values="value")
    assert values.queue_bytes.to_dict() == {"dense": 20 * 2000 * 4 + 8, "sparse": 20 * 64 * 4 + 8}
    assert (values[["queue_push_seconds", "queue_score_seconds"]] > 0).all(axis=None)


@pytest.mark.parametrize(("top_k", "same"), [(64, True), (4, False)])
def test_a_sparse_queue_has_the_loss_of_a_dense_one_where_it_keeps_all_lexicons_of_a_key(top_k, same):
    made = {
        way: key_queue.measure({"shape": SMALL | {"top_k": top_k}, "way": way, "repeats": 1, "threads": 1})
        for way in key_queue.PART.ways
    }
    assert made["dense"]["queue_active"] == made["sparse"]["queue_active"] == pytest.approx(20, rel=0.5)
    assert made["dense"]["queue_loss"] > 0.1, "keys overlap, so that a wrong score would show"
    assert (abs(made["dense"]["queue_loss"] - made["sparse"]["queue_loss"]) < 1e-3) == same
