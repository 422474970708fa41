"""The folder of numba's compiled kernels where neither the package nor the user's cache can be written.

numba caches beside the source, then in the user's cache folder. In a container with a read-only image and no home it
finds no folder and raises on import of the first kernel. `choose_folder` then sets `NUMBA_CACHE_DIR` to a temporary
folder of the user, which later commands on the same machine find again.
"""

import os
import stat
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
FOLDER = "lexlip-bench-numba"
MEMORY = Path("/dev/shm")  # Linux: can be written where even the temporary folder cannot


def choose_folder(package: Path) -> None:
    """Sets `NUMBA_CACHE_DIR` unless numba finds a folder by itself. Call it before numba is imported.

    package: the folder of the kernels. Child processes inherit the variable. Sets nothing if no folder can be written;
    numba's error is then worded by `bench.store.cli`.
    """
    if _writable(package / "__pycache__"):
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if (given := os.environ.get(VARIABLE)) and _writable(Path(given)):
        return
    if cache.is_absolute() and _writable(cache / "numba"):
        return
    for folder in _temporary():
        os.environ[VARIABLE] = str(folder)
        return


def _writable(folder: Path) -> bool:
    """Whether `folder` can be written, or created."""
    for existing in (folder, *folder.parents):
        try:
            mode = existing.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError:  # below a file, or in a folder that cannot be entered
            return False
        return stat.S_ISDIR(mode) and os.access(existing, os.W_OK | os.X_OK)
    return False


def _temporary():
    """Yields folders of this user in which a file can be created.

    Trap: numba runs what it finds in its cache. A folder that others own or may write is not used.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        places = [Path(tempfile.gettempdir()), MEMORY]
    except OSError:  # none can be written
        places = [MEMORY]
    for place in places:
        folder = place / f"{FOLDER}-{user}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            about = folder.lstat()
            foreign = hasattr(os, "getuid") and (about.st_uid != user or about.st_mode & 0o022)
            if foreign or not stat.S_ISDIR(about.st_mode):
                folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=place))
            tempfile.TemporaryFile(dir=folder).close()
            yield folder
        except OSError:
            continue
