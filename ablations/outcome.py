"""Outputs of a finished run beside its weights: records, and a model card `README.md` for model hubs."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from ablations.config import RunConfig
from bench.corpora import title_of
from bench.store.machine import cores, machine, note_of_other_work
from bench.store.records import Point, RecordStore
from models.files import atomic_file

CARD = "README.md"
TAGS = {"lexlip": "lexicon vectors (sparse)", "clip": "dense vectors"}
KINDS = {"lexlip": "lexicon", "clip": "dense"}
DIRECTIONS = ("text_to_image", "image_to_text")


class OfRun(NamedTuple):
    """A run as its records and card describe it."""

    profile: str
    variant: str
    seed: int
    run: RunConfig
    data_id: str
    run_id: str
    command: str


def write_records(home: Path, of: OfRun, summary: dict, replace: bool) -> None:
    """Writes the learning curve and the cost; skips existing points unless `replace`.

    Writes nothing of a run that another machine trained, because a record names the machine that writes it.
    """
    store = RecordStore(home)
    if _machine_of(summary) != machine()["machine_id"]:
        return
    for point, values, more in _points(of, summary):
        if replace or not store.has(point):
            store.write(point, values, **more)


def remove_records(home: Path, of: OfRun, summary: dict) -> None:
    """Removes what `write_records` wrote on the machine that trained."""
    for point, _, _ in _points(of, summary):
        RecordStore(home).remove(point)


def _machine_of(summary: dict) -> str:
    """Id of the machine that trained; of this one for summaries without it, which older versions wrote."""
    return summary.get("machine", machine())["machine_id"]


def _points(of: OfRun, summary: dict) -> Iterator[tuple[Point, dict, dict]]:
    """(point, values, more) of the learning curve (for each validation, points on train and val), and of the cost.

    more: further arguments of `RecordStore.write`.
    """
    common = {
        "task": "training",
        "corpus": title_of(of.run.data.corpus),
        "profile": of.profile,
        "variant": of.variant,
        "seed": of.seed,
        "kind": KINDS[of.run.model.kind],
        "config_id": of.run_id,
        "data_id": of.data_id,
        "command": of.command,
        "machine_id": _machine_of(summary),
    }
    for row in summary["curve"]:
        values = {**row["train"], "lr": row["lr"], "train_seconds": row["seconds"]}
        yield Point(**common, split="train", step=row["step"]), values, {}
        for direction in DIRECTIONS:
            point = Point(**common, split="val", step=row["step"], direction=direction, images=of.run.data.val_images)
            yield point, _of_direction(row["val"], direction), {}
    named = ("steps", "chosen_step", "train_seconds", "train_cpu_seconds", "train_samples", "parameters")
    cost = {name: summary[name] for name in named}
    cost["train_samples_per_second"] = summary["train_samples"] / summary["train_seconds"]
    total = Point(**common, split="train", images=of.run.data.train_images)
    yield total, cost, {"note": _note(summary), "seconds": summary["train_seconds"]}


def write_card(checkpoint: Path, of: OfRun, summary: dict) -> None:
    """Writes the model card of a finished run unless it has one."""
    if (checkpoint / CARD).exists():
        return
    chosen = next(row for row in summary["curve"] if row["step"] == summary["chosen_step"])
    model, data = of.run.model, of.run.data
    tags = ["image-text-retrieval", TAGS[model.kind], of.variant]
    front = yaml.safe_dump({"license": "apache-2.0", "library_name": "lexlip-bench", "tags": tags}, sort_keys=False)
    corpus = yaml.safe_dump(data.corpus, default_flow_style=True, width=10_000).strip()
    to_image, to_text = (f"{100 * chosen['val'][f'{direction}/recall@1']:.1f}%" for direction in DIRECTIONS)
    pixels = model.image.pixels
    rows = {
        "corpus": f"`{corpus}`, {data.train_images:,} training images",
        "training": f"{summary['steps']:,} steps, {summary['train_samples']:,} pairs, {summary['precision']}",
        "chosen": f"step {summary['chosen_step']:,}, by R@1 on val: text to image {to_image}, image to text {to_text}, "
        f"over {data.val_images:,} images",
        "command": f"`{of.command}`",
    }
    with atomic_file(checkpoint / CARD) as partial:
        partial.write_text(
            f"""---
{front}---

# {of.variant}, trained with the profile {of.profile}, seed {of.seed}

A model of {TAGS[model.kind]} for searching images by text, trained by LexLIP bench. It has
{summary["parameters"]:,} parameters and {model.text.vocabulary:,} vocabulary entries, and takes images of {pixels}
x {pixels} pixels.

```python
from models import load

model = load("this folder")
texts = model.encode_text(["two red balloons over a lake at night"])
images = model.encode_image(images_uint8)  # uint8 (B, {pixels}, {pixels}, 3); both outputs are L2-normalised float32
```

| | |
|---|---|
{chr(10).join(f"| {name} | {text} |" for name, text in rows.items())}

The checkpoint was chosen by R@1 on val, so that number is optimistic; the report has the values on test.
""",
            encoding="utf-8",
        )


def _of_direction(values: dict[str, float], direction: str) -> dict[str, float]:
    """The values of one direction, and those of none, without the direction in their names."""
    return {
        name.removeprefix(f"{direction}/"): value
        for name, value in values.items()
        if "/" not in name or name.startswith(direction)
    }


def _note(summary: dict) -> str:
    """Of the cost's record: other work on the machine, dtype, lexicon head, processes and threads."""
    free = max(0, cores() - summary["threads"])  # cores for trainings beside this one, which do not disturb it
    loaded = note_of_other_work(max(0.0, summary["other_core_seconds"] / summary["train_seconds"] - free))
    threads = f"{summary['threads']} thread{'s' if summary['threads'] > 1 else ''}"
    head = summary["lexicon_head"] and f"lexicon head {summary['lexicon_head']}"
    used = f"{summary['processes']} processes of {threads}" if summary["processes"] > 1 else threads
    return "; ".join(filter(None, (loaded, f"precision {summary['precision']}", head, used)))
