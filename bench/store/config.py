"""Configuration: frozen dataclasses hold the defaults, YAML files hold differences, dotted flags come last.

A YAML file may name others that it starts from: `extends: [tiny.yaml]`, relative to itself. Aliases (`*name`) are refused, since a few lines
of them can stand for more than any memory holds.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from models.errors import InputError, nearest

Config = TypeVar("Config")
ID_LENGTH = 16


def build(kind: type[Config], tree: dict, where: str) -> Config:
    """Lay a tree of plain values over the defaults of the dataclass `kind`, at any depth; `where` names its source in messages.

    Raises:
        InputError: an unknown key (with the nearest known one), a wrong type, a value out of range.
    """
    _refuse_unknown_keys(kind, tree, where)
    try:
        return TypeAdapter(kind).validate_python(merge(as_tree(kind()), tree))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise InputError(f"{where}: {key}: {first['msg']} (got {first.get('input')!r})") from None


class _Plain(yaml.SafeLoader):
    """Plain values only, each written out, in text that UTF-8 can hold."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None, None, "an alias; write the value out", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_scalar(self, node):
        value = super().construct_scalar(node)
        value.encode()  # a lone surrogate, which an escape can make
        return value


def parse_yaml(text: str, where: str):
    """The plain values of a YAML text; `where` names it in messages. Raises InputError."""
    try:
        loader = _Plain(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
    ) as error:  # of dates that are none, say
        raise InputError(f"{where}: not readable as YAML: {' '.join(str(error).split())}") from None


def read_yaml(file: Path, _extended: tuple[Path, ...] = ()) -> dict:
    """A YAML mapping with its `extends` resolved, the extending file winning. Raises InputError."""
    file = Path(file)
    try:
        tree = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a YAML configuration") from None
    except ValueError as error:  # not UTF-8; or a NUL in the name
        raise InputError(f"{file}: not readable as YAML: {error}") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise InputError(f"{file}: expected a mapping of keys to values, got {type(tree).__name__}")
    parents, base, behind = tree.pop("extends", []), {}, (*_extended, file.resolve())
    if not isinstance(parents, list) or not all(isinstance(parent, str) and "\0" not in parent for parent in parents):
        raise InputError(f"{file}: extends: expected a list of files, got {parents!r}")
    for parent in parents:
        if (file.parent / parent).resolve() in behind:
            raise InputError(f"{file}: extends: {parent} extends this file in turn")
        base = merge(base, read_yaml(file.parent / parent, behind))
    return merge(base, tree)


def merge(base: dict, change: dict) -> dict:
    """`base` with the keys of `change` laid over it, mappings merged key by key."""
    merged = dict(base)
    for key, value in change.items():
        both_mappings = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both_mappings else value
    return merged


def as_tree(config: Any) -> dict:
    """A configuration as plain values, ready for YAML or JSON."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def fingerprint(value: Any) -> str:
    """A short sha256 of a configuration or of plain values, the same for equal content."""
    plain = as_tree(value) if dataclasses.is_dataclass(value) else value
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def code_fingerprint(*modules: str) -> str:
    """A short sha256 of the code of modules or whole packages; comments and docstrings do not count."""
    digest = hashlib.sha256()
    for module in sorted(modules):
        origin = Path(importlib.util.find_spec(module).origin)
        sources = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for source in sources:
            digest.update(source.relative_to(origin.parent).as_posix().encode())
            about = source.stat()
            digest.update(_code_without_docstrings(source, about.st_mtime_ns, about.st_size))
    return digest.hexdigest()[:ID_LENGTH]


@functools.lru_cache(maxsize=1024)
def _code_without_docstrings(source: Path, changed: int, size: int) -> bytes:
    """Of a file as it was when it last changed: the same file is asked for by many fingerprints, and takes milliseconds."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree).encode()


def parse_override(override: str) -> dict:
    """`a.b=3` as a tree; the value is YAML. Raises InputError."""
    key, sign, value = override.partition("=")
    if not (key and sign):
        raise InputError(f"{override!r}: expected key=value, such as train.steps=100")
    tree = parse_yaml(value, override)
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return tree


def _refuse_unknown_keys(kind: type, tree: dict, where: str, prefix: str = "") -> None:
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    for key, value in tree.items():
        if key not in fields:
            raise InputError(f"{where}: unknown key {prefix}{key}{nearest(str(key), fields)}")
        if dataclasses.is_dataclass(fields[key]) and isinstance(value, dict):
            _refuse_unknown_keys(fields[key], value, where, prefix=f"{prefix}{key}.")
