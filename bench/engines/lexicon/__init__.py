"""Engines for lexicon vectors.

A file that wraps the package NAME is called `NAME_index`, so that it does not shadow the package.
"""
