"""One table, four formats: they must agree, and no text may break out of any of them."""

import io
import re

import pandas as pd
import pytest

from reports.render.tables import (
    NOT_MEASURED,
    Cell,
    Column,
    Table,
    clean,
    integer,
    percent,
    points,
    significant,
    size,
    source,
    text,
    times,
)

COLUMNS = (
    Column("name", "Name"),
    Column("recall", "R@1", percent, "Text to image, %"),
    Column("delta", "R@1", points, "Difference"),
)
HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> \\input{x} 50% a_b $x$ #1 {y} ~ ^ & \u202e\nnext"


@pytest.fixture
def table() -> Table:
    rows = [
        {"name": Cell("lexlip"), "recall": Cell(0.41234, 0.39, 0.43, n="5 queries"), "delta": Cell("–")},
        {
            "name": Cell("other"),
            "recall": Cell(0.3, 0.2, 0.4),
            "delta": Cell(-0.11234, -0.15, -0.05, p=0.001, mark="*"),
        },
        {"name": Cell(HOSTILE), "recall": Cell(missing="failed: no memory")},
    ]
    return Table("made_up", "A table", COLUMNS, rows, ("A note.",))


def test_csv_holds_full_numbers_with_interval_p_and_n(table):
    frame = pd.read_csv(io.StringIO(table.to_csv()))
    assert float(frame.recall[0]) == 0.41234
    assert (frame["recall low"][0], frame["recall high"][0], frame["recall n"][0]) == (0.39, 0.43, "5 queries")
    assert frame["delta p"][1] == 0.001
    assert frame.recall[2] == "failed: no memory"
    assert frame.delta[2] == NOT_MEASURED


def test_formats_agree(table):
    """Every number printed in Markdown and LaTeX is the CSV's, rounded."""
    frame = pd.read_csv(io.StringIO(table.to_csv()))
    markdown = [
        [cell.strip().replace("\\", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.to_markdown().splitlines()
        if line.startswith("|")
    ][2:]
    latex = [
        line.removesuffix(" \\\\").split(" & ") for line in table.to_latex().splitlines() if line.endswith("\\\\")
    ][1:]
    for row in (0, 1):
        recall = float(frame.recall[row])
        interval = f"[{100 * frame['recall low'][row]:.1f}, {100 * frame['recall high'][row]:.1f}]"
        assert markdown[row][1] == latex[row][1] == f"{100 * recall:.1f} {interval}"
    assert markdown[1][2] == "−11.2 [−15.0, −5.0]*"
    assert latex[1][2] == "$-$11.2 [$-$15.0, $-$5.0]*"


def test_hostile_text_stays_text(table):
    csv, markdown, latex = table.to_csv(), table.to_markdown(), table.to_latex()
    assert pd.read_csv(io.StringIO(csv)).name[2].startswith("'=")
    assert "<script" not in markdown
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 2 + 3
    assert "\\input{x}" not in latex
    for escaped in ("50\\%", "a\\_b", "\\$x\\$", "\\#1", "\\{y\\}", "\\&"):
        assert escaped in latex
    assert not any("\u202e" in made for made in (csv, markdown, latex))


def test_a_table_without_rows(table):
    empty = Table("empty", "Nothing", COLUMNS, [])
    assert empty.to_csv().strip() == "name,recall,delta"
    assert "| Name |" in empty.to_markdown()
    assert "\\toprule" in empty.to_latex()


def test_groups_span_their_columns():
    columns = (Column("a", "A"), Column("b", "B", group="G"), Column("c", "C", group="G"), Column("d", "D", group="H"))
    assert Table("t", "", columns, []).groups() == [("", 1), ("G", 2), ("H", 1)]


@pytest.mark.parametrize(
    ("format", "value", "printed"),
    [
        (percent, 0.41251, "41.3"), (points, -0.028, "−2.8"), (points, 0.028, "+2.8"), (points, -0.0001, "0.0"),
        (integer, 612345, "612,345"), (significant, 0, "0"), (significant, 1.754, "1.75"),
        (significant, 12345.6, "12,300"), (significant, 0.01234, "0.0123"), (significant, 6.94e-16, "6.94e-16"),
        (significant, -0.00001234, "-0.0000123"), (times, 3.914, "3.91×"),
        (size, 131, "131 B"), (size, 2048, "2.05 kB"), (size, 2.05e9, "2.05 GB"), (size, 5e12, "5.00 TB"),
    ],
)  # fmt: skip
def test_formats(format, value, printed):
    assert format(value) == printed


def test_cells_in_words():
    assert text(Cell(0.5), COLUMNS[1]) == "50.0"
    assert text(Cell(0.5, 0.4, 0.6, mark="*"), COLUMNS[1]) == "50.0 [40.0, 60.0]*"
    assert text(Cell(missing="failed:\nx"), COLUMNS[1]) == "failed: x"
    assert clean("a\u202eb\x00c\u200fd") == "a\ufffdb\ufffdc\ufffdd"


def test_who_points_at_a_number_sees_its_records():
    assert source(Cell(0.5, n="5 queries", points=("a", "b"))) == "5 queries; records: a, b"
    assert source(Cell(0.5, points=tuple("abcdefgh"))) == "records: a, b, c, d, e, f and 2 more"
    assert source(Cell(0.5)) == ""
