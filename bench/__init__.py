"""Everything that measures: corpora, vectors, engines, tasks. Knows models; knows no training and no report."""

from pathlib import Path

from bench.store import numba_cache

numba_cache.choose_folder(Path(__file__).parent)  # before any module imports numba
