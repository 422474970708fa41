"""A small sweep for tests of several pages."""

import pytest

from bench.store.records import RecordStore
from tests.reports.scale.records import FLAT


@pytest.fixture
def sweep(tmp_path, sweep_of):
    """Lexicons: 60, 59.5, 58.5, 40 %; dense: 50 % by flat search, 49 and 45 % by HNSW."""
    made = sweep_of(RecordStore(tmp_path / "home"))
    lexicon = (256, 0.60, 100.0, 400.0), (128, 0.595, 150.0, 300.0), (64, 0.585, 200.0, 120.0), (32, 0.40, 900.0, 64.0)
    for numbers in lexicon:
        made.impact_single(*numbers)
    made.search("dense", 0.50, 10.0, 2048.0, **FLAT)
    for ef, recall, rate in ((64, 0.49, 300.0), (16, 0.45, 800.0)):
        made.search("dense", recall, rate, 2304.0, engine="faiss-hnsw", knobs={"ef": ef})
    return made
