"""The model card of a run: `README.md` beside the weights of the checkpoint that was chosen, in the form that model hubs read."""

from pathlib import Path

import yaml

from ablations.config import RunConfig
from models.files import atomic_file

NAME = "README.md"
TAGS = {"lexlip": "lexicon vectors (sparse)", "clip": "dense vectors"}


def write(checkpoint: Path, profile: str, variant: str, seed: int, run: RunConfig, summary: dict, command: str) -> None:
    """Write the card of a finished run; every number in it is of its configuration or its summary."""
    chosen = next(row for row in summary["curve"] if row["step"] == summary["chosen_step"])
    tags = ["image-text-retrieval", TAGS[run.model.kind], variant]
    front = yaml.safe_dump({"license": "apache-2.0", "library_name": "lexlip-bench", "tags": tags}, sort_keys=False)
    recall = {way: f"{100 * chosen['val'][f'{way}/recall@1']:.1f}%" for way in ("text_to_image", "image_to_text")}
    with atomic_file(checkpoint / NAME) as partial:
        partial.write_text(
            f"""---
{front}---

# {variant}, trained by the profile {profile}, seed {seed}

A model of {TAGS[run.model.kind]} for searching pictures by text, made by LexLIP bench. {summary["parameters"]:,} parameters,
{run.model.text.vocabulary:,} entries in its vocabulary, pictures of {run.model.image.pixels} x {run.model.image.pixels} pixels.

```python
from models import load

model = load("this folder")
texts = model.encode_text(["two red balloons over a lake at night"])
images = model.encode_image(pictures)  # uint8 (B, {run.model.image.pixels}, {run.model.image.pixels}, 3); both L2-normalised float32
```

| | |
|---|---|
| corpus | `{yaml.safe_dump(run.data.corpus, default_flow_style=True, width=10_000).strip()}`, {run.data.train_images:,} training images |
| training | {summary["steps"]:,} steps, {summary["train_samples"]:,} pairs, {summary["precision"]} |
| chosen | step {summary["chosen_step"]:,}, by R@1 on val: text to image {recall["text_to_image"]}, image to text {recall["image_to_text"]}, over {run.data.val_images:,} images |
| made by | `{command}` |

R@1 on val chose this checkpoint, so it flatters it: the report says what it reaches on test. What it knows is what its corpus shows.
""",
            encoding="utf-8",
        )
