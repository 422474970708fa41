"""Growth with the gallery: exponents of power laws over the measured sizes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from reports.records.search import Search
from reports.render.tables import Cell

LEAST_SIZES = 3  # gallery sizes that a fit needs


@dataclass(frozen=True)
class Fit:
    """value ~ images ^ exponent, by least squares of the logarithms over `sizes`."""

    exponent: float
    sizes: tuple[int, ...]
    points: tuple[str, ...]


def fit(searches: Iterable[Search], cell: Callable[[Search], Cell]) -> Fit | None:
    """Fit of a cell against the gallery size; None with fewer than `LEAST_SIZES` sizes of positive values."""
    measured = [(search.images, found) for search in searches if ((found := cell(search)).value or 0) > 0]
    if len({images for images, _ in measured}) < LEAST_SIZES:
        return None
    images, values = [images for images, _ in measured], [found.value for _, found in measured]
    exponent = np.polyfit(np.log(images), np.log(values), 1)[0]
    return Fit(float(exponent), tuple(images), tuple(point for _, found in measured for point in found.points))
