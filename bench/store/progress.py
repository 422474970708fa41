"""Progress of long work: a tqdm bar on a terminal, else (nohup, CI) a line on stderr at least every two minutes."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from models.errors import InputError

SECONDS_BETWEEN_LINES = 120.0
SECONDS_VARIABLE = "LEXLIP_BENCH_PROGRESS_SECONDS"
"""Environment variable that overrides `SECONDS_BETWEEN_LINES`."""

_terminal_row: int | None = None


def set_terminal_row(row: int) -> None:
    """Places the bars of this process on a fixed row below the cursor; for processes that share a terminal."""
    global _terminal_row
    _terminal_row = row


def progress(
    items: Iterable | None = None, *, total: int | None = None, desc: str = "", unit: str = "it", initial: int = 0
) -> "tqdm | ProgressLines":
    """Progress over `items`, or a context manager to `update` by hand; shows the rate and the time left."""
    shown = {"total": total, "desc": desc, "unit": unit, "initial": initial}
    if sys.stderr.isatty():
        return tqdm(items, **shown, position=_terminal_row, dynamic_ncols=True, smoothing=0.1)
    return ProgressLines(items, **shown)


class ProgressLines:
    """The part of tqdm's interface that this project uses, for a stderr that is not a terminal.

    Prints a line after every `SECONDS_BETWEEN_LINES` without one (from a thread, so also during one long step), on
    every `set_postfix`, and at the end if there was a line before. Work that ends sooner prints nothing.
    """

    def __init__(self, items: Iterable | None, total: int | None, desc: str, unit: str, initial: int):
        self.items, self.desc, self.n, self.initial = items, desc, initial, initial
        self.total = len(items) if total is None and hasattr(items, "__len__") else total
        self.units = unit if unit.endswith("s") else f"{unit}es" if unit.endswith("x") else f"{unit}s"
        self.started = self.printed = time.monotonic()
        self._printed_n: float | None = None
        self._values: dict = {}
        self._closed = threading.Event()
        threading.Thread(target=self._print_regularly, args=(_interval(),), daemon=True, name="progress").start()

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __iter__(self) -> Iterator:
        with self:
            for item in self.items:
                yield item
                self.n += 1

    def update(self, n: float = 1) -> None:
        """Counts `n` more items as done."""
        self.n += n

    def set_postfix(self, **values) -> None:
        """Prints a line with `values`, which later lines repeat."""
        self._values = values
        self._print()

    def close(self) -> None:
        """Ends the lines, with a last one if there were any."""
        if not self._closed.is_set():
            self._closed.set()
            if self._printed_n not in (None, self.n):
                self._print()

    def line(self) -> str:
        """What is printed: description, items done of the total, values, rate and time left."""
        elapsed = time.monotonic() - self.started
        rate = (self.n - self.initial) / elapsed if elapsed else 0.0
        parts = [f"{self.n:,} of {self.total:,} {self.units}" if self.total else f"{self.n:,} {self.units}"]
        parts += [f"{name} {value}" for name, value in self._values.items()]
        parts.append(f"{rate:,.3g} {self.units}/s" if rate < 100 else f"{rate:,.0f} {self.units}/s")
        if self.total and rate:
            parts.append(f"{_clock((self.total - self.n) / rate)} left")
        return f"{self.desc or 'progress'}: {', '.join(parts)}"

    def _print(self) -> None:
        self.printed, self._printed_n = time.monotonic(), self.n
        sys.stderr.write(f"{self.line()}\n")
        sys.stderr.flush()

    def _print_regularly(self, seconds: float) -> None:
        while not self._closed.wait(max(0.0, self.printed + seconds - time.monotonic())):
            if time.monotonic() - self.printed >= seconds:
                self._print()


def _interval() -> float:
    """Seconds between lines. Raises InputError for a variable that is no number above 0."""
    text = os.environ.get(SECONDS_VARIABLE, str(SECONDS_BETWEEN_LINES))
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) <= threading.TIMEOUT_MAX:
            return seconds
    raise InputError(f"{SECONDS_VARIABLE}={text}: expected a number of seconds above 0")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(max(seconds, 0.0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
