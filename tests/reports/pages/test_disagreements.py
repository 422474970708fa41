"""Queries with the largest rank gap, against the ranks of the records."""

from bench.store.records import RecordStore
from reports.pages.inside import failures
from reports.records.evidence import Evidence


def test_failures_are_the_largest_differences_of_rank(home):
    store = RecordStore(home)
    evidence = Evidence(store)
    sides = {}
    for variant in ("lexlip", "clip"):
        (point,) = evidence.measured(
            variant, "recall@1", **evidence.retrieval(), **evidence.operating_point(variant)
        ).point_id
        queries = store.queries(point)
        sides[variant] = {query: ranks[0] for query, ranks in zip(queries.query_id, queries.ranks, strict=True)}
    section = failures.section(evidence)
    gaps = {query: sides["lexlip"][query] - sides["clip"][query] for query in sides["lexlip"]}
    for table, sign in zip(section.tables, (1, -1), strict=True):
        worst = sorted(gaps, key=lambda query: (-sign * gaps[query], query))[: failures.SHOWN]
        assert [row["query"].value for row in table.rows] == worst
        assert [row["gap"].value for row in table.rows] == [abs(gaps[query]) for query in worst]
    both = sum(sides["lexlip"][query] == sides["clip"][query] == 1 for query in gaps)
    assert section.data["counts"]["both"] == both and sum(section.data["counts"].values()) == len(gaps)


def test_failures_without_ranks_say_whose_are_missing(sweep):
    assert failures.section(sweep.evidence).data["missing"] == ["lexlip", "clip"]
