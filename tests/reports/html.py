"""A page parsed into text, tags and tables."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Text of a page, its tags, and its tables as lists of rows."""

    def __init__(self, html):
        super().__init__()
        self.words, self.tags, self.tables, self.hidden = [], [], {}, 0
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.hidden += tag in ("style", "script")
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "caption":
            self.words.append("\ncaption: ")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "script")
        if tag == "table":
            self.rows = []  # what follows belongs to no cell
        if tag == "caption":
            self.tables["".join(self.words).rpartition("caption: ")[2].strip()] = self.rows

    def handle_data(self, data):
        if self.hidden:
            return
        self.words.append(data)
        if getattr(self, "rows", None) and self.rows[-1]:
            self.rows[-1][-1] += data

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def row(self, table, name):
        rows = next(rows for caption, rows in self.tables.items() if caption.startswith(table))
        return [" ".join(cell.split()) for cell in next(row for row in rows if row and row[0].strip() == name)]
