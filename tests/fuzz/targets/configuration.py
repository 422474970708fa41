"""Configuration: profiles, variants, overrides and the grid of a sweep."""

import dataclasses
import json
import shutil

from ablations import config as run_config
from bench.scale.plan import GRID, Grid
from bench.store.config import fingerprint
from tests.fuzz.targets.target import Target


def _tree(config) -> list:
    return [json.dumps(dataclasses.asdict(config), default=str), fingerprint(config)]


class Profile(Target):
    slow = True
    name, file, about, form = "profile", "own.yaml", "YAML of a profile, with its parents", "yaml"

    def build(self, folder):
        for name in ("quick", "smoke"):
            shutil.copy(run_config.named_file("profiles", name), folder / f"{name}.yaml")
        return [
            b"extends: [smoke.yaml]\ntrain: {steps: 4, phase1: {batch: 8}}\n",
            *((folder / f"{n}.yaml").read_bytes() for n in ("quick", "smoke")),
        ]

    def read(self, folder):
        return _tree(run_config.resolve(str(folder / self.file), "lexlip"))


class Variant(Target):
    slow = True
    name, file, about, form = "variant", "own.yaml", "YAML of a variant", "yaml"

    def build(self, folder):
        return [run_config.named_file("variants", name).read_bytes() for name in run_config.names("variants")[::7]]

    def read(self, folder):
        return _tree(run_config.resolve("smoke", str(folder / self.file)))


class Overrides(Target):
    slow = True
    name, file, about = "overrides", "overrides.txt", "dotted overrides on a command line"

    def build(self, folder):
        return [
            b"train.steps=8\nmodel.image.pixels=64",
            b"data.corpus={name: scenes, pixels: 64}\ntrain.betas=[0.9, 0.99]",
        ]

    def read(self, folder):
        text = (folder / self.file).read_text(encoding="utf-8", errors="replace")
        return _tree(run_config.resolve("smoke", "lexlip", text.split("\n")))


class SweepGrid(Target):
    slow = True
    name, file, about, form = "grid", "own.yaml", "YAML of a sweep", "yaml"

    def build(self, folder):
        return [GRID.read_bytes()]

    def read(self, folder):
        grid = Grid.read(folder / self.file)
        return [_tree(grid), grid.threaded]


CLASSES = [Profile, Variant, Overrides, SweepGrid]
