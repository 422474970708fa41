"""Corpora, vectors, engines, metrics and records: everything that measures. Knows models; knows no training and no report."""
