"""The table of every engine, the Pareto front, and the time from text to results."""

from reports.pages.scale import claim, growth
from reports.pages.scale import engines as scale_engines
from reports.pages.scale import shards as scale_shards
from tests.reports.scale.records import FLAT, IMPACT, LEXICON, ONE, cell, engines_of

PARTS = (scale_engines, growth, scale_shards)


def test_engine_table(small):
    table = engines_of(small)
    main = "impact, top-32, 8 bits"
    assert cell(table, "recall@5", search=main) == "50.0"
    assert cell(table, "single 1 qps", search=main) == "600"
    assert cell(table, "single 1 limit", search=main) == "1,200"
    assert cell(table, "single 1 share", search=main) == "50.0"
    assert cell(table, "single 1 p95", search=main) == "1,762"
    assert cell(table, "bytes_per_image", search=main) == "64 B"
    assert cell(table, "single 1 share", search="faiss-flat blas_from=4") == "–"
    assert cell(table, "recall@1", search="faiss-ivf-pq nprobe=16") == "25.0"
    assert [row["search"].value for row in table.rows[-2:]] == ["dummy", "dummy"]
    assert cell(table, "recall@1", search="dummy", kind="dense") == "–"
    assert cell(table, "single 1 qps", search="dummy", kind="dense") == "90,000"


def test_settings_that_never_ran_are_one_row(small):
    table = engines_of(small)
    assert cell(table, "recall@1", search="scann, 2 settings") == "absent"
    assert cell(table, "note", search="scann, 2 settings") == "absent: build: the package 'scann' is not installed"


def test_rates_that_failed_leave_the_quality(made):
    made.search("dense", 0.50, {ONE: 10.0}, 2048.0, **FLAT)
    made.write(made.point("dense", **FLAT, batch_mode="batched", threads=2), status="failed", note="round 2: killed")
    table = engines_of(made)
    assert cell(table, "recall@1", search="faiss-flat blas_from=4") == "50.0"
    assert cell(table, "batched 2 qps", search="faiss-flat blas_from=4") == "failed"
    assert "round 2: killed" in cell(table, "note", search="faiss-flat blas_from=4")


def test_not_as_exact_as_it_says(made):
    made.search(
        "lexicon",
        0.4,
        {ONE: 10.0},
        note="called exact, and is not on these vectors",
        engine="lucene",
        top_k=32,
        bits=8,
        exact=True,
    )
    assert cell(engines_of(made), "note", kind="lexicon") == "called exact, and is not on these vectors"


def test_end_to_end_is_the_sum(small):
    encoding = {
        "task": "encoding",
        "images": None,
        "vectors_id": "",
        "index_id": "",
        "batch_mode": "single",
        "threads": 1,
    }
    small.write(small.point("lexicon", **encoding), {"encode_text_latency_p50_us": 4000.0})
    table = next(table for table in scale_engines.section(small.evidence).tables if table.name == "scale_end_to_end")
    assert cell(table, "found", search="impact, top-256, 8 bits") == "10,050"  # 1e6 / 100 + 50
    assert cell(table, "whole", search="impact, top-256, 8 bits") == "14,050"
    assert cell(table, "share", search="impact, top-256, 8 bits") == f"{100 * 4000 / 14050:.1f}"
    assert cell(table, "whole", search="faiss-flat blas_from=4") == "not measured"


def test_several_relevant_documents_have_ndcg(made):
    made.write(made.point("dense", **FLAT), {"recall@1": 0.5, "ndcg@10": 0.25, "engine_recall@10": 1.0})
    made.search("dense", 0.0, {ONE: 9.0}, 0.0, engine="dummy")
    table = engines_of(made)
    assert cell(table, "ndcg@10", search="faiss-flat blas_from=4") == "25.0"
    assert cell(table, "ndcg@10", search="dummy") == "–" and any("Success@K" in note for note in table.notes)


def test_one_relevant_document_has_none(small):
    assert not {"ndcg@10"} & {column.key for column in engines_of(small).columns}


def test_vectors_of_the_user_have_their_names_and_are_no_variants(made):
    own = {"corpus": "vectors:mine", "profile": "", "checkpoint_id": "", "split": "", "direction": ""}
    for images in (1_000, 10_000):
        made.search("dense", 0.5, 10.0, images=images, variant="mine dense", **FLAT, **own)
        made.search("lexicon", 0.4, 20.0, images=images, variant="mine lexicon", top_k=32, **IMPACT, **own)
    assert made.evidence.variants == []
    found = [*growth.section(made.evidence).tables, *claim.section(made.evidence).tables]
    words = " ".join(f"{table.caption} {[column.label for column in table.columns]} {table.rows}" for table in found)
    assert "lexicon (mine lexicon, impact, top-32, 8 bits)" in words and "(," not in words


def test_recall_against_float_weights_is_beside_the_recall_of_the_engine(small, undrawn):
    """It was in the records only. Tables of records without it do not change."""
    before = [table.columns for part in PARTS[:2] for table in part.section(small.evidence).tables]
    lexicon = {"top_k": 32, "bits": 8, "knobs": LEXICON, "exact": True}
    float_weights = {"unquantised_recall@10": 0.75, "engine_recall@10": 1.0, "recall@1": 0.4}
    for images in (1_000, 10_000):
        small.search("dense", 0.5, {ONE: 10.0}, 2048.0, images=images, **FLAT)
        small.write(small.point("lexicon", engine="impact", images=images, **lexicon), float_weights)
    sharded = {"engine": "sharded-impact", "task": "sharded", **lexicon, "knobs": LEXICON | {"shards": 4}}
    small.write(small.point("lexicon", **sharded), float_weights | {"unquantised_recall@10": 0.625})
    tables = {table.name: table for part in PARTS for table in part.section(small.evidence).tables}
    main = "impact, top-32, 8 bits"
    assert cell(tables["scale_engines_10000"], "unquantised_recall@10", search=main) == "75.0"
    assert cell(tables["scale_engines_10000"], "unquantised_recall@10", search="faiss-flat blas_from=4") == "–"
    ends = [cell(tables["scale_growth"], f"unquantised_recall@10 {end}", search=main) for end in ("least", "most")]
    assert ends == ["75.0", "75.0"]
    shards = [cell(tables["sharded"], f"{side}unquantised_recall@10", search=main) for side in ("", "one ")]
    assert shards == ["62.5", "75.0"]
    assert "unquantised" not in str(before)
