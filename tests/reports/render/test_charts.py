"""Charts: what is drawn is where the numbers say, in a wide and a narrow picture, and hostile names stay text."""

import xml.etree.ElementTree as ElementTree

import pytest

from reports.render.charts import Axis, Chart, Mark, Panel, Series, front, short, ticks

SVG = "{http://www.w3.org/2000/svg}"


def chart(*panels: Panel, **more) -> Chart:
    return Chart("name", "title", "subtitle", "source", "alt", panels, **more)


def drawn(of: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(of.file())


def marks_of(root, tag="circle") -> list[dict]:
    return [one.attrib for one in root.iter(SVG + tag) if one.get("data-tip")]


def test_marks_are_where_the_numbers_say():
    points = (Mark(1, 0, "a"), Mark(10, 50, "b"), Mark(100, 100, "c"))
    root = drawn(chart(Panel("", Axis("x", log=True), Axis("y"), (Series("s", points, line="all"),))))
    (a, b, c) = marks_of(root)
    assert float(b["cx"]) - float(a["cx"]) == pytest.approx(float(c["cx"]) - float(b["cx"]), abs=0.2), "a log axis"
    assert float(a["cy"]) - float(b["cy"]) == pytest.approx(float(b["cy"]) - float(c["cy"]), abs=0.2)
    assert float(c["cy"]) < float(a["cy"]), "up is more"
    line = next(one.get("d") for one in root.iter(SVG + "path") if one.get("class") == "line")
    assert line == "M" + "L".join(f"{one['cx']} {one['cy']}" for one in (a, b, c))


def test_the_area_of_a_mark_is_its_size():
    points = (Mark(1, 1, "a", size=100), Mark(2, 2, "b", size=1600))
    small, large = marks_of(drawn(chart(Panel("", Axis("x"), Axis("y"), (Series("s", points),)))))
    assert float(large["r"]) / float(small["r"]) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([(1, 5), (2, 4), (3, 3)], [0, 1, 2]),
        ([(1, 5), (2, 6), (3, 3)], [1, 2]),
        ([(2, 5), (2, 4), (1, 5)], [0]),
        ([], []),
    ],
)
def test_the_front_is_what_nothing_beats(points, best):
    assert front(points) == best


def test_a_front_leaves_out_hidden_marks():
    points = (Mark(1, 5, "a"), Mark(2, 9, "b", key=1, hidden=True), Mark(3, 1, "c"))
    root = drawn(chart(Panel("", Axis("x"), Axis("y"), (Series("s", points, line="front"),))))
    a, b, c = marks_of(root)
    line = next(one.get("d") for one in root.iter(SVG + "path") if one.get("class") == "line")
    assert line == f"M{a['cx']} {a['cy']}L{c['cx']} {c['cy']}" and "hidden" in b


def test_lines_with_names_have_intervals_along_x():
    panel = Panel("", Axis("x", zero=True), Axis("", names=("one", "two")), (Series("s", (Mark(-2, 1, "t", -3, -1),)),))
    root = drawn(chart(panel))
    bar = next(one.get("d") for one in root.iter(SVG + "path") if one.get("class") == "bar")
    left, right = bar.removeprefix("M").split(" ")[0], bar.partition("H")[2]
    (mark,) = marks_of(root)
    assert float(left) < float(mark["cx"]) < float(right)
    assert {"one", "two"} <= {text.text for text in root.iter(SVG + "text")}
    assert any(one.get("class") == "zero" for one in root.iter(SVG + "path"))


def test_names_are_text_and_stand_in_both_pictures():
    panel = Panel("<b>", Axis("x & y"), Axis("y"), (Series("</svg>", (Mark(1, 1, '"<i>', label="<u>"),)),))
    made = chart(panel)
    texts = [text.text for text in drawn(made).iter(SVG + "text")]
    assert {"<b>", "x & y", "</svg>", "<u>"} <= set(texts)
    for screen in ("wide", "narrow"):
        assert "<b>" not in made.svg(screen) and 'viewBox="0 0 ' in made.svg(screen)
    assert 'width="356"' in made.svg("narrow") and 'width="1000"' in made.svg("wide")


def test_a_name_that_stands_already_is_not_repeated():
    points = tuple(Mark(x, x, "t", label="same") for x in (1, 5, 9))
    texts = [t.text for t in drawn(chart(Panel("", Axis("x"), Axis("y"), (Series("", points),)))).iter(SVG + "text")]
    assert texts.count("same") == 1


def test_nothing_to_draw_says_so():
    assert "not measured" in chart(Panel("", Axis("x", log=True), Axis("y"), ())).file()


def test_one_point_and_strange_sizes_are_drawn():
    for points in ((Mark(5, 5),), (Mark(5, 0), Mark(5, 0)), (Mark(1e-9, 1e9), Mark(1e9, 1e-9))):
        for log in (False, True):
            assert drawn(chart(Panel("", Axis("x", log=log), Axis("y"), (Series("s", points),))))


def test_ticks_are_round():
    assert ticks(0.7, 130, True, 6) == [1, 2, 5, 10, 20, 50, 100] and ticks(0.7, 130, True, 4) == [1, 3, 10, 30, 100]
    assert ticks(0, 21, False, 5) == [0, 5, 10, 15, 20]
    assert ticks(-12, 6, False, 3) == [-10, 0]
    assert [short(value) for value in (0.5, 20, 5_000, 1_000_000, -10)] == ["0.5", "20", "5k", "1M", "−10"]


def texts(root) -> list[str]:
    return [one.text for one in root.iter(SVG + "text")]


def test_marks_without_a_logarithm_are_left_out():
    points = (Mark(0, 5, "none", label="none"), Mark(10, 5, "a", low=-1, high=9), Mark(100, -5, "below"))
    axes = Axis("x", log=True), Axis("y", log=True)
    root = drawn(chart(Panel("", *axes, (Series("s", points, line="all"),))))
    assert [one["data-tip"] for one in marks_of(root)] == ["a"] and "none" not in texts(root)
    bar = next(one.get("d") for one in root.iter(SVG + "path") if one.get("class") == "bar")
    assert bar.count(".") == 3, "an interval that reaches 0 ends at the edge"


def test_an_axis_is_named_unless_the_panel_is():
    series = (Series("s", (Mark(1, 1), Mark(2, 2))),)
    assert "R@1, %" in texts(drawn(chart(Panel("", Axis("x"), Axis("R@1, %"), series))))
    assert texts(drawn(chart(Panel("R@1, %", Axis("x"), Axis("R@1, %"), series)))).count("R@1, %") == 1


def test_numbers_of_an_axis_have_room():
    series = (Series("s", (Mark(1, 1), Mark(2, 2))),)
    panel = Panel("", Axis("x"), Axis("", format=lambda value: f"{value:.12f}"), series)
    ends = [one for one in drawn(chart(panel)).iter(SVG + "text") if one.get("class") == "soft end"]
    assert ends and all(float(one.get("x")) >= 6 * len(one.text) for one in ends)


def test_each_series_names_a_setting_once_and_within_the_panel():
    series = [
        Series(name, (Mark(1, y, label="top-32"), Mark(2, y, label="top-32"))) for name, y in (("a", 1), ("b", 9))
    ]
    root = drawn(chart(Panel("title", Axis("x"), Axis("y"), tuple(series))))
    labels = [one for one in root.iter(SVG + "text") if (one.get("class") or "").startswith("label")]
    assert [one.text for one in labels] == ["top-32"] * 2
    crowded = Series("s", tuple(Mark(1, y, label="x" * 400) for y in (1, 9)))
    assert "x" * 400 not in texts(drawn(chart(Panel("title", Axis("x"), Axis("y"), (crowded,)))))


def test_a_logarithmic_axis_within_a_decade_has_several_numbers():
    assert len(ticks(110, 190, True, 4)) > 1
