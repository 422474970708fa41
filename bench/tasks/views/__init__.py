"""Lexicon views: which lexicons an image and a text share, and which patches fired them."""
