"""Quality of each trained model and speed of each engine by the day they were measured, from all records of a home.

`lexlip-bench compare` tests the difference between two sets of records; here they stand side by side.
"""

import pandas as pd

from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.rows import filtered
from reports.render.charts import Axis, Chart, Mark, Panel, Series
from reports.render.tables import integer, percent, significant

COLOURS = 7
SHARE, RATE = "R@1, %", "queries per second"


def sections(evidence: Evidence) -> list[Section]:
    """Nothing unless a model or an engine was measured on two days."""
    text = "A step may come from the code, the machine or the model: lexlip-bench compare tells which."
    return [Section("history", "Quality and speed by day", (text,), [drawn])] if (drawn := chart(evidence)) else []


def chart(evidence: Evidence) -> Chart | None:
    """A line for each model (of one seed) and each engine that was measured on two days or more; None without any."""
    found = {title: _several(rows) for title, rows in ((SHARE, quality(evidence)), (RATE, speed(evidence)))}
    days = sorted({day for rows in found.values() for day in rows.day})
    if not days:
        return None
    panels = []
    for title, rows in found.items():
        series = [
            Series(name, tuple(_mark(row, title, days) for row in of.itertuples()), place % COLOURS, "all")
            for place, (name, of) in enumerate(rows.groupby("name"))
        ]
        if series:
            axes = Axis("day", format=lambda x: days[int(x)] if x in range(len(days)) else ""), Axis(title)
            panels.append(Panel(f"{title} over {integer(rows.images.iloc[0])} images", *axes, tuple(series)))
    alt = "; ".join(mark.tip.replace("\n", ", ") for panel in panels for one in panel.series for mark in one.marks)
    subtitle = "Text to image at the operating point of each model, and each engine at its fastest setting."
    return Chart("history", f"{days[0]} to {days[-1]}", subtitle, evidence.corpus, alt, tuple(panels))


def quality(evidence: Evidence) -> pd.DataFrame:
    """R@1 of each trained model: name (with its seed), day, value, images, point_id."""
    made, everything = [], _all(evidence)
    for variant in evidence.variants:
        at = evidence.retrieval() | evidence.operating_point(variant)
        rows = filtered(everything, at | {"variant": variant, "metric": "recall@1", "batch_mode": ""})
        names = [variant if pd.isna(seed) else f"{variant}, seed {seed:.0f}" for seed in rows.seed]
        made.append(rows.assign(name=names).drop_duplicates(["day", "name"], keep="last"))
    return pd.concat(made) if made else everything.iloc[:0].assign(name="")


def speed(evidence: Evidence) -> pd.DataFrame:
    """The highest rate of single queries on one thread in the largest gallery: as `quality`, for each engine."""
    rows = _all(evidence)
    rows = rows[(rows.task == "scale") & (rows.metric == "qps") & (rows.batch_mode == "single") & (rows.threads == 1)]
    rows = rows[rows.images == rows.images.max()].sort_values("value").assign(name=lambda rows: rows.engine)
    return rows.drop_duplicates(["day", "name"], keep="last").sort_values("day")


def _several(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.groupby("name").day.transform("nunique") > 1]


def _all(evidence: Evidence) -> pd.DataFrame:
    """Measured rows of the corpus and profile, superseded ones too, oldest first."""
    named = evidence.named
    mine = (named.corpus == evidence.corpus) & (named.profile == evidence.profile) & (named.status == "ok")
    return named[mine & named.started.str.len().ge(10)].sort_values("started").assign(day=lambda r: r.started.str[:10])


def _mark(row, title: str, days: list[str]) -> Mark:
    written = f"{percent(row.value)} %" if title == SHARE else f"{significant(row.value)} {RATE}"
    tip = f"{row.name}, {row.day}\n{written}\nrecords: {row.point_id}"
    return Mark(float(days.index(row.day)), 100 * row.value if title == SHARE else row.value, tip)
