"""Points of a study, such as hybrid search: one for each setting, told apart by the knobs of its command."""

from typing import NamedTuple

import pandas as pd

from reports.records.rows import parsed, whole
from reports.records.search import Measured
from reports.records.sweep import MEASURED, last


class Studied(NamedTuple):
    """row: the first row of the point, as a named tuple. knobs: as a dictionary."""

    row: NamedTuple
    knobs: dict
    measured: Measured


def studied(rows: pd.DataFrame, task: str) -> list[Studied]:
    """The points of a task that ended well, oldest first: of equal settings the last one counts."""
    mine = rows[(rows.task == task) & (rows.status == "ok") & rows.images.notna()].sort_values(MEASURED)
    points = [of for _, of in mine.groupby("point_id", sort=False)]
    found = [Studied(next(of.itertuples()), parsed(of.knobs.iloc[0]), last(of)) for of in points]
    return [one for one in found if isinstance(one.knobs, dict)]


def named(variant: str, seed) -> str:
    """A model and the seed of its training, if it has one."""
    return variant if whole(seed) is None else f"{variant} (seed {whole(seed)})"
