"""TREC qrels of imported queries: which documents are relevant to each, with their grades."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from bench.vectors.imports.checks import SAMPLE
from bench.vectors.imports.text import read_lines
from models.errors import InputError, nearest


@dataclass(frozen=True)
class Qrels:
    """Relevant documents of queries.

    grades: query id -> document id -> grade above 0. not_relevant: judgements of grade 0 or below. others: judged
    queries that are not among the vectors. without: query ids without a relevant document.
    """

    grades: dict[str, dict[str, float]]
    not_relevant: int
    others: int
    without: list[str]

    @property
    def single(self) -> bool:
        """Whether each query has one relevant document, so that its id is the query's group and grades say nothing."""
        return all(len(of_query) == 1 for of_query in self.grades.values())

    @property
    def groups(self) -> list[str]:
        """For each query the id of its relevant document; for queries with `single` only."""
        return [next(iter(of_query)) for of_query in self.grades.values()]

    def lost(self, documents: Sequence[str]) -> list[str]:
        """Relevant documents that are not among these."""
        known = set(documents)
        relevant = dict.fromkeys(document for of_query in self.grades.values() for document in of_query)
        return [document for document in relevant if document not in known]


def read_qrels(file: Path, ids: Sequence[str], judged_only: bool = False) -> Qrels:
    """Reads lines `query 0 document grade`; a document is relevant if its grade is above 0.

    ids: those of the queries, whose order `grades` has. judged_only: accepts queries without a relevant document.
    Raises InputError for another line, for two grades of one document, and for queries without a relevant document.
    """
    wanted, found, others = set(ids), {}, set()
    for number, line in enumerate(read_lines(file), 1):
        query, document, grade = _judgement(line, f"{file}: line {number}")
        if query not in wanted:
            others.add(query)
            continue
        if (before := found.setdefault(query, {}).setdefault(document, grade)) != grade:
            pair = f"'{document}' has grade {grade:g} for query '{query}', and {before:g} on an earlier line"
            raise InputError(f"{file}: line {number}: {pair}; expected one grade")
    counts = Counter(grade > 0 for of_query in found.values() for grade in of_query.values())
    grades = {q: {d: grade for d, grade in found.get(q, {}).items() if grade > 0} for q in ids}
    without = [query for query in ids if not grades[query]]
    if without and (not judged_only or len(without) == len(ids)):
        named = ", ".join(f"row {ids.index(query)} ('{query}')" for query in without[:SAMPLE])
        near = nearest(without[0], sorted(others)[:1000], listed=False) if others else ""
        few = f"{file}: {len(without):,} of {len(ids):,} queries have no relevant document: {named}{near}"
        raise InputError(few if len(without) == len(ids) else f"{few}; --judged-only leaves them out")
    return Qrels({q: of_query for q, of_query in grades.items() if of_query}, counts[False], len(others), without)


def _judgement(line: str, where: str) -> tuple[str, str, float]:
    columns = line.split()
    try:
        query, _, document, text = columns
        if isfinite(grade := float(text)):
            return query, document, grade
    except ValueError:
        pass
    raise InputError(f"{where}: {line[:60]!r}; expected 'query 0 document grade'") from None
