"""Lexicon head and key queue: times and memory of the records, and their ratios."""

import pytest

from bench.store.records import Point, RecordStore
from reports.pages.ablations import parts
from reports.pages.site import PAGES, render
from reports.records.evidence import Evidence

HEAD = {"items": 64, "tokens": 197, "lexicons": 30_522, "width": 768, "dtype": "bfloat16"}
QUEUE = {"batch": 256, "queue": 11_520, "lexicons": 30_522, "active": 0.01, "top_k": 512}


@pytest.fixture
def store(tmp_path) -> RecordStore:
    return RecordStore(tmp_path)


def write(store, task, backend, values, shape, day=1, **more) -> None:
    point = Point(task, engine=backend, knobs=shape, threads=2, machine_id="m", code_id=f"code {day}")
    store.write(point, values, started=f"2026-01-0{day}T00:00:00+00:00", **more)


def head(store, backend, forward, backward, peak, **more) -> None:
    write(
        store,
        "lexicon_head",
        backend,
        {"head_forward_seconds": forward, "head_backward_seconds": backward, "head_peak_bytes": peak},
        HEAD,
        **more,
    )


def queue(store, backend, nbytes, loss, **more) -> None:
    values = {
        "queue_push_seconds": 0.5,
        "queue_score_seconds": 0.25,
        "queue_bytes": nbytes,
        "queue_active": 305,
        "queue_loss": loss,
    }
    write(store, "key_queue", backend, values, QUEUE, **more)


def cells(table) -> list[dict[str, str]]:
    return [dict(zip(table.headings(), row, strict=True)) for row in table.texts()]


def test_without_records_there_is_no_section(store):
    assert parts.section(Evidence(store)) is None


def test_ways_of_the_head_are_compared_with_the_plain_one(store):
    head(store, "tiled", 2.0, 0.5, 250e6)
    head(store, "plain", 2.0, 3.0, 2500e6)
    write(store, "lexicon_head", "triton", {}, HEAD, status="absent", note="no GPU")
    (table,) = parts.section(Evidence(store)).tables
    plain, tiled, triton = cells(table)
    assert (plain["Implementation"], plain["Against plain: speedup"]) == ("plain", "1.00×")
    assert tiled["Against plain: speedup"] == "2.00×" and tiled["Against plain: memory smaller by"] == "10.0×"
    assert tiled["Items × tokens × lexicons"] == "64 × 197 × 30,522, width 768" and tiled["forward, s"] == "2.00"
    assert (
        triton["forward, s"] == "absent"
        and triton["Note"] == "no GPU"
        and triton["Against plain: memory smaller by"] == "not measured"
    )


def test_of_a_way_that_was_measured_twice_the_newer_stands(store):
    head(store, "plain", 2.0, 3.0, 2500e6)
    head(store, "tiled", 9.0, 9.0, 250e6, day=1)
    head(store, "tiled", 1.0, 1.5, 250e6, day=2)
    assert cells(parts.section(Evidence(store)).tables[0])[1]["Against plain: speedup"] == "2.00×"


def test_other_shapes_and_ways_without_a_plain_one_are_not_compared(store):
    head(store, "plain", 2.0, 3.0, 2500e6)
    shape = HEAD | {"items": 8}
    write(
        store,
        "lexicon_head",
        "tiled",
        {"head_forward_seconds": 1.0, "head_backward_seconds": 1.0, "head_peak_bytes": 5e6},
        shape,
        day=2,
    )
    small = cells(parts.section(Evidence(store)).tables[0])[1]
    assert small["Items × tokens × lexicons"].startswith("8 ×") and small["Against plain: speedup"] == "not measured"


def test_the_page_shows_the_queue_and_what_was_not_measured(store):
    queue(store, "dense", 1406e6, 2.5)
    queue(store, "sparse", 23.6e6, 2.4996)
    evidence = Evidence(store)
    assert evidence.others == [], "of no profile and no corpus, they are not said to be left out"
    section = parts.section(evidence)
    dense, sparse = cells(section.tables[0])
    assert dense["Implementation"] == "dense" and sparse["Implementation"] == "sparse, top-512"
    assert (
        sparse["Against dense: memory smaller by"] == "59.6×"
        and sparse["Against dense: difference of the loss"] == "−0.0004"
    )
    page = next(page for page in PAGES if page.name == "ablations")
    html = render(evidence, page, [section], files=[], all_tables=[], places={"downloads": "method.html"})
    assert "59.6×" in html and "bench_lexicon_head.py" in html and "InfoNCE" in html
