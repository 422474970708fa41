"""Registered engines and their knobs, from `grids.yaml`. An engine's module is imported when the engine is made."""

import functools
import importlib
import itertools
from pathlib import Path

from bench.engines.contract import SHARDED, Engine
from bench.store import config
from models.errors import InputError, nearest

GRIDS = Path(__file__).with_name("grids.yaml")


def names(kind: str | None = None) -> list[str]:
    """Registered engines: all, or those for vectors of a kind ("dense" or "lexicon")."""
    return [name for name, entry in _registry().items() if kind in (None, entry["kind"]) or entry["kind"] == "any"]


def default_names() -> list[str]:
    """Engines of `--engines all`: those without `by_name: true` in `grids.yaml`."""
    return [name for name, entry in _registry().items() if not entry.get("by_name")]


def get(name: str) -> Engine:
    """A new engine; `sharded-NAME` is the engine NAME in shards. Raises InputError for an unknown name."""
    if name.startswith(SHARDED):
        from bench.engines.sharded import Sharded

        return Sharded(functools.partial(get, name.removeprefix(SHARDED)))
    entry = _entry(name)
    module, _, cls = entry["class"].partition(":")
    made = getattr(importlib.import_module(module), cls)
    return made(name, **definition(name)) if "settings" in entry else made()


def definition(name: str) -> dict:
    """Arguments of a configurable engine: its `settings`, and `defaults`, the first value of each build knob."""
    entry = _entry(name)
    if "settings" not in entry:
        return {}
    return entry["settings"] | {"defaults": {knob: values[0] for knob, values in (entry.get("build") or {}).items()}}


def modules(name: str) -> tuple[str, ...]:
    """Modules whose code decides what an engine returns."""
    if name.startswith(SHARDED):
        return "bench.engines.sharded", *modules(name.removeprefix(SHARDED))
    return _entry(name)["class"].partition(":")[0], *get(name).other_modules


def code_id(name: str, *others: str) -> str:
    """A hash of an engine's code, of its definition and of other modules: part of the id of its indexes and points."""
    code, made_from = config.code_fingerprint(*modules(name), *others), definition(name.removeprefix(SHARDED))
    return config.fingerprint([code, made_from]) if made_from else code


def knob_names(name: str) -> list[str]:
    """The knobs of an engine that are swept, build knobs first."""
    return [knob for stage in ("build", "search") for knob in _entry(name).get(stage) or {}]


def grid(name: str, stage: str, chosen: dict[str, list] | None = None) -> list[dict]:
    """Every combination of an engine's knobs; [{}] when it has none.

    stage: "build" or "search". chosen: lists of values that replace those of `grids.yaml`.
    """
    knobs = {knob: (chosen or {}).get(knob, values) for knob, values in (_entry(name).get(stage) or {}).items()}
    if stage == "build":
        engine = get(name)
        knobs |= {knob: [value] for knob in ("served", "release") if (value := getattr(engine, knob))}
    return [dict(zip(knobs, values, strict=True)) for values in itertools.product(*knobs.values())]


def _entry(name: str) -> dict:
    if name not in _registry():
        raise InputError(f"unknown engine '{name}'{nearest(name, _registry())}")
    return _registry()[name]


@functools.cache
def _registry() -> dict[str, dict]:
    return config.read_yaml(GRIDS)
