"""Parts of the pages. A part is a module with `section(evidence) -> Section | None` and a template of the same name.

A part without any records may return None and is left out. `reports.pages.site.PAGES` lists the parts of each page; a
new part is a module, a template and an entry there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.store.metrics import METRICS
from reports.render.figures import Figure
from reports.render.tables import Table


@dataclass(frozen=True)
class Section:
    """A part of a page. `name`: anchor and name of the template; `data`: values for the template; `folder`: of it."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    data: dict = field(default_factory=dict)
    folder: str = ""

    @property
    def template(self) -> str:
        return f"{self.folder}/{self.name}.html".removeprefix("/")


def definitions(names: Iterable[str]) -> list[tuple[str, str]]:
    """Label and definition of metrics, from the registry."""
    return [(METRICS[name].label, METRICS[name].definition) for name in names]
