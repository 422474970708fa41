"""The table of several finished runs: a row for each objective, means over seeds, and first what beats lexicons."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.sparsify.report import DIRECTIONS, KEPT, MAIN, percent, table
from models.errors import InputError
from models.files import read_json

ABOUT = "report.json"
UNITS = ("csr",)
"""Objectives whose units are not words."""


def table_of(folders: Sequence[Path]) -> str:
    """The Markdown table of runs over the same dense vectors, one row for each label and number of lexicons kept.

    Runs that differ in their seed only are one row: means. Raises InputError for an unfinished run, and for runs of
    different dense vectors.
    """
    runs: dict[str, list[Mapping]] = {}
    dense = None
    for folder in folders:
        about = read_json(folder / ABOUT, "expected the folder of a finished run of lexlip-bench sparsify")
        inputs = read_json(folder / "settings.json")["dense"]
        if dense is not None and inputs != dense:
            raise InputError(f"{folder}: made from other dense vectors than {folders[0]}; expected the same")
        dense = inputs
        runs.setdefault(label_of(folder, about), []).append(about)
    parts = [better_first(runs), table(_HEAD, list(_rows(runs)))]
    return "\n\n".join(part for part in parts if part)


def label_of(folder: Path, about: Mapping) -> str:
    """The objective, and the keys of its configuration that differ from the recipe."""
    from bench.store.config import as_tree, build
    from models.sparsify.config import SparsifyConfig, recipe

    found = read_json(folder / "settings.json")["config"]
    usual = as_tree(build(SparsifyConfig, recipe(about["objective"]), "recipe"))
    changed = [f"{key}={found[key]}" for key in usual if key not in ("seed", "objective") and found[key] != usual[key]]
    return " ".join([about["objective"], *changed])


_HEAD = [
    *("vectors", "kept", "seeds"),
    *(f"{name} R@{k}" for name in DIRECTIONS.values() for k in (1, 10)),
    *("weight on caption words", "typed-word R@1", "bytes an image", "training, s"),
]


def better_first(runs: Mapping[str, Sequence[Mapping]]) -> str:
    """A line for each compressed dense index, and each code without words, with more R@1 than the best lexicons."""
    values = {
        (label, kept): _mean(of, lambda one, kept=kept: _r1(one, kept)) for label, of in runs.items() for kept in KEPT
    }
    words = {key: value for key, value in values.items() if key[0].split()[0] not in UNITS and key[1] == MAIN}
    if not words:
        return ""
    best = max(words, key=words.get)
    others = {f"{label}, {MAIN} units": values[label, MAIN] for label in runs if label.split()[0] in UNITS}
    for name in _compressed(runs):
        others[f"dense as {name}"] = _mean(
            [one for of in runs.values() for one in of], lambda one, name=name: _r1(one, name)
        )
    found = [
        f"{name} ({percent(value)})" for name, value in others.items() if value is not None and value > words[best]
    ]
    if not found:
        return ""
    return (
        f"**More R@1, text to image, than the best lexicons ({best[0]}, {percent(words[best])}): {'; '.join(found)}.**"
    )


def _rows(runs: Mapping[str, Sequence[Mapping]]):
    everything = [one for of in runs.values() for one in of]
    for name in ("dense", *_compressed(runs)):
        of = [one for one in everything if name in one["measured"]["recall"]]
        count = of[0]["measured"]["given"]["images"]
        size = of[0]["measured"]["index"]["faiss-flat"]["bytes"] / count if name == "dense" else None
        cells = ["-", "-", f"{size:,.0f}" if size else name.split(", ")[1].split()[0], "-"]
        yield [name, "-", "-", *_recall(of[:1], name), *cells]
    for label, of in runs.items():
        size = _mean(of, lambda one: one["measured"]["index"]["impact"]["bytes"] / one["measured"]["given"]["images"])
        typed = _mean(of, lambda one: one["measured"].get("typed", {}).get("R@1"))
        cost = f"{size:,.0f}", f"{_mean(of, lambda one: one['train_seconds']):,.0f}"
        for (recall, words), same in itertools.groupby(KEPT, lambda kept, of=of: (_recall(of, kept), _words(of, kept))):
            numbers = list(same)  # an encoder that keeps 32 lexicons has the same rows for 64 and all
            shown = numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
            of_main = percent(typed) if typed is not None else "-", *cost
            yield [label, shown, str(len(of)), *recall, words, *(of_main if MAIN in numbers else "---")]


def _words(of: Sequence[Mapping], kept: str) -> str:
    share = _mean(of, lambda one: one["measured"].get("words", {}).get("image", {}).get(kept))
    return "-" if share is None else percent(share)


def _recall(of: Sequence[Mapping], name: str) -> list[str]:
    found = []
    for direction in DIRECTIONS:
        for k in (1, 10):
            value = _mean(of, lambda one, d=direction, k=k: one["measured"]["recall"][name][d].get(f"R@{k}"))
            found.append("-" if value is None else percent(value))
    return found


def _compressed(runs: Mapping[str, Sequence[Mapping]]) -> list[str]:
    names = (name for of in runs.values() for one in of for name in one["measured"]["recall"] if "bytes" in name)
    return list(dict.fromkeys(names))


def _r1(one: Mapping, name: str) -> float | None:
    row = one["measured"]["recall"].get(name)
    return row and row["text_to_image"]["R@1"]


def _mean(of: Sequence[Mapping], value) -> float | None:
    found = [each for each in map(value, of) if each is not None]
    return float(np.mean(found)) if found else None
