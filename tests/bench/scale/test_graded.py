"""Own queries with several relevant documents and grades: metrics against trec_eval, and pages that show them."""

import json

import numpy as np
import pytest
import pytrec_eval

import bench.__main__ as entry
from bench.scale import run as scale
from bench.store import cli
from bench.store.records import Point, RecordStore, ranking_rows
from bench.tasks.relevance import Relevance
from bench.vectors.read import DenseVectors, open_vectors

ITEMS, QUERIES = 60, 12
RNG = np.random.default_rng(3)
DOCUMENTS = RNG.normal(size=(ITEMS, 8)).astype(np.float32)
ASKED = RNG.normal(size=(QUERIES, 8)).astype(np.float32)
GRADES = {
    f"q{q}": {f"d{d}": int(RNG.integers(-1, 4)) for d in RNG.choice(ITEMS, 15, replace=False)} for q in range(QUERIES)
}


@pytest.fixture
def imported(tmp_path, monkeypatch, capsys):
    """A function: lines of qrels, flags -> (exit code, output) of the import of the queries; documents are there."""
    monkeypatch.chdir(tmp_path)
    np.save("d.npy", DOCUMENTS)
    np.save("q.npy", ASKED)
    (tmp_path / "d.txt").write_text("".join(f"d{i}\n" for i in range(ITEMS)))
    (tmp_path / "q.txt").write_text("".join(f"q{i}\n" for i in range(QUERIES)))
    assert entry.main(["import", "--dense", "d.npy", "--ids", "d.txt", "--out", "documents"]) == 0
    capsys.readouterr()

    def run(lines: list[str], *flags: str, out: str = "queries"):
        (tmp_path / "qrels").write_text("\n".join(lines) + "\n")
        flags = ["--dense", "q.npy", "--ids", "q.txt", "--relevance", "qrels", "--out", out, *flags]
        code = entry.main(["import", *flags])
        printed = capsys.readouterr()
        return code, printed.err if code else printed.out

    return run


def lines_of(grades: dict) -> list[str]:
    return [f"{q} 0 {d} {grade}" for q, of_query in grades.items() for d, grade in of_query.items()]


@pytest.fixture
def swept(fast_grid, in_process, monkeypatch, tmp_path):
    """A function: -> metric -> value of exact search over all queries."""
    monkeypatch.setattr(scale, "build_report", lambda home, profile: None)

    def run(*flags: str) -> dict[str, float]:
        flags = ["--corpus", "vectors", "--name", "mine", "--documents", "documents", "--queries", "queries", *flags]
        flags += ["--engines", "faiss-flat", "--home", "home", "--sizes", str(ITEMS), *fast_grid]
        assert cli.run(scale.main, scale.parser(), [*flags, f"queries={QUERIES}"]) == 0
        rows = RecordStore(tmp_path / "home").read()
        rows = rows[(rows.task == "scale") & (rows.batch_mode == "")]
        return dict(zip(rows.metric, rows.value, strict=True))

    return run


def trec_eval(grades: dict) -> dict[str, float]:
    scores = ASKED @ DOCUMENTS.T
    run = {f"q{q}": {f"d{d}": float(scores[q, d]) for d in range(ITEMS)} for q in range(QUERIES)}
    measures = {"ndcg_cut.10", "recall.1,5,10", "success.1,5,10"}
    found = pytrec_eval.RelevanceEvaluator(grades, measures).evaluate(run)
    return {
        name: float(np.mean([of_query[name] for of_query in found.values()])) for name in next(iter(found.values()))
    }


def test_metrics_of_graded_qrels_are_those_of_trec_eval(imported, swept, capsys):
    code, out = imported(lines_of(GRADES), "--documents", "documents")
    assert code == 0 and "R@K counts a query with one of them in the top K, nDCG@10 weighs their grades" in out
    none = sum(grade <= 0 for of_query in GRADES.values() for grade in of_query.values())
    assert none and f"{none} judgements of qrels with grade 0 or below: not relevant" in out
    found, expected = swept(), trec_eval(GRADES)
    assert found["ndcg@10"] == pytest.approx(expected["ndcg_cut_10"], abs=1e-9) and 0 < found["ndcg@10"] < 1
    for k in (1, 5, 10):
        assert found[f"recall@{k}"] == pytest.approx(expected[f"success_{k}"], abs=1e-9)
        assert found[f"trec_recall@{k}"] == pytest.approx(expected[f"recall_{k}"], abs=1e-9)
    assert "nDCG@10" in capsys.readouterr().out


def test_a_relevant_document_outside_the_gallery_counts_as_not_found(imported, swept):
    grades = {q: of_query | {"elsewhere": 3} for q, of_query in GRADES.items()}
    code, out = imported(lines_of(grades), "--documents", "documents")
    assert "1 relevant documents are not in documents, so not found: elsewhere" in out
    found, expected = swept(), trec_eval(grades)
    assert found["ndcg@10"] == pytest.approx(expected["ndcg_cut_10"], abs=1e-9)
    assert found["trec_recall@10"] == pytest.approx(expected["recall_10"], abs=1e-9)


def test_one_relevant_document_a_query_is_measured_as_before(imported, swept):
    single = {f"q{q}": {f"d{q}": 2, "d50": 0} for q in range(QUERIES)}
    assert imported(lines_of(single))[0] == 0
    queries = open_vectors("queries")
    assert queries.qrels is None and queries.groups == [f"d{q}" for q in range(QUERIES)]
    found = swept()
    assert "ndcg@10" not in found
    # The same by the path of several relevant documents.
    documents = open_vectors("documents")
    ids = np.argsort(-(ASKED @ DOCUMENTS.T), axis=1, kind="stable")[:, :20]
    by_group = Relevance(documents, queries).ranks(ids)
    graded = {q: {d: g for d, g in of_query.items() if g > 0} for q, of_query in single.items()}
    by_qrels = Relevance(documents, queries, graded).ranks(ids)
    assert [one.tolist() for one in by_group[0]] == [one.tolist() for one in by_qrels[0]]
    assert by_group[1].tolist() == by_qrels[1].tolist()


def test_unjudged_queries_are_named_or_left_out(imported, swept):
    some = {q: of_query for q, of_query in GRADES.items() if q not in ("q3", "q7")} | {"q7": {"d1": 0}}
    code, error = imported([*lines_of(some), "other 0 d1 1"])
    assert code == 2 and "2 of 12 queries have no relevant document: row 3 ('q3'), row 7 ('q7')" in error
    assert error.count("\n") == 1 and error.endswith("--judged-only leaves them out\n")
    code, out = imported([*lines_of(some), "other 0 d1 1"], "--judged-only")
    assert "2 queries without a relevant document are left out: q3, q7" in out
    assert "1 queries of qrels are not among these vectors" in out
    queries = open_vectors("queries")
    assert queries.ids == [f"q{i}" for i in range(QUERIES) if i not in (3, 7)]
    assert np.array_equal(queries.to_numpy(), np.delete(ASKED, [3, 7], axis=0))
    assert swept()["ndcg@10"] > 0
    assert "12 of 12 queries have no relevant document" in imported(["x 0 d1 1"], "--judged-only", out="none")[1]


def test_sides_with_other_qrels_are_refused(imported, fast_grid, capsys):
    other = GRADES | {"q0": {"d1": 1, "d2": 1}}
    assert imported(lines_of(GRADES))[0] == imported(lines_of(other), out="others")[0] == 0
    json.loads((open_vectors("others").folder / "qrels.json").read_text())
    from bench.vectors.imports.checks import check_pair, check_same_items
    from models.errors import InputError

    with pytest.raises(InputError, match="others: other qrels; expected those of queries"):
        check_same_items(open_vectors("queries"), open_vectors("others"))
    with pytest.raises(InputError, match="queries have no relevant document in"):
        check_pair(open_vectors("documents").prefix(2), open_vectors("queries"))
    (open_vectors("queries").folder / "qrels.json").write_bytes(
        (open_vectors("others").folder / "qrels.json").read_bytes()
    )
    with pytest.raises(InputError, match="qrels.json: not the qrels of these vectors"):
        _ = open_vectors("queries").qrels


def test_ndcg_of_a_hand_made_case():
    """Grades 3 and 1; the second result has grade 1, the first is not judged."""
    gallery, queries = DenseVectors.of(np.eye(3)), DenseVectors.of(np.eye(3)[:1], ["q"])
    relevance = Relevance(gallery, queries, {"q": {"0": 3, "1": 1}})
    ids = np.array([[2, 1, *[-1] * 8]])
    ideal = 3 + 1 / np.log2(3)
    assert relevance.ndcg(ids)["ndcg@10"] == pytest.approx(1 / np.log2(3) / ideal)
    assert relevance.ndcg(ids[:, :9]) == {}


# --- rankings ---------------------------------------------------------------------------------------------------------


def test_rankings_of_a_sweep_are_exported_with_its_metrics(imported, swept, tmp_path, capsys):
    imported(lines_of(GRADES))
    before = swept()
    assert swept("--rankings") == before  # measured already: only the rankings are added
    assert entry.main(["records", "export", "--trec-run", "runs", "--home", "home"]) == 0
    (path,) = (tmp_path / "runs").iterdir()
    assert path.name.startswith("mine_dense-faiss-flat-") and f"{path.name}: 12 queries of" in capsys.readouterr().out
    with path.open() as lines:
        run = pytrec_eval.parse_run(lines)
    found = pytrec_eval.RelevanceEvaluator(GRADES, {"ndcg_cut.10", "success.1,5"}).evaluate(run)
    for name, metric in (("ndcg_cut_10", "ndcg@10"), ("success_1", "recall@1"), ("success_5", "recall@5")):
        mean = np.mean([of_query[name] for of_query in found.values()])
        assert mean == pytest.approx(before[metric], abs=1e-9)


def test_scores_of_a_run_do_not_tie_and_its_ids_have_no_spaces(tmp_path, capsys):
    store, point = RecordStore(tmp_path), Point(task="scale", corpus="c", images=3, engine="impact", top_k=4)
    ids, scores = np.array([[2, 0, 1, -1]]), np.array([[5.0, 5.0, 5.0, -np.inf]])
    store.write(point, {"recall@1": 1}, rankings=ranking_rows(["a query"], ["x", "y 1", "z"], ids, scores))
    flags = ["records", "export", "--trec-run", str(tmp_path / "runs"), "--home", str(tmp_path)]
    assert entry.main(flags) == 0
    assert "white space in 2 ids is written as in URLs (%20)" in capsys.readouterr().out
    (path,) = (tmp_path / "runs").iterdir()
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    assert [line[:4] for line in lines] == [
        ["a%20query", "Q0", name, str(r)] for r, name in ((1, "z"), (2, "x"), (3, "y%201"))
    ]
    values = [np.float32(line[4]) for line in lines]
    assert values[0] == 5 and values[0] > values[1] > values[2] > 4.999
    assert entry.main([*flags, "all.csv"]) == entry.main(["records", "merge", *flags[2:]]) == 2
