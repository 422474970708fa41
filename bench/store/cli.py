"""The frame of every command: common flags, the lock of the home, exit codes, one-line errors, Ctrl-C.

A command is a module with `parser()`, which starts from `cli.parser(...)`, and `main(arguments)`; `cli.run` calls
them. Bad input, disk and file errors end in one line on stderr and exit code 2. Any other exception is a defect and
keeps its traceback.
"""

import argparse
import contextlib
import logging
import math
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.store.lock import locked
from bench.store.progress import progress
from models.errors import InputError

__all__ = [
    "add_corpus",
    "add_rankings",
    "command_line",
    "error_line",
    "interrupted",
    "parser",
    "positive",
    "progress",
    "run",
]

BAD_INPUT = 2
INTERRUPTED = 130
CONSOLE_SCRIPT = "lexlip-bench"
LONGEST_ERROR = 2000  # characters: a message may quote a file without line breaks
OF_MACHINE = {
    "no locator available": "no folder can be written for numba's compiled kernels (tried the package, the home, the "
    "temporary folder); set NUMBA_CACHE_DIR or TMPDIR to one",
    "Could not determine home": "a path starts with ~, but this user has no home folder; give the whole path",
}
"""Words of a RuntimeError that the machine causes, not the code -> the message instead."""


def parser(description: str, writes: bool = False, home: bool = True) -> argparse.ArgumentParser:
    """An argument parser with the flags of every command: `--home`, `--force`, `--verbose`.

    writes: the command writes to the home, so it holds the home's lock while it runs, and has the flag `--wait`.
    home: whether the command uses one.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    if home:
        made.add_argument(
            "--home",
            type=Path,
            default=Path(os.environ.get("LEXLIP_BENCH_HOME", "runs")),
            help="folder of all outputs: data, checkpoints, vectors, indexes, records, the site",
        )
    made.add_argument("--force", action="store_true", help="recompute outputs that exist")
    made.add_argument("--verbose", action="store_true", help="log what is reused and what is computed")
    if writes:
        made.add_argument("--wait", action="store_true", help="wait if another run uses the home")
    return made


def add_corpus(flags: argparse.ArgumentParser, images: str | None = "images of the split; all their captions are used"):
    """Adds `--corpus`, `--split` and, with a help text, `--images`: the items that a command reads."""
    text = (
        "name, or a mapping such as '{name: scenes, concepts: 200}'; that of the checkpoint's training unless given, "
    )
    flags.add_argument("--corpus", default=None, help=f"{text}or scenes")
    split = "split of the corpus; test unless given, or the only split of a corpus with split: all"
    flags.add_argument("--split", default=None, help=split)
    if images:
        flags.add_argument("--images", type=images_or_all, default=1000, help=f"{images}; a number, or all")


def add_rankings(flags: argparse.ArgumentParser) -> None:
    """Adds `--rankings`, for commands that search."""
    text = "store the results of every searched query too, for `lexlip-bench records export --trec-run FOLDER`"
    flags.add_argument("--rankings", action="store_true", help=text)


def images_or_all(text: str) -> int | str:
    """The value of `--images`: a number, or "all" (`bench.corpora.counts`)."""
    try:
        return text if text == "all" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or all") from None


def positive(kind: type[int] | type[float], or_zero: bool = False) -> Callable[[str], float]:
    """The `type` of a flag: a finite number above 0, or also 0."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if math.isfinite(value) and (value > 0 or (or_zero and value == 0)):
                return value
        expected = f"{'a whole number' if kind is int else 'a number'} {'of at least 0' if or_zero else 'above 0'}"
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")

    return parse


def run(
    main: Callable[[argparse.Namespace], int | None],
    arguments: argparse.ArgumentParser,
    argv: list[str] | None = None,
    prog: str | None = None,
) -> int:
    """Parses flags, sets up logging and calls `main`; returns the exit code.

    0 (or what `main` returns) on success, 2 for bad input and 130 after Ctrl-C, both with one line on stderr.
    """
    arguments.prog = prog or arguments.prog
    parsed = arguments.parse_intermixed_args(argv)  # flags may stand between positional arguments
    logging.basicConfig(
        level=logging.INFO if parsed.verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    try:
        with locked(parsed.home, command_line(), parsed.wait) if "wait" in parsed else contextlib.nullcontext():
            return main(parsed) or 0
    except KeyboardInterrupt:
        return interrupted(arguments.prog, "; run the same command again to resume" if "wait" in parsed else "")
    except (InputError, OSError) as error:
        print(f"{arguments.prog}: {error_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except RuntimeError as error:
        line = next((line for words, line in OF_MACHINE.items() if words in str(error)), None)
        if line is None:
            raise
        print(f"{arguments.prog}: {line}", file=sys.stderr)
        return BAD_INPUT


def interrupted(prog: str, remedy: str = "") -> int:
    """Ends a command after Ctrl-C: kills its child processes, prints one line, returns exit code 130.

    A second Ctrl-C is ignored, since it would interrupt the interpreter's own shutdown.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    children = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if not any("resource_tracker" in word for word in child.cmdline()):  # ends by itself, and must clean up
                child.kill()
                children.append(child)
    psutil.wait_procs(children, timeout=10)
    if not int(os.environ.get("RANK", 0)):  # of the processes of torchrun, the first reports
        print(f"{prog}: interrupted{remedy}", file=sys.stderr)
    return INTERRUPTED


def error_line(error: Exception) -> str:
    """The message of an error as one line of at most `LONGEST_ERROR` characters."""
    line = " ".join(str(error).split())
    return line if len(line) <= LONGEST_ERROR else f"{line[:LONGEST_ERROR]} …"


def command_line() -> str:
    """The running command as a user types it: `lexlip-bench NAME FLAGS` or `python -m package.module FLAGS`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name.removesuffix(".__main__") if spec else ""
    program = Path(sys.argv[0])
    if module == "bench" or program.stem == CONSOLE_SCRIPT:
        start = [CONSOLE_SCRIPT]
    else:
        start = ["python", "-m", module] if module else ["python", program.name]
    return shlex.join([*start, *sys.argv[1:]])
