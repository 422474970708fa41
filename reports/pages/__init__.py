"""Pages of the site. A page is a module with `sections(evidence)` and an entry in `reports.pages.site.PAGES`.

A section has fixed text, charts and tables; the general template shows them in this order, and tables of `folded`
behind a switch. A section with `template` is shown by that template instead.
"""

from dataclasses import dataclass, field

from reports.render.charts import Chart
from reports.render.tables import Table


@dataclass(frozen=True)
class Section:
    """name: anchor. text: fixed paragraphs. data: values for `template`. empty: said in place of charts and tables."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    folded: list[Table] = field(default_factory=list)
    data: dict = field(default_factory=dict)
    template: str = "section.html"
    empty: str = ""

    @property
    def all_tables(self) -> list[Table]:
        return [*self.tables, *self.folded]
