"""Interactive plots: their rows, packing, choices and legends."""

import json

import numpy as np

from reports.render import plots
from reports.render.figures import Panel, Series, draw


def test_a_plot_holds_the_series_and_nothing_that_json_cannot():
    series = [
        Series(
            "a\u202e</script>",
            [1.0, 10.0],
            [2.0, float("nan")],
            [(1.0, 3.0), None],
            ["x", ""],
            filled=False,
            details=["record p1", ""],
        )
    ]
    figure = draw(
        "made_up", "caption", "alt", [Panel("title", "cost", "quality", series, log_x=True, ticks=(1.0, 10.0))]
    )
    plot = plots.of_figure(figure)
    first, second = plot["rows"]
    assert (first["x"], first["y"], first["low"], first["high"], first["view"]) == (1.0, 2.0, 1.0, 3.0, 0)
    assert first["tip"] == "a\ufffd</script>\ncost: 1\nquality: 2\n95% interval: 1 to 3\nrecord p1"
    assert second["y"] is None
    json.dumps(plot, allow_nan=False)
    assert plot["views"][0]["encoding"]["x"]["axis"]["values"] == [1.0, 10.0]


def test_a_page_holds_each_line_and_each_constant_of_a_plot_once():
    rows = [
        {"x": 1.0, "kind": "a", "tip": "first\nshared", "low": None},
        {"x": 0.123456789, "kind": "a", "tip": "second\nshared"},
        {"x": 12345678.9, "kind": "a", "tip": "first\nshared"},
    ]
    packed = plots.packed(plots.plot(rows, []))
    assert packed["rows"] == 3 and packed["texts"] == ["a", "first", "shared", "second"]
    assert packed["columns"] == {
        "x": [1.0, 0.1234568, 12345680.0],  # seven digits: what is drawn
        "kind": {"all": [0]},
        "tip": [[1, 2], [3, 2], [1, 2]],
        "low": {"all": None},
    }
    assert plots.packed(plots.plot([], []))["columns"] == {}


def test_values_of_a_choice_are_in_order():
    rows = [{"top_k": top_k} for top_k in (32, None, 8, 32)]
    assert [one["text"] for one in plots.choice(rows, "top_k", "Top-k")["values"]] == ["8", "32", "–"]
    assert np.all([one["value"] is None or one["value"] > 0 for one in plots.choice(rows, "top_k", "Top-k")["values"]])


def test_many_series_share_one_legend():
    """Few are named in each view; of many, the first view is the legend, and colours are the same in all."""
    panels = [
        Panel(f"panel {p}", "x", "y", [Series(f"s{i}", [1.0], [2.0], colour="#0072b2") for i in range(7 - p)])
        for p in range(2)
    ]
    plot = plots.of_panels(panels)
    legend, *views = plot["views"]
    assert legend["usermeta"] == {"legend": True} and legend["encoding"]["color"]["scale"]["domain"] == [
        f"s{i}" for i in range(7)
    ]
    assert all(view["encoding"]["color"] == legend["encoding"]["color"] | {"legend": None} for view in views)
    assert {row["view"] for row in plot["rows"]} == {1, 2}
    few = plots.of_panels([Panel("panel", "x", "y", panel.series[:6]) for panel in panels])
    assert len(few["views"]) == 2 and all("legend" not in view["encoding"]["color"] for view in few["views"])
