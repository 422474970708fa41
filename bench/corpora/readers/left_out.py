"""Rows and images that cannot be used: left out, counted, and the first of them named."""

import logging
from pathlib import Path

from models.errors import InputError

log = logging.getLogger(__name__)

MAX_SHARE = 0.05  # of the rows or images of a corpus that are left out without `allow_missing`
NAMED, NAMED_IF_STRICT = 3, 20


def check_boolean(key: str, value) -> None:
    """Raises InputError for a parameter of a corpus that is not true or false."""
    if not isinstance(value, bool):
        raise InputError(f"{key}: {value!r} is not true or false")


class LeftOut:
    """What a corpus leaves out.

    source: the file that lists the items. what: their name in messages, such as "rows". strict: refuse any fault.
    allow_missing: accept more than 5% of them. Raises InputError if both are set, and for other values than booleans.
    """

    def __init__(self, source: Path, what: str, strict: bool = False, allow_missing: bool = False):
        check_boolean("strict", strict)
        check_boolean("allow_missing", allow_missing)
        if strict and allow_missing:
            raise InputError("strict and allow_missing: expected at most one of them to be true")
        self.source, self.what, self.strict, self.allow_missing = source, what, strict, allow_missing
        self.count = 0
        self._reasons: list[str] = []

    def add(self, reason: str) -> None:
        """Counts an item; `reason` names it and its fault."""
        self.count += 1
        if len(self._reasons) < NAMED_IF_STRICT:
            self._reasons.append(reason if reason.isprintable() else ascii(reason))

    def report(self, used: int) -> None:
        """Logs what was left out beside `used` items.

        Raises InputError if strict, for more than 5% without `allow_missing`, and if no item is used.
        """
        if not self.count:
            return
        total = self.count + used
        named = self._reasons[: NAMED_IF_STRICT if self.strict else NAMED]
        more = f"; {self.count - len(named):,} more" if self.count > len(named) else ""
        found = f"{self.source}: {self.count:,} of {total:,} {self.what} cannot be used ({'; '.join(named)}{more})"
        if self.strict or not used:
            raise InputError(f"{found}; expected {'none' if self.strict else 'at least one that can'}")
        if self.count > MAX_SHARE * total and not self.allow_missing:
            raise InputError(f"{found}; expected at most {MAX_SHARE:.0%}; allow_missing: true leaves them out")
        log.warning("%s: left out", found)
