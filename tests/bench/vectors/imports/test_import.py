"""`lexlip-bench import`: files that other tools write, and files that it must name."""

import gzip
import json

import numpy as np
import pytest
import scipy.sparse as sp

import bench.__main__ as entry
from bench.vectors.imports import csr, files, jsonl
from bench.vectors.read import open_vectors

DENSE = np.random.default_rng(0).normal(size=(25, 6))
LEXICON = sp.random_array((25, 12), density=0.3, rng=np.random.default_rng(1), dtype=np.float32, format="csr")
WORDS = [f"word{i:02}" for i in range(12)]


def lines_of(rows, start: int = 0, **more) -> str:
    """Rows as Anserini's JsonVectorCollection, the tokens in descending order of weight."""
    lines = []
    for number, row in enumerate(rows.toarray().tolist(), start):
        vector = {WORDS[i]: row[i] for i in sorted(range(12), key=lambda i: -row[i]) if row[i]}
        lines.append(json.dumps({"id": f"d{number}", "contents": "text", "vector": vector} | more))
    return "\n".join(lines) + "\n"


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """A function: flags -> the folder of vectors, opened. Files are named in the folder `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for module in (csr, files, jsonl):
        monkeypatch.setattr(module, "ROWS", 4)

    def run(*flags):
        assert entry.main(["import", *map(str, flags), "--out", "made"]) == 0
        return open_vectors("made")

    return run


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """A function: flags -> the one line of the error; no folder may be left."""
    monkeypatch.chdir(tmp_path)

    def run(*flags) -> str:
        assert entry.main(["import", *map(str, flags), "--out", "made"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("lexlip-bench import: "), error
        assert not (tmp_path / "made").exists() and not list(tmp_path.glob(".made*"))
        return error

    return run


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dense_shards(dtype, imported, tmp_path):
    np.save(tmp_path / "a.npy", DENSE[:10].astype(dtype))
    np.save(tmp_path / "b.npy", np.asfortranarray(DENSE[10:].astype(dtype)))
    (tmp_path / "ids").write_text("".join(f"im age{i}.jpg\n" for i in range(25)))
    found = imported("--dense", "a.npy", "b.npy", "--ids", "ids")
    assert np.array_equal(found.to_numpy(), DENSE.astype(dtype).astype(np.float32))
    assert found.ids == [f"im age{i}.jpg" for i in range(25)] and not found.grouped


def test_normalised_vectors_have_length_one(imported, tmp_path):
    np.save(tmp_path / "a.npy", DENSE)
    found = imported("--dense", "a.npy", "--normalise")
    assert np.allclose(found.to_numpy(), DENSE / np.linalg.norm(DENSE, axis=1, keepdims=True), atol=1e-6)
    assert found.ids[:2] == ["0", "1"]
    sp.save_npz(tmp_path / "x.npz", LEXICON)
    rows = imported("--lexicon", "x.npz", "--normalise", "--force").to_scipy()
    assert np.allclose(np.sqrt(rows.multiply(rows).sum(axis=1)), 1, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
@pytest.mark.parametrize("compressed", [True, False])
def test_scipy_csr(dtype, compressed, imported, tmp_path, monkeypatch):
    monkeypatch.setattr(csr, "WEIGHTS", 10)
    rows = sp.csr_array((LEXICON * 200).astype(dtype))
    sp.save_npz(tmp_path / "a.npz", rows[:11], compressed=compressed)
    sp.save_npz(tmp_path / "b.npz", sp.csr_matrix(rows[11:]), compressed=compressed)
    found = imported("--lexicon", "a.npz", "b.npz")
    assert np.array_equal(found.to_scipy().toarray(), rows.toarray().astype(np.float32))
    assert found.vocabulary is None and found.dimension == 12


def test_unsorted_lexicons_and_zeros_of_scipy(imported, tmp_path, capsys):
    rows = sp.csr_array((np.array([1.0, 2.0, 0.0, 3.0]), [7, 3, 5, 0], [0, 3, 3, 4]), shape=(3, 20))
    sp.save_npz(tmp_path / "a.npz", rows)
    found = imported("--lexicon", "a.npz").to_scipy()
    assert (found.indices.tolist(), found.data.tolist(), found.indptr.tolist()) == ([3, 7, 0], [2, 1, 3], [0, 2, 2, 3])
    out = capsys.readouterr().out
    assert "1 weights of 0 are left out" in out and "1 of them are empty: no search can find them" in out


def test_json_lines_with_their_own_vocabulary(imported, tmp_path):
    (tmp_path / "a.jsonl").write_text(lines_of(LEXICON[:11]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines_of(LEXICON[11:], 11).encode()))
    found = imported("--lexicon", "a.jsonl", "b.jsonl.gz")
    assert found.vocabulary == WORDS and found.ids == [f"d{i}" for i in range(25)]
    assert np.allclose(found.to_scipy().toarray(), LEXICON.toarray())


def test_queries_take_the_vocabulary_of_the_documents_and_their_relevant_ones(imported, tmp_path, capsys):
    (tmp_path / "documents.jsonl").write_text(lines_of(LEXICON))
    assert entry.main(["import", "--lexicon", "documents.jsonl", "--out", "documents"]) == 0
    (tmp_path / "queries.jsonl").write_text(
        '{"id": 7, "vector": {"word03": 2, "unseen": 1.5, "word01": 0}}\n\n{"id": "q", "vector": {"word00": 1e-3}}\n'
    )
    (tmp_path / "qrels").write_text("7 0 d3 2\n7 0 d4 0\nq\t0\td1\t1\nother 0 d9 1\n")
    found = imported("--lexicon", "queries.jsonl", "--documents", "documents", "--relevance", "qrels")
    assert found.vocabulary == WORDS and found.ids == ["7", "q"] and found.groups == ["d3", "d1"]
    assert found.to_scipy().toarray()[:, [0, 1, 3]].tolist() == [[0, 0, 2], [np.float32(1e-3), 0, 0]]
    out = capsys.readouterr().out
    assert "1 weights of tokens that documents does not have are left out" in out and "1 weights of 0" in out
    assert "1 queries of qrels are not among these vectors" in out


@pytest.mark.parametrize("form", ["txt", "json"])
def test_a_vocabulary_names_the_lexicons(form, imported, tmp_path):
    words = WORDS[::-1]
    text = "\n".join(words) if form == "txt" else json.dumps({word: i for i, word in enumerate(words)})
    (tmp_path / f"vocab.{form}").write_text(text)
    (tmp_path / "a.jsonl").write_text(lines_of(LEXICON))
    found = imported("--lexicon", "a.jsonl", "--vocabulary", f"vocab.{form}")
    assert found.vocabulary == words and np.allclose(found.to_scipy().toarray(), LEXICON.toarray()[:, ::-1])


def test_groups_of_documents(imported, tmp_path):
    np.save(tmp_path / "a.npy", DENSE[:3])
    (tmp_path / "groups").write_text("x\ny\nx")
    assert imported("--dense", "a.npy", "--groups", "groups").groups == ["x", "y", "x"]


# --- refused ----------------------------------------------------------------------------------------------------------


def changed(row: int, column: int, value, dtype=np.float32) -> np.ndarray:
    rows = DENSE.astype(dtype)
    rows[row, column] = value
    return rows


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([changed(17, 4, np.nan)], "0.npy: row 17: value 4 is nan; expected finite numbers"),
        ([DENSE, changed(3, 0, np.inf)], "1.npy: row 3: value 0 is inf"),
        ([changed(3, 0, 1e300, np.float64)], "0.npy: row 3: value 0 is inf"),
        ([DENSE, DENSE[:, :5]], "1.npy: vectors of length 5; expected 6 as in 0.npy"),
        ([DENSE[0]], "0.npy: float64 of shape (6,); expected a .npy file of (N, D) float16, float32 or float64"),
        ([DENSE.astype(int)], "0.npy: int64 of shape (25, 6)"),
        ([np.zeros((0, 6))], "0.npy: float64 of shape (0, 6)"),
        ([np.zeros((3, 6))], "0.npy: no vector has a value other than 0"),
    ],
)
def test_dense_files_are_named(arrays, message, refused, tmp_path):
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    assert message in refused("--dense", *(f"{number}.npy" for number in range(len(arrays))))


def test_a_vector_of_zeros_cannot_be_normalised(refused, tmp_path):
    rows = DENSE.copy()
    rows[7] = 0
    np.save(tmp_path / "a.npy", rows)
    assert "vector 7 ('7') is all zeros; expected none with --normalise" in refused("--dense", "a.npy", "--normalise")


def spoiled(part: str, place, value) -> sp.csr_array:
    rows = LEXICON.copy()
    getattr(rows, part)[place] = value
    return rows


LAST = int(np.flatnonzero(np.diff(LEXICON.indptr))[-1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (spoiled("data", -1, np.nan), f"a.npz: row {LAST}: weight nan of lexicon"),
        (spoiled("data", 0, -2), "a.npz: row 0: weight -2 of lexicon"),
        (spoiled("indices", -1, 12), f"a.npz: row {LAST}: lexicon 12; expected 0 to 11"),
        (spoiled("indices", -1, -1), f"a.npz: row {LAST}: lexicon -1; expected 0 to 11"),
        (spoiled("indptr", 5, 99), "a.npz: row 5: the row pointers fall"),
        (sp.csr_array((np.ones(3), [2, 1, 2], [0, 3]), shape=(1, 5)), "a.npz: row 0: lexicon 2 twice"),
        (sp.csc_array(LEXICON), "a.npz: a matrix of layout 'csc'; expected what scipy.sparse.save_npz"),
        (sp.csr_array(LEXICON.astype(bool)), "a.npz: data: bool of shape"),
        (sp.csr_array((3, 12)), "a.npz: no vector has a value other than 0"),
    ],
)
def test_scipy_files_are_named(rows, message, refused, tmp_path):
    sp.save_npz(tmp_path / "a.npz", rows)
    assert message in refused("--lexicon", "a.npz")


def test_files_of_another_kind_are_named(refused, tmp_path):
    np.savez(tmp_path / "a.npz", DENSE)
    assert "a.npz: not a sparse matrix (no 'format')" in refused("--lexicon", "a.npz")
    assert "a.npz: not a .npy file" in refused("--dense", "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK" + bytes(50))
    assert "b.npz: not a valid .npz file" in refused("--lexicon", "b.npz")
    assert "c.npz: no such file" in refused("--lexicon", "c.npz")
    (tmp_path / "d.tsv").write_bytes(b"")
    assert "d.tsv: expected .npz files (SciPy CSR), .jsonl files, or one .ciff file" in refused("--lexicon", "d.tsv")
    np.save(tmp_path / "e.npy", np.array([object()]), allow_pickle=True)
    assert "e.npy: not a valid .npy file" in refused("--dense", "e.npy")


LINE = '{"id": "a", "vector": {"x": 1.5}}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINE + "{}\n", 'a.jsonl: line 2: no vector; expected {"id": "...", "vector": {"token": weight, ...}}'),
        (LINE + '{"id": "b", "vector": [1]}', "a.jsonl: line 2: no vector"),
        (LINE + "\n{oops", "a.jsonl: line 3: Expecting property name"),
        (
            LINE + '{"id": "b", "vector": {"x": -0.5}}',
            "a.jsonl: line 2: weight -0.5 of token 'x'; expected a number that",
        ),
        (LINE + '{"id": "b", "vector": {"x": NaN}}', "a.jsonl: line 2: weight nan of token 'x'"),
        (LINE + '{"id": "b", "vector": {"x": 1e999}}', "a.jsonl: line 2: weight inf of token 'x'"),
        (LINE + '{"id": "b", "vector": {"x": "1"}}', "a.jsonl: line 2: weight '1' of token 'x'"),
        (LINE + '{"id": "b", "vector": {"x": true}}', "a.jsonl: line 2: weight True of token 'x'"),
        (LINE + '{"id": "b", "vector": {"x": 1, "x": 2}}', "a.jsonl: line 2: 'x' twice"),
        (LINE + '{"id": [1], "vector": {"x": 1}}', "a.jsonl: line 2: id [1]; expected a string or a number"),
        (LINE + '{"id": "\\ud800", "vector": {"x": 1}}', "a.jsonl: line 2: half of a UTF-16 pair"),
        (LINE + '{"vector": {"x": 1}}', "a.jsonl: item 1 has no id, others have"),
        (LINE + LINE, "a.jsonl: vectors 0 and 1 have the same id 'a'"),
        ('{"id": "a", "vector": {}}', "a.jsonl: no token in any vector"),
        ('{"id": "a", "vector": {"x": 0}}', "a.jsonl: no vector has a value other than 0"),
        ("", "a.jsonl: no token in any vector"),
    ],
)
def test_json_lines_are_named(text, message, refused, tmp_path):
    (tmp_path / "a.jsonl").write_text(text)
    assert message in refused("--lexicon", "a.jsonl")


@pytest.mark.parametrize(
    ("flags", "text", "message"),
    [
        ("--ids", "a\nb\n", "text: 2 lines; expected 3, one for each vector"),
        ("--ids", "a\n\nb\n", "text: line 2: empty; expected one entry a line"),
        ("--ids", "a\nb\na\n", "text: lines 1 and 3 have the same id 'a'"),
        ("--groups", "a\nb\nc\nd\n", "text: 4 lines; expected 3"),
        ("--relevance", "0 0 d1 1\n1 0 d2 1\n", "text: 1 of 3 queries have no relevant document: row 2 ('2')"),
        (
            "--relevance",
            "0 0 d1 1\n0 0 d1 2\n",
            "text: line 2: 'd1' has grade 2 for query '0', and 1 on an earlier line; expected one grade",
        ),
        ("--relevance", "0 0 d1 nan\n", "text: line 1: '0 0 d1 nan'; expected 'query 0 document grade'"),
        ("--relevance", "0 0 d1\n", "text: line 1: '0 0 d1'; expected 'query 0 document grade'"),
        ("--relevance", "query-id corpus-id score x\n", "text: line 1: 'query-id corpus-id score x'; expected"),
        ("--vocabulary", "x\n", "--vocabulary: expected with --lexicon only"),
    ],
)
def test_files_beside_the_vectors_are_named(flags, text, message, refused, tmp_path):
    np.save(tmp_path / "a.npy", DENSE[:3])
    (tmp_path / "text").write_text(text)
    assert message in refused("--dense", "a.npy", flags, "text")


def test_vocabularies_that_do_not_fit_are_named(refused, tmp_path):
    sp.save_npz(tmp_path / "a.npz", LEXICON)
    (tmp_path / "a.jsonl").write_text(LINE)
    (tmp_path / "v.txt").write_text("y\nz\n")
    assert "a.npz: 12 lexicons; expected 2, as in the vocabulary" in refused(
        "--lexicon", "a.npz", "--vocabulary", "v.txt"
    )
    assert "a.jsonl: line 1: token 'x' is not in the" in refused("--lexicon", "a.jsonl", "--vocabulary", "v.txt")
    (tmp_path / "v.txt").write_text("y\nz\ny")
    assert "v.txt: lines 1 and 3 are the same token 'y'" in refused("--lexicon", "a.npz", "--vocabulary", "v.txt")
    (tmp_path / "v.json").write_text('{"x": 1}')
    assert 'v.json: expected {"token": number, ...}' in refused("--lexicon", "a.jsonl", "--vocabulary", "v.json")
    (tmp_path / "ids").write_text("b\n")
    assert "--ids ids: the vectors of a.jsonl have ids of their own" in refused("--lexicon", "a.jsonl", "--ids", "ids")


def test_an_existing_folder_is_replaced_only_with_force_and_only_if_it_holds_vectors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", DENSE)
    assert entry.main(["import", "--dense", "a.npy", "--out", "made"]) == 0
    assert entry.main(["import", "--dense", "a.npy", "--out", "made"]) == 2
    assert "--out made: exists; use --force" in capsys.readouterr().err
    np.save("a.npy", DENSE[:5])
    assert entry.main(["import", "--dense", "a.npy", "--out", "made", "--force"]) == 0
    assert open_vectors("made").count == 5
    (tmp_path / "other").mkdir()
    assert entry.main(["import", "--dense", "a.npy", "--out", "other", "--force"]) == 2
    assert "is not a folder of vectors" in capsys.readouterr().err
