"""The half of `pisa` that runs in PISA's own environment: builds an index, or answers queries, for the process that started it.

    python pisa_server.py build FOLDER SCRATCH THREADS    documents from SCRATCH/<number>.npz, one file per shard
    python pisa_server.py search FOLDER                   a line of JSON in, a line of JSON and arrays out, until the input ends

Stands alone: of this project nothing is installed where it runs, and it needs only what pyterrier-pisa brings.
"""

import json
import sys
from pathlib import Path

import numpy as np
from pyterrier_pisa import PisaIndex, PisaIndexEncoding, PisaStemmer, _pisathon
from pyterrier_pisa.indexers import PisaToksIndexer


def documents(scratch: Path):
    """Every document that has lexicons, by number, with its impacts by name."""
    number = 0
    for file in sorted(scratch.glob("*.npz")):
        with np.load(file, allow_pickle=False) as shard:
            indptr, names, impacts = (
                shard["indptr"].tolist(),
                shard["lexicons"].astype(str).tolist(),
                shard["impacts"].tolist(),
            )
        for start, stop in zip(indptr[:-1], indptr[1:], strict=True):
            if stop > start:
                yield {"docno": str(number), "toks": dict(zip(names[start:stop], impacts[start:stop], strict=True))}
            number += 1


def build(folder: str, scratch: str, threads: int) -> None:
    """Inverts the documents, then compresses the lists and finds the maxima of their blocks."""
    PisaToksIndexer(folder, threads=threads, scale=1.0).index(documents(Path(scratch)))
    Server(folder)


class Server:
    """Keeps an open index, and batches of queries by their number."""

    def __init__(self, folder: str):
        index = PisaIndex(folder, stemmer=PisaStemmer.none, index_encoding=PisaIndexEncoding.block_simdbp, stops="none")
        self.retriever, self.batches = (
            index.quantized(query_algorithm="block_max_maxscore", query_weighted=True, toks_scale=1.0),
            {},
        )
        self.retriever.reset_retrieval_context()

    def prepare(self, batch: int, queries: list[list]) -> tuple[dict, list]:
        """Queries as [names, weights]."""
        self.batches[batch] = [
            (number, {name: float(weight) for name, weight in zip(*query, strict=True)})
            for number, query in enumerate(queries)
        ]
        return {}, []

    def search(self, batch: int, k: int, threads: int, algorithm: str) -> tuple[dict, list]:
        queries = self.batches[batch]
        asked = [query for query in queries if query[1]]
        shape = (len(asked) * k,)
        of_query, names, ranks, scores = (np.empty(shape, kind) for kind in (np.int32, object, np.int32, np.float32))
        found = _pisathon.retrieve(
            self.retriever._ctxt, algorithm, asked, k=k, threads=threads, query_weighted=1, pretokenised=True,
            result_qidxs=of_query, result_docnos=names, result_ranks=ranks, result_scores=scores,
        )  # fmt: skip
        ids = names[:found].astype(np.int64)
        return {"found": int(found)}, [of_query[:found], ids, scores[:found]]


def serve(folder: str) -> None:
    server, out = Server(folder), sys.stdout.buffer
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        answer, arrays = getattr(server, asked.pop("do"))(**asked)
        out.write(json.dumps(answer).encode() + b"\n")
        for array in arrays:
            out.write(array.tobytes())
        out.flush()


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        serve(sys.argv[2])
