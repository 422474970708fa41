"""Corpora in the user's files: folders, Karpathy splits, tar shards; and what reads and decodes them."""
