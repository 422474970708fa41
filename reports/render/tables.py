"""A table and its CSV, Markdown and LaTeX forms; the pages print the same cells as HTML.

CSV holds unrounded numbers; the other forms print the same rounded text. A cell is a number with its interval and
sample size, a text, or the reason why the number is missing.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import pandas as pd

NOT_MEASURED = "not measured"
NOT_APPLICABLE = "–"
NOT_A_NUMBER = "not a number"
FAILED = "failed"

# Control and formatting characters, such as right-to-left marks, can make a page show other text than it holds.
HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SPREADSHEET_FORMULA = ("=", "+", "-", "@")
MOST_NAMED = 6  # record ids in the tooltip of a cell
LATEX = {
    "−": "$-$",
    "±": "$\\pm$",
    "×": "$\\times$",
    "→": "$\\to$",
    "–": "--",
    "≥": "$\\geq$",
    "\N{REPLACEMENT CHARACTER}": "?",
    "…": "\\ldots{}",
}


def ended(status: str, note: str) -> str:
    """Status and note of a point that did not end well, such as "out of memory: build"."""
    status = FAILED if status == "failed" else status.replace("_", " ")
    return f"{status}: {note}" if note else status


@dataclass(frozen=True)
class Cell:
    """A value, or why it is missing.

    low, high: 95% interval. p: corrected p-value. mark: significance mark. n: sample size in words. points: ids of the
    records behind the value. format: overrides the format of the column, for columns of mixed units.
    """

    value: float | str | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    mark: str = ""
    n: str = ""
    missing: str = ""
    points: tuple[str, ...] = ()
    format: Callable[[float], str] | None = None


@dataclass(frozen=True)
class Column:
    """`format` turns a number into text; columns of the same `group` share a heading."""

    key: str
    label: str
    format: Callable[[float], str] = str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """Rows map column keys to cells; a missing key prints "not measured". The first column is the row heading."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: list[dict[str, Cell]]
    notes: tuple[str, ...] = field(default=())

    def measured(self, keys: Iterable[str]) -> "Table":
        """The table without those of the columns `keys` that have no number in any row."""
        keys = set(keys)
        kept = tuple(column for column in self.columns if column.key not in keys or self.is_numeric(column))
        return replace(self, columns=kept)

    def cell(self, row: dict[str, Cell], column: Column) -> Cell:
        return row.get(column.key, Cell(missing=NOT_MEASURED))

    def is_numeric(self, column: Column) -> bool:
        """Whether any row has a number in the column; such columns are right-aligned."""
        return any(is_number(self.cell(row, column)) for row in self.rows)

    def groups(self) -> list[tuple[str, int]]:
        """Runs of columns with the same group: (heading, number of columns)."""
        runs: list[tuple[str, int]] = []
        for column in self.columns:
            if runs and runs[-1][0] == column.group:
                runs[-1] = column.group, runs[-1][1] + 1
            else:
                runs.append((column.group, 1))
        return runs

    def texts(self) -> list[list[str]]:
        """Rows of printed cells, numbers with interval and mark."""
        return [[text(self.cell(row, column), column) for column in self.columns] for row in self.rows]

    def headings(self) -> list[str]:
        return [f"{column.group}: {column.label}" if column.group else column.label for column in self.columns]

    def to_csv(self) -> str:
        """Unrounded numbers; intervals, p-values and sample sizes get extra columns where present."""
        data: dict[str, list] = {}
        for column in self.columns:
            cells = [self.cell(row, column) for row in self.rows]
            data[column.key] = [_spreadsheet_safe(cell.missing or cell.value) for cell in cells]
            for part in ("low", "high", "p", "n"):
                values = [getattr(cell, part) for cell in cells]
                if any(value not in (None, "") for value in values):
                    data[f"{column.key} {part}"] = values
        return pd.DataFrame(data).to_csv(index=False, lineterminator="\n")

    def to_markdown(self) -> str:
        lines = [self.headings(), ["---"] * len(self.columns), *self.texts()]
        table = "\n".join("| " + " | ".join(map(_markdown, line)) + " |" for line in lines)
        return "\n\n".join([f"**{_markdown(self.caption)}**", table, *map(_markdown, self.notes)]) + "\n"

    def to_latex(self) -> str:
        """A booktabs table; needs `\\usepackage{booktabs}`."""
        frame = pd.DataFrame(self.texts(), columns=self.headings())
        body = frame.to_latex(
            index=False, escape=True, caption=_latex_text(self.caption), label=f"tab:{self.name}", position="ht"
        )
        for character, command in LATEX.items():
            body = body.replace(character, command)
        return body


def is_number(cell: Cell) -> bool:
    return isinstance(cell.value, float | int) and not cell.missing


def text(cell: Cell, column: Column) -> str:
    """A cell in one line: `41.2 [39.8, 42.6]*`, its text, or why it is missing."""
    if not is_number(cell):
        return clean(cell.missing or cell.value or "")
    written = cell.format or column.format
    bounds = "" if cell.low is None or cell.high is None else f" [{written(cell.low)}, {written(cell.high)}]"
    return written(cell.value) + bounds + cell.mark


def brief(cell: Cell) -> Cell:
    """The cell with a missing reason cut to its status ("failed: no memory" -> "failed")."""
    return replace(cell, missing=cell.missing.partition(":")[0]) if cell.missing else cell


def source(cell: Cell) -> str:
    """Tooltip of a number: its sample size and the ids of its records."""
    more = f" and {len(cell.points) - MOST_NAMED} more" if len(cell.points) > MOST_NAMED else ""
    records = f"records: {', '.join(cell.points[:MOST_NAMED])}{more}" if cell.points else ""
    return "; ".join(part for part in (cell.n, records) if part)


def clean(value) -> str:
    """Text on one line, with invisible characters replaced."""
    spaced = " ".join(str(value).split())
    return "".join(
        REPLACEMENT if unicodedata.category(character) in HIDDEN_CATEGORIES else character for character in spaced
    )


# --- formats


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference of shares in percentage points, signed."""
    return signed(100 * value, 1)


def signed(value: float, decimals: int = 2) -> str:
    """A signed number with a real minus; zero has no sign."""
    rounded = f"{value:+.{decimals}f}"
    return (rounded[1:] if float(rounded) == 0 else rounded).replace("-", "−")


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def integer(value: float) -> str:
    return f"{value:,.0f}"


def significant(value: float) -> str:
    """Three significant digits, thousands separated; an exponent below a millionth only."""
    if value == 0 or not math.isfinite(value):
        return f"{abs(value) if value == 0 else value:g}"
    if abs(value) < 1e-6:
        return f"{value:.2e}"
    value = float(f"{value:.3g}")
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def times(value: float) -> str:
    return f"{significant(value)}×"


def size(value: float) -> str:
    """Bytes in decimal units: 1,000 B = 1 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{significant(value) if unit != 'B' else integer(value)} {unit}"
        value /= 1000
    return f"{significant(value)} TB"


# --- escaping


def _spreadsheet_safe(value):
    """Prefixes an apostrophe to texts that a spreadsheet would run as a formula."""
    if not isinstance(value, str):
        return value
    value = clean(value)
    return "'" + value if value.startswith(SPREADSHEET_FORMULA) else value


def _markdown(value: str) -> str:
    value = clean(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + character if character in "\\|`*_[]!" else character for character in value)


def _latex_text(value: str) -> str:
    escaped = (
        pd.DataFrame({"": [clean(value)]}).to_latex(index=False, header=False, escape=True).split("\\toprule\n")[1]
    )
    return escaped.split(" \\\\")[0]
