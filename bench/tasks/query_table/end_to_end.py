"""End-to-end time of a search: text in, ids out, one query at a time, with its two parts.

The first part is everything from the text to the query as the index takes it: tokenizer, encoder or table, conversion
to sparse impacts. The second is the search. Order, warm-up, repeats and the limit of seconds are those of
`bench.tasks.timing.single`.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.engines import Engine
from bench.store.machine import OtherWork
from bench.tasks import evaluation
from bench.tasks.timing import WARM_UP_QUERIES, Measured, Timing, cores_note, pinned, timed_order, torch_threads

SHARES = (50, 95, 99)


def end_to_end(query_of: Callable, engine: Engine, texts: Sequence[str], timing: Timing, **knobs) -> Measured:
    """query_of: text -> its query, a matrix of one row. latency_us of the result: (queries,) from text to ids."""
    began, passes, found = time.perf_counter(), [], []
    order = timed_order(len(texts))
    texts = [texts[place] for place in order]

    def answer(text: str) -> tuple[np.ndarray, float, float]:
        start = time.perf_counter_ns()
        query = query_of(text)
        encoded = time.perf_counter_ns()
        ids, _ = engine.search(engine.prepare(query, **knobs), timing.depth, timing.threads, **knobs)
        return ids, (encoded - start) / 1000, (time.perf_counter_ns() - encoded) / 1000

    with OtherWork(family=True) as other, pinned(timing.threads), torch_threads(timing.threads):
        for text in texts[-WARM_UP_QUERIES:]:
            answer(text)
        for _ in range(timing.repeats):
            start, answers = time.perf_counter(), []
            for text in texts:
                answers.append(answer(text))
                if not passes and time.perf_counter() - start > timing.seconds:
                    break
            found = [ids for ids, *_ in answers]
            passes.append([parts for _, *parts in answers])
            texts = texts[: len(answers)]  # later passes answer the same queries
    parts_us = np.array(passes)  # (repeats, queries, 2): text to query, query to ids
    latencies = {"encode_text_latency": parts_us[..., 0], "latency": parts_us[..., 1], "end_to_end": parts_us.sum(-1)}
    values = {
        f"{name}_p{share}_us": evaluation.percentile(values.ravel(), share)
        for name, values in latencies.items()
        for share in SHARES
    }
    notes = other.note(), f"{len(passes)} passes", cores_note(timing.threads)
    note, medians_us = "; ".join(filter(None, notes)), np.median(latencies["end_to_end"], axis=0)
    seconds, ids = time.perf_counter() - began, np.concatenate(found)
    return Measured(values, len(texts), order[: len(texts)], medians_us, ids, note, seconds, other.cores)
