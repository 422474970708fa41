"""The parts of the report. A part is one file with `section(evidence) -> Section` and one template of the same name.
A part that has nothing to say without certain records returns None, and is left out.

`reports.pages.site.PAGES` says which parts stand on which page, in order; a new part is a file, a template and its name there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.tasks.metrics import METRICS
from reports.render.figures import Figure
from reports.render.tables import Table


@dataclass(frozen=True)
class Section:
    """`name` is the anchor and the template's name; `data` is what the template reads besides tables and figures (by name); `scripts`: of `static/`."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    data: dict = field(default_factory=dict)
    scripts: tuple[str, ...] = ()


def definitions(names: Iterable[str]) -> list[tuple[str, str]]:
    """Label and definition of metrics, from the registry."""
    return [(METRICS[name].label, METRICS[name].definition) for name in names]
