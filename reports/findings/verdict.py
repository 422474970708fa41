"""Who a comparison favours, from the side of the reference; losses come first wherever they are listed."""

LOSES, OPEN, WINS = "loses", "open", "wins"
ORDER = (LOSES, OPEN, WINS)
# Ratios of speed and size rest on one measurement and have no interval: closer than this is called equal.
EQUAL_RATIO = 0.05
# R@1 in shares: a search lower by less than this, and by no more than chance, counts as equally good when speeds and sizes are compared.
EQUAL_RECALL = 0.005
