"""`lexlip-bench import --lexicon x.ciff`, against files that the protobuf runtime writes."""

import gzip
import json

import numpy as np
import pytest
import scipy.sparse as sp
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.encoder import _VarintBytes as varint

import bench.__main__ as entry
from bench.vectors.imports import ciff
from bench.vectors.read import open_vectors

TYPES = {"int32": 5, "int64": 3, "double": 1, "string": 9}
FIELDS = {
    "Header": "int32 version, int32 num_postings_lists, int32 num_docs, int32 total_postings_lists, int32 total_docs, "
    "int64 total_terms_in_collection, double average_doclength, string description",
    "Posting": "int32 docid, int32 tf",
    "PostingsList": "string term, int64 df, int64 cf",
    "DocRecord": "int32 docid, string collection_docid, int32 doclength",
}
"""The messages of the format's own ciff.proto."""


def messages() -> dict:
    file = descriptor_pb2.FileDescriptorProto(name="ciff.proto", package="ciff", syntax="proto3")
    for name, fields in FIELDS.items():
        made = file.message_type.add(name=name)
        for number, field in enumerate(fields.split(", "), 1):
            kind, label = field.split()
            made.field.add(name=label, number=number, type=TYPES[kind], label=1)
    lists = next(made for made in file.message_type if made.name == "PostingsList")
    lists.field.add(name="postings", number=4, type=11, type_name=".ciff.Posting", label=3)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ciff.{name}")) for name in FIELDS}


MADE = messages()
RNG = np.random.default_rng(0)
MATRIX = np.where(RNG.random((40, 15)) < 0.4, RNG.integers(1, 70_000, (40, 15)), 0)
MATRIX[0, 0], MATRIX[:, 14] = 300, 0
MATRIX[39, 14] = 2**31 - 1
IDS = [f"dök{i}" for i in range(40)]
TERMS = [f"term{i:02}" for i in range(14)] + ["grün"]


def written(*parts) -> bytes:
    encoded = [part.SerializeToString() for part in parts]
    return b"".join(varint(len(one)) + one for one in encoded)


def index(matrix=MATRIX, ids=IDS, terms=TERMS, **header) -> list:
    """The messages of the index of a matrix of tf, (documents, terms)."""
    lists = []
    for term, column in zip(terms, matrix.T, strict=True):
        rows = np.flatnonzero(column)
        made = MADE["PostingsList"](term=term, df=len(rows), cf=int(column.sum()))
        for gap, row in zip(np.diff(rows, prepend=0), rows, strict=True):
            made.postings.add(docid=int(gap), tf=int(column[row]))
        lists.append(made)
    records = [MADE["DocRecord"](docid=i, collection_docid=name, doclength=9) for i, name in enumerate(ids)]
    about = {"num_postings_lists": len(lists), "num_docs": len(records), "average_doclength": 9.5} | header
    return [MADE["Header"](version=1, description="made", **about), *lists, *records]


WHOLE = written(*index())


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function: flags -> (exit code, output), in the folder `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run(*flags):
        code = entry.main(["import", *map(str, flags)])
        printed = capsys.readouterr()
        return code, printed.err if code else printed.out

    return run


@pytest.mark.parametrize("name", ["index.ciff", "index.ciff.gz"])
def test_documents_of_an_index(name, run, tmp_path, monkeypatch):
    monkeypatch.setattr(ciff, "ROWS", 7)
    (tmp_path / name).write_bytes(gzip.compress(WHOLE) if name.endswith(".gz") else WHOLE)
    assert run("--lexicon", name, "--out", "made") == (0, "made: 40 lexicon vectors of 15 lexicons\n")
    found = open_vectors("made")
    assert np.array_equal(found.to_scipy().toarray(), MATRIX.astype(np.float32))
    assert found.ids == IDS and found.vocabulary == TERMS


def test_postings_in_any_valid_form(run, tmp_path):
    """Records in another order, postings with fields that are not known, and a tf of 0, which is left out."""
    parts = index()
    parts[1].postings[1].tf = 0
    data = written(*parts[:2])
    body = parts[2].SerializeToString() + b"\x2a\x02xy"  # field 5
    data += varint(len(body)) + body + written(*parts[3:16], *parts[:15:-1])
    (tmp_path / "a.ciff").write_bytes(data)
    code, out = run("--lexicon", "a.ciff", "--out", "made")
    assert code == 0 and "1 weights of 0 are left out" in out
    expected = MATRIX.copy()
    expected[np.flatnonzero(MATRIX[:, 0])[1], 0] = 0
    found = open_vectors("made")
    assert found.ids == IDS[::-1] and np.array_equal(found.to_scipy().toarray()[::-1], expected.astype(np.float32))


def test_ciff_toolkit_writes_the_same(run, tmp_path):
    """The package that researchers use; it needs an older protobuf, so it is rarely installed beside this project."""
    toolkit = pytest.importorskip("ciff_toolkit.write")
    header, *rest = index()
    with toolkit.CiffWriter(tmp_path / "a.ciff") as writer:
        writer.write_header(header)
        writer.write_postings_lists(rest[:15])
        writer.write_documents(rest[15:])
    assert run("--lexicon", "a.ciff", "--out", "made")[0] == 0
    assert np.array_equal(open_vectors("made").to_scipy().toarray(), MATRIX.astype(np.float32))


def changed(place: int, **fields) -> bytes:
    parts = index()
    for name, value in fields.items():
        setattr(parts[place], name, value)
    return written(*parts)


def with_gap(gap: int) -> bytes:
    parts = index()
    parts[3].postings[1].docid = gap
    return written(*parts)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.ciff: no header (ends before header)"),
        (b"PK\x03\x04" + bytes(60), "a.ciff: no header ("),
        (b'{"id": "a", "vector": {"b": 1}}\n' * 9, "a.ciff: no header ("),
        (gzip.compress(WHOLE), "a.ciff: compressed by gzip, so its name must end in .ciff.gz"),
        (WHOLE[:-1], "a.ciff: ends within document record 40 of 40"),
        (WHOLE[:400], "a.ciff: ends within posting list "),
        (WHOLE + b"\0", "a.ciff: more bytes after the last document record"),
        (changed(1, term="term01"), "posting lists 0 and 1 are of the same term 'term01'"),
        (changed(3, df=2), "posting list 2 ('term02'): 1"),
        (changed(17, docid=0), "document record 1: document 0 twice"),
        (changed(17, collection_docid=""), "document record 1 has no id"),
        (changed(55, docid=99), "no record of its document 39"),
        (changed(0, num_docs=39), "more bytes after the last document record"),
        (changed(0, num_docs=0), "header of 15 posting lists and no document records"),
        (with_gap(0), "posting list 2 ('term02'): document numbers do not ascend"),
        (with_gap(-1), "a negative number"),
    ],
)
def test_broken_files_are_named(data, message, run, tmp_path):
    (tmp_path / "a.ciff").write_bytes(data)
    code, error = run("--lexicon", "a.ciff", "--out", "made")
    assert code == 2 and message in error and error.count("\n") == 1, error
    assert "expected a whole .ciff file (Common Index File Format)" in error
    assert not (tmp_path / "made").exists()


def test_flags_that_do_not_fit_an_index(run, tmp_path):
    (tmp_path / "a.ciff").write_bytes(WHOLE)
    (tmp_path / "words").write_text("x\n")
    assert "2 .ciff files; expected one" in run("--lexicon", "a.ciff", "a.ciff", "--out", "made")[1]
    assert "a.ciff has a vocabulary of its own" in run("--lexicon", "a.ciff", "--vocabulary", "words", "--out", "x")[1]
    (tmp_path / "a.ciff.gz").write_bytes(gzip.compress(WHOLE)[:-9])
    assert "a.ciff.gz: not a valid .gz file" in run("--lexicon", "a.ciff.gz", "--out", "made")[1]


@pytest.mark.parametrize("form", ["jsonl", "npz", "ciff"])
def test_queries_in_another_form_are_matched_by_term(form, run, tmp_path):
    (tmp_path / "a.ciff").write_bytes(WHOLE)
    assert run("--lexicon", "a.ciff", "--out", "documents")[0] == 0
    words, flags = ["grün", "unseen", "term03"], []
    rows = np.array([[2, 5, 1], [0, 1, 3]])
    if form == "jsonl":
        vectors = [dict(zip(words, map(int, row), strict=True)) for row in rows]
        lines = [json.dumps({"id": f"q{i}", "vector": vector}) for i, vector in enumerate(vectors)]
        (tmp_path / "q.jsonl").write_text("\n".join(lines))
    elif form == "npz":
        sp.save_npz(tmp_path / "q.npz", sp.csr_array(rows.astype(np.float32)))
        (tmp_path / "words").write_text("\n".join(words))
        flags = ["--vocabulary", "words"]
    else:
        (tmp_path / "q.ciff").write_bytes(written(*index(rows, ["q0", "q1"], words)))
    code, out = run("--lexicon", f"q.{form}", *flags, "--documents", "documents", "--out", "queries")
    assert code == 0 and "2 weights of tokens that documents does not have are left out" in out
    found = open_vectors("queries")
    assert found.vocabulary == TERMS
    assert found.to_scipy().toarray()[:, [3, 14]].tolist() == [[1, 2], [3, 0]] and found.to_scipy().nnz == 3
    (tmp_path / "other.jsonl").write_text('{"id": "q", "vector": {"unseen": 1}}')
    error = run("--lexicon", "other.jsonl", "--documents", "documents", "--out", "x")[1]
    assert "no token of the queries, such as 'unseen', is in documents, which has such as 'term00'" in error
