"""Runs other commands of this project as subprocesses: the way to use a package that must not be imported from here."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from models.errors import InputError


def run_command(module: str, *flags: str, failed: str) -> str:
    """Runs `python -m module flags` and returns the last line of its stdout; its stderr is shown.

    After Ctrl-C the subprocess is killed.

    Raises:
        InputError: a non-zero exit code; the message starts with `failed`.
    """
    command, process = [sys.executable, "-m", module, *flags], None
    try:
        with sigint_blocked():  # a Ctrl-C in between is raised at its end, when the process is known
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        out, _ = process.communicate()
    except BaseException:
        if process is not None:
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
    """Defers Ctrl-C to the end of the block; processes started inside never get it, so it reaches their parent alone.

    The parent must end them. A terminal sends SIGINT to the whole process group, and each Python process would
    print a traceback. They inherit the mask of this thread. The mask is not enough for this process: any other thread,
    also one of a library, may take the signal, and Python then raises in the main thread.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    taken, is_main = [], threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *signalled: taken.append(signalled)) if is_main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a pending signal is taken here
        if is_main:
            signal.signal(signal.SIGINT, handler)
            if taken and callable(handler):
                handler(*taken[0])
