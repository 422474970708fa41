"""Beyond one machine, on paper: the arithmetic by hand, and the document held to the committed records."""

import shutil
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import cost, scaling
from reports.cost import Called, Choice, Curve, Need, Plan, Setting
from reports.records.scale import Call

SWEEP = SimpleNamespace(call=lambda mode: Call(mode, 1), largest=1000)
ASSUMED = cost.Assumptions("crowns", 1.0, 1.0, 1.0, 100.0, cores=4, memory_gb=1.0, utilisation=0.5, headroom=0.25)


def setting(rate=-1.0, **fields) -> Setting:
    """Over 1,000 images 40 queries a second and 10 MB, that grow in proportion; 2 bytes of memory per byte, and 30 MB."""
    at = lambda value, exponent: Curve((1000,), (value,), exponent, exponent, exponent)  # noqa: E731
    common = {
        "label": "engine", "kind": "dense", "variant": "clip", "engine": "engine", "quality": at(0.5, -0.5), "best": at(0.5, -0.5),
        "index_bytes": at(1e7, 1.0), "fixed_memory": 30e6, "memory_per_byte": 2.0, "calls": {"single 1": Called(1, at(40.0, rate))},
    }  # fmt: skip
    return Setting(**common | fields)


def test_the_document_is_what_the_reference_records_make_of_it(tmp_path):
    shutil.copytree(scaling.ROOT / "results" / "reference", tmp_path / "reference")
    arguments = SimpleNamespace(reference=tmp_path / "reference", out=tmp_path / "scaling.md", costs=None)
    scaling.main(arguments)
    assert arguments.out.read_text(encoding="utf-8") == (scaling.ROOT / "docs" / "scaling.md").read_text(
        encoding="utf-8"
    )


def test_what_breaks_first():
    """Memory: 1.25 x (30 MB + 2 x 10 kB x N) > 1 GB from N = 38,501 on. Time: 40,000 / N < 10 from N = 4,001 on; never, where the rate stays."""
    first, second = scaling.breaks(SWEEP, [setting(), setting(rate=0.0)], ASSUMED).rows
    assert (first["memory"].value, first["time"].value, first["first"].value) == (38_501, 4_001, "time")
    assert (second["time"].value, second["first"].value) == ("over 1,000,000,000,000", "memory")


@pytest.mark.parametrize("unlike", [{"grows_as": "another"}, {"calls": {}}, {"index_bytes": Curve((1000,), (1e7,))}])
def test_growth_that_was_not_measured_breaks_nothing(unlike):
    assert scaling.breaks(SWEEP, [setting(**unlike)], ASSUMED).rows == []


@given(st.integers(1, scaling.MOST))
def test_the_first_beyond(limit):
    assert scaling.first_beyond(lambda images: images >= limit) == limit


def test_never_beyond():
    assert scaling.first_beyond(lambda images: False) is None


def test_the_network():
    """3 shards x 10 results x 12 bytes, 100 times a second; 1 - 0.99^3 of the queries meet a slow shard."""
    plan = Plan(0.5, 3, 2, 6, 6, 1e9, 1e9, 1.0, 1.0, 1.0, True)
    choices = [
        Choice("engine", "dense", "clip", setting(), plan),
        Choice("poor", "dense", "clip", None, None, "quality not reached"),
    ]
    (row,) = scaling.network(SWEEP, Need(1e8, 100, "single 1", 0.0, 1.0, "100 million"), choices).rows
    assert (row["results"].value, row["rate"].value) == (360, 36_000)
    assert row["slow"].value == pytest.approx(0.029701)
