"""Verdicts of comparisons from the side of the reference; wherever they are listed, losses come first."""

LOSES, OPEN, WINS = "loses", "open", "wins"
ORDER = (LOSES, OPEN, WINS)
EQUAL_RATIO = 0.05  # ratios of speed and size have no interval: within this share they count as equal
EQUAL_RECALL = 0.005  # R@1: lower by less than this, and not beyond chance, counts as equal
LEAST_RECALL, LEAST_TIMES_CHANCE = 0.1, 20  # R@1 below which a ratio of speeds says nothing
TOO_LOW = f"R@1 below {LEAST_RECALL:.0%}"


def is_comparable(recall: float | None, images: float) -> bool:
    """Whether R@1 over so many images, one of which is relevant, is high enough for a ratio of speeds."""
    return recall is not None and recall >= max(LEAST_RECALL, LEAST_TIMES_CHANCE / images)


def of_difference(low: float | None, high: float | None) -> str:
    """Verdict of a difference (higher is better) from its interval; open without one."""
    if low is None or high is None:
        return OPEN
    return WINS if low > 0 else LOSES if high < 0 else OPEN


def of_ratio(gain: float) -> str:
    """Verdict of a ratio (above 1 is better)."""
    return OPEN if abs(gain - 1) <= EQUAL_RATIO else WINS if gain > 1 else LOSES
