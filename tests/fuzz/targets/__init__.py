"""The readers of files that users bring and disks damage: `TARGETS` by name."""

from tests.fuzz.targets import configuration, corpora, images, imports, stored
from tests.fuzz.targets.target import Target

__all__ = ["TARGETS", "Target"]

MODULES = (corpora, stored, configuration, images, imports)
TARGETS: dict[str, Target] = {made.name: made() for module in MODULES for made in module.CLASSES}
