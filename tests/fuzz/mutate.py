"""Changes of a valid file: bytes as failing disks and cut transfers leave them, or values inside JSON and YAML."""

import json
import random
from collections.abc import Sequence

import yaml

PIECES = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b"'", b",", b"\t", b"\r", b"\n", b"\r\n", b"\\"),
    *(b"/", b"../", b"/", b"{", b"}", b"[", b"]", b":", b": ", b"- ", b"#"),
    *(b"&a ", b"*a", b"<<: ", b"!!python/object/apply:os.system [id]", b"!!binary ", b"!!timestamp "),
    *(b"? ", b"|", b">", b"%YAML 9.9\n---\n", b"---\n", b"...\n"),
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"0x10", b"0o7", b"1:30:00", b"2026-02-30", b"true"),
    *(b"\xf0\x9f\x98\x80", b"9" * 400, b"[" * 2000, b'{"a":' * 2000, b"x" * 70_000, bytes(512)),
)
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 255, 1 << 31, 1 << 63, 1 << 64, -(1 << 63) - 1, 10**40),
    *(0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "0", "null", "\0", "\n", "\ud800", "\u2028", "../../x", "/", "~", "*", "{0..9}", "x" * 5000),
    *([], {}, [[]], [None], {"": ""}, {"name": "scenes"}, [0] * 50, {"1": 1, "a": [1, {"b": None}]}),
)
KEYS = ("", "name", "pixels", "extends", "kind", "0", "\n", "x" * 300)


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes], form: str, once: bool = False) -> bytes:
    """One to four changes of `data`, or one; `others`: contents to take pieces from."""
    if form != "bytes" and rng.random() < 0.6:
        changed = _exchange(rng, data, form, once)
        if changed is not None and changed != data:
            return changed
    for _ in range(1 if once else rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(CHANGES)(rng, data, others)
    return data


def _flip(rng, data, others):
    if not data:
        return b"\0"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _set(rng, data, others):
    at = rng.randrange(len(data) + 1)
    return (
        data[:at] + bytes([rng.choice((0, 1, 0x20, 0x30, 0x39, 0x7F, 0x80, 0xFF, rng.randrange(256)))]) + data[at + 1 :]
    )


def _number(rng, data, others):
    """A number as formats store it, at any place."""
    width, order = rng.choice((2, 4, 8)), rng.choice(("little", "big"))
    number = rng.choice((0, 1, -1, rng.randrange(1 << 16), (1 << (8 * width - 1)) - 1, 1 << (8 * width - 1), len(data)))
    at = rng.randrange(len(data) + 1)
    return data[:at] + (number % (1 << (8 * width))).to_bytes(width, order) + data[at + width :]


def _cut(rng, data, others):
    return data[: rng.randrange(len(data) + 1)]


def _remove(rng, data, others):
    start, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[min(stop, start + rng.choice((1, 4, 64, len(data)))) :]


def _repeat(rng, data, others):
    start, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    at = rng.choice((start, stop, rng.randrange(len(data) + 1)))
    return data[:at] + data[start:stop] * rng.choice((1, 1, 2, 8)) + data[at:]


def _insert(rng, data, others):
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(PIECES) + data[at + rng.choice((0, 0, 1, 4)) :]


def _join(rng, data, others):
    """The beginning of this and the end of another."""
    other = rng.choice(others or [data])
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _zero(rng, data, others):
    """A run of zeros, as a block that never reached the disk."""
    start, length = rng.randrange(len(data) + 1), rng.choice((1, 8, 64, 512))
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


CHANGES = (_flip, _flip, _set, _number, _cut, _remove, _repeat, _insert, _insert, _join, _zero)


def _exchange(rng: random.Random, data: bytes, form: str, once: bool) -> bytes | None:
    """One value of a tree exchanged, dropped, moved or renamed; None where the data is no tree."""
    try:
        tree = json.loads(data) if form == "json" else yaml.safe_load(data)
        places = list(_places(tree))
        if not places:
            return None
        for _ in range(1 if once else rng.choice((1, 1, 2))):
            parent, key = rng.choice(places)
            if key not in (parent if isinstance(parent, dict) else range(len(parent))):
                continue
            kind = rng.randrange(6)
            if kind == 0:
                del parent[key]
            elif kind == 1 and isinstance(parent, dict):
                parent[rng.choice(KEYS)] = parent.pop(key)
            elif kind == 2:
                other, its = rng.choice(places)
                if its in (other if isinstance(other, dict) else range(len(other))):
                    parent[key] = json.loads(json.dumps(other[its]))
            elif kind == 3 and isinstance(parent[key], int | float):
                parent[key] = parent[key] * rng.choice((-1, 0, 2, 10**6)) + rng.choice((0, 1, -1, 0.5))
            else:
                parent[key] = rng.choice(VALUES)
        return json.dumps(tree).encode() if form == "json" else yaml.safe_dump(tree, sort_keys=False).encode()
    except (ValueError, TypeError, RecursionError, OverflowError, yaml.YAMLError, AttributeError, LookupError):
        return None


def _places(tree):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(value)
