"""The grid and the cells that it gives."""

from dataclasses import replace

import pytest

from bench import engines
from bench.scale.plan import Grid, Lexicons, plan
from bench.store import sizes
from models.errors import InputError


def test_lexicon_settings_are_swept_at_the_largest_size_only(grid):
    grid = replace(grid, top_k=(4, 32), bits=(8, 16), query_top_k=(2, None))
    small, large = (plan("lexicon", 100, grid, ["impact"], largest) for largest in (False, True))
    assert [cell.lexicons for cell in small] == [Lexicons(32, 8, None)]
    settings = [cell.lexicons for cell in large]
    assert settings == [Lexicons(32, 8, None), Lexicons(4, 8, None), Lexicons(32, 16, None), Lexicons(32, 8, 2)]


def test_engines_of_another_kind_have_no_cells(grid):
    assert plan("lexicon", 100, grid, ["faiss-flat"], largest=True) == []


def test_smaller_sizes_are_measured_at_the_first_knobs(grid):
    (small,), large = (plan("dense", 100, grid, ["faiss-rabitq"], largest) for largest in (False, True))
    searches = engines.grid("faiss-rabitq", "search")
    assert [cell.knobs for cell in large] == engines.grid("faiss-rabitq", "build") and len(large) > 1
    assert all(cell.searches == searches for cell in large) and len(searches) > 1
    assert small.knobs == large[0].knobs and small.searches == searches[:1]


def test_knobs_of_the_grid_replace_those_of_an_engine():
    grid = Grid.read(overrides=("knobs.faiss-ivf-pq={refine: [null], nprobe: [8, 2]}",))
    cells = plan("dense", 100, grid, ["faiss-ivf-pq", "faiss-hnsw"], largest=True)
    assert [cell.knobs for cell in cells] == [{"per_code": 2, "refine": None}, *engines.grid("faiss-hnsw", "build")]
    assert [search["nprobe"] for search in cells[0].searches] == [8, 2]
    (small,) = plan("dense", 100, grid, ["faiss-ivf-pq"], largest=False)
    assert small.searches == cells[0].searches[:1]


@pytest.mark.parametrize(
    ("override", "message"),
    [("depth=5", "depth: expected at least 10"), ("bits=[6]", "bits: expected 4, 8, 16, got 6")],
)
def test_a_grid_that_cannot_be_measured_is_refused(override, message):
    with pytest.raises(InputError, match=message):
        Grid.read(overrides=(override,))


def test_an_engine_that_accepts_no_impacts_gets_pruned_floats(grid, monkeypatch):
    monkeypatch.setattr(engines.get("scipy").__class__, "weights", (None,))
    (cell,) = plan("lexicon", 100, grid, ["scipy"], largest=False)
    assert cell.lexicons == Lexicons(32, None, None)


def test_shards_are_a_build_knob_of_every_cell(grid):
    (cell,) = plan("lexicon", 100, grid, ["impact"], largest=False, shards=3)
    assert (cell.engine, cell.knobs, cell.sharded) == ("sharded-impact", {"shards": 3}, True)


@pytest.mark.parametrize(
    ("text", "size"), [("1M", 10**6), ("250k", 250_000), ("5000", 5000), ("1.5m", 1_500_000), (" 10K ", 10_000)]
)
def test_sizes_with_a_suffix(text, size):
    assert sizes.number(text) == size


@pytest.mark.parametrize("text", ["", "M", "-5", "1G", "0", "0.5", "1.0001k5", "ten"])
def test_an_invalid_size_is_refused(text):
    with pytest.raises(InputError, match="expected a number of images"):
        sizes.number(text)


def test_default_sizes_are_the_decades_below():
    assert sizes.sizes_up_to(250_000) == [1000, 10_000, 100_000, 250_000]
    assert sizes.sizes_up_to(1000) == [1000]
    assert sizes.sizes_up_to(500) == [500]
