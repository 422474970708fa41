"""Progress: a bar on a terminal, lines on a stderr that is not one."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import progress as module
from bench.store.progress import SECONDS_VARIABLE, ProgressLines, progress
from models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
WORK = """
import time
from bench.store import cli

for _ in cli.progress(range(4), desc="first", unit="image"):
    time.sleep(0.15)
with cli.progress(total=10, desc="second", unit="pair", initial=2) as bar:
    bar.update(3)
    bar.set_postfix(loss="1.5")
    time.sleep(0.5)
    bar.update(5)
for _ in cli.progress(range(1000), desc="soon done"):
    pass
"""


def run(seconds: float, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), SECONDS_VARIABLE: str(seconds)}
    return subprocess.Popen([sys.executable, "-c", WORK], env=environment, **options)


def test_without_a_terminal_lines_are_printed_regularly_and_at_each_postfix():
    _, err = run(0.2, stderr=subprocess.PIPE, text=True).communicate(timeout=60)
    lines = err.splitlines()
    first = [line for line in lines if line.startswith("first: ")]
    second = [line for line in lines if line.startswith("second: ")]
    assert lines == first + second and len(first) >= 2, "work that ends before the interval prints nothing"
    assert re.fullmatch(r"first: [12] of 4 images, \S+ images/s, 0:00:0\d left", first[0])
    assert first[-1].startswith("first: 4 of 4 images, ")
    assert re.fullmatch(r"second: 5 of 10 pairs, loss 1.5, \S+ pairs/s, 0:00:0\d left", second[0])
    assert len(second) >= 3, "also during one long step"
    assert second[-1].startswith("second: 10 of 10 pairs, loss 1.5, ")


@pytest.mark.parametrize("seconds", ["often", "0", "-1", "nan", "inf"])
def test_an_interval_that_cannot_be_is_refused(seconds, monkeypatch):
    monkeypatch.setenv(SECONDS_VARIABLE, seconds)
    with pytest.raises(InputError, match=f"^{SECONDS_VARIABLE}={seconds}: expected a number of seconds above 0$"):
        ProgressLines([], None, "", "it", 0)


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
def test_on_a_terminal_there_is_a_bar():
    import fcntl
    import termios

    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = run(0.2, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 65536):
            shown += chunk
    except OSError:  # the terminal was closed
        pass
    assert process.wait() == 0
    assert b"\rfirst: 100%|" in shown and b" of 4 images" not in shown


def test_rate_and_time_left_by_hand(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    bar = ProgressLines(None, total=50_000, desc="encode", unit="item", initial=10_000)
    now[0] += 20.0
    bar.update(4_000)  # 200 items/s; 36,000 left
    assert bar.line() == "encode: 14,000 of 50,000 items, 200 items/s, 0:03:00 left"
    bar.close()
    slow = ProgressLines(None, total=None, desc="", unit="index", initial=0)
    now[0] += 8.0
    slow.update(2)
    assert slow.line() == "progress: 2 indexes, 0.25 indexes/s"
    slow.close()


def test_iterating_counts_and_stops_the_thread(capsys):
    bar = progress(iter("abc"), total=3)
    assert list(bar) == ["a", "b", "c"] and bar.n == 3 and bar._closed.is_set()
    stopped = progress([1, 2, 3])
    for item in stopped:
        if item == 2:
            break
    del item
    assert capsys.readouterr().err == ""
