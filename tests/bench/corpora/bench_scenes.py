"""Speed of `scenes` at 64 pixels: `pytest tests/bench/corpora/bench_scenes.py`. A round is 1,000 scenes on one core."""

import pytest

from bench.corpora import open_corpus

N = 1000


@pytest.fixture(scope="module")
def scenes():
    corpus = open_corpus({"name": "scenes", "pixels": 64, "concepts": 200})
    corpus.render("train", 0, 1)  # compile and decode
    corpus.describe("train", 0, 1)
    return corpus


def test_render(benchmark, scenes):
    benchmark(scenes.render, "train", 0, N)


def test_describe(benchmark, scenes):
    benchmark(scenes.describe, "train", 0, N)


def test_render_and_describe(benchmark, scenes):
    benchmark(lambda: (scenes.render("train", 0, N), scenes.describe("train", 0, N)))
    benchmark.extra_info["scenes_per_second"] = N / benchmark.stats.stats.mean
