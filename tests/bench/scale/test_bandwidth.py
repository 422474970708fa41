"""Memory bandwidth: every byte is read once in each pass. Its value is not asserted."""

import numpy as np
import pytest

from bench.scale import bandwidth


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_byte_is_read_once_in_each_pass(threads, monkeypatch):
    read, sum_of = [], bandwidth._sum
    monkeypatch.setattr(bandwidth, "ARRAY_BYTES", 2**20)
    monkeypatch.setattr(bandwidth, "_sum", lambda part: read.append(int(sum_of(part))))
    measured = bandwidth.memory_bandwidth(threads)
    passes = np.array(read[threads:]).reshape(bandwidth.PASSES, threads)
    assert (passes.sum(axis=1) == 2**20 // 8).all()
    assert isinstance(measured, float) and np.isfinite(measured) and measured > 0
