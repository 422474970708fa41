"""Findings of studies beside the sweeps: hybrid search, pruning, queries without a text encoder."""
