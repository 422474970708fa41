"""How the latency of encoding one text is measured."""

import torch

from bench.sides import text_latency


class Watched:
    """An encoder that notes how many threads torch has while it works."""

    def __init__(self):
        self.threads = set()

    def texts(self, texts):
        self.threads.add(torch.get_num_threads())


def test_torch_has_the_threads_that_are_stated():
    """It kept two on the one core that was left to it, and a text took 300 ms in place of 1."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for threads in (1, 2):
            encoder = Watched()
            values, _ = text_latency(encoder, ["a text"] * 5, threads)
            assert encoder.threads == {threads} and torch.get_num_threads() == 2
            assert set(values) == {f"encode_text_latency_p{share}_us" for share in (50, 95, 99)}
    finally:
        torch.set_num_threads(before)
