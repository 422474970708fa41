"""Names what looks like a local file and is none that the readers can open: URLs and compressed files."""

import re

from models.errors import InputError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}(?=[^/])|pipe:")  # one slash: a URL that was normalised as a path
COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a file -> compression."""


def check_local(key: str, path: str) -> None:
    """Raises InputError for a URL, and for a command of the package `webdataset` (`pipe:curl ...`)."""
    if URL.match(path):
        raise InputError(f"{key}: {path} is a URL; expected a path: download the files first")


def check_uncompressed(file, head: bytes) -> None:
    """Raises InputError for the first bytes of a compressed file."""
    for magic, name in COMPRESSED.items():
        if head.startswith(magic):
            raise InputError(f"{file}: compressed with {name}, but read in place: decompress it first")
