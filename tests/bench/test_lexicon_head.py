"""The head's bench, through the real command at a tiny shape."""

import subprocess
import sys
from pathlib import Path

from bench.records import RecordStore

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--items", "4", "--tokens", "6", "--lexicons", "500", "--width", "16", "--repeats", "1", "--threads", "1"]


def run(home, *flags):
    command = [sys.executable, "-m", "bench.lexicon_head", "--home", str(home), *TINY, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_each_way_is_a_record_and_is_not_measured_again(tmp_path):
    first = run(tmp_path, "--ways", "plain,tiled")
    assert first.returncode == 0, first.stderr
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["plain", "tiled"]
    rows = RecordStore(tmp_path).read()
    assert set(rows.task) == {"lexicon_head"} and set(rows.status) == {"ok"}
    for way in ("plain", "tiled"):
        values = rows[rows.engine == way].set_index("metric").value
        assert set(values.index) == {"head_forward_seconds", "head_backward_seconds", "head_peak_bytes", "head_active_share"}
        assert values.head_forward_seconds > 0 and values.head_backward_seconds > 0
        assert 0.002 < values.head_active_share < 0.03, "about as sparse as a trained head"
    assert run(tmp_path, "--ways", "tiled").stdout == first.stdout.splitlines(keepends=True)[1]
    assert len(RecordStore(tmp_path).read()) == len(rows)


def test_an_unknown_way_is_refused(tmp_path):
    refused = run(tmp_path, "--ways", "fast")
    assert refused.returncode == 2 and "'fast': expected plain, plain_compiled, tiled" in refused.stderr
