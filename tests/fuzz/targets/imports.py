"""Vectors that users import, and the files beside them."""

import gzip
import io
import json

import numpy as np
import scipy.sparse as sp

from bench.vectors.imports.files import open_files
from bench.vectors.imports.items import read_vocabulary
from bench.vectors.imports.qrels import read_qrels
from tests.fuzz.targets.target import Target

DENSE = np.random.default_rng(0).random((5, 4))
LEXICON = sp.csr_array(np.where(DENSE > 0.4, DENSE, 0))

CIFF = bytes.fromhex(
    "06 0801 1002 1802"  # header: version 1, two posting lists, two documents
    "11 0a0162 1002 1803 2202 1001 22040801 1002"  # 'b': documents 0 and 1, tf 1 and 2
    "0d 0a0161 1001 1805 22040801 1005"  # 'a': document 1, tf 5
    "04 12026430 06 0801 12026431"  # records of d0 and d1
)


class _Imported(Target):
    lexicon = True

    def read(self, folder):
        file = folder / self.file
        reader = open_files([] if self.lexicon else [file], [file] if self.lexicon else [])
        rows = [rows.toarray().tolist() if self.lexicon else rows.tolist() for rows in reader.batches()]
        return [reader.count, reader.dimension, reader.vocabulary, reader.ids, rows]


class ImportDense(_Imported):
    name, file, about, lexicon = "import-dense", "x.npy", "imported dense vectors", False

    def build(self, folder):
        return [_saved(np.save, DENSE.astype(dtype)) for dtype in (np.float16, np.float64)]


class ImportCsr(_Imported):
    name, file, about = "import-csr", "x.npz", "imported lexicon vectors of SciPy"

    def build(self, folder):
        return [_saved(sp.save_npz, LEXICON, compressed=compressed) for compressed in (True, False)]


class ImportJson(_Imported):
    name, file, about, form = "import-json", "x.jsonl", "imported lexicon vectors in lines of JSON", "json"

    def build(self, folder):
        line = {"id": "a", "contents": "grün", "vector": {"grün": 1.5, "b": 2}}
        return [json.dumps(line).encode(), json.dumps(line, ensure_ascii=False).encode()]


class ImportGzip(_Imported):
    name, file, about = "import-gzip", "x.jsonl.gz", "imported lexicon vectors in compressed lines of JSON"

    def build(self, folder):
        return [gzip.compress(b'{"id": "a", "vector": {"b": 1}}\n{"id": 1, "vector": {}}\n', mtime=0)]


class ImportCiff(_Imported):
    name, file, about = "import-ciff", "x.ciff", "imported indexes in the Common Index File Format"

    def build(self, folder):
        return [CIFF]


class ImportQrels(Target):
    name, file, about = "import-qrels", "qrels", "qrels of imported queries"

    def build(self, folder):
        return [b"a 0 d1 1\na 0 d2 0\nb\t0\td\xc3\xa4\t2.5\n"]

    def read(self, folder):
        found = read_qrels(folder / self.file, ["a", "b"])
        return [found.grades, found.others, found.not_relevant]


class ImportVocabulary(Target):
    name, file, about, form = "import-vocabulary", "vocab.json", "vocabularies of imported vectors", "json"

    def build(self, folder):
        return [b'{"a": 0, "[PAD]": 1}']

    def read(self, folder):
        return read_vocabulary(folder / self.file)


def _saved(save, array, **more) -> bytes:
    file = io.BytesIO()
    save(file, array, **more)
    return file.getvalue()


CLASSES = [ImportDense, ImportCsr, ImportJson, ImportGzip, ImportCiff, ImportQrels, ImportVocabulary]
