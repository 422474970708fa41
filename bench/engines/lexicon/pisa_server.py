"""The part of `pisa` that runs in PISA's environment: builds an index or answers queries for its parent.

    python pisa_server.py build FOLDER SCRATCH THREADS    documents from SCRATCH/<number>.npz, one file per shard
    python pisa_server.py search FOLDER                   a line of JSON in, a line of JSON and arrays out, until the
                                                          input ends

It imports nothing of this project, which is not installed there; pyterrier-pisa and its dependencies are enough.
"""

import json
import sys
from pathlib import Path

import numpy as np
from pyterrier_pisa import PisaIndex, PisaIndexEncoding, PisaStemmer, _pisathon
from pyterrier_pisa.indexers import PisaToksIndexer


def documents(scratch: Path):
    """Yields every document with lexicons: `docno`, its number, and `toks`, its impacts by lexicon name."""
    number = 0
    for file in sorted(scratch.glob("*.npz")):
        with np.load(file, allow_pickle=False) as shard:
            indptr, impacts = shard["indptr"].tolist(), shard["impacts"].tolist()
            names = shard["lexicons"].astype(str).tolist()
        for start, stop in zip(indptr[:-1], indptr[1:], strict=True):
            if stop > start:
                yield {"docno": str(number), "toks": dict(zip(names[start:stop], impacts[start:stop], strict=True))}
            number += 1


def build(folder: str, scratch: str, threads: int) -> None:
    """Inverts the documents, compresses the posting lists and computes their block maxima."""
    PisaToksIndexer(folder, threads=threads, scale=1.0).index(documents(Path(scratch)))
    Server(folder)


class Server:
    """An open index, and batches of queries by number."""

    def __init__(self, folder: str):
        index = PisaIndex(folder, stemmer=PisaStemmer.none, index_encoding=PisaIndexEncoding.block_simdbp, stops="none")
        self.batches = {}
        self.retriever = index.quantized(query_algorithm="block_max_maxscore", query_weighted=True, toks_scale=1.0)
        self.retriever.reset_retrieval_context()

    def prepare(self, batch: int, queries: list[list]) -> tuple[dict, list]:
        """Stores a batch. queries: a [names, weights] pair for each."""
        self.batches[batch] = [
            (number, {name: float(weight) for name, weight in zip(*query, strict=True)})
            for number, query in enumerate(queries)
        ]
        return {}, []

    def search(self, batch: int, k: int, threads: int, algorithm: str) -> tuple[dict, list]:
        queries = self.batches[batch]
        nonempty = [query for query in queries if query[1]]
        kinds = {"qidxs": np.int32, "docnos": object, "ranks": np.int32, "scores": np.float32}
        out = {f"result_{part}": np.empty(len(nonempty) * k, kind) for part, kind in kinds.items()}
        options = {"k": k, "threads": threads, "query_weighted": 1, "pretokenised": True}
        found = _pisathon.retrieve(self.retriever._ctxt, algorithm, nonempty, **options, **out)
        of_query, names, _, scores = out.values()
        ids = names[:found].astype(np.int64)
        return {"found": int(found)}, [of_query[:found], ids, scores[:found]]


def serve(folder: str) -> None:
    """Answers requests from stdin until it is closed."""
    server, out = Server(folder), sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer, arrays = getattr(server, request.pop("do"))(**request)
        out.write(json.dumps(answer).encode() + b"\n")
        for array in arrays:
            out.write(array.tobytes())
        out.flush()


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        serve(sys.argv[2])
