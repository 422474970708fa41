"""Records of several corpora: which has the first page, the folders of the others, and how large each is."""

import re

from reports.records.evidence import Evidence

LONGEST = 40  # characters of a corpus name in the name of a folder


def main_first(found: list[Evidence]) -> list[Evidence]:
    """The corpus with most measured points first: its pages are those of the site."""
    return sorted(found, key=lambda one: -one.rows.point_id.nunique())


def gallery(evidence: Evidence) -> tuple[int | None, int | None]:
    """Images and queries of the test gallery; of the largest one of a sweep if only that was measured."""
    rows = evidence.rows
    rows = rows[rows.images.notna() & rows.queries.notna() & (rows.batch_mode == "")]
    rows = rows[rows.direction != "image_to_text"]
    tested = (rows.split == "test") & (rows.images == evidence.gallery.get(("test", "text_to_image")))
    retrieval = rows.task == "retrieval"
    for mine in (rows[retrieval & tested], rows[retrieval], rows[rows.task == "scale"], rows):
        if len(mine):
            images = mine.images.max()
            return int(images), int(mine[mine.images == images].queries.max())
    return None, None


def folders(corpora: list[str]) -> list[str]:
    """A folder for each corpus, by its name: letters and digits that any file system takes, told apart by a number."""
    found: list[str] = []
    for corpus in corpora:
        name = f"corpus-{re.sub(r'[^a-z0-9_]+', '-', corpus.lower()).strip('-')[:LONGEST]}".strip("-")
        numbered = (f"{name}-{number}" for number in range(2, len(corpora) + 2))
        found.append(next(one for one in (name, *numbered) if one not in found))
    return found
