"""Comparisons made from records: paired differences, ratios at equal recall, growth, changes."""
