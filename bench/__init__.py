"""Everything that measures: corpora, vectors, engines, tasks. Knows models; knows no training and no report."""
