"""Quality of each model and speed of each engine by the day they were measured, from all records of a home.

`lexlip-bench compare` tests the difference between two sets of records; here they stand side by side.
"""

import datetime

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.rows import filtered
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import integer, percent, significant

COLOURS = 7


def sections(evidence: Evidence) -> list[Section]:
    drawn = chart(evidence)
    empty = "Everything was measured on one day. Merge the records of dated runs: lexlip-bench records merge."
    text = (
        "Means over seeds. A step may come from the code, the machine or the model: lexlip-bench compare tells which."
    )
    return [Section("history", "Over time", (text,), [drawn] if drawn else [], empty=empty)]


def chart(evidence: Evidence) -> Chart | None:
    """A line per model and per engine; None if no line has two days."""
    kinds = {"R@1, %": quality(evidence), "queries per second": speed(evidence)}
    panels, several = [], 0
    for title, found in kinds.items():
        several += (found.groupby("name").day.nunique() > 1).sum() if len(found) else 0
        series = tuple(
            Series(name, tuple(_mark(row, title) for row in rows.itertuples()), place % COLOURS, "all")
            for place, (name, rows) in enumerate(found.groupby("name"))
        )
        if series:
            axes = Axis("day", format=_day), Axis(title, log=title != "R@1, %")
            over = f"{title} over {integer(found.images.iloc[0])} images"
            panels.append(Panel(over, *axes, series))
    if not several:
        return None
    alt = "; ".join(mark.tip.replace("\n", ", ") for panel in panels for one in panel.series for mark in one.marks)
    subtitle = "Text to image at the operating point of each model, and each engine at its fastest setting."
    return Chart("history", "Quality and speed by day", subtitle, evidence.corpus, alt, tuple(panels))


def quality(evidence: Evidence) -> pd.DataFrame:
    """Mean R@1 over seeds: name, day, value, images and points, for each model and day."""
    made = []
    for variant in evidence.variants:
        at = evidence.retrieval() | evidence.operating_point(variant)
        rows = filtered(_all(evidence), at | {"variant": variant, "metric": "recall@1", "batch_mode": ""})
        made.append(rows.drop_duplicates(["day", "seed"], keep="last").assign(name=variant))
    return _means(made)


def speed(evidence: Evidence) -> pd.DataFrame:
    """The highest rate of single queries on one thread in the largest gallery: as `quality`, for each engine."""
    rows = _all(evidence)
    rows = rows[(rows.task == "scale") & (rows.metric == "qps") & (rows.batch_mode == "single") & (rows.threads == 1)]
    rows = rows[rows.images == rows.images.max()].sort_values("value")
    return _means([rows.drop_duplicates(["day", "engine"], keep="last").assign(name=lambda rows: rows.engine)])


def _all(evidence: Evidence) -> pd.DataFrame:
    """Measured rows of the corpus and profile, superseded ones too, oldest first."""
    named = evidence.named
    mine = (named.corpus == evidence.corpus) & (named.profile == evidence.profile) & (named.status == "ok")
    return named[mine & named.started.str.len().ge(10)].sort_values("started").assign(day=lambda r: r.started.str[:10])


def _means(rows: list[pd.DataFrame]) -> pd.DataFrame:
    of = pd.concat(rows) if rows else pd.DataFrame(columns=["name", "day", "images", "value", "point_id"])
    grouped = of.groupby(["name", "day", "images"], as_index=False)
    return grouped.agg(value=("value", "mean"), points=("point_id", lambda ids: ", ".join(ids[:6])))


def _mark(row, title: str) -> Mark:
    share = title == "R@1, %"
    written = f"{percent(row.value)} %" if share else f"{significant(row.value)} queries per second"
    at = float(datetime.date.fromisoformat(row.day).toordinal())
    return Mark(at, 100 * row.value if share else row.value, f"{row.name}, {row.day}\n{written}\nrecords: {row.points}")


def _day(value: float) -> str:
    return datetime.date.fromordinal(round(value)).isoformat()[5:]
