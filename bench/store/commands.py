"""Other commands of this project, run as a user would type them: for floors that must not be imported from here."""

import subprocess
import sys

from models.errors import InputError


def run_command(module: str, *flags: str, failed: str) -> str:
    """`python -m module flags`: the last line it prints; its messages on stderr are shown. Raises InputError, `failed` first, when it fails."""
    command = [sys.executable, "-m", module, *flags]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"{failed} (its own message is above); again: python {' '.join(command[1:])}")
    lines = done.stdout.strip().splitlines()
    return lines[-1] if lines else ""


def build_report(home, profile: str = "") -> str:
    """Builds the page of a home, prints where it lies, and returns that. Raises InputError when it fails."""
    chosen = ["--profile", profile] if profile else []
    page = run_command(
        "reports.build", "--home", str(home), *chosen, failed="the records are kept, but the report failed"
    )
    print(page)
    return page
