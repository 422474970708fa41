"""Forest plot and learning curves."""

import numpy as np
import pandas as pd
import pytest

from bench.store.records import RecordStore
from reports.pages.ablations import forest, learning
from reports.records.evidence import Evidence
from reports.render import plots
from reports.render.tables import percent


def test_the_forest_shows_the_differences_of_the_table(home, site, undrawn):
    csv = pd.read_csv(site / "tables" / "ablations.csv").set_index("variant")
    (figure,) = forest.section(Evidence(RecordStore(home))).figures
    for panel, metric in zip(figure.panels, ("recall@1", "recall@10"), strict=True):
        shown = {
            panel.names[int(y)]: (x, *bounds)
            for one in panel.series
            for x, y, bounds in zip(one.x, one.y, one.bounds, strict=True)
        }
        assert set(shown) == {"clip", "no_bottleneck", "no_momentum"}
        for variant, numbers in shown.items():
            assert numbers == pytest.approx(
                [100 * float(csv.loc[variant, f"difference {metric}{part}"]) for part in ("", " low", " high")]
            )
    (screened,) = figure.panels[0].series
    assert screened.name.startswith("screened") and len(screened.y) == 3, "one seed each"
    rows = plots.of_figure(figure)["rows"]
    assert {row["y"] for row in rows} == {"clip", "no_bottleneck", "no_momentum"} and all(
        "records: " in row["tip"] for row in rows
    )


def test_a_gain_that_is_rounding_is_zero():
    """A table printed 0.000000000000000694."""
    steps = np.array([100.0, 200.0, 300.0, 400.0])
    (row,) = learning.table({"lexlip": (steps, np.array([0.1, 0.3 - 7e-18, 0.1 + 0.2, 0.3]))}).rows
    assert 0 < abs(row["gain"].value) < 1e-15
    assert learning.table({"lexlip": (steps, np.array([0.1, 0.3, 0.1 + 0.2, 0.3]))}).texts()[0][-1] == "0"


def test_learning_curves_say_whose_a_point_is():
    rows = pd.DataFrame({0: [0.25, 0.5], 1: [0.75, 0.25]}, index=[100, 200])
    assert learning.point_details(rows, percent) == [
        "mean of seed 0 25.0, seed 1 75.0",
        "mean of seed 0 50.0, seed 1 25.0",
    ]
    assert learning.point_details(rows[[1]], percent) == ["seed 1", "seed 1"]
    assert learning.point_details(rows[[1]].rename(columns={1: -1}), percent) == ["no seed", "no seed"]
