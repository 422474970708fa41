"""`InputError`, which every package raises for bad input, and the parts of its messages that many of them share."""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class InputError(Exception):
    """Bad input from the user: a path, a value, a broken file.

    The message is one line: what is wrong, where, and what was expected. Commands print it and exit with code 2
    (`bench.store.cli.run`); results already computed are kept.
    """


class AbsentError(InputError):
    """An optional package is not installed."""


def nearest(word: str, known: Iterable[str], listed: bool = True) -> str:
    """` (nearest: X; known: A, B, C)` for an error message about an unknown name; without the list unless `listed`."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.0)
    if not close:
        return ""
    return f" (nearest: {close[0]}; known: {', '.join(known)})" if listed else f" (nearest: {close[0]})"


def one_line(error: Exception) -> str:
    """The message of a library's exception on one line, cut at 300 characters; its type where it has no message."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def absent(package: str, extra: str = "") -> AbsentError:
    """The error for a missing optional package.

    Args:
        package: the name on PyPI.
        extra: the extra of this project that installs it; without one the message says to install the package without
            its dependencies, which in packages outside the extras pin old versions of torch.
    """
    command = f"'lexlip-bench[{extra}]'" if extra else f"--no-deps {package}"
    return AbsentError(f"the package '{package}' is not installed; pip install {command}")


def require(module: str, extra: str = "", package: str = "") -> ModuleType:
    """Imports an optional module. Raises AbsentError; `package` is its name on PyPI if that differs."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise absent(package or module.partition(".")[0], extra) from None
