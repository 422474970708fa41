"""One execution: reads a changed file and checks the outcome."""

import contextlib
import signal
import traceback
from pathlib import Path

from models.errors import InputError
from tests.fuzz.targets import Target

CPU_SECONDS = 20  # limit of one execution; decoding the largest image takes three
SEEDS = Path(__file__).resolve().parent / "seeds"
ROOT = SEEDS.parents[2]


class Hang(BaseException):
    """An execution exceeded its limit. Not an Exception, so that the code under test does not catch it."""


class Harness:
    """A target with its valid files in `folder`. Raises AssertionError when a valid file is not read."""

    def __init__(self, target: Target, folder: Path):
        self.target, self.folder, self.slow = target, folder, target.slow
        self.seeds = target.build(folder)
        self.file = folder / target.file
        for seed in self.seeds:
            self.file.write_bytes(seed)
            self.expected = target.read(folder)
        assert not target.sealed or len(self.seeds) == 1, (
            f"{target.name}: expected one valid file, whose values a changed one must have"
        )

    def mishandled(self, data: bytes) -> tuple[str, str] | None:
        """(place in the code, problem) of reading the data; None when it is read or refused as it should be."""
        self.file.write_bytes(data)
        try:
            with _limited():
                found = self.target.read(self.folder)
        except InputError as error:
            return None if str(error).strip() else (_place(error), "an error without a message")
        except OSError as error:
            if error.errno is not None:  # of the operating system: commands print it in one line
                return None
            return _place(error), f"{type(error).__name__}: {error}"
        except (Exception, Hang) as error:
            return _place(error), f"{type(error).__name__}: {error}"
        if self.target.sealed and found != self.expected:
            return "", f"silently other values of a changed {self.target.file}"
        return None


@contextlib.contextmanager
def _limited():
    """Raises Hang after `CPU_SECONDS` of this process."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _hang(*_):
    raise Hang(f"more than {CPU_SECONDS} CPU seconds")


signal.signal(signal.SIGPROF, _hang)


def _place(error: BaseException) -> str:
    """File and line of the last frame of this project: tells equal defects from different ones."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [
        (file, line) for file, line in frames if file.is_relative_to(ROOT) and not file.is_relative_to(SEEDS.parent)
    ]
    return f"{ours[-1][0].relative_to(ROOT)}:{ours[-1][1]}" if ours else type(error).__name__
