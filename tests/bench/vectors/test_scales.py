"""Scales that fit the weights, and scales that cut too many of them."""

import numpy as np
import pytest
import scipy.sparse as sp

from bench.engines.indexes import build_index
from bench.scale.plan import Grid, Lexicons
from bench.scale.points import Gallery
from bench.scale.scales import with_scales
from bench.store.records import Point
from bench.vectors.impacts import Impacts, quantise
from bench.vectors.read import LexiconVectors
from bench.vectors.scales import Weights, check_scale
from models.errors import InputError


def vectors(*shards) -> LexiconVectors:
    rows = [sp.csr_array(np.asarray(shard, np.float32)) for shard in shards]
    return LexiconVectors(rows, rows[0].shape[1])


@pytest.mark.parametrize(
    ("weights", "bits", "expected"),
    [
        ([[0.5, 1.0]], 8, 255.0),
        ([[3.0, 11.97]], 8, 255 / 11.97),
        ([[3.0, 255.0]], 8, 1.0),  # integers that fit
        ([[3.0, 256.0]], 8, 255 / 256),
        ([[3.0, 256.0]], 16, 1.0),
        ([[3.0, 200.0]], 4, 15 / 200),
        ([[3.5, 255.0]], 8, 1.0),
        ([[0.0, 0.0]], 8, 1.0),
        ([[1e-6, 1e-5]], 8, 2.55e7),
    ],
)
def test_the_largest_weight_fits_the_bits(weights, bits, expected):
    scale = Weights.of(vectors(weights)).scale(bits)
    assert scale <= expected + 1e-9 and scale == pytest.approx(expected, rel=1e-3)
    assert f"{scale:.4g}" == f"{scale:g}", "short enough to be typed"
    assert max(np.rint(scale * np.array(weights)).ravel()) <= 2**bits - 1


def test_a_percentile_fits_the_bits_in_place_of_the_largest_weight():
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 2, (100, 100)).astype(np.float32)
    values[7, 3] = 5000.0
    weights = Weights.of(vectors(values[:40], values[40:]))
    assert weights.count == 10_000 and weights.largest == 5000.0 and len(weights.tail) == 11
    assert np.array_equal(weights.tail, np.sort(values.ravel())[-11:])
    assert weights.scale(8) == 0.051 and weights.scale(8, 99.9) == pytest.approx(127.5, abs=0.2)
    with pytest.raises(InputError, match=r"percentile 99 of the weights: expected 99.9 to 100"):
        weights.scale(8, 99)


def test_a_scale_that_cuts_more_than_a_thousandth_is_refused_with_one_that_fits():
    values = np.full((100, 100), 1.0, np.float32)
    values.ravel()[:10] = 9.5  # exactly 0.1%
    check_scale(vectors(values), 8, 100.0)
    values.ravel()[10] = 9.5
    expected = r"scale 100 cuts 0.11% of the weights at 255 \(8 bits\).* the largest weight is 9.5: give scales.8=26.84"
    with pytest.raises(InputError, match=expected):
        check_scale(vectors(values), 8, 100.0, "scales.8={}")
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="expected a positive number"):
            check_scale(vectors(values), 8, scale)


def test_no_index_is_built_from_saturated_weights(tmp_path):
    """Weights of SPLADE at the published scale used to become 255 nearly all."""
    splade = vectors(np.random.default_rng(0).uniform(0.5, 12, (50, 20)))
    assert (quantise(splade.to_scipy()).data == 255).mean() > 0.8
    with pytest.raises(InputError, match=r"cuts 8\d\.\d% of the weights at 255 .*give a scale of 21\.\d"):
        build_index(tmp_path, "impact", Impacts(splade, bits=8), "v")
    assert not (tmp_path / "indexes").exists()
    scale = Weights.of(splade).scale(8)
    assert build_index(tmp_path, "impact", Impacts(splade, bits=8, scale=scale), "v").bytes


def test_weights_of_a_pruned_view_are_those_of_its_rows(tmp_path):
    rows = np.random.default_rng(0).uniform(0.5, 12, (400, 20)).astype(np.float32)
    found = Weights.of(Impacts(vectors(rows[:150], rows[150:]), top_k=5))
    expected = np.sort(np.sort(rows, axis=1)[:, -5:].ravel())
    assert found.count == 2000 and np.array_equal(found.tail, expected[-3:])


def test_scales_of_imported_vectors_suit_pruned_unit_rows(tmp_path):
    """Sixteen equal weights of 0.25 become four of 0.5: a scale for 0.25 would cut all of them."""
    flat = vectors(np.full((40, 16), 0.25))
    with pytest.raises(
        InputError, match=r"cuts 100% of the weights at 255 .*the largest weight is 0.5: give a scale of 510"
    ):
        build_index(tmp_path, "impact", Impacts(flat, top_k=4, bits=8, scale=1020.0), "v")
    grid = Grid(main=Lexicons(top_k=8), top_k=(4,), bits=(), query_top_k=(None,))
    gallery = Gallery(documents=flat, queries=flat, documents_id="d", queries_id="q", base=Point(task="scale"))
    assert with_scales(gallery, grid, fitted=True).scales[8] == (510.0, 1020.0)
