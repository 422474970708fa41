"""What all commands share: their common flags, their progress bar, and how they fail.

A command is `parser = cli.parser(...)`, its own flags, and `cli.run(main, parser)`. Bad input and a machine that refuses
(no such file, disk full, no permission) end in one line on stderr and exit code 2; everything else is a defect and keeps
its traceback.
"""

import argparse
import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

from bench.store.lock import locked
from models.errors import InputError

BAD_INPUT = 2
INTERRUPTED = 130
CONSOLE = "lexlip-bench"
LONGEST = 2000  # characters of a message: it can quote a file that has no end of line
ROW: int | None = None
"""Line of the terminal, from the cursor down, of the progress bars of this process, where several share it."""


def parser(description: str, writes: bool = False) -> argparse.ArgumentParser:
    """An argument parser with the flags that every command has: `--home`, `--force`, `--verbose`.

    writes: the command makes something in the home, so it locks it while it runs, and has the flag `--wait`.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument(
        "--home",
        type=Path,
        default=Path(os.environ.get("LEXLIP_BENCH_HOME", "runs")),
        help="folder of everything that is made: data, checkpoints, vectors, indexes, records, the site",
    )
    made.add_argument("--force", action="store_true", help="make again what exists and is whole")
    made.add_argument("--verbose", action="store_true", help="log what is reused and what is made")
    if writes:
        made.add_argument("--wait", action="store_true", help="where another run uses the home, wait for it to end")
    return made


def add_corpus(flags: argparse.ArgumentParser, images: str | None = "images of the split; all their captions are used"):
    """Adds `--corpus`, `--split` and, with a help text, `--images`: the items that a command reads."""
    flags.add_argument("--corpus", default="scenes", help="name, or a mapping such as '{name: scenes, concepts: 200}'")
    flags.add_argument("--split", default="test", help="split of the corpus")
    if images:
        flags.add_argument("--images", type=int, default=1000, help=images)


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
    parsed = arguments.parse_intermixed_args(argv)  # flags may stand between the words
    logging.basicConfig(
        level=logging.INFO if parsed.verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    try:
        with locked(parsed.home, command_line(), parsed.wait) if "wait" in parsed else contextlib.nullcontext():
            return main(parsed) or 0
    except KeyboardInterrupt:
        again = "; run the same command again to resume" if "wait" in parsed else ""
        print(f"{arguments.prog}: interrupted{again}", file=sys.stderr)
        return INTERRUPTED
    except (InputError, OSError) as error:
        print(f"{arguments.prog}: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT


def one_line(error: Exception) -> str:
    """What is printed of an error."""
    line = " ".join(str(error).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"


def command_line() -> str:
    """The running command as a user types it: `lexlip-bench recall FLAGS` or `python -m package.module FLAGS`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name.removesuffix(".__main__") if spec else ""
    program = Path(sys.argv[0]).name
    if module == "bench" or program == CONSOLE:
        start = [CONSOLE]
    else:
        start = ["python", "-m", module] if module else ["python", program]
    return shlex.join([*start, *sys.argv[1:]])


def progress(
    items: Iterable | None = None, *, total: int | None = None, desc: str = "", unit: str = "it", initial: int = 0
) -> tqdm:
    """A progress bar with rate and remaining time; silent when stderr is not a terminal."""
    return tqdm(
        items,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        position=ROW,
        disable=None,
        dynamic_ncols=True,
        smoothing=0.1,
    )
