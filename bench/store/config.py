"""Configuration and ids: frozen dataclasses hold the defaults, YAML files override them, dotted flags override both.

A YAML file may extend others: `extends: [tiny.yaml]`, relative to itself. Aliases (`*name`) are refused: a few
lines of nested aliases expand to more than memory holds.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import json
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from models.errors import InputError, nearest

Config = TypeVar("Config")
_adapter = functools.cache(TypeAdapter)  # making one takes 20 ms, a hundred times as long as using it
ID_LENGTH = 16
DEEPEST = 100
"""Flow brackets within each other: PyYAML takes time that grows with the square of the depth."""
YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What PyYAML raises for a broken text; the built-in ones come from values such as a date of February 30."""


def build(kind: type[Config], tree: dict, where: str) -> Config:
    """The dataclass `kind` with its defaults overridden by a tree of plain values, at any depth.

    where: the source of the tree, for error messages.

    Raises:
        InputError: an unknown key (with the nearest known one), a wrong type, a value out of range.
    """
    _refuse_unknown_keys(kind, tree, where)
    try:
        return _adapter(kind).validate_python(merge(as_tree(kind()), tree))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise InputError(f"{where}: {key}: {first['msg']} (got {first.get('input')!r})") from None


class _Plain(yaml.SafeLoader):
    """Plain values only, no aliases, no text that UTF-8 cannot encode, no brackets deeper than `DEEPEST`."""

    def fetch_flow_collection_start(self, token):
        if self.flow_level == DEEPEST:
            said = f"more than {DEEPEST} brackets in each other"
            raise yaml.constructor.ConstructorError(None, None, said, self.get_mark())
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None, None, "aliases are not supported; repeat the value", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_scalar(self, node):
        value = super().construct_scalar(node)
        value.encode()  # raises for a lone surrogate, which an escape can produce
        return value


def parse_yaml(text: str, where: str):
    """The plain values of a YAML text; `where` is its source, for error messages. Raises InputError."""
    try:
        loader = _Plain(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except YAML_ERRORS as error:
        raise InputError(f"{where}: not readable as YAML: {' '.join(str(error).split())}") from None


def read_yaml(file: Path, _extended: tuple[Path, ...] = ()) -> dict:
    """A YAML mapping, laid over those that it `extends`. Raises InputError."""
    file = Path(file)
    try:
        tree = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a YAML configuration") from None
    except ValueError as error:  # not UTF-8, or a NUL in the file name
        raise InputError(f"{file}: not readable as YAML: {error}") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise InputError(f"{file}: expected a mapping of keys to values, got {type(tree).__name__}")
    parents, base, behind = tree.pop("extends", []), {}, (*_extended, file.resolve())
    if not isinstance(parents, list) or not all(isinstance(parent, str) and "\0" not in parent for parent in parents):
        raise InputError(f"{file}: extends: expected a list of files, got {parents!r}")
    for parent in parents:
        if (file.parent / parent).resolve() in behind:
            raise InputError(f"{file}: extends: {parent} extends this file, a cycle")
        base = merge(base, read_yaml(file.parent / parent, behind))
    return merge(base, tree)


def run_of(checkpoint: Path) -> dict:
    """variant, seed, profile and config_id of the run that made a checkpoint, from the `config.yaml` beside it.

    Without one, the variant is the name of the folder. Raises InputError for a broken file.
    """
    folder, found = checkpoint.resolve(), _training_of(checkpoint)
    if not (isinstance(found.get("variant"), str) and isinstance(found.get("seed"), int)):
        return {"variant": folder.name}
    named = {name: found[name] for name in ("variant", "seed", "profile") if name in found}
    return named | {"config_id": folder.parent.name}


def corpus_of(checkpoint: Path) -> dict | None:
    """Specification of the corpus that a checkpoint was trained on, from the `config.yaml` beside it; None without one.

    Raises InputError for a broken file.
    """
    data = _training_of(checkpoint).get("data")
    corpus = data.get("corpus") if isinstance(data, dict) else None
    return corpus if isinstance(corpus, dict) and "name" in corpus else None


def _training_of(checkpoint: Path) -> dict:
    described = checkpoint.resolve().parent / "config.yaml"
    return read_yaml(described) if described.is_file() else {}


def merge(base: dict, change: dict) -> dict:
    """`base` updated with `change`; nested mappings are merged key by key."""
    merged = dict(base)
    for key, value in change.items():
        both_mappings = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both_mappings else value
    return merged


def as_tree(config: Any) -> dict:
    """A configuration as plain values, for YAML or JSON."""
    return _adapter(type(config)).dump_python(config, mode="json")


def fingerprint(value: Any) -> str:
    """A short sha256 of a configuration or of plain values; the order of keys does not count."""
    plain = as_tree(value) if dataclasses.is_dataclass(value) else value
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def code_fingerprint(*modules: str) -> str:
    """A short sha256 of the code of modules or whole packages, the same under every Python version.

    It hashes the syntax tree: comments, docstrings and formatting do not count.
    """
    digest = hashlib.sha256()
    for module in sorted(modules):
        found = importlib.util.find_spec(module)
        if found is None:
            raise ModuleNotFoundError(f"code_fingerprint: no module {module}", name=module)
        origin = Path(found.origin)
        sources = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for source in sources:
            digest.update(source.relative_to(origin.parent).as_posix().encode())
            about = source.stat()
            digest.update(_digest_of_code(source, about.st_mtime_ns, about.st_size))
    return digest.hexdigest()[:ID_LENGTH]


@functools.lru_cache(maxsize=1024)
def _digest_of_code(source: Path, changed: int, size: int) -> bytes:
    """sha256 of the syntax tree of a file; `changed` and `size` are part of the cache key."""
    parts: list[str] = []
    _serialise(ast.parse(source.read_text(encoding="utf-8")), parts)
    return hashlib.sha256("".join(parts).encode("utf-8", "surrogatepass")).digest()


_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_NOT_CODE = ("ctx", "kind", "type_comment", "type_ignores")


def _serialise(node: ast.AST, parts: list[str]) -> None:
    """Appends a node as `Class(field=value...)`.

    Trap: Python versions differ in which empty fields a node has, in `ast.dump` and in `ast.unparse`. So empty
    fields are left out, and so are `ctx`, which follows from the position, and `kind`, the `u` of a string.
    """
    parts.append(f"{type(node).__name__}(")
    for name in sorted(node._fields):
        value = getattr(node, name, None)
        if name == "body" and isinstance(node, _WITH_DOCSTRING):
            value = value[_has_docstring(value) :]
        if name == "values" and isinstance(node, ast.JoinedStr):
            value = [part for part in value if getattr(part, "value", None) != ""]
        if name in _NOT_CODE or (value is None and not isinstance(node, ast.Constant)) or value == []:
            continue
        parts.append(f"{name}=")
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                _serialise(item, parts)
            else:  # a name, a constant, a number; None in a list is a default that is not given
                parts.append(repr(item))
            parts.append(",")
    parts.append(")")


def _has_docstring(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def parse_override(override: str) -> dict:
    """`a.b=3` as the tree `{a: {b: 3}}`; the value is parsed as YAML. Raises InputError."""
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
        section = next(filter(dataclasses.is_dataclass, (fields[key], *typing.get_args(fields[key]))), None)
        if section and isinstance(value, dict):  # also of a section that may be null
            _refuse_unknown_keys(section, value, where, prefix=f"{prefix}{key}.")
