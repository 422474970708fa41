"""The two columns of the words of an image, which every table of models has."""

from reports.records.evidence import Evidence
from reports.render.tables import NOT_APPLICABLE, Cell, Column, percent

LEXICONS_OF = {"words weight": "caption_precision_weighted", "words typed": "typed_recall@1"}


def word_columns(evidence: Evidence) -> list[Column]:
    """Columns of the words of an image, at the operating point."""
    group = f"Words, {evidence.reading.top_k} lexicons, %"
    return [
        Column("words weight", "weight on caption words", percent, group),
        Column("words typed", "R@1, typed words", percent, group),
    ]


def words_of(evidence: Evidence, variant: str) -> dict[str, Cell]:
    """Cells of `word_columns`; a dash for dense vectors."""
    if evidence.kinds.get(variant) == "dense":
        return dict.fromkeys(LEXICONS_OF, Cell(NOT_APPLICABLE))
    at = {"task": "sparsity", "split": "test", "top_k": evidence.reading.top_k}
    return {key: evidence.cell(variant, metric, **at) for key, metric in LEXICONS_OF.items()}
