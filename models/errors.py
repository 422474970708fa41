"""`InputError`, the error of bad input that every package raises, and hints for unknown names."""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class InputError(Exception):
    """Bad input from the user: a path, a value, a file that is broken.

    The message is one line that names what was wrong and what was expected. Commands print it and exit with code 2
    (`bench.store.cli.run`); nothing already computed is lost.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """` (nearest: X; known: A, B, C)` for an error message about an unknown name."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.0)
    return f" (nearest: {close[0]}; known: {', '.join(known)})" if close else ""


class AbsentError(InputError):
    """An optional package is not installed."""


def absent(package: str, extra: str) -> AbsentError:
    """The error of a missing optional package; it names the extra of this project that installs it."""
    return AbsentError(f"the package '{package}' is not installed; pip install 'lexlip-bench[{extra}]'")


def require(module: str, extra: str, package: str = "") -> ModuleType:
    """Imports an optional module. Raises AbsentError; `package` is its name on PyPI where that differs."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise absent(package or module.partition(".")[0], extra) from None
