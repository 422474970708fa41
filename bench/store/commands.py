"""Runs other commands of this project as subprocesses: the way to use a package that must not be imported from here."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

from models.errors import InputError


def run_command(module: str, *flags: str, failed: str) -> str:
    """Runs `python -m module flags` and returns the last line of its stdout; its stderr is shown.

    After Ctrl-C the subprocess is killed.

    Raises:
        InputError: a non-zero exit code; the message starts with `failed`.
    """
    command = [sys.executable, "-m", module, *flags]
    with sigint_blocked():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        out, _ = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise InputError(f"{failed} (its own message is above); again: python {' '.join(command[1:])}")
    lines = out.strip().splitlines()
    return lines[-1] if lines else ""


def build_report(home, profile: str = "") -> str:
    """Builds the site of a home, prints the path of its first page and returns it. Raises InputError."""
    chosen = ["--profile", profile] if profile else []
    page = run_command(
        "reports.build", "--home", str(home), *chosen, failed="the records are kept, but the report failed"
    )
    print(page)
    return page


@contextlib.contextmanager
def sigint_blocked() -> Iterator[None]:
    """Blocks SIGINT in this thread; processes started inside inherit that, so Ctrl-C reaches their parent alone.

    The parent must end them. A terminal sends SIGINT to the whole process group, and each Python process would
    print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
