"""When two values count as equal, and when R@1 is too low to compare speeds."""

EQUAL_RATIO = 0.05  # ratios of speed and size have no interval: within this share they count as equal
EQUAL_RECALL = 0.005  # R@1: lower by less than this, and not beyond chance, counts as equal
LEAST_RECALL, LEAST_TIMES_CHANCE = 0.1, 20  # R@1 below which a ratio of speeds says nothing
TOO_LOW = f"R@1 below {LEAST_RECALL:.0%}"


def is_comparable(recall: float | None, images: float) -> bool:
    """Whether R@1 over so many images, one of which is relevant, is high enough for a ratio of speeds."""
    return recall is not None and recall >= max(LEAST_RECALL, LEAST_TIMES_CHANCE / images)
