"""What the fuzzer reads: a reader of files, and how a valid file of it is made."""

import abc
from pathlib import Path
from typing import ClassVar

PIXELS = 16
CAPTIONS = ("a red apple, on the grass", 'a "blue" bicycle', "zwei grüne Gitarren \N{GUITAR}")


class Target(abc.ABC):
    """One reader of files. A new one is a class with these members, in `CLASSES` of a module of this folder."""

    name: ClassVar[str]
    file: ClassVar[str]
    """The file that is changed, in the folder of the target."""
    about: ClassVar[str]
    sealed: ClassVar[bool] = False
    """A checksum protects the file: with one change it must be refused, or read as the same values."""
    form: ClassVar[str] = "bytes"
    """"json" or "yaml" where values inside the file can be exchanged, else "bytes"."""
    slow: ClassVar[bool] = False
    """One execution takes more than 5 ms."""

    @abc.abstractmethod
    def build(self, folder: Path) -> list[bytes]:
        """Writes what the reader needs into an empty folder and returns valid contents of `file`."""

    @abc.abstractmethod
    def read(self, folder: Path):
        """Reads `file` and returns plain values. May raise InputError and nothing else."""
